"""Draft attention (arXiv 2505.14708) on PyTorch tensors: block-sparse attention for video diffusion transformers.

    import draftattention as da
    o = da.draft_attention(q, k, v, grid=(frames, height, width), sparsity=0.9)

q, k and v are [batch, heads, tokens, head_dim]: video tokens in (frame, row, column) order, then text tokens.
draft_attention, draft_mask and block_attention run on the project's GPU kernels, or in PyTorch where those cannot.
The kernels by themselves, for [heads, tokens, head_dim], without copies and on PyTorch's current stream:

    lists = da.draft_lists(q, k, grid=(frames, height, width), sparsity=0.9)
    o, lse = da.attention(q, k, v, grid=(frames, height, width), lists=lists)

q, k and v are then bfloat16 or float16, contiguous and on one GPU."""

import torch  # first: it brings the cuBLAS that the compiled module finds  # noqa: F401

from ._attention import attention, kernels
from ._dropin import block_attention, draft_attention, draft_mask
from ._lists import BlockLists, draft_lists, lists_from_mask
from ._order import from_region_order, to_region_order

__all__ = [
    "BlockLists",
    "attention",
    "block_attention",
    "draft_attention",
    "draft_lists",
    "draft_mask",
    "from_region_order",
    "kernels",
    "lists_from_mask",
    "to_region_order",
]
