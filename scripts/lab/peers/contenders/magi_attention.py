"""MagiAttention's flex_flash_attn_func: attention over ranges of queries and keys."""

import importlib

import torch

from ..inputs import BLOCK
from .contender import NO_REORDERING, Contender, Prepared, empty_rows_are_zero, first, slices_of


def ranges_of(mask, tokens):
    """[heads, slices, slices] -> (queries, keys), each [ranges, 2], int32, of all heads' tokens one head after the
    other: each row's runs of kept blocks."""
    edge = torch.nn.functional.pad(mask.to(torch.int8), (1, 1)).diff(dim=-1)  # 1 where a run starts, -1 behind its end
    head, row, start = (edge == 1).nonzero(as_tuple=True)
    end = (edge == -1).nonzero(as_tuple=True)[2]

    def between(low, high):
        ends = torch.stack([low * BLOCK, (high * BLOCK).clamp(max=tokens)], -1)
        return (ends + (head * tokens)[:, None]).to(torch.int32)

    return between(row, row + 1), between(start, end)


def _prepare(call, case):
    function = importlib.import_module("magi_attention.functional").flex_flash_attn_func
    slices = slices_of(call, case)
    queries, keys = ranges_of(slices, call.tokens)
    kinds = torch.zeros(len(queries), dtype=torch.int32, device=call.q.device)  # 0: every query sees every key
    q, k, v = (x.reshape(call.heads * call.tokens, 1, call.head_dim) for x in (call.q, call.k, call.v))

    def work():
        out = first(
            function(
                q,
                k,
                v,
                q_ranges=queries,
                k_ranges=keys,
                attn_type_map=kinds,
                auto_range_merge=True,
                disable_fwd_atomic_reduction=True,
                ref_block_size=(BLOCK, BLOCK),
                max_seqlen_q=BLOCK,
            )
        )
        return out.view(call.q.shape)

    return empty_rows_are_zero(Prepared(work), slices, call.tokens)


PEERS = (
    Contender(
        "magi_attention",
        "region",
        True,
        _prepare,
        "flex_flash_attn_func over all heads' tokens in a row: a row's runs of blocks are ranges, prepared before and "
        f"merged by row in each call; {NO_REORDERING}",
        "magi_attention",
        install="pip install . of SandAI-org/MagiAttention",
    ),
)
