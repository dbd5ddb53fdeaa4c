"""Draft attention as a drop-in for a model's own: tensors with a batch axis, of any strides, with either order of heads
and tokens. Chooses a kernel that supports the call, or PyTorch if none does."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from . import _checks, _fallback
from ._attention import attention
from ._choice import choose_kernel, takes_strides
from ._lists import BlockLists, ScoreCheck, enqueue_draft, lists_from_mask
from ._views import calls_of, for_kernels, is_for_kernels


class _Call:
    """One call's checked arguments, and its tensors as views [batch, heads, tokens, head_dim]."""

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
        self.device, self.shape = q.device, q.shape
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
    def _strided(self) -> bool:
        return takes_strides(self.kernel)

    @functools.cached_property
    def tensors(self) -> list[torch.Tensor]:
        """q, k and v as the kernel, or PyTorch's code, takes them. For kernels, shared heads are repeated, and what
        cannot be read where it stands is copied; PyTorch's code takes [batch * heads, tokens, head_dim]."""
        return [self._taken(rows.transpose(1, self._heads_axis)) for rows in self._rows]

    def _taken(self, rows: torch.Tensor) -> torch.Tensor:
        if self.kernel == "torch":
            return rows.flatten(0, 1)
        if rows.shape[1] != self.heads:
            rows = rows.repeat_interleave(self.heads // rows.shape[1], dim=1)
        return for_kernels(rows, self._strided)

    def draft(self, pool: str, rule: str, sparsity: float) -> tuple[torch.Tensor | BlockLists, ScoreCheck | None]:
        """The draft mask of q and k: bool [batch * heads, regions, regions] for PyTorch, lists for kernels; and the
        check of its scores that is still to be made, once everything is enqueued."""
        q, k = self.tensors[:2]
        if self.kernel == "torch":
            return _fallback.draft_mask(q, k, self.grid, self.region, pool, rule, sparsity, self.scale), None
        # No check for NaN while a CUDA graph is captured: it would wait for the stream, which is then not allowed.
        check = not torch.cuda.is_current_stream_capturing()
        q_parts, k_parts = zip(*calls_of((q, k)))
        return enqueue_draft(q_parts, k_parts, self.grid, self.region, pool, rule, sparsity, self.scale, check)

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

    def output(self, out: Any) -> torch.Tensor:
        """The caller's tensor to write to, checked, or a new one, contiguous in the caller's order of axes."""
        q = self._rows[0]
        if out is None:
            return torch.empty(self.shape, dtype=q.dtype, device=self.device)
        _checks.require_tensor("out", out, (q.dtype,), self.shape, self.device, contiguous=False)
        _checks.require_apart("out", out, dict(zip("qkv", self._rows)))
        return out

    def attend(self, kept: torch.Tensor | BlockLists | None, remainder: str | None, out: Any) -> torch.Tensor:
        """The output, in the caller's order of axes."""
        o = self.output(out)
        rows = o.transpose(1, self._heads_axis)  # [batch, heads, tokens, head_dim]
        q, k, v = self.tensors
        if self.kernel == "torch":
            heads = [head for entry in rows for head in entry]
            _fallback.attention(q, k, v, self.grid, self.region, kept, self.scale, heads, remainder)
            return o
        grid, region = self.grid, self.region
        if kept is None and any(side % own for side, own in zip(grid[1:], region)):
            # Without a mask blocks need not be regions, which the grid's edges cut: 128 tokens in a row are fewer blocks.
            grid, region = (1, 1, rows.shape[2]), (1, 128)
        in_place = is_for_kernels(rows, self._strided)
        written = rows if in_place else torch.empty_like(rows, memory_format=torch.contiguous_format)
        first = 0
        for part_q, part_k, part_v, out in calls_of((q, k, v, written)):
            attention(
                part_q,
                part_k,
                part_v,
                grid,
                region,
                None if kept is None else kept.of_heads(first, len(out)),
                self.kernel,
                out=out,
                scale=self.scale,
                remainder=remainder,
            )
            first += len(out)
        if not in_place:
            rows.copy_(written)
        return o


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
    out: torch.Tensor | None = None,
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
    layout       "bhnd", or "bnhd": q, k, v and the output are [batch, tokens, heads, head_dim]. The kernels wgmma, mma
                 and wgmma_8bit read and write either where it stands, views such as parts of a fused projection too, if
                 a row's numbers are consecutive and its pointer and strides multiples of 16 bytes. All else is copied
    scale        softmax scale; None: 1 / sqrt(head_dim)
    kernel       a name of kernels(); "torch": PyTorch alone, on any device; "auto": on a GPU the first of wgmma, mma
                 and blas that supports the call; PyTorch if none does, and on other devices
    enable_gqa   k and v may have fewer heads than q, a number that divides q's: query head h uses their head
                 h // (heads / k's heads), as in scaled_dot_product_attention. For kernels k and v are repeated
    remainder    None: what a block row drops has no part in it. "pooled": each block that it drops is one key more in
                 its softmax, the mean of the block's keys, which counts once for each of the block's tokens, with the
                 mean of its values (Sol-Attn, arXiv 2607.24027): as if each of its logits were the mean of them
    strict       True: ValueError where "auto" would compute in PyTorch, with the reason
    out          a tensor of q's shape and type to write to, in memory apart from theirs, and to return: a view of a
                 larger one, too; None: a new one. Not in a graph of torch.compile

    Under autocast q, k and v are cast as scaled_dot_product_attention casts them: to autocast's type, except float64.

    Returns o of q's shape and type (autocast's, if q was cast), contiguous. Video rows that keep nothing are 0, without a
    remainder. A kernel's work is enqueued on PyTorch's current stream. Once all of it is, the call waits for the draft
    to check its scores for NaN, while attention runs; as a CUDA graph is captured it does not, and with a NaN a head's
    blocks are then undefined.

    Raises ValueError, with what was wanted and what was found, for arguments that disagree, a kernel that does not
    support the call here and a NaN score (heads are then numbered through the batch); TypeError for an argument that is
    no tensor; RuntimeError for a kernel that was not built and for CUDA's errors."""
    sparsity = _require_draft(pool, rule, sparsity)
    _checks.require_remainder(remainder)
    call = _Call(
        {"q": q, "k": k, "v": v}, grid, text_tokens, region, layout, scale, kernel, enable_gqa, remainder, strict
    )
    kept, scores = call.draft(pool, rule, sparsity) if sparsity > 0.0 else (None, None)
    o = call.attend(kept, remainder, out)
    if scores is not None:
        scores.require()
    return o


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
    kept, scores = call.draft(pool, rule, sparsity)
    if scores is not None:
        scores.require()
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
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """softmax(scale * Q K^T) V over the blocks of any mask, with draft_attention's other arguments, output and errors.

    mask  bool [batch, heads, regions, regions] on q's device, or of a shape that broadcasts to it: True where the block
          row keeps the block column; None: dense. Text rows and columns are always kept; a row that keeps nothing is
          0, without a remainder."""
    _checks.require_remainder(remainder)
    call = _Call(
        {"q": q, "k": k, "v": v}, grid, text_tokens, region, layout, scale, kernel, enable_gqa, remainder, strict
    )
    return call.attend(None if mask is None else call.masked(mask), remainder, out)
