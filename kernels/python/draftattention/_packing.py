"""Draft attention over tokens in any order: several segments of video, text and other conditions."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch

import draftattention

from . import _checks, _fallback
from ._tokens import Grid, Span, checked_spans, joined, spans_text, token_order


@functools.lru_cache(maxsize=8)
def _orders(segments: tuple[Grid, ...], region: tuple[int, int], device: torch.device) -> list[torch.Tensor]:
    """The tokens of all segments in region order, segment by segment, and the inverse."""
    first, orders = 0, []
    for segment in segments:
        orders.append(_fallback.partition(segment, region, device).order + first)
        first += math.prod(segment)
    order = torch.cat(orders)
    return [order, torch.argsort(order)]


class Packing:
    """Segments of video in the kernels' terms, which are one grid and its regions.

    Segments of one height and width are one grid of all their frames: nothing moves. Others are put into region order,
    one behind another, and cut into blocks of as many tokens as a region has: a grid of one row. These blocks are the
    segments' regions where those divide their grids; elsewhere a block may hold the end of one and the start of the next."""

    def __init__(self, segments: Sequence[Grid], region: tuple[int, int], device: torch.device):
        grid = joined(segments)
        self._orders: list[torch.Tensor] | None = None
        self.grid, self.region = grid or (1, 1, 1), region
        if grid is None:
            region = _checks.region_of(region)
            self.grid, self.region = (1, 1, sum(map(math.prod, segments))), (1, math.prod(region))
            self._orders = _orders(tuple(segments), region, device)

    @property
    def moves(self) -> bool:
        return self._orders is not None

    def _moved(self, x: torch.Tensor, way: int, dim: int) -> torch.Tensor:
        if self._orders is None:
            return x
        video, rest = x.split([self.grid[2], x.shape[dim] - self.grid[2]], dim)
        return torch.cat([video.index_select(dim, self._orders[way]), rest], dim)

    def pack(self, x: torch.Tensor, dim: int = 1) -> torch.Tensor:
        """Tokens of axis `dim`, segments and then anything, in the order that grid and region are of."""
        return self._moved(x, 0, dim)

    def unpack(self, x: torch.Tensor, dim: int = 1) -> torch.Tensor:
        """The inverse of pack."""
        return self._moved(x, 1, dim)


def packed_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    spans: Sequence[Span],
    *,
    sparsity: float = 0.9,
    region: tuple[int, int] = (8, 16),
    pool: str = "avg",
    rule: str = "softmax",
    layout: str = "bhnd",
    scale: float | None = None,
    kernel: str = "auto",
    enable_gqa: bool = False,
    remainder: str | None = None,
    strict: bool = False,
) -> torch.Tensor:
    """draft_attention for tokens in any order, with its other arguments, output and errors.

    spans  what the tokens are, in order: the grid (frames, height, width) of each segment of video, the number of tokens
           of text or another condition, and `...` for as many as are left: (226, (13, 30, 45)) is CogVideoX's order

    Text and conditions are kept: they attend to everything, and everything to them. Video blocks are chosen among those
    of all segments together. Segments of one height and width are one grid of all their frames. Segments that differ
    are in region order, one behind another, cut into blocks of as many tokens as a region has: these are each segment's
    regions where those divide its grid; elsewhere a block may hold the end of one region and the start of the next.

    Tokens are moved on the way in and out, a copy of q, k, v and o each, unless video comes first as one grid.

    Raises ValueError for spans that are not those of q's tokens."""
    spans = checked_spans(spans)
    _checks.require_choice("layout", layout, ("bhnd", "bnhd"))
    dim = 1 if layout == "bnhd" else 2
    for name, x in (("q", q), ("k", k), ("v", v)):
        _checks.require_strided(name, x)
        if x.dim() != 4:
            raise _checks.refuse(name, "4 axes", f"{x.dim()}, {_checks.shape_text(x.shape)}")
        if x.shape[dim] != q.shape[dim]:
            raise _checks.refuse(name, f"q's {q.shape[dim]} tokens", f"{x.shape[dim]}")
    order = token_order(spans, q.shape[dim])
    if order is None:
        raise _checks.refuse("spans", f"those of q's {q.shape[dim]} tokens", spans_text(spans))
    packing = Packing(order.segments, region, q.device)
    first, second, third = (packing.pack(order.gather(x, dim), dim) for x in (q, k, v))
    o = draftattention.draft_attention(
        first,
        second,
        third,
        packing.grid,
        text_tokens=q.shape[dim] - order.video_tokens,
        sparsity=sparsity,
        region=packing.region,
        pool=pool,
        rule=rule,
        layout=layout,
        scale=scale,
        kernel=kernel,
        enable_gqa=enable_gqa,
        remainder=remainder,
        strict=strict,
    )
    return order.scatter(packing.unpack(o, dim), dim)
