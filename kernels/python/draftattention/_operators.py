"""The package's functions as operators of torch.library, draftattention::NAME, with shapes for torch.compile and
torch.export. The functions call them where a graph is traced, and compute at once elsewhere, which is faster; an
operator's implementation is the function. Arguments, outputs and errors are the functions'; but outputs are contiguous,
and `kernel` is called kernel_name, since inductor has a use of its own for arguments called kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from . import _attention, _checks, _dropin, _lists

_CHOICES = 'str layout="bhnd", float? scale=None, str kernel_name="auto", bool enable_gqa=False, bool strict=False'  # of the drop-ins
_DRAFT = 'float sparsity=0.9, str pool="avg", str rule="softmax"'
_REGION = "SymInt[] region=[8, 16]"


def _operator(name: str, schema: str, function: Callable[..., Any]) -> Any:
    """Registers an operator whose implementation is a function."""

    def implementation(*args: Any, kernel_name: str | None = None, **named: Any) -> Any:
        out = function(*args, **named, **({} if kernel_name is None else {"kernel": kernel_name}))
        return out.contiguous() if isinstance(out, torch.Tensor) else out

    return torch.library.custom_op(f"draftattention::{name}", implementation, mutates_args=(), schema=schema)


def _like_q(q: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
    return q.new_empty(q.shape)


_operator(
    "draft_attention",
    f"(Tensor q, Tensor k, Tensor v, SymInt[] grid, *, SymInt? text_tokens=None, {_DRAFT}, {_REGION}, {_CHOICES}, "
    "str? remainder=None) -> Tensor",
    _dropin.draft_attention,
).register_fake(_like_q)
_operator(
    "block_attention",
    f"(Tensor q, Tensor k, Tensor v, SymInt[] grid, Tensor? mask, *, SymInt? text_tokens=None, {_REGION}, {_CHOICES}, "
    "str? remainder=None) -> Tensor",
    _dropin.block_attention,
).register_fake(_like_q)


def _mask_shape(q: torch.Tensor, k: torch.Tensor, grid: Sequence[int], **named: Any) -> torch.Tensor:
    heads = q.shape[2 if named.get("layout") == "bnhd" else 1]
    regions = _checks.regions_of(grid, named.get("region", (8, 16)))
    return q.new_empty((q.shape[0], heads, regions, regions), dtype=torch.bool)


_operator(
    "draft_mask",
    f"(Tensor q, Tensor k, SymInt[] grid, *, SymInt? text_tokens=None, {_DRAFT}, {_REGION}, {_CHOICES}) -> Tensor",
    _dropin.draft_mask,
).register_fake(_mask_shape)


def _draft_lists(q: torch.Tensor, k: torch.Tensor, grid: Sequence[int], **named: Any) -> tuple[torch.Tensor, ...]:
    lists = _lists.draft_lists(q, k, _checks.grid_of(grid), **named)
    return lists.columns, lists.counts, lists.order, lists.mask


def _list_shapes(
    q: torch.Tensor, k: torch.Tensor, grid: Sequence[int], region: Sequence[int] = (8, 16), **named: Any
) -> tuple[torch.Tensor, ...]:
    heads, tokens = q.shape[:2]
    regions = _checks.regions_of(grid, region)
    text = tokens - grid[0] * grid[1] * grid[2]
    blocks = regions + -(-text // (region[0] * region[1]))

    def new(dtype: torch.dtype, *shape: int) -> torch.Tensor:
        return q.new_empty(shape, dtype=dtype)

    return (
        new(torch.int16, heads, blocks, blocks),
        new(torch.int32, heads, blocks),
        new(torch.int16, heads, blocks),
        new(torch.bool, heads, regions, regions),
    )


_operator(
    "draft_lists",
    f"(Tensor q, Tensor k, SymInt[] grid, *, {_REGION}, {_DRAFT}, bool check=True, float? scale=None, "
    "bool enable_gqa=False) -> (Tensor, Tensor, Tensor, Tensor)",
    _draft_lists,
).register_fake(_list_shapes)


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    grid: Sequence[int],
    lists: Sequence[torch.Tensor],
    *,
    region: Sequence[int] = (8, 16),
    **named: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    grid, region, given = _checks.grid_of(grid), _checks.region_of(region), None
    if lists:
        columns, counts, order, mask = lists
        text = _checks.text_of("q", q.shape[1], grid)
        given = _lists.BlockLists(columns, counts, order, mask, grid, region, text)
    return _attention.attention(q, k, v, grid, region, given, **named)


_operator(
    "attention",
    f'(Tensor q, Tensor k, Tensor v, SymInt[] grid, Tensor[] lists, *, {_REGION}, str kernel_name="wgmma", '
    "bool region_order=False, float? scale=None, bool enable_gqa=False, str? remainder=None) -> (Tensor, Tensor)",
    _attend,
).register_fake(lambda q, *args, **named: (q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)))
