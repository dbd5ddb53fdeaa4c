"""What comes with PyTorch: cuDNN, FlashAttention-2 and FlexAttention with either of its kernels."""

import functools

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..masks import flex_block_mask
from . import flash_attention
from .contender import NO_REORDERING, Contender, batch_of_one, slices_of

INSTALL = "pip install torch"


def _sdpa(backend):
    def prepare(call, case):
        q, k, v = batch_of_one(call)

        def work():
            with sdpa_kernel(backend):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v)[0]

        return work

    return prepare


@functools.cache
def compiled_flex():
    """torch.compile's FlexAttention; one compilation serves all masks of a shape."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _flex(call, case):
    q, k, v = batch_of_one(call)
    block_mask = flex_block_mask(slices_of(call, case), call.tokens)
    return lambda: compiled_flex()(q, k, v, block_mask=block_mask)[0]


def true_everywhere(batch, head, query, key):
    """A mask function that is no constant: for a constant one PyTorch 2.11 leaves the block mask out."""
    return key >= 0


def _flex_by_flash(call, case):
    q, k, v = batch_of_one(call)
    block_mask = flex_block_mask(slices_of(call, case), call.tokens, true_everywhere)
    return lambda: compiled_flex()(q, k, v, block_mask=block_mask, kernel_options={"BACKEND": "FLASH"})[0]


def _dense(name, backend):
    return Contender(name, "token", False, _sdpa(backend), "scaled_dot_product_attention", "torch", install=INSTALL)


PEERS = (
    _dense("cudnn", SDPBackend.CUDNN_ATTENTION),
    _dense("flash_attention_2", SDPBackend.FLASH_ATTENTION),
    Contender(
        "flex_attention",
        "region",
        True,
        _flex,
        f"compiled, default options, blocks as whole ones; {NO_REORDERING}",
        "torch",
        install=INSTALL,
    ),
    Contender(
        "flex_attention_flash",
        "region",
        True,
        _flex_by_flash,
        f"compiled, BACKEND FLASH, which is FlashAttention-4's kernel, blocks as whole ones; {NO_REORDERING}",
        "torch",
        install=f"{INSTALL}; {flash_attention.INSTALL_4}",
    ),
)
