"""Which tensors the kernels read and write where they stand, and a call's views of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

ALIGNMENT = 16  # bytes: the kernels' loads and stores
STRIDES = (
    f"consecutive numbers in a row, and other strides that are multiples of {ALIGNMENT} bytes and no shorter than a row"
)


def has_kernel_strides(rows: torch.Tensor) -> bool:
    """Whether the kernels take the strides of rows [..., heads, tokens, head_dim] as they are: STRIDES. Those of axes
    before the heads need the alignment alone, and that of an axis of size 1 does not matter."""
    shape, strides = rows.shape, rows.stride()
    if shape[-1] > 1 and strides[-1] != 1:
        return False
    step = ALIGNMENT // rows.element_size()
    axes = [axis for axis in range(rows.dim() - 1) if shape[axis] > 1]
    return all(strides[axis] % step == 0 for axis in axes) and all(
        strides[axis] >= shape[-1] for axis in axes if axis >= rows.dim() - 3
    )


def is_for_kernels(rows: torch.Tensor, strided: bool) -> bool:
    """Whether a kernel takes rows [batch, heads, tokens, head_dim] where they stand. `strided`: whether the kernel takes
    tensors that are not contiguous."""
    fits = has_kernel_strides(rows) if strided else rows.is_contiguous()
    return fits and rows.data_ptr() % ALIGNMENT == 0


def for_kernels(rows: torch.Tensor, strided: bool) -> torch.Tensor:
    """`rows` itself if is_for_kernels, else a contiguous copy."""
    return rows if is_for_kernels(rows, strided) else rows.clone(memory_format=torch.contiguous_format)


def calls_of(tensors: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, ...]]:
    """The kernel calls that tensors [batch, heads, tokens, head_dim] take, as views [heads, tokens, head_dim]: one, of
    the heads of all batch entries, if in every tensor one stride leads from each head to the next, also from an entry's
    last; else one for each entry."""
    try:
        return [tuple(x.view(-1, *x.shape[2:]) for x in tensors)]
    except RuntimeError:  # there is no such view
        return list(zip(*(x.unbind(0) for x in tensors)))


def extent(tensor: torch.Tensor) -> tuple[int, int]:
    """The addresses between which the tensor lies, (first byte, behind the last)."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()
