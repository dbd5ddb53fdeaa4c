"""From scores to masks at a budget. Scores are [..., blocks, blocks]; of equal ones the lower row-major index comes first, as
in the project's reference (reference/draft_mask.hpp)."""

import torch
from draftattention._fallback import kept_count  # one definition of how many blocks a sparsity keeps


def keep_best(scores, sparsity, by_row=False):
    """bool like `scores`: the highest of each head, kept_count of them, or of each block row."""
    lines = scores if by_row else scores.flatten(-2)
    first = lines.sort(dim=-1, descending=True, stable=True).indices[..., : kept_count(sparsity, lines.shape[-1])]
    return torch.zeros_like(lines, dtype=torch.bool).scatter_(-1, first, True).view_as(scores)


def shares_before(scores):
    """What stands before each entry in its row, entries in falling order, as a share of the row's sum, float64; scores are
    at least 0. Entries whose share is below tau are the smallest set with at least tau of the row ("top-p"), so that
    keep_best of the negated shares is top-p with the one tau that meets a head's budget."""
    falling = scores.double().sort(dim=-1, descending=True, stable=True)
    before = (falling.values.cumsum(dim=-1) - falling.values) / falling.values.sum(dim=-1, keepdim=True)
    return torch.empty_like(before).scatter_(-1, falling.indices, before)


def distances(blocks, device):
    """|i - j|, [blocks, blocks]."""
    place = torch.arange(blocks, device=device)
    return (place[:, None] - place).abs()


def generator_of(seed, layer, step):
    """Chance of one call: on the CPU, so that a seed means the same on every device."""
    return torch.Generator().manual_seed(1_000_003 * seed + 1_000 * step + layer)


class OfRun:
    """What a layer's calls hold for later steps of the same sampling run. A run has ended if a layer's step is not above its
    last one; so has one whose clips have another number."""

    def __init__(self):
        self._held = {}

    def get(self, layer, step, clips):
        """What was set in this run at an earlier step; None if nothing was."""
        last, count, value = self._held.get(layer, (step, clips, None))
        return value if last < step and count == clips else None

    def set(self, layer, step, clips, value):
        self._held[layer] = step, clips, value
