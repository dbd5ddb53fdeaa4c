"""Token order <-> region order, in which a region's tokens are consecutive (the paper's Algorithms 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from . import _checks


def _move(
    kernel: Callable[..., None],
    x: torch.Tensor,
    grid: tuple[int, int, int],
    region: tuple[int, int],
    out: torch.Tensor | None,
) -> torch.Tensor:
    _checks.require_rows("x", x)
    layout = _checks.layout_of("x", x, grid, region)
    if out is None:
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
    else:
        _checks.require_rows("out", out, like=x)
        _checks.require_apart("out", out, {"x": x})
    with _checks.launching_on(x.device) as stream:
        kernel(layout, _checks.capsule(x), _checks.capsule(out), stream)
    return out


def to_region_order(
    x: torch.Tensor, grid: tuple[int, int, int], region: tuple[int, int] = (8, 16), out: torch.Tensor | None = None
) -> torch.Tensor:
    """x [heads, tokens, head_dim] (bfloat16 or float16, contiguous, on a GPU) with each region's tokens consecutive,
    and text at the end. Writes to `out`, a tensor like x but not x itself, or to a new one. Enqueued on PyTorch's
    current stream, without waiting. Raises ValueError for arguments that disagree."""
    return _move(_checks.compiled().reorder, x, grid, region, out)


def from_region_order(
    x: torch.Tensor, grid: tuple[int, int, int], region: tuple[int, int] = (8, 16), out: torch.Tensor | None = None
) -> torch.Tensor:
    """The inverse of to_region_order."""
    return _move(_checks.compiled().restore, x, grid, region, out)
