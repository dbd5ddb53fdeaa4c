"""draft_attention, draft_mask and block_attention in PyTorch alone, held to float64 (truth.py) and to plain loops."""

import math
import unittest

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from draftattention import _fallback
from torch.utils.flop_counter import FlopCounterMode
from torch_cases import (
    BATCH,
    CASES,
    DTYPES,
    HEADS,
    LAYOUTS,
    POOLS,
    RULES,
    each_head,
    inputs,
    plain_mask,
    plain_selection,
    truths,
    wrong,
)
from truth import blocks_of_tokens

SPARSITIES = (0.0, 0.3, 0.5, 0.9)


def laid(layout, *tensors):
    """Tensors [batch, heads, tokens, head_dim], or the same with tokens and heads exchanged, contiguous."""
    return [x if layout == "bhnd" else x.transpose(1, 2).contiguous() for x in tensors]


class Attention(unittest.TestCase):
    """Given q, k, v in each type and layout, claim: the output is the truth's under the same mask, within what the
    type's and float32's rounding explain (truth.py derives it)."""

    def test_is_the_truth_under_any_mask(self):
        for case in CASES:
            grid, region, text, _ = case
            for dtype in DTYPES:
                q, k, v, mask = inputs(case, dtype)
                for kept in (mask, None):
                    expected = truths(case, q, k, v, kept)
                    for layout in LAYOUTS:
                        with self.subTest(case=case, dtype=dtype, layout=layout, dense=kept is None):
                            rows = laid(layout, q, k, v)
                            o = da.block_attention(*rows, grid, kept, text_tokens=text, region=region, layout=layout)
                            self.assertEqual((o.shape, o.dtype), (rows[0].shape, dtype))
                            self.assertEqual(wrong(expected, *laid(layout, o)), [])

    def test_the_check_can_fail(self):
        case = CASES[0]
        for dtype in DTYPES:
            q, k, v, mask = inputs(case, dtype)
            expected = truths(case, q, k, v, mask)
            o = da.block_attention(q, k, v, case[0], mask, region=case[1])
            self.assertEqual(wrong(expected, o), [])
            scaled, nan, other = o.clone(), o.clone(), mask.clone()
            scaled[0, 1, 0] *= 1.02
            nan[1, 0, 3, 5] = math.nan
            other[1, 1, 1, 2] ^= True
            for bad, truth in [(scaled, expected), (nan, expected), (o, truths(case, q, k, v, other))]:
                self.assertNotEqual(wrong(truth, bad), [])

    def test_a_row_that_keeps_nothing_is_zero_without_text(self):
        case = CASES[2]
        q, k, v, mask = inputs(case, torch.float32)
        o = da.block_attention(q, k, v, case[0], mask)
        last = blocks_of_tokens(case[0], case[1], 0) == mask.shape[-1] - 1
        self.assertTrue((o[:, :, last] == 0).all() and (o[:, :, ~last] != 0).all())

    def test_costs_the_kept_share(self):
        """Products of the kept pairs of tokens alone: 4 head_dim floating-point operations each."""
        for case in CASES:
            grid, region, text, dim = case
            q, k, v, mask = inputs(case, torch.float32)
            sizes = blocks_of_tokens(grid, region, 0).bincount().double()
            pairs = (mask.double() @ sizes @ sizes).sum() + BATCH * HEADS * text * (2 * sizes.sum() + text)
            with FlopCounterMode(display=False) as counter:
                da.block_attention(q, k, v, grid, mask, region=region)
            self.assertEqual(counter.get_total_flops(), 4 * dim * int(pairs), case)

    def test_masks_broadcast(self):
        case = CASES[3]
        q, k, v, mask = inputs(case, torch.float32)
        for part in (mask[0, 0], mask[0, :1], mask[:1, :], mask[:, :1], mask[:, :, :1], mask[0, 0, 0]):
            whole = part.expand(mask.shape).contiguous()
            found, wanted = (da.block_attention(q, k, v, case[0], m, region=case[1]) for m in (part, whole))
            self.assertTrue(torch.equal(found, wanted))

    def test_any_strides_and_autocast_and_no_grad_give_the_same_bits(self):
        case = CASES[0]
        q, k, v, mask = inputs(case, torch.bfloat16)
        wanted = da.block_attention(q, k, v, case[0], mask)
        strided = [torch.stack([x, x + 1], dim=-1)[..., 0] for x in (q, k, v)]
        self.assertFalse(strided[0].is_contiguous())
        self.assertTrue(torch.equal(da.block_attention(*strided, case[0], mask), wanted))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            self.assertTrue(torch.equal(da.block_attention(q, k, v, case[0], mask), wanted))
        with torch.no_grad():
            learned = [x.clone().requires_grad_() for x in (q, k, v)]
            self.assertTrue(torch.equal(da.block_attention(*learned, case[0], mask), wanted))
        with torch.inference_mode():
            self.assertTrue(torch.equal(da.block_attention(q, k, v, case[0], mask), wanted))


class Masks(unittest.TestCase):
    """Given scores that differ by more than float64's rounding, claim: the mask is that of plain loops, bit for bit."""

    def test_are_those_of_plain_loops(self):
        for case in CASES:
            grid, region, _, _ = case
            for dtype in (torch.float64, torch.bfloat16):
                q, k, _, _ = inputs(case, dtype)
                for pool in POOLS:
                    for rule in RULES:
                        for sparsity in SPARSITIES:
                            wanted = plain_mask(q, k, case, pool, rule, sparsity)
                            named = dict(pool=pool, rule=rule, sparsity=sparsity)
                            for layout in LAYOUTS:
                                with self.subTest(case=case, dtype=dtype, layout=layout, **named):
                                    found = da.draft_mask(
                                        *laid(layout, q, k), grid, region=region, layout=layout, **named
                                    )
                                    self.assertTrue(torch.equal(found, wanted))

    def test_the_check_can_fail(self):
        case = CASES[3]
        q, k, _, _ = inputs(case, torch.float64)
        found = da.draft_mask(q, k, case[0], region=case[1], sparsity=0.5)
        for pool, rule, sparsity in [("max", "softmax", 0.5), ("avg", "row", 0.5), ("avg", "softmax", 0.3)]:
            self.assertFalse(torch.equal(found, plain_mask(q, k, case, pool, rule, sparsity)))

    def test_of_equal_scores_the_lower_index_is_kept_first(self):
        """Given scores of few values, 0 of both signs and infinities, claim: ties go by position; all are released."""
        generator = torch.Generator().manual_seed(1)
        values = torch.tensor([-math.inf, -1.0, -0.0, 0.0, 1.0, math.inf], dtype=torch.float64)
        for regions in (1, 2, 7, 40):
            for _ in range(5):
                scores = values[torch.randint(0, len(values), (regions, regions), generator=generator)]
                for rule in RULES:
                    for sparsity in SPARSITIES:
                        wanted = torch.tensor(plain_selection(scores.tolist(), rule, sparsity))
                        self.assertTrue(torch.equal(_fallback.select(scores, rule, sparsity), wanted))

    def test_equal_tokens_give_equal_scores(self):
        q = torch.ones((1, 1, 4 * 16, 8))
        kept = {rule: da.draft_mask(q, q, (4, 4, 4), region=(4, 4), rule=rule, sparsity=0.5)[0, 0] for rule in RULES}
        half = torch.arange(16).view(4, 4) < 8
        self.assertTrue(torch.equal(kept["softmax"], half) and torch.equal(kept["logits"], half))
        self.assertTrue(kept["released"].all())
        self.assertTrue(torch.equal(kept["row"], torch.arange(4).expand(4, 4) < 2))

    def test_counts(self):
        """The numbers of reference/draft_mask.hpp: 0.1 has no exact double."""
        self.assertEqual(_fallback.kept_count(0.9, 980_100), 98_010)
        self.assertEqual(_fallback.released_kept_count(0.9, 980_100), 98_011)
        self.assertEqual([_fallback.kept_count(s, 10) for s in (0.0, 0.05, 0.999)], [10, 10, 1])
        self.assertEqual([_fallback.released_kept_count(s, 10) for s in (0.0, 0.05, 0.999)], [10, 10, 2])

    def test_nan_scores_are_refused_with_their_heads(self):
        case = CASES[0]
        q, k, v, _ = inputs(case, torch.float32)
        q[1, 0, 5, 7] = math.nan
        for rule in RULES:
            for call in (
                lambda: da.draft_mask(q, k, case[0], rule=rule),
                lambda: da.draft_attention(q, k, v, case[0], rule=rule),
            ):
                with self.assertRaisesRegex(ValueError, r"wanted scores of numbers, found NaN in heads \[2\]"):
                    call()
        self.assertTrue(da.draft_attention(q, k, v, case[0], sparsity=0.0)[1, 0].isnan().any())  # no mask, no check


class DraftAttention(unittest.TestCase):
    def test_is_attention_under_the_draft_mask(self):
        """Claim: the truth under the plain loops' mask; sparsity 0 is dense, bit for bit."""
        for case in CASES:
            grid, region, text, _ = case
            for dtype in DTYPES:
                q, k, v, _ = inputs(case, dtype)
                for pool, rule, sparsity in [("avg", "softmax", 0.9), ("max", "row", 0.5), ("avg", "released", 0.3)]:
                    expected = truths(case, q, k, v, plain_mask(q, k, case, pool, rule, sparsity))
                    for layout in LAYOUTS:
                        with self.subTest(case=case, dtype=dtype, rule=rule, layout=layout):
                            rows = laid(layout, q, k, v)
                            o = da.draft_attention(
                                *rows,
                                grid,
                                text_tokens=text,
                                sparsity=sparsity,
                                region=region,
                                pool=pool,
                                rule=rule,
                                layout=layout,
                                kernel="torch",
                            )
                            self.assertEqual((o.shape, o.dtype), (rows[0].shape, dtype))
                            self.assertEqual(wrong(expected, *laid(layout, o)), [])
                dense = da.draft_attention(q, k, v, grid, sparsity=0, region=region)
                self.assertTrue(torch.equal(dense, da.block_attention(q, k, v, grid, None, region=region)))

    def test_out(self):
        """Given a view between NaN to write to, claim: it is returned with the bits of a new output, and the NaN stay."""
        case = CASES[0]
        q, k, v, _ = inputs(case, torch.float32)
        for layout in ("bhnd", "bnhd"):
            rows = laid(layout, q, k, v)
            wanted = da.draft_attention(*rows, case[0], sparsity=0.5, layout=layout)
            memory = torch.full((*wanted.shape[:-1], wanted.shape[-1] + 2), torch.nan)
            out = memory[..., 1:-1]
            self.assertIs(da.draft_attention(*rows, case[0], sparsity=0.5, layout=layout, out=out), out)
            self.assertTrue(torch.equal(out, wanted) and memory[..., [0, -1]].isnan().all())
            self.assertIs(da.block_attention(*rows, case[0], None, layout=layout, out=out), out)
            self.assertFalse(torch.equal(out, wanted))  # dense
        for out, message in (
            (wanted[:, 1:], "out: wanted shape"),
            (wanted.double(), "out: wanted torch.float32, found torch.float64"),
            (rows[2], "out: wanted memory apart from v's, found an overlap"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                da.draft_attention(*rows, case[0], sparsity=0.5, layout=layout, out=out)

    def test_scale(self):
        """A sharp softmax ranks blocks of the head otherwise than a flat one; both are the truth's."""
        case = CASES[3]
        grid, region, _, _ = case
        q, k, v, _ = inputs(case, torch.float64)
        masks = [plain_mask(q, k, case, "avg", "softmax", 0.7, scale) for scale in (0.02, 2.0)]
        self.assertFalse(torch.equal(*masks))
        for mask, scale in zip(masks, (0.02, 2.0)):
            named = dict(sparsity=0.7, region=region, scale=scale)
            self.assertTrue(torch.equal(da.draft_mask(q, k, grid, **named), mask))
            self.assertEqual(wrong(truths(case, q, k, v, mask, scale), da.draft_attention(q, k, v, grid, **named)), [])

    def test_heads_and_batch_entries_know_nothing_of_each_other(self):
        case = CASES[0]
        q, k, v, _ = inputs(case, torch.float32)
        whole = da.draft_attention(q, k, v, case[0], sparsity=0.5)
        for b, h in each_head():
            alone = [x[b : b + 1, h : h + 1] for x in (q, k, v)]
            self.assertTrue(torch.equal(da.draft_attention(*alone, case[0], sparsity=0.5)[0, 0], whole[b, h]))
