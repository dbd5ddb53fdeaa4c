"""Sol-Attn: pooled scores above a row's own threshold, and the rest as a whole.

a_ij = <mean q of block i, mean k of block j> * scale, in deviations above its block row's mean: deviation^2 = scale^2 * sum
over c of mean q_c^2 Var_j(mean k_c) + (0.001 ln 2)^2; |i - j| <= 1 first, then the highest of the head. The other blocks
take part as a whole: the policy has the pooled remainder.

Source: arXiv 2607.24027; NVlabs/Sana, sol-engine, techniques/sparse_backends/sol_attn (cddf0aa). Ours, as in
experiments/policies/sol_attn.cpp: blocks are regions, not 64 tokens of a Morton curve, and all rows of a head share the tau
that meets its budget.
"""

import math

import torch

from .of_regions import OfRegions
from .ranking import distances, keep_best


def region_means(rows, regions):
    """[..., video regions, head_dim] float32 of rows [..., tokens, head_dim]."""
    member = regions.member[:, : regions.video]
    return member.T @ rows.float() / regions.sizes[: regions.video, None]


class SolAttn(OfRegions):
    LEAST_DEVIATION = 0.001 * math.log(2)

    def scores(self, q, k):
        regions, scale = self.regions(q.device), q.shape[-1] ** -0.5
        q, k = region_means(q, regions), region_means(k, regions)
        k = k - k.mean(dim=-2, keepdim=True)  # takes each row's mean from its logits
        variance = k.square().mean(dim=-2, keepdim=True)
        squared = scale**2 * (q.square() * variance).sum(dim=-1, keepdim=True)
        return q @ k.mT * scale / (squared + self.LEAST_DEVIATION**2).sqrt()

    def mask(self, q, k, layer, step):
        scores = self.scores(q, k)
        near = distances(scores.shape[-1], q.device) <= 1
        return keep_best(scores.masked_fill(near, torch.inf), self.policy.sparsity)
