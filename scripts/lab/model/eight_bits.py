"""What the attention kernel of 8-bit operands rounds (kernels/attend/wgmma_8bit), in PyTorch and each source alone: where
the error of 8-bit attention comes from.

| source | what is rounded |
| --- | --- |
| qk | Q to INT8, a step a query; K less a sample's mean to INT8, a step a block of keys |
| p | weights, 2^8.125 for the largest logit of a row so far, to E4M3 by their codes (coded_weights); a row's sum is of these |
| v | V to E4M3, times a power of two a head |

What is not rounded is as in a kernel of 16-bit operands: weights go to the element type, their sum does not. As in the kernel,
weights are relative to the largest logit of their block and those before it, and scaled afterwards: a weight that is too
small for E4M3 beside its row's largest is lost only if that one came before it. Two things are not the kernel's. It leaves the
shift up to SLACK octaves lower: P rounds alike, but not to the same numbers. And sums are in float32, where the tensor cores
cut at 13 bits.
"""

import math

import torch

from .heads import Regions, products

KERNEL = "wgmma_8bit"  # of draftattention
EMULATION = "emulation"  # how records name this in its place
SOURCES = ("qk", "p", "v")

LARGEST_INT8 = 127
LARGEST_E4M3 = 448.0
SAMPLED_TOKENS = 2048  # of a head, about: for the mean of K and the size of V
BIAS = 7  # of E4M3's exponents
OFFSET = 8.125  # log2 of the weight of a row's largest logit
SLACK = 0.6875  # octaves that the kernel's shift is below it, at most
LARGEST_CODE, NAN_CODE = 126, 127  # of E4M3
LOWEST = -1.0e30  # a shift below all logits
ELEMENTS = 2**25  # of logits at a time: bounds the memory


def to_e4m3(x):
    """The nearest number of E4M3, of x's type: ties to even, 448 in place of all that is larger; NaN stays NaN."""
    return x.clamp(-LARGEST_E4M3, LARGEST_E4M3).to(torch.float8_e4m3fn).to(x.dtype)


def coded_weights(eighths):
    """float8_e4m3fn: about 2^x by Schraudolph's trick, for eighths = 8 (x + 7), which it overwrites. E4M3's byte is 8 times
    the exponent plus the mantissa, about 8 log2 of the number, so the nearest whole number of eighths is taken as the byte:
    ties to even, 0 to 126, NaN for NaN. Where x >= -6 a weight is 2^x times 1.04, give or take 0.03; below, codes go to 0
    much faster than 2^x does."""
    return eighths.round_().clamp_(0, LARGEST_CODE).nan_to_num_(nan=NAN_CODE).to(torch.uint8).view(torch.float8_e4m3fn)


def blocks_of(grid, region, text_tokens, device):
    """int64 [tokens]: a token's block; text has blocks of as many tokens as a region that no edge cuts."""
    regions = Regions(grid, region, text_tokens, device)
    text = torch.arange(text_tokens, device=device) // (region[0] * region[1])
    return torch.cat([regions.ids[: len(regions.ids) - text_tokens], regions.video + text])


def _sample(x):
    """The tokens [..., sample, head_dim] that stand for all of x [..., tokens, head_dim], without what is not finite."""
    return x[..., :: max(x.shape[-2] // SAMPLED_TOKENS, 1), :].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _int8(x, largest):
    """(x in steps, to the nearest whole number, ties to even; the step). largest: of |x| where a step is shared."""
    step = torch.where(largest == 0, 1.0, largest / LARGEST_INT8)
    return (x / step).round(), step


def round_queries(q):
    """(INT8's numbers, steps [..., tokens, 1]) of q [..., tokens, head_dim], both of q's type."""
    return _int8(q, q.abs().amax(-1, keepdim=True))


def round_keys(k, blocks):
    """The same of k less its sample's mean, one step a block."""
    k = k - _sample(k).mean(-2, keepdim=True)
    of_token = k.abs().amax(-1)
    count = int(blocks.max()) + 1
    of_block = of_token.new_zeros(*of_token.shape[:-1], count)
    of_block.scatter_reduce_(-1, blocks.expand(of_token.shape), of_token, "amax")
    return _int8(k, of_block[..., blocks].unsqueeze(-1))


def _power(x, to):
    """The power of two that brings x >= 0 to 2^to up to 2^(to + 1); 1 for 0. Its exponent has the kernel's limits."""
    exponent = (torch.frexp(x).exponent - 1).clamp(-100, 126)
    return torch.where(x == 0, 1.0, torch.ldexp(torch.ones_like(x), to - exponent))


def round_values(v):
    """(E4M3's numbers, scales [..., 1, 1]) of v [..., tokens, head_dim]: numbers / scale is about v. The scale brings the
    sample's root mean square to 1 to 2, or the largest number to 128 to 256 where it would else be above 448."""
    rms = _sample(v).square().mean((-2, -1), keepdim=True).sqrt()
    largest = v.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).abs().amax((-2, -1), keepdim=True)
    scale = _power(rms, 0)
    scale = torch.where((rms > 0) & (largest * scale <= LARGEST_E4M3), scale, _power(largest, 7))
    return to_e4m3(torch.where(v.isinf(), math.nan, v) * scale), scale


def attention(q, k, v, grid, mask, *, text_tokens, region, rounds):
    """softmax(q k^T / sqrt(head_dim)) v over the blocks that the mask keeps and all text, with these SOURCES rounded; a row
    that keeps nothing is 0.

    q, k, v and the result [clips, heads, tokens, head_dim], in token order, text last; mask bool [clips, heads, regions,
    regions], or of a shape that broadcasts to it; None: every block."""
    blocks = blocks_of(grid, region, text_tokens, q.device)
    kept = None
    if mask is not None:
        count = int(blocks.max()) + 1
        kept = torch.ones(*q.shape[:2], count, count, dtype=torch.bool, device=q.device)
        kept[..., : mask.shape[-2], : mask.shape[-1]] = mask
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    with torch.autocast(q.device.type, enabled=False):  # which would round logits to 16 bits
        for clip in range(q.shape[0]):
            for head in range(q.shape[1]):
                own = None if kept is None else kept[clip, head]
                out[clip, head] = _head(q[clip, head], k[clip, head], v[clip, head], blocks, own, rounds)
    return out


def _head(q, k, v, blocks, kept, rounds):
    """Of q, k, v [tokens, head_dim]; kept bool [blocks, blocks] or None."""
    element, wide = q.dtype, torch.promote_types(q.dtype, torch.float32)
    factor = torch.full((len(q), 1), math.log2(math.e) / q.shape[1] ** 0.5, dtype=wide, device=q.device)
    key_steps, value_scale = None, 1.0
    if "qk" in rounds:
        numbers, steps = round_queries(q.to(wide))
        q, factor = numbers.to(element), factor * steps
        numbers, steps = round_keys(k.to(wide), blocks)
        k, key_steps = numbers.to(element), steps.T
    if "v" in rounds:
        numbers, value_scale = round_values(v.to(wide))
        v = numbers.to(element)
    found, dropped = [], None if kept is None else ~kept
    rows = max(ELEMENTS // len(k), 1)
    for first in range(0, len(q), rows):
        part = slice(first, first + rows)
        x = products(q[part], k)
        if key_steps is not None:
            x.mul_(key_steps)
        if dropped is not None:
            x.masked_fill_(dropped[blocks[part]][:, blocks], -math.inf)
        own = factor[part]  # times this a product is a logit, base 2
        if "p" in rounds:
            p = weights = _rounded_weights(x, own, blocks)
        else:
            shift = (x.amax(1, keepdim=True) * own).clamp(min=LOWEST)
            p = torch.addcmul(OFFSET - shift, x, own, out=x).exp2_()
            weights = p.to(element)
        total = p.sum(1, keepdim=True, dtype=wide).clamp(min=torch.finfo(wide).tiny)  # 0 where nothing is kept
        found.append((products(weights, v.T) / (total * value_scale)).to(element))
    return torch.cat(found)


def _rounded_weights(x, factor, blocks):
    """Weights of products x [queries, keys], which it overwrites; factor [queries, 1]: times this they are base-2 logits.
    Each is rounded relative to the largest so far and then scaled, so that the result is in x's type."""
    largest = x.new_full((len(x), int(blocks.max()) + 1), -math.inf)
    largest.scatter_reduce_(1, blocks.expand(x.shape), x, "amax")
    shifts = (largest * factor).clamp_(min=LOWEST).cummax(1).values
    of_key = shifts[:, blocks]
    p = coded_weights(x.mul_(8 * factor).add_(8 * (OFFSET + BIAS)).sub_(of_key, alpha=8)).to(x.dtype)
    return p.mul_(of_key.sub_(shifts[:, -1:]).exp2_())
