"""XAttention: sums along antidiagonals of small chunks.

In each block chunks of S = 8 tokens: A_uv = scale / S * sum over r of <q_(u, S-1-r), k_(v, r)>, softmax over v, summed over
the chunks of two blocks; in each row the largest blocks with at least tau of the sum.

Source: arXiv 2503.16428; mit-han-lab/x-attention e379887, xattn/src/Xattention.py; S 8 as in its eval/HunyuanVideo. Ours, as
in experiments/policies/xattention.cpp: blocks are regions, all rows of a head share the tau that meets its budget, a last
chunk that is shorter is filled with zeros, and no column is forced.
"""

import torch

from .of_regions import OfRegions
from .ranking import keep_best, shares_before


class XAttention(OfRegions):
    STRIDE = 8

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._chunks = None

    def chunks(self, device):
        """(chunk of each video token, its place in it, block of each chunk one-hot [chunks, regions])."""
        if self._chunks is None:
            regions = self.regions(device)
            ids = regions.ids[: len(regions.ids) - self.text_tokens]
            order = torch.argsort(ids, stable=True)
            starts = torch.cumsum(regions.sizes[: regions.video], 0).long() - regions.sizes[: regions.video].long()
            place = torch.empty_like(ids)
            place[order] = torch.arange(len(ids), device=device) - starts[ids[order]]  # in the token's block
            counts = -(-regions.sizes[: regions.video].long() // self.STRIDE)
            first = torch.cumsum(counts, 0) - counts
            block = torch.repeat_interleave(torch.arange(regions.video, device=device), counts)
            member = torch.nn.functional.one_hot(block, regions.video).float()
            self._chunks = first[ids] + place // self.STRIDE, place % self.STRIDE, member
        return self._chunks

    def scores(self, q, k):
        """float32 [clips, heads, regions, regions]."""
        chunk, place, member = self.chunks(q.device)

        def laid_out(rows, places):
            """[..., chunks, S * head_dim], zeros where a chunk is shorter."""
            laid = rows.new_zeros(*rows.shape[:2], len(member), self.STRIDE, rows.shape[-1], dtype=torch.float32)
            laid[:, :, chunk, places] = rows[:, :, : len(chunk)].float()
            return laid.flatten(-2)

        backwards = laid_out(q, self.STRIDE - 1 - place)
        logits = backwards @ laid_out(k, place).mT * (q.shape[-1] ** -0.5 / self.STRIDE)
        return member.T @ torch.softmax(logits, dim=-1) @ member

    def mask(self, q, k, layer, step):
        return keep_best(-shares_before(self.scores(q, k)), self.policy.sparsity)
