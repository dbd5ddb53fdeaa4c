"""FastVideo's video sparse attention: the block-sparse step alone, blocks of 64 x 64 tokens."""

import importlib

import torch

from ..masks import kept_columns
from .contender import NO_REORDERING, Contender, Prepared, batch_of_one, first, slices_of

BLOCK = 64


def halved(mask, tokens):
    """[heads, slices, slices] over slices of 128 tokens -> over slices of 64; the last one may be shorter."""
    slices = -(-tokens // BLOCK)
    return mask.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :slices, :slices]


def compiled_kernel():
    """Whether its CUDA extension is there and fits this PyTorch; without it Triton's kernel runs."""
    try:
        operators = importlib.import_module("fastvideo_kernel._C.fastvideo_kernel_ops")
    except Exception:  # what does not load is not there
        return False
    return hasattr(operators, "block_sparse_fwd")


def _prepare(call, case):
    function = importlib.import_module("fastvideo_kernel").block_sparse_attn_from_indices
    mask = halved(slices_of(call, case), call.tokens)
    counts, columns = kept_columns(mask[None])
    slices, n = mask.shape[-1], call.tokens
    sizes = torch.full((slices,), BLOCK, dtype=torch.int32, device=call.q.device)
    sizes[-1] = n - BLOCK * (slices - 1)
    missing = BLOCK * slices - n
    q, k, v = (torch.nn.functional.pad(x, (0, 0, 0, missing)) if missing else x for x in batch_of_one(call))
    which = "its CUDA kernel" if compiled_kernel() else "its Triton kernel: the CUDA extension does not load"
    return Prepared(lambda: first(function(q, k, v, columns, counts, sizes))[0, :, :n], notes={"which": which})


PEERS = (
    Contender(
        "fastvideo",
        "region",
        True,
        _prepare,
        f"block_sparse_attn_from_indices: each block as 2 x 2 of 64, lists and padding prepared before; {NO_REORDERING}",
        "fastvideo-kernel",
        "fastvideo_kernel",
        "pip install --no-deps fastvideo-kernel==0.3.5",
    ),
)
