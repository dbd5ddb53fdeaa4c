"""SageAttention 1 and 2, dense, and SpargeAttn's block-sparse kernel: Q and K in INT8, V in FP16 or FP8."""

import importlib

import torch

from .contender import (
    NO_REORDERING,
    TIMED,
    Contender,
    Prepared,
    Unsupported,
    batch_of_one,
    empty_rows_are_zero,
    slices_of,
)


def _sage_1(call, case):
    package = importlib.import_module("sageattention")
    if hasattr(package, "sageattn_qk_int8_pv_fp8_cuda_sm90"):
        raise Unsupported("wanted sageattention 1, found a later one")
    q, k, v = batch_of_one(call)
    k = k.clone()  # it takes the mean off K where K stands
    return lambda: package.sageattn(q, k, v, tensor_layout="HND", is_causal=False)[0]


def _sage_2(call, case):
    function = importlib.import_module("sageattention").sageattn_qk_int8_pv_fp8_cuda_sm90
    q, k, v = batch_of_one(call)
    return lambda: function(q, k, v, tensor_layout="HND", is_causal=False)[0]


def halved(mask, tokens, capability):
    """[heads, slices, slices] over 128 tokens -> SpargeAttn's blocks: 64 queries x 128 keys on Hopper, elsewhere 128 x
    64."""
    side = 1 if capability[0] == 9 else 2
    return mask.repeat_interleave(2, side).narrow(side, 0, -(-tokens // 64))


def _sparge(call, case):
    function = importlib.import_module("spas_sage_attn").block_sparse_sage2_attn_cuda
    capability = torch.cuda.get_device_capability(call.q.device)
    slices = slices_of(call, case)
    mask = halved(slices, call.tokens, capability)[None].contiguous()
    q, k, v = batch_of_one(call)
    prepared = Prepared(lambda: function(q, k, v, mask_id=mask, tensor_layout="HND")[0])
    return empty_rows_are_zero(prepared, slices, call.tokens)


PEERS = (
    Contender(
        "sage_attention_1",
        "token",
        False,
        _sage_1,
        "sageattn of version 1, by Triton: Q and K in INT8, V in FP16, quantised in each call",
        "sageattention",
        install="pip install sageattention==1.0.6",
        operands="int8, fp16",
        quantising=TIMED,
    ),
    Contender(
        "sage_attention_2",
        "token",
        False,
        _sage_2,
        "sageattn_qk_int8_pv_fp8_cuda_sm90: Q and K in INT8, V in FP8, quantised in each call",
        "sageattention",
        install="python setup.py install of thu-ml/SageAttention (2.2.0)",
        operands="int8, fp8",
        quantising=TIMED,
    ),
    Contender(
        "sparge_attention",
        "region",
        True,
        _sparge,
        f"block_sparse_sage2_attn_cuda: quantises, and makes lists of the mask, in each call; {NO_REORDERING}",
        "spas_sage_attn",
        install="python setup.py install of thu-ml/SpargeAttn (0.1.0)",
        operands="int8, fp8",
        quantising=TIMED,
    ),
)
