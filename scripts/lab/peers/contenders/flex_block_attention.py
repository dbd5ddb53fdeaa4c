"""Tencent's flex-block-attn: HunyuanVideo-1.5's kernel."""

import importlib

from ..inputs import BLOCK
from .contender import NO_REORDERING, Contender, batch_of_one, require_whole_slices, slices_of


def _prepare(call, case):
    function = importlib.import_module("flex_block_attn").flex_block_attn_func
    require_whole_slices(call)
    mask = slices_of(call, case)[None].contiguous()
    q, k, v = batch_of_one(call)
    return lambda: function(q, k, v, BLOCK, BLOCK, mask)[0]


PEERS = (
    Contender(
        "flex_block_attention",
        "region",
        True,
        _prepare,
        f"flex_block_attn_func with blocks of 128 x 128; {NO_REORDERING}",
        "flex_block_attn",
        install="python setup.py install of Tencent-Hunyuan/flex-block-attn (0.1)",
    ),
)
