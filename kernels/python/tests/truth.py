"""Attention and the draft mask in float64 by PyTorch, with plain index arithmetic of their own, and how far rounding
may take a kernel from them: the same bounds as reference/rounding/kernel_error.hpp, in its words."""

import dataclasses

import torch

FLOAT = 2.0**-24  # float32's unit roundoff
SMALLEST = {torch.bfloat16: 2.0**-133, torch.float16: 2.0**-24, torch.float32: 2.0**-149, torch.float64: 2.0**-1074}
PHASES = (1.0, 0.79, 0.61)


def blocks_of_tokens(grid, region, text):
    """int64 [tokens]: each token's block; regions by frame, row and column, then text blocks."""
    frames, height, width = grid
    rows, columns = -(-height // region[0]), -(-width // region[1])
    blocks = [
        (f * rows + y // region[0]) * columns + x // region[1]
        for f in range(frames)
        for y in range(height)
        for x in range(width)
    ]
    blocks += [frames * rows * columns + t // (region[0] * region[1]) for t in range(text)]
    return torch.tensor(blocks)


def region_order(grid, region, text):
    """int64 [tokens]: the token at each position of region order."""
    return torch.argsort(blocks_of_tokens(grid, region, text), stable=True)


def full_mask(mask, grid, region, text):
    """bool [blocks, blocks] of a mask [regions, regions]: all text kept."""
    regions = mask.shape[0]
    blocks = int(blocks_of_tokens(grid, region, text).max()) + 1
    full = torch.ones((blocks, blocks), dtype=torch.bool, device=mask.device)
    full[:regions, :regions] = mask
    return full


def block_means(x, blocks):
    """float64 like x [tokens, ...]: at each token the mean of its block's rows; blocks int64 [tokens]."""
    member = torch.nn.functional.one_hot(blocks).T.double()
    return (member @ x.double() / member.sum(dim=1, keepdim=True))[blocks]


@dataclasses.dataclass
class Truth:
    """Of one head; what rounding can do beside it. u: the element type's unit roundoff, e: that of sums, float32's, or
    for float64, where the truth errs as much as what is held to it, twice float64's.

    o_bound        P is rounded once, u P|V|, and O once, u |O|; a logit is a sum of head_dim products, which changes p
                   by up to 4 head_dim e scale |q||k|; sums have n terms, n e; a p may be below the type's numbers.
    row_tolerance  what rounding P does to a row in the L2 norm: three times what it does to P at three scalings, 2 u
                   ||O||, and float32's part."""

    o: torch.Tensor
    lse: torch.Tensor
    o_bound: torch.Tensor
    row_tolerance: torch.Tensor
    lse_bound: torch.Tensor

    def wrong(self, o, lse):
        """What is not explained by rounding, as text; "" if everything is. NaN is never explained."""
        error, lse_error = (o.double() - self.o).abs(), (lse.double() - self.lse).abs()
        empty = self.lse.isneginf()
        lse_error = torch.where(empty & (lse == self.lse), 0.0, lse_error)
        faults = {
            "element": ~(error <= self.o_bound),
            "row": ~(error.norm(dim=-1) <= self.row_tolerance),
            "log-sum-exp": ~(lse_error <= self.lse_bound),
        }
        return "; ".join(f"{int(bad.sum())} of {bad.numel()}: {name}" for name, bad in faults.items() if bad.any())


def attention_truth(q, k, v, keep, scale, pooled=None):
    """q, k, v [tokens, head_dim] as a kernel gets them, keep bool [tokens, tokens] or None. pooled: the keys and values
    that stand in the place of those that are not kept, [tokens, head_dim] each (a remainder's); None: nothing does."""
    dtype, dim = q.dtype, q.shape[-1]
    u = torch.finfo(dtype).eps / 2
    e = 2 * u if dtype == torch.float64 else FLOAT
    q, k, v = q.double(), k.double(), v.double()
    logits = scale * (q @ k.T)
    if keep is None:
        keep = torch.ones_like(logits, dtype=torch.bool)
    size = q.abs() @ k.abs().T
    if pooled is None:
        logits, size = logits.masked_fill(~keep, -torch.inf), size.masked_fill(~keep, 0.0)
        instead = torch.zeros_like(v)
    else:
        other, instead = (x.double() for x in pooled)
        logits, size = (
            torch.where(keep, logits, scale * (q @ other.T)),
            torch.where(keep, size, q.abs() @ other.abs().T),
        )

    def times(p, v, instead):
        return torch.where(keep, p, 0.0) @ v + torch.where(keep, 0.0, p) @ instead

    highest = logits.max(dim=-1, keepdim=True).values
    weights = torch.exp(logits - highest.clamp(min=torch.finfo(torch.float64).min))  # 0 where nothing is kept
    sums = weights.sum(dim=-1, keepdim=True)
    p = weights / sums.clamp(min=1.0)  # a sum is 0 or at least 1
    o = times(p, v, instead)
    products = scale * size.max(dim=-1, keepdim=True).values
    pooled_terms = 0 if pooled is None else q.shape[0]  # a mean's sum has as many at most
    sums_error = 2 * (q.shape[0] * e + (4 * dim + pooled_terms) * e * products)
    spread = times(p, v.abs(), instead.abs())
    smallest = SMALLEST[dtype] / 2 * times(torch.ones_like(p), v.abs(), instead.abs())
    rounded = [((weights * s).to(dtype).double() / s - weights) / sums.clamp(min=1.0) for s in PHASES]
    rounding = torch.stack([times(change, v, instead).norm(dim=-1) for change in rounded]).max(dim=0).values
    return Truth(
        o,
        torch.where(sums > 0, highest + sums.log(), -torch.inf).squeeze(-1),
        (u + sums_error) * spread + u * o.abs() + smallest,
        3 * rounding + 2 * u * o.norm(dim=-1) + (sums_error * spread + smallest).norm(dim=-1),
        (sums_error + 4 * e * (1 + highest.abs().nan_to_num(posinf=0.0))).squeeze(-1),
    )


def draft_scores(q, k, grid, region, pool, scale):
    """(S~ scaled, log of A_draft, how far float32 may take either), the first two [regions, regions], of one head.

    A pooled number is a sum of |R| terms and a division, S~ a sum of head_dim products of two of them; A_draft's
    logarithm is a difference of two of those, and its own sums have as many terms as there are regions."""
    blocks = blocks_of_tokens(grid, region, 0).to(q.device)
    regions, tokens, dim = int(blocks.max()) + 1, len(blocks), q.shape[-1]
    member = torch.nn.functional.one_hot(blocks, regions).T.double()

    def pooled(x):
        x = x[:tokens].double()
        if pool == "max":
            return torch.stack([x[row.bool()].max(dim=0).values for row in member])
        return member @ x / member.sum(dim=1, keepdim=True)

    scores = scale * (pooled(q) @ pooled(k).T)
    size = float(member.sum(dim=1).max())
    reach = float(scale * (pooled(q.abs()) @ pooled(k.abs()).T).max())
    slack = reach * (2 * (size + 1) + dim + 4) * FLOAT
    return scores, torch.log_softmax(scores, dim=-1), 2 * slack + regions * FLOAT
