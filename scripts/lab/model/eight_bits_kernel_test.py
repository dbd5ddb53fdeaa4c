"""The emulation of the kernel of 8-bit operands beside the kernel itself, on a GPU; without one, that the check can fail."""

import math
import unittest

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
import draftattention

from lab.model import eight_bits
from lab.model.eight_bits import SOURCES, attention
from lab.model.eight_bits_test import UNIT, tokens_of
from lab.model.policies import why_not_here


def truncated_sums(p, v, blocks):
    """P V and the sums of P as the tensor cores have them (eight_bit.hpp): 32 keys at a time the products and the sum are cut
    to multiples of 2^-13 of the power of two below the largest; after 4 blocks they are added to what is exact. p [rows,
    keys], v [keys, channels], float64; blocks: lists of keys."""
    v = torch.cat([v, torch.ones_like(v[:, :1])], 1)
    total = torch.zeros(len(p), v.shape[1], dtype=torch.float64, device=p.device)
    for four in range(0, len(blocks), 4):
        held = torch.zeros_like(total)
        for block in blocks[four : four + 4]:
            for first in range(0, len(block), 32):
                keys = block[first : first + 32]
                parts = torch.cat([p[:, keys, None] * v[keys], held[:, None]], 1)
                quantum = torch.exp2(parts.abs().amax(1, keepdim=True).clamp(min=1e-30).log2().floor() - 13)
                held = ((parts / quantum).trunc() * quantum).sum(1)
        total += held
    return total


class Kernel(unittest.TestCase):
    """The kernel's output. Where a row's largest logit is in its first block, the kernel's weights are relative to it, and P
    is rounded to the same numbers as here. What is left is what sums lose at 13 bits, twice (eight_bit.hpp), O's rounding,
    and weights beside a tie. Of these there are few: the kernel adds -2^23 1.5 factor to a logit, about 1,350 here, whose
    float32 rounding is 2^-14 octaves at most; on average that takes one of 4,000 weights over a tie, so one row of ten has
    such a one."""

    GRID, REGION, TEXT = (1, 8, 48), (8, 16), 16
    NAMED = {"text_tokens": TEXT, "region": REGION}
    ELEMENT = 2.0**-11  # float16's unit roundoff
    FEW, MOST = 0.2, 0.8  # shares of rows beyond the tolerance: of the kernel at most, without a source at least

    def setUp(self):
        generator = torch.Generator().manual_seed(4)
        self.blocks = tokens_of(self.GRID, self.REGION, self.TEXT)
        tokens = sum(map(len, self.blocks))
        shared = torch.randn(128, generator=generator)
        q, k, v = torch.randn(3, 1, 1, tokens, 128, generator=generator)
        q = shared + q / 2
        k[..., self.blocks[0], :] += 0.4 * shared  # all look at the first block
        self.rows = [x.half() for x in (q, k, v)]
        mask = torch.rand(1, 1, 3, 3, generator=generator) < 0.5
        mask[..., 0] = True
        self.masks = None, mask

    def emulated(self, mask, rounds):
        return attention(*(x.double() for x in self.rows), self.GRID, mask, rounds=rounds, **self.NAMED)[0, 0]

    def tolerances(self, mask):
        """(of nearly all rows, of every one), [tokens] in the L2 norm."""
        q, k, v = (x[0, 0].double() for x in self.rows)
        ids = eight_bits.blocks_of(self.GRID, self.REGION, self.TEXT, "cpu")
        (queries, q_step), (keys, k_step) = eight_bits.round_queries(q), eight_bits.round_keys(k, ids)
        values, scale = eight_bits.round_values(v)
        full = torch.ones(len(self.blocks), len(self.blocks), dtype=torch.bool)
        if mask is not None:
            full[:3, :3] = mask[0, 0]
        x = queries @ keys.T * q_step * k_step.T * math.log2(math.e) / 128**0.5
        x = x.masked_fill(~full[ids][:, ids], -math.inf)
        self.assertTrue((ids[x.argmax(1)] == 0).all())  # the largest logits are where this test wants them
        p = eight_bits.coded_weights(8 * (x - x.amax(1, keepdim=True) + eight_bits.OFFSET + 7)).double()
        total = p.sum(1, keepdim=True)
        exact, cut = p @ values / total, torch.zeros(len(p), dtype=torch.float64)
        for row, own in enumerate(self.blocks):
            sums = truncated_sums(p[own], values, [block for block, at in zip(self.blocks, full[row]) if at])
            cut[own] = (sums[:, :-1] / sums[:, -1:] - exact[own]).norm(dim=1)
        rest = (2 * cut + self.ELEMENT * exact.norm(dim=1)) / scale.item()
        flipped = 2 * UNIT * (p / total * torch.cdist(exact, values)).amax(1) / scale.item()
        return rest, rest + 2 * flipped

    def beyond(self, found, mask):
        """(share of the rows beyond what nearly all keep, most that a row is of what it may be)."""
        most, every = self.tolerances(mask)
        error = (found.double() - self.emulated(mask, SOURCES)).norm(dim=1)
        return (~(error <= most)).double().mean().item(), (error / every).max().item()

    def test_the_check_can_fail(self):
        """Given the numbers without one of the sources, claim: most rows are beyond their tolerance."""
        for mask in self.masks:
            for left in SOURCES:
                fewer = self.emulated(mask, tuple(source for source in SOURCES if source != left))
                self.assertGreater(self.beyond(fewer, mask)[0], self.MOST, left)
            self.assertEqual(self.beyond(self.emulated(mask, SOURCES), mask), (0.0, 0.0))

    def test_a_gpu_gives_these_numbers(self):
        if why := why_not_here(eight_bits.KERNEL):
            self.skipTest(why)
        for mask in self.masks:
            kept = None if mask is None else mask.cuda()
            rows = [x.cuda() for x in self.rows]
            found = draftattention.block_attention(*rows, self.GRID, kept, kernel=eight_bits.KERNEL, **self.NAMED)
            share, most = self.beyond(found[0, 0].cpu(), mask)
            self.assertLessEqual(share, self.FEW)
            self.assertLessEqual(most, 1.0)
            # The same out of the emulation on the GPU, whose products are of 16-bit operands there.
            emulated = attention(*rows, self.GRID, kept, rounds=SOURCES, **self.NAMED)
            share, most = self.beyond(emulated[0, 0].cpu(), mask)
            self.assertLessEqual(share, self.FEW)
            self.assertLessEqual(most, 1.0)


if __name__ == "__main__":
    unittest.main()
