"""Block Sparse Attention: the kernel that the paper's released code runs."""

import importlib

import torch

from .contender import NO_REORDERING, STRIDED, Contender, slices_of


def _prepare(call, case):
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


PEERS = (
    Contender(
        "block_sparse_attention",
        "region",
        True,
        _prepare,
        f"all heads follow the block mask, prepared before; {STRIDED}; {NO_REORDERING}",
        "block_sparse_attn",
        install="python setup.py install of mit-han-lab/Block-Sparse-Attention",
    ),
)
