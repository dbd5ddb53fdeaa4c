"""Tests of what the kernel of 8-bit operands rounds: against its definition in plain NumPy, and what theory says of each
source's size. The kernel itself: eight_bits_kernel_test.py."""

import math
import re
import unittest

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
import draftattention

from lab.model import eight_bits
from lab.model.eight_bits import SOURCES, attention
from lab.model.policies import Policy, PolicyAttention
from lab.shared.files import ROOT

GRID, REGION, TEXT = (2, 9, 13), (4, 8), 45  # ragged regions; text of a whole block and a part of one
DIM = 32
UNIT = 2.0**-4  # E4M3's unit roundoff
# reference/rounding/eight_bit.hpp: of E4M3's spacing relative to its largest; of a coded weight's error.
MEAN_SQUARE, WEIGHT_SQUARE = 0.54, 9.87e-4
EVERY_E4M3 = np.array(
    [m * 2.0**-9 for m in range(8)]
    + [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8) if (e, m) != (15, 7)]
)


def tokens_of(grid, region, text):
    """The blocks as lists of tokens, by loops: regions by frame, row and column, then text in blocks of a region's size."""
    frames, height, width = grid
    found = [
        [
            (f * height + y) * width + x
            for y in range(top, min(top + region[0], height))
            for x in range(left, min(left + region[1], width))
        ]
        for f in range(frames)
        for top in range(0, height, region[0])
        for left in range(0, width, region[1])
    ]
    video, size = frames * height * width, region[0] * region[1]
    return found + [list(range(first, min(first + size, video + text))) for first in range(video, video + text, size)]


def nearest_e4m3(x):
    """By the list of all its numbers; of two equally near ones that with an even place, which is the even mantissa."""
    size = min(abs(x), 448.0)
    above = int(np.searchsorted(EVERY_E4M3, size))
    below = max(above - 1, 0)
    up, down = EVERY_E4M3[above] - size, size - EVERY_E4M3[below]
    place = below if down < up or (down == up and below % 2 == 0) else above
    return math.copysign(EVERY_E4M3[place], x)


def coded(log2_weight):
    """The number whose code is nearest to 8 (log2_weight + 7): Python rounds half to even too."""
    return EVERY_E4M3[min(max(round(8 * (max(log2_weight, -1e3) + 7)), 0), 126)]


def floor_log2(x):
    return math.floor(math.log2(x))


def by_definition(q, k, v, blocks, kept, rounds):
    """One head in float64 as operands.hpp, quantise.cu and softmax.cuh say, block by block; kept [blocks, blocks]."""
    tokens, dim = q.shape
    logits, sample = np.full((tokens, tokens), -np.inf), slice(None, None, max(tokens // 2048, 1))
    if "qk" in rounds:
        q_step = np.abs(q).max(1) / 127
        q = np.rint(q / np.where(q_step > 0, q_step, 1)[:, None])
        k = k - k[sample].mean(0)
    exponent = 0
    if "v" in rounds:
        exponent = floor_log2(np.sqrt((v[sample] ** 2).mean()))
        if np.abs(v).max() > 448 * 2.0**exponent:
            exponent = floor_log2(np.abs(v).max()) - 7
        v = np.vectorize(nearest_e4m3)(v * 2.0**-exponent)
    for row, queries in enumerate(blocks):
        for column, keys in enumerate(blocks):
            if not kept[row, column]:
                continue
            own, steps = k[keys], 1.0
            if "qk" in rounds:
                steps = np.abs(own).max() / 127
                own = np.rint(own / steps)
                steps = steps * q_step[queries][:, None]
            logits[np.ix_(queries, keys)] = q[queries] @ own.T * steps * math.log2(math.e) / math.sqrt(dim)
    highest, p = np.full((tokens, 1), -np.inf), np.zeros((tokens, tokens))
    for keys in blocks:  # a weight is relative to what has been seen; when more is seen, all before it are scaled
        before, highest = highest, np.maximum(highest, logits[:, keys].max(1, keepdims=True))
        seen = np.where(np.isinf(highest), 0, highest)
        p *= np.exp2(np.where(np.isinf(before), 0, before - seen))
        weights = logits[:, keys] - seen + 8.125
        p[:, keys] = np.vectorize(coded)(weights) if "p" in rounds else np.exp2(weights)
    return 2.0**exponent * (p @ v) / np.maximum(p.sum(1, keepdims=True), 1e-300)


class Definition(unittest.TestCase):
    def setUp(self):
        self.blocks = tokens_of(GRID, REGION, TEXT)
        self.tokens = GRID[0] * GRID[1] * GRID[2] + TEXT
        self.regions = len(self.blocks) - 2
        rng = np.random.default_rng(3)
        shape = (1, 2, self.tokens, DIM)
        q, k, v = (rng.standard_normal(shape) for _ in range(3))
        k = k + 3 * rng.standard_normal(DIM)  # what the mean takes away
        self.rows = [torch.tensor(x) for x in (2 * q, k, v * [[[[1.0]], [[0.01]]]])]
        self.mask = torch.tensor(rng.random((1, 2, self.regions, self.regions)) < 0.4)

    def attend(self, rounds, mask=None, rows=None, text=TEXT):
        return attention(*(rows or self.rows), GRID, mask, text_tokens=text, region=REGION, rounds=rounds)

    def test_all_sources_alone_and_together(self):
        """Given float64 inputs, claim: the definition's numbers, to the rounding of sums of as many terms as there are tokens;
        nothing rounds otherwise, or an element would be off by E4M3's or INT8's step."""
        tolerance = 8 * self.tokens * np.finfo(float).eps
        blocks = eight_bits.blocks_of(GRID, REGION, TEXT, "cpu").tolist()
        self.assertEqual([[t for t, at in enumerate(blocks) if at == b] for b in range(len(self.blocks))], self.blocks)
        for mask in (None, self.mask):
            plain = self.attend((), mask)
            for rounds in ((), *((source,) for source in SOURCES), SOURCES):
                found = self.attend(rounds, mask)
                for head in range(2):
                    kept = np.ones((len(self.blocks), len(self.blocks)), dtype=bool)
                    if mask is not None:
                        kept[: self.regions, : self.regions] = mask[0, head].numpy()
                    rows = [x[0, head].numpy() for x in self.rows]
                    wanted = by_definition(*rows, self.blocks, kept, rounds)
                    error = np.abs(found[0, head].numpy() - wanted).max() / np.abs(wanted).max()
                    self.assertLessEqual(error, tolerance, (rounds, head))
                    moved = (found - plain)[0, head].norm() / plain[0, head].norm()
                    self.assertTrue(moved > 1e-3 if rounds else moved == 0, (rounds, head))

    def test_small_weights_before_a_large_one_are_kept(self):
        """Given one key 20 octaves above all others, claim: P's error is E4M3's where it is the last of all, and where it is
        the first the others' share is lost."""
        q, k, v = (x[:, :1].clone() for x in self.rows)
        q[:], k[:] = 0.0, 0.0
        q[..., 0] = 1.0
        errors = []
        for place in (-1, 0):
            own = k.clone()
            own[0, 0, place, 0] = 20 * math.sqrt(DIM) / math.log2(math.e)
            plain, found = (self.attend(rounds, rows=[q, own, v]) for rounds in ((), ("p",)))
            errors.append(((found - plain).norm() / plain.norm()).item())
        lost = (self.tokens - 1) * 2.0**-20  # and their numbers are of the same size
        self.assertLess(errors[0], 0.1 * lost)
        self.assertGreater(errors[1], 0.3 * lost / (self.tokens - 1) ** 0.5)

    def test_without_rounding_it_is_draftattention(self):
        rows = [x.float() for x in self.rows]
        for mask in (None, self.mask):
            wanted = draftattention.block_attention(*rows, GRID, mask, text_tokens=TEXT, region=REGION, kernel="torch")
            found = self.attend((), mask, rows)
            # Logits of DIM products and sums over the tokens, in float32, of values of order 1 (of 0.01 in the other head).
            self.assertLessEqual((found - wanted).abs().max().item(), 8 * (DIM + self.tokens) * 2.0**-24)

    def test_a_row_that_keeps_nothing_is_zero(self):
        video = [x[:, :, :-TEXT] for x in self.rows]
        for rounds in ((), SOURCES):
            self.mask[0, 0, 1] = False
            found = self.attend(rounds, self.mask, video, text=0)[0, 0]
            self.assertTrue((found[self.blocks[1]] == 0).all())
            self.assertTrue((found[self.blocks[0]] != 0).any(1).all())

    def test_e4m3(self):
        """Claim: the nearest of all its numbers at each of them, half way between two, and just beside that; 448 above; NaN."""
        middles = (EVERY_E4M3[1:] + EVERY_E4M3[:-1]) / 2
        beside = [np.nextafter(middles.astype(np.float32), np.float32(to)).astype(float) for to in (0, 1e9)]
        for x in (EVERY_E4M3, middles, *beside, np.array([449.0, 464.0, 465.0, 1e30])):
            for sign in (1, -1):
                wanted = [nearest_e4m3(each) for each in sign * x]
                found = eight_bits.to_e4m3(torch.tensor(sign * x, dtype=torch.float32))
                self.assertEqual(found.tolist(), wanted)
        self.assertEqual(eight_bits.to_e4m3(torch.tensor([math.inf, -math.inf])).tolist(), [448.0, -448.0])
        self.assertTrue(eight_bits.to_e4m3(torch.tensor(math.nan)).isnan())

    def test_coded_weights(self):
        """Claim: every code at 8 times its log2, the even one of two half way between, the nearer one beside that; the last one
        above and 0 below; NaN. Of a row's largest logit and of one as far above as a shift may be: 288 and 448."""
        codes = np.arange(127)
        middles = codes[:-1] + 0.5
        even = codes[:-1] + codes[:-1] % 2
        for eighths, wanted in (
            (codes, codes),
            (middles, even),
            (np.nextafter(middles, -1), codes[:-1]),
            (np.nextafter(middles, 1e3), codes[1:]),
            (np.array([126.5, 127.0, 1e30, math.inf]), [126] * 4),
            (np.array([-0.25, -1.0, -1e30, -math.inf]), [0] * 4),
        ):
            found = eight_bits.coded_weights(torch.tensor(eighths, dtype=torch.float64))
            self.assertEqual(found.double().tolist(), EVERY_E4M3[wanted].tolist())
        self.assertTrue(eight_bits.coded_weights(torch.tensor([math.nan])).double().isnan().all())
        self.assertEqual([coded(eight_bits.OFFSET + more) for more in (0, eight_bits.SLACK)], [288.0, 448.0])

    def test_ties_of_int8_are_even(self):
        q = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5], [0.0] * 6, [254.0, 1.0, 3.0, 5.0, -1.0, -3.0]])
        numbers, steps = eight_bits.round_queries(q)
        self.assertEqual(numbers[0].tolist(), [127, 0, 2, 2, 0, -2])
        self.assertEqual(numbers[2].tolist(), numbers[0].tolist())
        self.assertEqual(steps.flatten().tolist(), [1.0, 1.0, 2.0])  # zeros have a step of 1, and are no NaN
        self.assertEqual(numbers[1].tolist(), [0] * 6)

    def test_scale_of_values(self):
        for largest, numbers in ((3.0, [1.0, 3.0]), (1e4, [1.0, 1e4]), (0.0, [0.0, 0.0])):
            v = torch.zeros(1, 4096, 2)
            v[0, 0] = torch.tensor(numbers)  # every other token is sampled: this one is
            scale = eight_bits.round_values(v)[1].item()
            rms = math.sqrt(sum(x * x for x in numbers) / 4096)
            wanted = 1.0 if largest == 0 else 2.0 ** -floor_log2(rms)
            if largest * wanted > 448:
                wanted = 2.0 ** (7 - floor_log2(largest))
            self.assertEqual(scale, wanted)
        v = torch.zeros(1, 4096, 2)
        v[0, 1, 0] = 5.0  # not sampled: the largest number decides
        self.assertEqual(eight_bits.round_values(v)[1].item(), 32.0)

    def test_bad_numbers_show(self):
        for place in range(3):
            for bad in (math.nan, math.inf):
                rows = [x.clone() for x in self.rows]
                rows[place][0, 0, 5, 3] = bad
                self.assertTrue(self.attend(SOURCES, rows=rows)[0, 0, 5].isnan().any(), (place, bad))

    def test_a_key_s_mean_changes_nothing(self):
        """Given keys moved by one vector, claim: the same numbers after rounding, since no tie is moved; without taking the mean
        away the error would grow with it."""
        q, k, v = self.rows
        far = k + 64.0
        for rounds in (("qk",), SOURCES):
            moved, found = self.attend(rounds, rows=[q, far, v]), self.attend(rounds)
            self.assertLessEqual((moved - found).abs().max().item(), 1e-9)
        step = far[0, 0].abs().max() / eight_bits.LARGEST_INT8  # of a kernel that does not
        self.assertGreater(step / eight_bits.round_keys(k, eight_bits.blocks_of(GRID, REGION, TEXT, "cpu"))[1].max(), 4)


class Rules(unittest.TestCase):
    def test_constants_are_the_kernel_s(self):
        folder = ROOT / "kernels" / "attend" / "wgmma_8bit"
        for file, pattern, wanted in (
            ("softmax.cuh", r"kOffset = ([\d.]+)F", eight_bits.OFFSET),
            ("softmax.cuh", r"kBias = ([\d.]+)F", eight_bits.BIAS),
            ("softmax.cuh", r"kLargest = (\d+);", eight_bits.LARGEST_CODE),
            ("operands.hpp", r"kLargestE4M3 = ([\d.]+)F", eight_bits.LARGEST_E4M3),
            ("operands.hpp", r"kSampledTokens = (\d+);", eight_bits.SAMPLED_TOKENS),
            ("operands.hpp", r"scale_for\(largest, (\d+)\)", 7),
            ("quantise.cu", r"kSteps = ([\d.]+)F", eight_bits.LARGEST_INT8),
        ):
            found = re.findall(pattern, (folder / file).read_text())
            self.assertEqual([float(each) for each in found], [wanted], (file, pattern))

    def test_sources_have_the_size_that_theory_gives_them(self):
        """Given normal tensors, claim: each error is what independent rounding errors add up to (eight_bit.hpp), to 10%: of V
        u sqrt(0.54 / 3), of P 3.1%, of the logits their standard deviation; all together the root of the squares' sum."""
        torch.manual_seed(1)
        grid, text = (2, 16, 32), 16
        q, k, v = torch.randn(3, 1, 1, 2 * 16 * 32 + text, 128)
        blocks = eight_bits.blocks_of(grid, (8, 16), text, "cpu")
        q_step, k_step = eight_bits.round_queries(q)[1], eight_bits.round_keys(k, blocks)[1]
        centred = k - k.mean(-2, keepdim=True)
        square = q_step.square() * centred.square().sum(-1)[..., None, :]
        square = (square + k_step.square().mT * q.square().sum(-1, keepdim=True)) / 12 / 128
        p = torch.softmax(q @ k.mT / 128**0.5, -1)
        of_logits = (p.square() * square).sum() / p.square().sum()
        wanted = {"qk": of_logits.sqrt().item(), "p": WEIGHT_SQUARE**0.5, "v": UNIT * (MEAN_SQUARE / 3) ** 0.5}
        plain, total = attention(q, k, v, grid, None, text_tokens=text, region=(8, 16), rounds=()), 0.0
        for source in SOURCES:
            found = attention(q, k, v, grid, None, text_tokens=text, region=(8, 16), rounds=(source,))
            error = ((found - plain).norm() / plain.norm()).item()
            self.assertLess(abs(error / wanted[source] - 1), 0.1, source)
            total += error**2
        found = attention(q, k, v, grid, None, text_tokens=text, region=(8, 16), rounds=SOURCES)
        self.assertLess(abs(((found - plain).norm() / plain.norm()).item() / total**0.5 - 1), 0.1)


class Policies(unittest.TestCase):
    def hook(self, policy):
        return PolicyAttention(policy, GRID, TEXT, 4)

    def test_a_policy_rounds_in_its_own_steps(self):
        torch.manual_seed(2)
        q, k, v = torch.randn(3, 1, 2, 2 * 9 * 13 + TEXT, DIM)
        draft = Policy("draft", 0.6, region=REGION, kernel="torch", rounds=("p", "v"))
        mask = self.hook(draft).choose(q, k, v, 0, 2).mask
        named = {"text_tokens": TEXT, "region": REGION, "rounds": ("p", "v")}
        for policy, kept in ((draft, mask), (Policy(dense_steps=0.0, region=REGION, rounds=("p", "v")), None)):
            found = self.hook(policy)(q, k, v, layer=0, step=2)
            self.assertTrue(torch.equal(found, attention(q, k, v, GRID, kept, **named)))
        dense = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        self.assertTrue(torch.equal(self.hook(draft)(q, k, v, layer=0, step=0), dense))
        self.assertEqual(draft.config()["kernel"], "emulation")
        self.assertEqual(draft.config()["rounds"], "p+v")
        self.assertEqual(draft.describe(), "draft avg 60% 4x8, p+v rounded")

    def test_wrong_ones_are_refused(self):
        with self.assertRaisesRegex(ValueError, "rounds: wanted some of qk, p, v, found 'k'"):
            Policy(rounds=("k",))
        for name, more in (("svg2", {}), ("draft", {"remainder": "pooled"})):
            with self.assertRaisesRegex(ValueError, "rounds: wanted none for svg2 or with a remainder, found qk"):
                Policy(name, 0.5, rounds=("qk",), **more)


if __name__ == "__main__":
    unittest.main()
