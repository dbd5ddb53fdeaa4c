"""Which kernel a call of the drop-in gets, and what that kernel takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from . import _checks

_PREFERRED = ("wgmma", "mma", "blas")  # fastest first
_OLDEST = 80  # lowest compute capability that the kernels are compiled for


def choose_kernel(
    kernel: str,
    device: torch.device,
    dtype: torch.dtype,
    sizes: tuple[Any, ...],
    remainder: bool = False,
    strict: bool = False,
) -> str:
    """The kernel for a call: a name of kernels(), or "torch". `kernel` is what the caller asked for, `sizes` the
    arguments of _checks.make_layout, `remainder` whether dropped blocks take part. Raises ValueError for a kernel that
    is unknown or does not support the call, and if `strict` where auto would be PyTorch; RuntimeError for one that was
    not built."""
    if not isinstance(strict, bool):
        raise _checks.refuse("strict", "True or False", repr(strict))
    names = [name for name, *_ in _checks.compiled().kernels()] if _checks.has_kernels() else _PREFERRED
    _checks.require_choice("kernel", kernel, ("auto", "torch", *names))
    if kernel == "torch":
        return kernel
    if kernel == "auto":
        found, why = _fastest(device, dtype, sizes, remainder, names)
        if strict and why:
            raise _checks.refuse("kernel", "one that supports the call (strict=True)", f"none: {why}")
        return found
    if device.type != "cuda":
        raise _checks.refuse("kernel", f"auto or torch for tensors on {device}", kernel)
    compiled = _checks.compiled()
    if dtype not in _checks.ELEMENTS:
        raise _checks.refuse("q", f"{' or '.join(map(str, _checks.ELEMENTS))} for kernel {kernel}", dtype)
    why = compiled.unsupported(kernel, _checks.make_layout(*sizes), False, _capability(device), remainder)
    if why:
        raise ValueError(f"kernel: {kernel} {why}")
    return kernel


def _capability(device: torch.device) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def _fastest(
    device: torch.device, dtype: torch.dtype, sizes: tuple[Any, ...], remainder: bool, names: Sequence[str]
) -> tuple[str, str]:
    """The first of the preferred kernels that supports a call, and ""; or "torch", and why none does."""
    if device.type != "cuda":
        return "torch", f"tensors are on {device}"
    if not _checks.has_kernels():
        return "torch", _checks.why_absent()
    if dtype not in _checks.ELEMENTS:
        return "torch", f"tensors of {dtype}"
    try:
        layout = _checks.make_layout(*sizes)
    except ValueError as error:  # for instance a head_dim that is no multiple of 8, or too many blocks
        return "torch", str(error)
    capability = _capability(device)
    if capability < _OLDEST:
        return "torch", f"a GPU of compute capability {capability / 10}"
    whys = []
    for name in filter(names.__contains__, _PREFERRED):
        why = _checks.compiled().unsupported(name, layout, False, capability, remainder)
        if not why:
            return name, ""
        whys.append(f"{name} {why}")
    return "torch", "; ".join(whys)


def takes_strides(kernel: str) -> bool:
    """Whether a kernel reads and writes tensors that are not contiguous."""
    layout, newest = _checks.make_layout(1, (1, 8, 16), (8, 16), 0, 128), 90
    whys = [_checks.compiled().unsupported(kernel, layout, False, newest, False, strided) for strided in (False, True)]
    return whys[0] == whys[1]
