"""Tencent's flex-block-attn: HunyuanVideo-1.5's kernel."""

import importlib

from ..inputs import BLOCK
from .contender import (
    NO_REORDERING,
    Contender,
    Prepared,
    batch_of_one,
    empty_rows_are_zero,
    require_whole_slices,
    slices_of,
)


def _prepare(call, case):
    function = importlib.import_module("flex_block_attn").flex_block_attn_func
    require_whole_slices(call)
    slices = slices_of(call, case)
    mask = slices[None].contiguous()
    q, k, v = batch_of_one(call)
    prepared = Prepared(lambda: function(q, k, v, BLOCK, BLOCK, mask)[0])
    return empty_rows_are_zero(prepared, slices, call.tokens)


PEERS = (
    Contender(
        "flex_block_attention",
        "region",
        True,
        _prepare,
        "flex_block_attn_func with blocks of 128 x 128 (its authors advise 384); it waits for the GPU twice in each call, "
        f"and the clock sees it; {NO_REORDERING}",
        "flex_block_attn",
        install="python setup.py install of Tencent-Hunyuan/flex-block-attn (0.1)",
    ),
)
