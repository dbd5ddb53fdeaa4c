"""Draft attention as a drop-in for a model's own: tensors with a batch axis, of any strides, with either order of heads
and tokens. Chooses a kernel that supports the call, or PyTorch if none does."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch

from . import _checks, _fallback
from ._attention import attention
from ._lists import BlockLists, draft_lists, lists_from_mask

_PREFERRED = ("wgmma", "mma", "blas")  # fastest first
_OLDEST = 80  # lowest compute capability that the kernels are compiled for
_ALIGNMENT = 16  # bytes: the kernels' loads need it


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


class _Call:
    """One call's checked arguments, and its tensors in the kernels' shape, [batch * heads, tokens, head_dim]."""

    def __init__(
        self,
        tensors: dict[str, torch.Tensor],
        grid: Any,
        text_tokens: int | None,
        region: Any,
        layout: str,
        scale: float | None,
        kernel: str,
        enable_gqa: bool,
        remainder: str | None = None,
        strict: bool = False,
    ):
        _checks.require_choice("layout", layout, ("bhnd", "bnhd"))
        for name, rows in tensors.items():
            _checks.require_strided(name, rows)
        self._rows = q, *others = _checks.autocast(*tensors.values())
        self._heads_axis = 2 if layout == "bnhd" else 1
        axes = ("batch entries", "tokens", "heads") if layout == "bnhd" else ("batch entries", "heads", "tokens")
        first, *names = tensors
        _checks.require_tensor(first, q, _fallback.ELEMENTS, (*axes, "head_dim"), contiguous=False)
        if q.device.type == "meta":
            raise _checks.refuse(first, "a tensor with values", f"one on {q.device}")
        heads = None
        for name, rows in zip(names, others):
            heads = q.shape[self._heads_axis] // _checks.head_group(name, rows, self._heads_axis, q, enable_gqa, heads)
            shape = [heads if axis == self._heads_axis else size for axis, size in enumerate(q.shape)]
            _checks.require_tensor(name, rows, (q.dtype,), shape, q.device, contiguous=False)
        self.device = q.device
        self.batch, self.heads, tokens, dim = q.transpose(1, self._heads_axis).shape
        self.grid, self.region = _checks.grid_of(grid), _checks.region_of(region)
        self.text = _checks.text_of(first, tokens, grid, text_tokens)
        self.scale = 1.0 / math.sqrt(dim) if scale is None else _checks.checked_scale(scale)
        self.kernel = choose_kernel(
            kernel,
            q.device,
            q.dtype,
            (self.batch * self.heads, self.grid, self.region, self.text, dim),
            remainder is not None,
            strict,
        )

    @functools.cached_property
    def tensors(self) -> list[torch.Tensor]:
        """[batch * heads, tokens, head_dim] each. For kernels, shared heads are repeated; PyTorch's code shares
        them."""
        return [self._flat(rows) for rows in self._rows]

    def _flat(self, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.transpose(1, self._heads_axis)
        if self.kernel == "torch":
            return rows.flatten(0, 1)
        if rows.shape[1] != self.heads:
            rows = rows.repeat_interleave(self.heads // rows.shape[1], dim=1)
        rows = rows.flatten(0, 1).contiguous()
        return rows if rows.data_ptr() % _ALIGNMENT == 0 else rows.clone()

    def draft(self, pool: str, rule: str, sparsity: float) -> torch.Tensor | BlockLists:
        """The draft mask of q and k: bool [batch * heads, regions, regions] for PyTorch, lists for kernels."""
        q, k = self.tensors[:2]
        if self.kernel == "torch":
            return _fallback.draft_mask(q, k, self.grid, self.region, pool, rule, sparsity, self.scale)
        # No check for NaN while a CUDA graph is captured: it would wait for the stream, which is then not allowed.
        return draft_lists(
            q,
            k,
            self.grid,
            self.region,
            pool,
            rule,
            sparsity,
            not torch.cuda.is_current_stream_capturing(),
            scale=self.scale,
        )

    def masked(self, mask: Any) -> torch.Tensor | BlockLists:
        """The caller's mask, checked and broadcast: a tensor for PyTorch, lists for kernels."""
        shape = (self.batch, self.heads, *[_checks.regions_of(self.grid, self.region)] * 2)
        _checks.require_strided("mask", mask, "a torch.Tensor or None")
        if mask.dtype != torch.bool:
            raise _checks.refuse("mask", torch.bool, mask.dtype)
        if mask.device != self.device:
            raise _checks.refuse("mask", f"a tensor on {self.device}", mask.device)
        try:
            full = mask.broadcast_to(shape).flatten(0, 1)
        except RuntimeError:
            raise _checks.refuse(
                "mask",
                f"shape {_checks.shape_text(shape)}, or one that broadcasts to it",
                _checks.shape_text(mask.shape),
            ) from None
        if self.kernel == "torch":
            return full
        return lists_from_mask(full.contiguous(), self.grid, self.region, self.text)

    def attend(self, kept: torch.Tensor | BlockLists | None, remainder: str | None) -> torch.Tensor:
        """The output, in the caller's order of axes."""
        q, k, v = self.tensors
        if self.kernel == "torch":
            o = _fallback.attention(q, k, v, self.grid, self.region, kept, self.scale, remainder)
        else:
            o, _ = attention(q, k, v, self.grid, self.region, kept, self.kernel, scale=self.scale, remainder=remainder)
        o = o.unflatten(0, (self.batch, self.heads))
        return o.transpose(1, self._heads_axis)


def _require_draft(pool: str, rule: str, sparsity: float) -> float:
    """Checks the three; returns the sparsity as a float. Raises ValueError for one that is not valid."""
    _checks.require_choice("pool", pool, ("avg", "max"))
    _checks.require_choice("rule", rule, ("logits", "softmax", "released", "row"))
    return _checks.number_of("sparsity", "at least 0 and below 1", sparsity, lambda number: 0.0 <= number < 1.0)


@_checks.an_operator_in_graphs
def draft_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    grid: tuple[int, int, int],
    *,
    text_tokens: int | None = None,
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
    """softmax(scale * Q K^T) V over the blocks that the draft mask of q and k keeps: the paper's attention (arXiv
    2505.14708, section 3), for each batch entry and head by itself. No backward pass.

    q, k, v      [batch, heads, tokens, head_dim], of any strides, all on one device: bfloat16 or float16; in PyTorch
                 float32 or float64 too
    grid         (frames, height, width) of the video tokens, which come first, in (frame, row, column) order; tokens
                 after them are text, whose rows and columns are always kept
    text_tokens  the number of text tokens, if it should be checked; None: all that are left
    sparsity     share of video blocks left out, from 0 (dense, and no mask is made) to below 1
    region       tokens (height, width) of a block; edge regions are smaller, never padded
    pool         "avg" or "max", over the tokens of a region (eq. 2)
    rule         "softmax": the blocks of highest A_draft (eq. 3) of each head; "logits": of highest S~ (eq. 6); "row":
                 of highest S~ in each block row, equally many in all; "released": as the paper's code, with all ties
    layout       "bhnd", or "bnhd": q, k, v and the output are [batch, tokens, heads, head_dim]; kernels then get copies
    scale        softmax scale; None: 1 / sqrt(head_dim)
    kernel       a name of kernels(); "torch": PyTorch alone, on any device; "auto": on a GPU the first of wgmma, mma
                 and blas that supports the call; PyTorch if none does, and on other devices
    enable_gqa   k and v may have fewer heads than q, a number that divides q's: query head h uses their head
                 h // (heads / k's heads), as in scaled_dot_product_attention. For kernels k and v are repeated
    remainder    None: what a block row drops has no part in it. "pooled": each block that it drops is one key more in
                 its softmax, the mean of the block's keys, which counts once for each of the block's tokens, with the
                 mean of its values (Sol-Attn, arXiv 2607.24027): as if each of its logits were the mean of them

    Under autocast q, k and v are cast as scaled_dot_product_attention casts them: to autocast's type, except float64.

    Returns o of q's shape and type (autocast's, if q was cast); with "bnhd" its strides are a transposed tensor's.
    Video rows that keep nothing are 0, without a remainder. A kernel's work is enqueued on PyTorch's current stream. The
    call waits for that stream to check the scores for NaN; while a CUDA graph is captured it does not, and a NaN has
    undefined effects.

    Raises ValueError, with what was wanted and what was found, for arguments that disagree, a kernel that does not
    support the call here and a NaN score (heads are then numbered through the batch); TypeError for an argument that is
    no tensor; RuntimeError for a kernel that was not built and for CUDA's errors."""
    sparsity = _require_draft(pool, rule, sparsity)
    _checks.require_remainder(remainder)
    call = _Call(
        {"q": q, "k": k, "v": v}, grid, text_tokens, region, layout, scale, kernel, enable_gqa, remainder, strict
    )
    return call.attend(call.draft(pool, rule, sparsity) if sparsity > 0.0 else None, remainder)


def require_draft_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    grid: tuple[int, int, int],
    *,
    text_tokens: int | None = None,
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
) -> None:
    """Raises the errors that draft_attention raises for these arguments before it computes anything."""
    _require_draft(pool, rule, sparsity)
    _checks.require_remainder(remainder)
    _Call({"q": q, "k": k, "v": v}, grid, text_tokens, region, layout, scale, kernel, enable_gqa, remainder, strict)


@_checks.an_operator_in_graphs
def draft_mask(
    q: torch.Tensor,
    k: torch.Tensor,
    grid: tuple[int, int, int],
    *,
    text_tokens: int | None = None,
    sparsity: float = 0.9,
    region: tuple[int, int] = (8, 16),
    pool: str = "avg",
    rule: str = "softmax",
    layout: str = "bhnd",
    scale: float | None = None,
    kernel: str = "auto",
    enable_gqa: bool = False,
    strict: bool = False,
) -> torch.Tensor:
    """Which video blocks draft_attention keeps, with its arguments and errors: bool [batch, heads, regions, regions] on
    q's device, True where the block row keeps the block column. Regions are numbered frame by frame, row-major.

    Of equal scores the lower row-major index is kept first. Scores are float32 in a kernel and float64 in PyTorch, so
    the two may order almost equal scores differently. Sparsity 0 keeps every block, but a NaN score is refused all the
    same."""
    sparsity = _require_draft(pool, rule, sparsity)
    call = _Call({"q": q, "k": k}, grid, text_tokens, region, layout, scale, kernel, enable_gqa, None, strict)
    kept = call.draft(pool, rule, sparsity)
    mask = kept.mask if isinstance(kept, BlockLists) else kept
    return mask.unflatten(0, (call.batch, call.heads))


@_checks.an_operator_in_graphs
def block_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    grid: tuple[int, int, int],
    mask: torch.Tensor | None,
    *,
    text_tokens: int | None = None,
    region: tuple[int, int] = (8, 16),
    layout: str = "bhnd",
    scale: float | None = None,
    kernel: str = "auto",
    enable_gqa: bool = False,
    remainder: str | None = None,
    strict: bool = False,
) -> torch.Tensor:
    """softmax(scale * Q K^T) V over the blocks of any mask, with draft_attention's other arguments, output and errors.

    mask  bool [batch, heads, regions, regions] on q's device, or of a shape that broadcasts to it: True where the block
          row keeps the block column; None: dense. Text rows and columns are always kept; a row that keeps nothing is
          0, without a remainder."""
    _checks.require_remainder(remainder)
    call = _Call(
        {"q": q, "k": k, "v": v}, grid, text_tokens, region, layout, scale, kernel, enable_gqa, remainder, strict
    )
    return call.attend(None if mask is None else call.masked(mask), remainder)
