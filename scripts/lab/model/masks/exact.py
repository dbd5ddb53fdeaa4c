"""Rules that know the true attention mass of every block: the oracle, and AdaSpa, which looks at two steps of a run."""

import math

import torch

from lab.model.heads import block_mass

from .of_regions import OfRegions
from .ranking import OfRun, keep_best


def video_mass(q, k, regions):
    """The share of all video queries' attention that goes from one region to another, float32 [regions, regions].
    q, k [tokens, head_dim] of one head, text last."""
    weight = regions.sizes[:-1] / regions.sizes[:-1].sum()
    return weight[:, None] * block_mass(q, k, regions)[:-1, :-1]


class Oracle(OfRegions):
    """The blocks with the most true attention mass, of the head or, with rule `row`, of each block row."""

    def mass(self, q, k):
        """video_mass of every head, float32 [clips, heads, regions, regions]."""
        regions = self.regions(q.device)
        return torch.stack([torch.stack([video_mass(*head, regions) for head in zip(*clip)]) for clip in zip(q, k)])

    def mask(self, q, k, layer, step):
        return keep_best(self.mass(q, k), self.policy.sparsity, self.policy.rule == "row")


class AdaSpa(Oracle):
    """The blocks with the most true attention mass of each block row, searched at two steps of a run and kept between them:
    the first sparse one, and the one after 3/5 of the run.

    Source: AdaSpa, arXiv 2502.21079, which searches at steps 10 and 30 of 50, the first 10 dense; no released code was
    found. Ours: the second search has its own step's sums of exponentials, not the first one's; all heads have one
    budget; blocks are regions, not 64 tokens."""

    SEARCH_AGAIN = 0.6  # of the run

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._masks = OfRun()
        self.search_again = math.ceil(self.SEARCH_AGAIN * self.steps - 1e-9)

    def mask(self, q, k, layer, step):
        held = self._masks.get(layer, step, len(q))
        if held is None or step == self.search_again:
            held = keep_best(self.mass(q, k), self.policy.sparsity, by_row=True)
        self._masks.set(layer, step, len(q), held)
        return held
