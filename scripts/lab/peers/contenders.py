"""The kernels. Each is prepared once for a call and a case, and is then a function without arguments whose result is
the output, [heads, tokens, head_dim] in the contender's order. Preparing is not timed: block lists, masks in a
kernel's own form and, for those that want region order, the reordering.

A contender that cannot do a case raises: Unsupported, ImportError, or whatever its package raises.
"""

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from .inputs import REGION
from .masks import flex_block_mask, full_mask, why_not_slices, with_text

NO_REORDERING = "tensors stand in region order before: reordering is not timed, which favours this kernel"
STRIDED = "tensors [heads, tokens, head_dim] are passed as strided views, without copies"


class Unsupported(Exception):
    """What a contender cannot do."""


@dataclass(frozen=True)
class Case:
    """Dense (sparsity 0), or a draft mask."""

    sparsity: float = 0.0
    rule: str = ""
    pool: str = ""
    mask: torch.Tensor | None = None  # [heads, regions, regions], bool
    lists: Any = None  # the project's own kept-block lists of `mask`


@dataclass(frozen=True)
class Contender:
    """A kernel. prepare(call, case) -> a function without arguments; the call's tensors stand in `order`."""

    name: str
    order: str  # "token" or "region"
    sparse: bool  # whether it takes block masks
    prepare: Callable
    note: str
    package: str = ""  # whose __version__ a record names
    ours: bool = False


def own(library, kernel):
    """One of this project's kernels; library: the module draftattention."""

    def prepare(call, case):
        return lambda: library.attention(
            call.q, call.k, call.v, grid=call.grid, region=REGION, lists=case.lists, kernel=kernel
        )[0]

    return Contender(kernel, "token", True, prepare, "straight from token order: nothing is reordered", ours=True)


def slices_of(call, case):
    """The case's mask over slices of 128 tokens in region order, [heads, slices, slices]. Raises Unsupported."""
    if case.mask is None:
        return full_mask(call)
    if why := why_not_slices(call):
        raise Unsupported(why)
    return with_text(case.mask, call.text_blocks)


def _sdpa(backend):
    def prepare(call, case):
        q, k, v = (x[None] for x in (call.q, call.k, call.v))

        def work():
            with sdpa_kernel(backend):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v)[0]

        return work

    return prepare


@functools.cache
def compiled_flex():
    """torch.compile's FlexAttention; one compilation serves all masks of a shape."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _flex(call, case):
    q, k, v = (x[None] for x in (call.q, call.k, call.v))
    block_mask = flex_block_mask(slices_of(call, case), call.tokens)
    return lambda: compiled_flex()(q, k, v, block_mask=block_mask)[0]


def _block_sparse(call, case):
    package = importlib.import_module("block_sparse_attn")
    q, k, v = (x.transpose(0, 1) for x in (call.q, call.k, call.v))  # [tokens, heads, head_dim]
    ends = torch.tensor([0, call.tokens], dtype=torch.int32, device=q.device)
    kinds = torch.ones(call.heads, dtype=torch.int32, device=q.device)  # 1: this head follows the block mask
    # Sinks and local blocks of streaming heads, of which there are none; its operator wants a tensor all the same.
    streaming = torch.zeros(2 * call.heads, dtype=torch.int32, device=q.device)
    mask, n = slices_of(call, case)[None], call.tokens
    if hasattr(package, "fwd_prepared"):  # a build that has the two steps apart
        kinds, rows = package.prepare_masks(kinds, mask)
        return lambda: package.fwd_prepared(q, k, v, ends, ends, kinds, streaming, rows, n, n)[0].transpose(0, 1)
    try:
        parts = importlib.import_module("block_sparse_attn.block_sparse_attn_interface")
        forward = parts._wrapped_block_sparse_attn_forward
        kinds, _ = parts.replace_ones_with_count(kinds)
        rows = parts.convert_blockmask_row_reverse(mask)
    except (ImportError, AttributeError):  # another version: its mask is then prepared in each call
        return lambda: package.block_sparse_attn_func(q, k, v, ends, ends, kinds, streaming, mask, n, n, 0.0).transpose(
            0, 1
        )
    scale = call.head_dim**-0.5
    return lambda: forward(
        q, k, v, ends, ends, 128, 128, kinds, streaming, rows, n, n, 0.0, scale, False, False, False, -1, -1
    )[0].transpose(0, 1)


def _flash(module):
    """FlashAttention's common interface: [batch, tokens, heads, head_dim]; some versions return (out, lse)."""

    def prepare(call, case):
        function = importlib.import_module(module).flash_attn_func
        q, k, v = (x.transpose(0, 1)[None] for x in (call.q, call.k, call.v))

        def work():
            out = function(q, k, v)
            return (out[0] if isinstance(out, tuple) else out)[0].transpose(0, 1)

        return work

    return prepare


PEERS = (
    Contender("cudnn", "token", False, _sdpa(SDPBackend.CUDNN_ATTENTION), "scaled_dot_product_attention"),
    Contender("flash_attention_2", "token", False, _sdpa(SDPBackend.FLASH_ATTENTION), "scaled_dot_product_attention"),
    Contender(
        "flex_attention", "region", True, _flex, f"compiled, default options, blocks as whole ones; {NO_REORDERING}"
    ),
    Contender(
        "block_sparse_attention",
        "region",
        True,
        _block_sparse,
        f"all heads follow the block mask, prepared before; {STRIDED}; {NO_REORDERING}",
        "block_sparse_attn",
    ),
    Contender("flash_attention_3", "token", False, _flash("flash_attn_interface"), STRIDED, "flash_attn_interface"),
    Contender("flash_attention_4", "token", False, _flash("flash_attn.cute"), STRIDED, "flash_attn.cute"),
)


def choose(library, names):
    """The contenders of these names; none: wgmma, mma and all peers. Raises ValueError with the names there are."""
    kernels = [kernel["name"] for kernel in library.kernels()]
    known = {name: own(library, name) for name in kernels} | {peer.name: peer for peer in PEERS}
    names = names or [name for name in ("wgmma", "mma") if name in kernels] + [peer.name for peer in PEERS]
    for name in names:
        if name not in known:
            raise ValueError(f"--kernels: wanted some of {', '.join(known)}, found {name}")
    return [known[name] for name in dict.fromkeys(names)]
