"""Draft masks and block-sparse attention in PyTorch alone, on any device: the same results as the kernels', more
slowly.

Draft scores are always float64, as in the project's reference. Attention gathers the kept keys and values of each block
row, so that its cost is the kept share of dense attention's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch

from . import _checks

ELEMENTS = (*_checks.ELEMENTS, torch.float32, torch.float64)
# Decimal sparsities have no exact double: a product this close to a whole number counts as that number.
_WHOLE_NUMBER_SLACK = 1e-6


@dataclasses.dataclass(frozen=True)
class Partition:
    """A grid's regions: frame by frame, row-major in a frame, cut at its edges, never padded."""

    order: torch.Tensor  # int64 [video]: the token at each position of region order (Algorithm 1)
    sizes: list[int]  # tokens of each region, [regions]


def partition(grid: tuple[int, int, int], region: tuple[int, int], device: torch.device) -> Partition:
    frames, height, width = grid
    rows, columns = -(-height // region[0]), -(-width // region[1])
    frame = torch.arange(frames, device=device)[:, None, None] * rows
    row = torch.arange(height, device=device)[:, None] // region[0]
    column = torch.arange(width, device=device) // region[1]
    region_of_token = ((frame + row) * columns + column).flatten()
    sizes = torch.bincount(region_of_token, minlength=frames * rows * columns)
    return Partition(torch.argsort(region_of_token, stable=True), sizes.tolist())  # stable: row-major in a region


def kept_count(sparsity: float, entries: int) -> int:
    """How many of `entries` blocks are kept: ceil((1 - sparsity) * entries), at least 1."""
    return min(max(math.ceil((1.0 - sparsity) * entries - _WHOLE_NUMBER_SLACK), 1), entries)


def released_kept_count(sparsity: float, entries: int) -> int:
    """The count of the paper's code before ties: entries - floor(sparsity * entries) + 1, at most `entries`."""
    return min(entries, entries - math.floor(sparsity * entries + _WHOLE_NUMBER_SLACK) + 1)


def select(scores: torch.Tensor, rule: str, sparsity: float) -> torch.Tensor:
    """The blocks that `rule` keeps, bool [regions, regions], given one head's scores [regions, regions] without NaN. Of
    equal scores the lower row-major index is kept first; "released" keeps all scores that equal the last one."""
    lines = scores if rule == "row" else scores.reshape(1, -1)
    falling = (lines + 0.0).sort(dim=-1, descending=True, stable=True)  # + 0.0 turns -0 into 0, so that they are equal
    if rule == "released":
        return scores >= falling.values[0, released_kept_count(sparsity, lines.shape[1]) - 1]
    first = falling.indices[:, : kept_count(sparsity, lines.shape[1])]
    return torch.zeros_like(lines, dtype=torch.bool).scatter_(1, first, True).view_as(scores)


def draft_mask(
    q: torch.Tensor,
    k: torch.Tensor,
    grid: tuple[int, int, int],
    region: tuple[int, int],
    pool: str,
    rule: str,
    sparsity: float,
    scale: float,
) -> torch.Tensor:
    """The draft mask, bool [heads, regions, regions], of q and k [heads, tokens, head_dim] in token order. The number
    of k's heads may be a divisor of q's: neighbouring heads of q then share one. Raises ValueError for NaN scores."""
    device = torch.device("cpu") if q.device.type == "mps" else q.device  # Apple's GPUs have no float64
    regions = partition(grid, region, device)

    def pooled(rows: torch.Tensor) -> torch.Tensor:  # [tokens, head_dim] -> [regions, head_dim] (eq. 2)
        parts = rows.to(device).index_select(0, regions.order).double().split(regions.sizes)
        return torch.stack([part.mean(dim=0) if pool == "avg" else part.amax(dim=0) for part in parts])

    masks, bad, group = [], [], q.shape[0] // k.shape[0]
    for head in range(q.shape[0]):
        scores = pooled(q[head]) @ pooled(k[head // group]).T  # S~ (eq. 6)
        if rule in ("softmax", "released"):
            scores = torch.softmax(scores * scale, dim=-1)  # A_draft (eq. 3)
        if scores.isnan().any():
            bad.append(head)
        else:
            masks.append(select(scores, rule, sparsity))
    _checks.require_scores("draft_mask", bad)
    return torch.stack(masks).to(q.device)


def _means(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
    """[blocks, head_dim] of blocks [tokens, head_dim]."""
    return torch.stack([block.mean(dim=0) for block in blocks])


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    grid: tuple[int, int, int],
    region: tuple[int, int],
    mask: torch.Tensor | None,
    scale: float,
    out: Sequence[torch.Tensor],
    remainder: str | None = None,
) -> None:
    """softmax(scale * Q K^T) V over the kept video blocks and all text; q, k and v are [heads, tokens, head_dim], and
    `out` is where each head's result goes, [tokens, head_dim] of any strides. `mask` is bool [heads, regions, regions];
    None: every block. A row that keeps nothing is 0. The number of k's and v's heads may be a divisor of q's:
    neighbouring heads of q then share one.

    remainder "pooled": each block that a row drops is one more key and value of the row's softmax, the means of its
    own, with the logarithm of its number of tokens added to the logit."""
    regions = partition(grid, region, q.device)
    tokens, count = q.shape[1], len(regions.sizes)
    text = tokens - len(regions.order)
    order = torch.cat([regions.order, torch.arange(tokens - text, tokens, device=q.device)])
    size = region[0] * region[1]  # text rows keep everything; this many at a time, to bound the memory of their logits
    row_sizes = regions.sizes + [min(size, text - first) for first in range(0, text, size)]
    column_sizes = regions.sizes + [text] * (text > 0)
    kept = None if mask is None else mask.cpu()
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    pools = remainder is not None and kept is not None
    log_sizes = torch.tensor(regions.sizes, dtype=dtype, device=q.device).log()
    with torch.autocast(q.device.type, enabled=False):  # autocast would round logits to 16 bits
        for head in range(q.shape[0]):
            queries, keys, values = (
                x[head * x.shape[0] // q.shape[0]].index_select(0, order).to(dtype) for x in (q, k, v)
            )
            key_blocks, value_blocks = keys.split(column_sizes), values.split(column_sizes)
            if pools:
                key_means, value_means = (_means(blocks[:count]) for blocks in (key_blocks, value_blocks))
            o = torch.zeros_like(queries)
            for row, (some, result) in enumerate(zip(queries.split(row_sizes), o.split(row_sizes))):
                own_keys, own_values = keys, values
                dropped: list[int] = []
                if kept is not None and row < count:
                    columns = kept[head, row].nonzero().flatten().tolist() + [count] * (text > 0)
                    dropped = (~kept[head, row]).nonzero().flatten().tolist() if pools else []
                    if not columns and not dropped:
                        continue
                    more = ([key_means[dropped]], [value_means[dropped]]) if dropped else ([], [])
                    own_keys = torch.cat([key_blocks[column] for column in columns] + more[0])
                    own_values = torch.cat([value_blocks[column] for column in columns] + more[1])
                logits = (some @ own_keys.T).mul_(scale)
                if dropped:
                    logits[:, -len(dropped) :] += log_sizes[dropped]
                torch.mm(torch.softmax(logits, dim=-1), own_values, out=result)
            out[head].index_copy_(0, order, o.to(q.dtype))
