"""Sparse VideoGen 2, "SAP": queries and keys of each head are clustered, and pairs of clusters are kept.

Source: arXiv 2505.18875; svg-project/Sparse-VideoGen 5ce7b01, svg/kmeans_utils.py: Euclidean k-means of the video's queries
and of its keys after RoPE, 50 iterations at a run's first sparse step, from random tokens, and 2 at every later one, from
the step before's centroids; an empty cluster keeps its centroid. p_ij is proportional to n_j exp(scale * <c_i, c_j>), rows
sum to 1; of each row the largest are kept until they reach p, the one that crosses it too, and at least 10% of the
clusters. 400 and 1,000 clusters for HunyuanVideo's 33 x 45 x 80 tokens.

Ours: as many tokens a cluster as there (41 and 103 clusters for 8 x 32 x 48 tokens); one p for all rows of a head, that at
which the kept pairs of tokens meet the budget; the 10% come first, and where they alone pass the budget the least needed
of them are left out, too. Iterations do not end early, and the first centroids are distinct tokens. Attention is exact over
the pairs that are kept.
"""

import itertools
from dataclasses import dataclass

import torch

from lab.model.heads import Regions, products

from .ranking import OfRun, generator_of, shares_before

TOKENS = 33 * 45 * 80  # HunyuanVideo's at 720p, for which it has
CLUSTERS = (400, 1000)  # of queries, of keys
LEAST_SHARE = 0.1  # of the key clusters, in each row
ITERATIONS = (50, 2)  # of a run's first sparse step, of later ones


def nearest(rows, centroids):
    """The nearest centroid of each row, int64 [..., rows]; the first of equal ones."""
    return (rows @ centroids.mT - centroids.square().sum(dim=-1)[..., None, :] / 2).argmax(dim=-1)


def cluster(rows, centroids, iterations):
    """Lloyd's algorithm. rows float32 [..., rows, head_dim], centroids [..., clusters, head_dim] -> (cluster of each row,
    by the centroids before the last move as in the source, tokens of each cluster, centroids)."""
    for _ in range(iterations):
        ids = nearest(rows, centroids)
        member = torch.nn.functional.one_hot(ids, centroids.shape[-2]).to(rows.dtype)  # a product adds in a fixed order
        counts = member.sum(dim=-2)
        means = member.mT @ rows / counts[..., None].clamp(min=1)
        centroids = torch.where(counts[..., None] > 0, means, centroids)
    return ids, counts, centroids


def keep_pairs(queries, keys, query_counts, key_counts, scale, sparsity):
    """bool [..., query clusters, key clusters]: the smallest set in order of top-p that has the budget's pairs of tokens.
    queries, keys: centroids, float32; counts: tokens of each cluster."""
    p = torch.softmax(scale * (queries @ keys.mT) + key_counts[..., None, :].log(), dim=-1)
    before = shares_before(p)
    least = int(LEAST_SHARE * keys.shape[-2])
    rank = before.argsort(dim=-1, stable=True).argsort(dim=-1)  # in the row
    order = (before - (rank < least).double()).flatten(-2).argsort(dim=-1, stable=True)
    pairs = (query_counts[..., :, None].double() * key_counts[..., None, :].double()).flatten(-2).gather(-1, order)
    budget = (1 - sparsity) * query_counts.double().sum(dim=-1, keepdim=True) * key_counts.double().sum(-1, True)
    kept = pairs.cumsum(dim=-1) - pairs < budget - 1e-6
    return torch.zeros_like(kept).scatter_(-1, order, kept).view_as(p)


@dataclass(frozen=True)
class HeadClusters:
    """What one head keeps. query_ids, key_ids int64 [tokens]: each token's cluster, text the last one; keep bool [query
    clusters + 1, key clusters + 1], text always kept."""

    query_ids: torch.Tensor
    key_ids: torch.Tensor
    keep: torch.Tensor

    def of_tokens(self, table, rows=slice(None)):
        """`table`, like `keep`, at every pair of tokens: [rows, tokens]."""
        return table.index_select(1, self.key_ids).index_select(0, self.query_ids[rows])

    def attend(self, q, k, v):
        """[tokens, head_dim] of one head: PyTorch's attention under a mask of tokens."""
        bias = torch.zeros(self.keep.shape, dtype=q.dtype, device=q.device).masked_fill_(~self.keep, -torch.inf)
        one = (x[None, None] for x in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(*one, attn_mask=self.of_tokens(bias)[None, None])[0, 0]

    def describe(self, q, k, rows=2048):
        """{"attention_recall", "empty_rows_share", "kept_share"} as a probe has them, of video query tokens."""
        video = int((self.query_ids < len(self.keep) - 1).sum())
        recall = pairs = empty = 0
        for start in range(0, video, rows):
            part = slice(start, min(start + rows, video))
            kept = self.of_tokens(self.keep, part)
            p = torch.softmax(products(q[part], k) * q.shape[-1] ** -0.5, dim=-1)
            recall = recall + p.masked_fill(~kept, 0).double().sum()
            of_row = kept[:, :video].sum(dim=1)
            pairs, empty = pairs + of_row.double().sum(), empty + (of_row == 0).sum()
        return {
            "attention_recall": recall.item() / video,
            "empty_rows_share": empty.item() / video,
            "kept_share": pairs.item() / video**2,
        }


@dataclass(frozen=True)
class Clusters:
    """What one call keeps: as HeadClusters, [clips, heads, ...]."""

    query_ids: torch.Tensor
    key_ids: torch.Tensor
    keep: torch.Tensor

    def __getitem__(self, place):
        return HeadClusters(self.query_ids[place], self.key_ids[place], self.keep[place])

    def with_whole(self, heads, shape):
        """With all pairs of these heads; shape: (clips, heads)."""
        keep = self.keep.clone()
        keep[:, heads] = True
        return Clusters(self.query_ids, self.key_ids, keep)

    def attend(self, q, k, v, text_tokens, policy):
        """(o, what a probe sees): by PyTorch whatever the kernel, since clusters are no blocks."""
        o = torch.empty_like(q)
        for place in itertools.product(range(q.shape[0]), range(q.shape[1])):  # one mask of tokens in memory at a time
            o[place] = self[place].attend(q[place], k[place], v[place])
        return o, (q, k, v, o, self)


class SparseVideoGen2:
    def __init__(self, policy, grid, text_tokens, steps):
        self.policy, self.grid, self.text_tokens = policy, tuple(grid), text_tokens
        self.video = grid[0] * grid[1] * grid[2]
        self._regions, self._centroids = None, OfRun()

    def regions(self, device):
        """Not blocks of this policy: what a probe says of a head's attention by itself is of regions."""
        if self._regions is None:
            self._regions = Regions(self.grid, self.policy.region, self.text_tokens, device)
        return self._regions

    def clusters(self):
        """Numbers of clusters of queries and of keys."""
        return [min(self.video, max(1, round(count * self.video / TOKENS))) for count in CLUSTERS]

    def random_tokens(self, rows, layer, step):
        """Centroids of queries and keys to begin with, the same places in every clip."""
        generator = generator_of(self.policy.seed, layer, step)
        found = []
        for x, count in zip(rows, self.clusters()):
            chosen = torch.rand(x.shape[1], self.video, generator=generator).argsort(dim=-1)[:, :count].to(x.device)
            found.append(x.gather(2, chosen[None, :, :, None].expand(len(x), -1, -1, x.shape[-1])))
        return found

    def __call__(self, q, k, v, layer, step):
        with torch.autocast(q.device.type, enabled=False):  # the sampler's bfloat16 must not reach the sums
            rows = [x[:, :, : self.video].float() for x in (q, k)]
            centroids = self._centroids.get(layer, step, len(q))
            iterations = ITERATIONS[0 if centroids is None else 1]
            if centroids is None:
                centroids = self.random_tokens(rows, layer, step)
            ids, counts, centroids = zip(*(cluster(x, at, iterations) for x, at in zip(rows, centroids)))
            self._centroids.set(layer, step, len(q), centroids)
            keep = keep_pairs(*centroids, *counts, q.shape[-1] ** -0.5, self.policy.sparsity)
        text = self.text_tokens
        ids = [torch.nn.functional.pad(x, (0, text), value=count) for x, count in zip(ids, self.clusters())]
        return Clusters(*ids, torch.nn.functional.pad(keep, (0, 1, 0, 1), value=True))
