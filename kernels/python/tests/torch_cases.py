"""What the tests of draftattention in PyTorch share: calls to make, and the draft mask in plain loops."""

import itertools
import math
from fractions import Fraction

import torch
from truth import attention_truth, block_means, blocks_of_tokens, full_mask

BATCH, HEADS = 2, 2
RULES, POOLS, LAYOUTS = ("softmax", "logits", "released", "row"), ("avg", "max"), ("bhnd", "bnhd")
DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)

# grid, region, text, head_dim: ragged ones, one token, regions that fit, text of several blocks, a region of one token,
# one that is larger than a frame
CASES = [
    ((2, 9, 17), (8, 16), 21, 16),
    ((1, 1, 1), (8, 16), 0, 8),
    ((3, 8, 16), (8, 16), 0, 8),
    ((2, 11, 13), (4, 8), 5, 24),
    ((1, 5, 7), (2, 3), 40, 12),
    ((2, 3, 4), (1, 1), 1, 5),
    ((2, 4, 6), (64, 64), 3, 8),
]


def inputs(case, dtype, seed=0):
    """q, k, v [2, 2, tokens, head_dim], and a random mask [2, 2, regions, regions] with a full row and, where there are
    two or more, an empty one. Regions differ in their means, so that draft scores differ by more than rounding."""
    grid, region, text, dim = case
    generator = torch.Generator().manual_seed(seed)
    blocks = blocks_of_tokens(grid, region, text)
    regions = int(blocks[: math.prod(grid)].max()) + 1
    means = torch.randn((3, BATCH, HEADS, int(blocks.max()) + 1, dim), generator=generator)
    noise = torch.randn((3, BATCH, HEADS, len(blocks), dim), generator=generator)
    mask = torch.rand((BATCH, HEADS, regions, regions), generator=generator) < 0.4
    mask[:, :, -1], mask[:, :, 0] = False, True
    q, k, v = (noise + means[:, :, :, blocks]).to(dtype)
    return q, k, v, mask


def each_head():
    """(batch entry, head) of all."""
    return itertools.product(range(BATCH), range(HEADS))


def truths(case, q, k, v, mask, scale=None, remainder=None):
    """{(batch entry, head): the truth}; mask None: dense."""
    grid, region, text, dim = case
    blocks = blocks_of_tokens(grid, region, text).to(q.device)

    def keep(at):
        return None if mask is None else full_mask(mask[at], grid, region, text)[blocks][:, blocks]

    return {
        at: attention_truth(
            q[at],
            k[at],
            v[at],
            keep(at),
            scale or 1.0 / math.sqrt(dim),
            remainder and [block_means(x[at], blocks) for x in (k, v)],
        )
        for at in each_head()
    }


def wrong(expected, o):
    """What of o [2, 2, tokens, head_dim] rounding does not explain, as text; [] if it explains all."""
    found = [truth.wrong(o[at], truth.lse) for at, truth in expected.items()]
    return [text for text in found if text]


def plain_scores(q, k, grid, region, pool, scale):
    """(S~, A_draft) of one head, rows of floats: a loop over tokens, every sum rounded once."""
    blocks = blocks_of_tokens(grid, region, 0).tolist()
    members = [[token for token, block in enumerate(blocks) if block == number] for number in range(max(blocks) + 1)]

    def pooled(rows):
        join = max if pool == "max" else lambda values: math.fsum(values) / len(values)
        rows = rows.double().tolist()
        return [[join(channel) for channel in zip(*[rows[token] for token in tokens])] for tokens in members]

    keys = pooled(k)
    logits = [[math.fsum(a * b for a, b in zip(row, key)) for key in keys] for row in pooled(q)]
    weights = [[math.exp(scale * (logit - max(row))) for logit in row] for row in logits]
    return logits, [[weight / math.fsum(row) for weight in row] for row in weights]


def plain_selection(scores, rule, sparsity):
    """Rows of bools: the entries of `scores` (rows of floats) that `rule` keeps, counted in exact arithmetic."""
    if rule == "row":
        return [plain_selection([row], "logits", sparsity)[0] for row in scores]
    flat = [score for row in scores for score in row]
    order = sorted(range(len(flat)), key=lambda index: -flat[index])  # stable: the lower index first
    left_out = Fraction(str(sparsity)) * len(flat)
    if rule == "released":
        last = flat[order[min(len(flat), len(flat) - math.floor(left_out) + 1) - 1]]
        kept = {index for index, score in enumerate(flat) if score >= last}
    else:
        kept = set(order[: max(1, math.ceil(len(flat) - left_out))])
    width = len(scores[0])
    return [[first + column in kept for column in range(width)] for first in range(0, len(flat), width)]


def plain_mask(q, k, case, pool, rule, sparsity, scale=None):
    """bool [2, 2, regions, regions]"""
    grid, region, _, dim = case
    read = int(rule in ("softmax", "released"))
    masks = [
        plain_selection(
            plain_scores(q[at], k[at], grid, region, pool, scale or 1.0 / math.sqrt(dim))[read], rule, sparsity
        )
        for at in each_head()
    ]
    return torch.tensor(masks).unflatten(0, (BATCH, HEADS))
