"""Kept-block lists: of the draft mask of Q and K, and of any mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from . import _checks

if TYPE_CHECKING:
    from . import _kernels


@dataclasses.dataclass(frozen=True, eq=False)
class BlockLists:
    """The kept blocks of one call. Blocks are the regions, then text blocks of as many tokens; text columns are kept in
    every row, and text rows keep all. All tensors are contiguous and on one device. Made by draft_lists and
    lists_from_mask alone: kernels do not check these numbers, and wrong ones make them read out of bounds."""

    columns: (
        torch.Tensor
    )  # int16 [heads, blocks, blocks]: a row's kept columns, rising; entries past its count are unused
    counts: torch.Tensor  # int32 [heads, blocks]: kept columns of each block row, text included
    order: torch.Tensor  # int16 [heads, blocks]: block rows by falling count, equal counts by rising row
    mask: torch.Tensor  # bool [heads, regions, regions]: True where a video row keeps a video column
    grid: tuple[int, int, int]
    region: tuple[int, int]
    text_tokens: int

    def of_heads(self, first: int, count: int) -> BlockLists:
        """The lists of `count` heads from head `first` on: views of these."""
        part = slice(first, first + count)
        return dataclasses.replace(
            self, columns=self.columns[part], counts=self.counts[part], order=self.order[part], mask=self.mask[part]
        )

    def require_fit(
        self, layout: _kernels.Layout, grid: tuple[int, int, int], region: tuple[int, int], device: torch.device
    ) -> None:
        """Raises ValueError unless these are lists for a call of this layout on this device."""
        wanted = {
            "heads": layout.heads,
            "grid": _checks.grid_of(grid),
            "region": _checks.region_of(region),
            "text tokens": layout.text,
            "device": device,
        }
        found = {
            "heads": self.counts.shape[0],
            "grid": self.grid,
            "region": self.region,
            "text tokens": self.text_tokens,
            "device": self.columns.device,
        }
        for name, value in wanted.items():
            if found[name] != value:
                raise _checks.refuse(f"lists: {name}", value, found[name])


class ScoreCheck:
    """Whether a draft's scores are numbers, on its way to the host. Made where the draft was just enqueued, on its
    stream; what is enqueued later is not waited for."""

    def __init__(self, status: torch.Tensor):
        """status: int32 [heads], not 0 for a head with a NaN."""
        self._found = torch.empty(status.shape, dtype=status.dtype, pin_memory=True)
        self._found.copy_(status, non_blocking=True)
        self._arrived = torch.cuda.current_stream(status.device).record_event()

    def require(self) -> None:
        """Waits for the draft. Raises ValueError if a score is NaN."""
        self._arrived.synchronize()
        _checks.require_scores("draft_lists", self._found.nonzero().flatten().tolist())


def enqueue_draft(
    q: Sequence[torch.Tensor],
    k: Sequence[torch.Tensor],
    grid: tuple[int, int, int],
    region: tuple[int, int],
    pool: str,
    rule: str,
    sparsity: float,
    scale: float | None,
    check: bool,
) -> tuple[BlockLists, ScoreCheck | None]:
    """draft_lists for checked q and k in parts: the heads of all parts in turn, so that a batch that has no view [heads,
    tokens, head_dim] takes one map and one selection, and only pooling goes part by part. Waits for nothing: `check`
    gives what the NaN of scores is found with. The lists of a head with a NaN are undefined, but kernels may read them."""
    compiled = _checks.compiled()
    (_, tokens, dim), device = q[0].shape, q[0].device
    text = _checks.text_of("q", tokens, grid)
    layout = _checks.make_layout(sum(part.shape[0] for part in q), grid, region, text, dim)
    heads, regions, blocks = layout.heads, layout.regions, layout.blocks

    def new(dtype: torch.dtype, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    pooled = [new(torch.float32, heads, regions, dim) for _ in range(2)]
    scores = new(torch.float32, heads, regions, regions)
    status = new(torch.int32, heads)
    lists = BlockLists(
        new(torch.int16, heads, blocks, blocks),
        new(torch.int32, heads, blocks),
        new(torch.int16, heads, blocks),
        new(torch.bool, heads, regions, regions),
        _checks.grid_of(grid),
        _checks.region_of(region),
        layout.text,
    )
    workspace = new(torch.uint8, layout.selection_workspace)
    as_is = _checks.capsule
    with _checks.launching_on(device) as stream:
        first = 0
        for parts in zip(q, k, strict=True):
            of_part = _checks.make_layout(len(parts[0]), grid, region, text, dim)
            own = [means[first : first + of_part.heads] for means in pooled]
            compiled.pool_both(of_part, pool, *map(as_is, parts), *map(as_is, own), stream)
            first += of_part.heads
        if rule in ("softmax", "released"):
            compiled.draft_probabilities(
                layout, _checks.scale_of(scale, layout), *map(as_is, pooled), as_is(scores), stream
            )
        else:
            compiled.draft_logits(layout, *map(as_is, pooled), as_is(scores), stream)
        compiled.select(
            layout,
            rule,
            sparsity,
            as_is(scores),
            as_is(workspace),
            as_is(status),
            as_is(lists.columns),
            as_is(lists.counts),
            as_is(lists.order),
            as_is(lists.mask),
            stream,
        )
        return lists, ScoreCheck(status) if check else None


def draft_lists(
    q: torch.Tensor,
    k: torch.Tensor,
    grid: tuple[int, int, int],
    region: tuple[int, int] = (8, 16),
    pool: str = "avg",
    rule: str = "softmax",
    sparsity: float = 0.9,
    check: bool = True,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> BlockLists:
    """The paper's draft mask of Q and K: both are pooled by region and multiplied, and the highest scores are kept.

    q, k        [heads, tokens, head_dim] as in attention, in token order
    pool        "avg" or "max", over the tokens of a region
    rule        "softmax": the blocks of highest probability of each head, "logits": of highest score, "row": of highest
                score in each block row, equally many in all; "released": as the paper's code, with all ties
    sparsity    share of video blocks left out, from 0 to below 1
    check       True: wait for the draft and raise ValueError if a score is NaN. False: do not wait; the mask of a head
                with a NaN is then undefined, though attention may read its lists
    scale       softmax scale; None: 1 / sqrt(head_dim)
    enable_gqa  k may have fewer heads, as in attention

    Under autocast q and k are cast as scaled_dot_product_attention casts them. All work is enqueued on PyTorch's
    current stream. Raises ValueError for arguments that disagree, RuntimeError for CUDA's errors."""
    if torch.compiler.is_compiling():
        options = {"region": region, "pool": pool, "rule": rule, "sparsity": sparsity, "check": check}
        options |= {"scale": scale, "enable_gqa": enable_gqa}
        columns, counts, ordered, mask = torch.ops.draftattention.draft_lists(*_checks.autocast(q, k), grid, **options)
        return BlockLists(columns, counts, ordered, mask, grid, region, _checks.text_of("q", q.shape[1], grid))
    _checks.compiled()  # a package without kernels says so before it looks at tensors
    q, k = _checks.require_shared_rows(q, enable_gqa, k=k)
    lists, scores = enqueue_draft([q], [k], grid, region, pool, rule, sparsity, scale, check)
    if scores is not None:
        scores.require()
    return lists


def lists_from_mask(
    mask: torch.Tensor, grid: tuple[int, int, int], region: tuple[int, int] = (8, 16), text_tokens: int = 0
) -> BlockLists:
    """The lists of any mask of video blocks: bool [heads, regions, regions], contiguous, on any device; the lists are
    on the same one. Rows may be empty. The lists hold the mask itself, not a copy. Raises ValueError if its shape does
    not fit the grid's regions."""
    _checks.require_tensor("mask", mask, (torch.bool,), ("heads", "regions", "regions"))
    if not isinstance(text_tokens, int) or isinstance(text_tokens, bool) or not 0 <= text_tokens < 2**31:
        raise _checks.refuse("text_tokens", "a whole number from 0 on", repr(text_tokens))
    layout = _checks.make_layout(mask.shape[0], grid, region, text_tokens, 128)
    heads, regions, blocks = layout.heads, layout.regions, layout.blocks
    _checks.require_tensor("mask", mask, (torch.bool,), ("any", regions, regions))
    columns = torch.empty((heads, blocks, blocks), dtype=torch.int16, device=mask.device)
    counts = torch.empty((heads, blocks), dtype=torch.int32, device=mask.device)
    numbers = torch.arange(blocks, dtype=torch.int16, device=mask.device)
    for head in range(heads):  # one at a time, to bound memory: a sort needs 8 more bytes for each entry
        kept = torch.ones((blocks, blocks), dtype=torch.bool, device=mask.device)
        kept[:regions, :regions] = mask[head]
        # Dropped columns get numbers from `blocks` on, which sort behind the kept ones; below 2 * 12,000, so int16
        # fits.
        columns[head] = torch.where(kept, numbers, numbers + blocks).sort(dim=-1).values
        counts[head] = kept.sum(dim=-1, dtype=torch.int32)
    order = torch.argsort(counts, dim=-1, descending=True, stable=True).to(torch.int16)
    return BlockLists(columns, counts, order, mask, _checks.grid_of(grid), _checks.region_of(region), text_tokens)
