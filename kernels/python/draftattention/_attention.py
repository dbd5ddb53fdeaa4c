"""Attention, dense and block-sparse, by the kernels of the compiled module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from . import _checks
from ._lists import BlockLists

if TYPE_CHECKING:
    from . import _kernels

_CAPABILITIES = (80, 86, 89, 90, 100, 103, 120)
_HEAD_DIMS = (32, 64, 96, 128, 192, 256)


def kernels() -> list[dict[str, Any]]:
    """The attention kernels of this build, each as a dict:

    name      what attention(kernel=...) takes
    summary   one line
    eight_bit whether it quantises q, k and v and multiplies 8-bit numbers
    supports  compute capability ("9.0") -> which of the head dims 32, 64, 96, 128, 192 and 256 it supports there, with
              regions of 8 x 16 tokens; capabilities with none are left out
    here      "" if it can run on PyTorch's current GPU with a head dim of 128, else the reason; None without a GPU

    Needs no GPU. Empty if the package was built without kernels."""

    def why(name: str, head_dim: int, capability: int) -> str:
        layout = _checks.make_layout(1, (1, 8, 16), (8, 16), 0, head_dim)
        return _checks.compiled().unsupported(name, layout, False, capability)

    current = None
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        current = 10 * major + minor
    table = []
    for name, summary, eight_bit in _checks.compiled().kernels() if _checks.has_kernels() else ():
        supports = {
            f"{number // 10}.{number % 10}": tuple(dim for dim in _HEAD_DIMS if not why(name, dim, number))
            for number in _CAPABILITIES
        }
        table.append(
            {
                "name": name,
                "summary": summary,
                "eight_bit": eight_bit,
                "supports": {key: dims for key, dims in supports.items() if dims},
                "here": None if current is None else why(name, 128, current),
            }
        )
    return table


def _outputs(q: torch.Tensor, out: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The output tensors: those given in `out`, checked, or new ones."""
    o, lse = out if isinstance(out, (tuple, list)) and len(out) == 2 else (out, None)
    if o is None:
        o = torch.empty_like(q, memory_format=torch.contiguous_format)
    else:
        _checks.require_rows("out", o, like=q, strided=True)
        _checks.require_apart("out", o, inputs)
    if lse is None:
        lse = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
    else:
        _checks.require_tensor("out (log-sum-exp)", lse, (torch.float32,), q.shape[:2], q.device)
        _checks.require_apart("out (log-sum-exp)", lse, inputs | {"out": o})
    return o, lse


def pooled_rows(layout: _kernels.Layout, rows: torch.Tensor, stream: int) -> torch.Tensor:
    """The mean of each region's rows, [heads, regions, head_dim] of the type of `rows`, [heads, tokens, head_dim] in
    token order and of strides that the kernels take: a remainder's keys and values."""
    pooled = torch.empty((layout.heads, layout.regions, layout.head_dim), dtype=rows.dtype, device=rows.device)
    _checks.compiled().pool_elements(layout, "avg", _checks.capsule(rows), _checks.capsule(pooled), stream)
    return pooled


def _call(
    layout: _kernels.Layout,
    scale: float,
    kernel: str,
    tensors: tuple[torch.Tensor, ...],
    lists: BlockLists | None,
    pooled: list[torch.Tensor] | None = None,
    region_order: bool = False,
) -> tuple[_kernels.Call, torch.Tensor]:
    """A call of the compiled module on q, k, v, o and lse, and its workspace. PyTorch aligns memory to 512 bytes. It
    reuses freed memory on the same stream alone, behind this call's kernels, so that the workspace may be freed before
    they have run."""
    kept = (None, None, None) if lists is None else (lists.columns, lists.counts, lists.order)
    capsules = [None if x is None else _checks.capsule(x) for x in (*tensors, *kept, *(pooled or ()))]
    call = _checks.compiled().Call(layout, scale, region_order, *capsules)
    # At least one byte, since an empty tensor has no pointer.
    return call, torch.empty(max(1, call.workspace(kernel)), dtype=torch.uint8, device=tensors[0].device)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    grid: tuple[int, int, int],
    region: tuple[int, int] = (8, 16),
    lists: BlockLists | None = None,
    kernel: str = "wgmma",
    region_order: bool = False,
    out: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None = None,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    remainder: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(scale * Q K^T) V over the kept blocks of `lists`, or over all of them; no gradients.

    q, k, v       [heads, tokens, head_dim] on one GPU, all bfloat16 or all float16: frames * height * width video tokens
                  of `grid` in (frame, row, column) order, then text tokens. Read where they stand, so that views of
                  [tokens, heads, head_dim] or of a fused projection will do: a row's numbers must be consecutive,
                  and pointers and strides multiples of 16 bytes. Kernel blas wants contiguous ones
    region        tokens (height, width) of a block; edge regions are smaller, text is cut into blocks of as many tokens
    lists         from draft_lists or lists_from_mask for the same heads, grid, region and text; None: every block
    kernel        a name of kernels()
    region_order  whether q, k, v are in region order (to_region_order); the output then is too
    out           a tensor of q's shape and type to write to, of strides as q may have, or such a tensor and a
                  contiguous float32 one [heads, tokens]; None: new contiguous ones
    scale         softmax scale; None: 1 / sqrt(head_dim)
    enable_gqa    k and v may have fewer heads, a number that divides q's: query head h uses their head
                  h // (heads / k's heads). The kernels have no shared heads: k and v are copied for each query head
    remainder     None, or "pooled": for each video block j that a block row drops, a query adds exp(scale * q . k_j)
                  n_j to its softmax's sum, and that times v_j to its output, with k_j and v_j the means of the block's
                  n_j keys and values, rounded to the type of q. Not with region_order

    Under autocast q, k and v are cast as scaled_dot_product_attention casts them. The remainder is Sol-Attn's (arXiv
    2607.24027).

    Returns o, [heads, tokens, head_dim] of the type of q (autocast's, where q was cast), and lse, float32 [heads,
    tokens]: the natural logarithm of each row's sum of exponentials, the remainder's too. A row that keeps nothing has
    o = 0 and lse = -inf, unless it has a remainder.
    The same input gives the same bits. All work is enqueued on PyTorch's current stream, without waiting; the first
    call on a GPU makes a cuBLAS handle. Raises ValueError for arguments that disagree or that the kernel does not
    support on this GPU, TypeError for an argument that is no tensor, RuntimeError for CUDA's errors."""
    if torch.compiler.is_compiling():
        _checks.require_no_out_in_graphs(out)
        kept = [] if lists is None else [lists.columns, lists.counts, lists.order, lists.mask]
        options = {"region": region, "kernel_name": kernel, "region_order": region_order, "scale": scale}
        options |= {"enable_gqa": enable_gqa, "remainder": remainder}
        return torch.ops.draftattention.attention(*_checks.autocast(q, k, v), grid, kept, **options)
    _checks.require_remainder(remainder)
    if remainder is not None and region_order:
        raise _checks.refuse("region_order", "False with a remainder, whose blocks are pooled in token order", True)
    _checks.compiled()  # a package without kernels says so before it looks at tensors
    q, k, v = _checks.require_shared_rows(q, enable_gqa, k=k, v=v)
    layout = _checks.layout_of("q", q, grid, region)
    if lists is not None:
        lists.require_fit(layout, grid, region, q.device)
    o, lse = _outputs(q, out, {"q": q, "k": k, "v": v})
    with _checks.launching_on(q.device) as stream:
        pooled = [pooled_rows(layout, x, stream) for x in (k, v)] if remainder and lists is not None else []
        call, workspace = _call(
            layout, _checks.scale_of(scale, layout), kernel, (q, k, v, o, lse), lists, pooled, region_order
        )
        call.launch(kernel, _checks.capsule(workspace), stream)
    return o, lse


class QuantisedAttention:
    """attention() of a kernel of 8-bit operands in two steps: making one quantises q, k and v, and each call attends.
    The operands are 3 bytes a token and channel.

    q, k, v, grid, region, lists, kernel, scale   as attention() takes them

    Raises ValueError as attention() does, and for a kernel that does not quantise."""

    def __init__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        grid: tuple[int, int, int],
        region: tuple[int, int] = (8, 16),
        lists: BlockLists | None = None,
        kernel: str = "wgmma_8bit",
        *,
        scale: float | None = None,
    ) -> None:
        q, k, v = _checks.require_shared_rows(q, False, k=k, v=v)
        layout = _checks.layout_of("q", q, grid, region)
        if lists is not None:
            lists.require_fit(layout, grid, region, q.device)
        self._kernel, self._device = kernel, q.device
        self._o, self._lse = _outputs(q, None, {"q": q, "k": k, "v": v})
        tensors = (q, k, v, self._o, self._lse)
        with _checks.launching_on(q.device) as stream:
            self._call, self._workspace = _call(layout, _checks.scale_of(scale, layout), kernel, tensors, lists)
            self._call.quantise(kernel, _checks.capsule(self._workspace), stream)

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(o, lse), the same tensors in every call."""
        with _checks.launching_on(self._device) as stream:
            self._call.attend_quantised(self._kernel, _checks.capsule(self._workspace), stream)
        return self._o, self._lse
