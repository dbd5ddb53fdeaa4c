"""Draft attention (arXiv 2505.14708) on PyTorch tensors: block-sparse attention for video diffusion transformers.

    import draftattention as da
    o = da.draft_attention(q, k, v, grid=(frames, height, width), sparsity=0.9)

q, k and v are [batch, heads, tokens, head_dim]: video tokens in (frame, row, column) order, then text tokens. For tokens
in any other order there is packed_attention, for whole models draftattention.diffusers.
draft_attention, draft_mask and block_attention run on the project's GPU kernels, or in PyTorch for calls that no kernel
supports. The kernels can be called directly, with [heads, tokens, head_dim], no copies, on PyTorch's current stream:

    lists = da.draft_lists(q, k, grid=(frames, height, width), sparsity=0.9)
    o, lse = da.attention(q, k, v, grid=(frames, height, width), lists=lists)

q, k and v must then be bfloat16 or float16 and on one GPU.

In a graph of torch.compile or torch.export these functions are operators, torch.ops.draftattention."""

import torch  # first: it loads the cuBLAS that the compiled module needs  # noqa: F401

from . import _operators  # registers torch.ops.draftattention  # noqa: F401
from ._attention import QuantisedAttention, attention, kernels
from ._dropin import block_attention, draft_attention, draft_mask
from ._lists import BlockLists, draft_lists, lists_from_mask
from ._order import from_region_order, to_region_order
from ._packing import packed_attention

__all__ = [
    "BlockLists",
    "QuantisedAttention",
    "attention",
    "block_attention",
    "draft_attention",
    "draft_lists",
    "draft_mask",
    "from_region_order",
    "kernels",
    "lists_from_mask",
    "packed_attention",
    "to_region_order",
]
