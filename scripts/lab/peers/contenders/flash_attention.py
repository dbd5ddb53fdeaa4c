"""FlashAttention-3, dense, and FlashAttention-4, dense and with block masks."""

import importlib

import torch

from ..inputs import BLOCK
from ..masks import kept_columns
from .contender import NO_REORDERING, STRIDED, Contender, first, slices_of, tokens_first

INSTALL_3 = "python setup.py install in hopper/ of Dao-AILab/flash-attention"
INSTALL_3_WHEEL = "pip install --no-deps fa3-fwd==0.0.3"
INSTALL_4 = 'pip install --pre "flash-attn-4[cu13]==4.0.0b36"'


def _flash(module):
    def prepare(call, case):
        function = importlib.import_module(module).flash_attn_func
        q, k, v = tokens_first(call)
        return lambda: first(function(q, k, v))[0].transpose(0, 1)

    return prepare


def _flash_4(call, case):
    if case.mask is None:
        return _flash("flash_attn.cute")(call, case)
    function = importlib.import_module("flash_attn.cute").flash_attn_func
    form = importlib.import_module("flash_attn.cute.block_sparsity").BlockSparseTensorsTorch
    counts, columns = kept_columns(slices_of(call, case)[None])
    blocks = form(
        mask_block_cnt=torch.zeros_like(counts),  # no block is a partial one
        mask_block_idx=torch.zeros_like(columns),
        full_block_cnt=counts,
        full_block_idx=columns,
        block_size=(BLOCK, BLOCK),
    )
    q, k, v = tokens_first(call)
    return lambda: first(function(q, k, v, block_sparse_tensors=blocks))[0].transpose(0, 1)


PEERS = (
    Contender(
        "flash_attention_3",
        "token",
        False,
        _flash("flash_attn_interface"),
        STRIDED,
        "flash_attn_3",
        "flash_attn_interface",
        INSTALL_3,
    ),
    Contender(
        "flash_attention_3_wheel",
        "token",
        False,
        _flash("fa3_fwd_interface"),
        f"its forward pass as somebody packed it for pip; {STRIDED}",
        "fa3-fwd",
        "fa3_fwd_interface",
        INSTALL_3_WHEEL,
    ),
    Contender(
        "flash_attention_4",
        "region",
        True,
        _flash_4,
        f"the CuTe DSL's kernel, blocks as whole ones, lists prepared before; {STRIDED}; {NO_REORDERING}",
        "flash-attn-4",
        "flash_attn.cute",
        INSTALL_4,
    ),
)
