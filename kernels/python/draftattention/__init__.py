"""Draft attention's GPU kernels on PyTorch tensors, without copies and on PyTorch's current stream.

    import draftattention as da
    lists = da.draft_lists(q, k, grid=(frames, height, width), sparsity=0.9)
    o, lse = da.attention(q, k, v, grid=(frames, height, width), lists=lists)

q, k and v are [heads, tokens, head_dim], bfloat16 or float16, contiguous and on one GPU: video tokens in (frame, row,
column) order, then text tokens."""

import torch  # first: it brings the cuBLAS that the compiled module finds  # noqa: F401

from ._attention import attention, kernels
from ._lists import BlockLists, draft_lists, lists_from_mask
from ._order import from_region_order, to_region_order

__all__ = ["BlockLists", "attention", "draft_lists", "from_region_order", "kernels", "lists_from_mask",
           "to_region_order"]
