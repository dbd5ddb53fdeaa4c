"""What dropped blocks add as a whole, remainder="pooled", in PyTorch alone: held to float64, to a dense softmax whose
logits were replaced, and to what has to be equal."""

import math
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from draftattention import _attention, _checks
from torch_cases import CASES, DTYPES, LAYOUTS, each_head, inputs, plain_mask, truths, wrong
from truth import blocks_of_tokens, full_mask


def replaced(case, q, k, v, mask):
    """Dense attention [2, 2, tokens, head_dim] in which each logit of a dropped block is the mean of its query's logits
    with that block, float64."""
    grid, region, text, dim = case
    blocks = blocks_of_tokens(grid, region, text)
    member = torch.nn.functional.one_hot(blocks).double()
    out = torch.empty_like(q, dtype=torch.float64)
    for at in each_head():
        logits = q[at].double() @ k[at].double().T / math.sqrt(dim)
        means = (logits @ member / member.sum(0))[:, blocks]
        keep = full_mask(mask[at], grid, region, text)[blocks][:, blocks]
        out[at] = torch.softmax(torch.where(keep, logits, means), dim=-1) @ v[at].double()
    return out


class Remainder(unittest.TestCase):
    def test_is_the_truth_under_any_mask(self):
        """Given ragged grids, text, and rows that keep nothing or all, claim: what rounding explains (truth.py)."""
        for case in CASES:
            grid, region, text, _ = case
            for dtype in DTYPES:
                q, k, v, mask = inputs(case, dtype)
                expected = truths(case, q, k, v, mask, remainder="pooled")
                for layout in LAYOUTS:
                    with self.subTest(case=case, dtype=dtype, layout=layout):
                        rows = [x if layout == "bhnd" else x.transpose(1, 2).contiguous() for x in (q, k, v)]
                        o = da.block_attention(
                            *rows, grid, mask, text_tokens=text, region=region, layout=layout, remainder="pooled"
                        )
                        self.assertEqual((o.shape, o.dtype), (rows[0].shape, dtype))
                        self.assertEqual(wrong(expected, o if layout == "bhnd" else o.transpose(1, 2)), [])

    def test_is_a_dense_softmax_with_replaced_logits(self):
        """In float64: outputs of order 1, sums of up to a few hundred terms, so 1e-12 is beyond rounding."""
        for case in CASES:
            q, k, v, mask = inputs(case, torch.float64)
            o = da.block_attention(q, k, v, case[0], mask, region=case[1], remainder="pooled")
            self.assertLessEqual((o - replaced(case, q, k, v, mask)).abs().max().item(), 1e-12, case)

    def test_the_check_can_fail(self):
        case = CASES[0]
        for dtype in DTYPES:
            q, k, v, mask = inputs(case, dtype)
            expected = truths(case, q, k, v, mask, remainder="pooled")
            o = da.block_attention(q, k, v, case[0], mask, remainder="pooled")
            self.assertEqual(wrong(expected, o), [])
            bad, nan = o.clone(), o.clone()
            bad[0, 1, 0] *= 1.02
            nan[1, 0, 3, 5] = math.nan
            for other in (bad, nan, da.block_attention(q, k, v, case[0], mask)):
                self.assertNotEqual(wrong(expected, other), [])

    def test_where_nothing_is_dropped_there_is_none(self):
        """Bits of dense attention, and of the call without a remainder; text rows keep all under every mask."""
        for case in CASES:
            grid, region, text, _ = case
            q, k, v, mask = inputs(case, torch.float32)
            dense = da.block_attention(q, k, v, grid, None, region=region)
            for kept in (None, torch.ones_like(mask)):
                o = da.block_attention(q, k, v, grid, kept, region=region, remainder="pooled")
                without = da.block_attention(q, k, v, grid, kept, region=region)
                self.assertTrue(torch.equal(o, without))
            o = da.draft_attention(q, k, v, grid, sparsity=0, region=region, remainder="pooled")
            self.assertTrue(torch.equal(o, dense))
            o = da.block_attention(q, k, v, grid, mask, region=region, remainder="pooled")
            video = q.shape[2] - text
            self.assertTrue(torch.equal(o[:, :, video:], dense[:, :, video:]))

    def test_a_row_that_keeps_nothing_attends_to_means(self):
        case = CASES[2]  # without text
        q, k, v, mask = inputs(case, torch.float64)
        o = da.block_attention(q, k, v, case[0], torch.zeros_like(mask), remainder="pooled")
        means = [x.unflatten(2, (mask.shape[-1], -1)).mean(dim=3) for x in (k, v)]  # a frame is a region
        wanted = torch.softmax(q @ means[0].transpose(-1, -2) / math.sqrt(case[3]), dim=-1) @ means[1]
        self.assertLessEqual((o - wanted).abs().max().item(), 1e-12)

    def test_draft_attention_has_it_too(self):
        case = CASES[3]
        grid, region, _, _ = case
        for dtype in DTYPES:
            q, k, v, _ = inputs(case, dtype)
            for rule in ("softmax", "row"):
                mask = plain_mask(q, k, case, "avg", rule, 0.7)
                named = dict(sparsity=0.7, rule=rule, region=region)
                o = da.draft_attention(q, k, v, grid, remainder="pooled", **named)
                self.assertEqual(wrong(truths(case, q, k, v, mask, remainder="pooled"), o), [])
                self.assertTrue(
                    torch.equal(o, da.block_attention(q, k, v, grid, mask, region=region, remainder="pooled"))
                )

    def test_shared_heads(self):
        case = CASES[0]
        q, k, v, mask = inputs(case, torch.float32)
        one, two = k[:, :1], v[:, :1]
        full = [x.expand(q.shape) for x in (one, two)]
        named = dict(remainder="pooled")
        found = da.block_attention(q, one, two, case[0], mask, enable_gqa=True, **named)
        self.assertTrue(torch.equal(found, da.block_attention(q, *full, case[0], mask, **named)))

    def test_other_words_are_refused(self):
        q = torch.zeros((1, 1, 64, 8))
        calls = (
            lambda word: da.draft_attention(q, q, q, (1, 8, 8), remainder=word),
            lambda word: da.block_attention(q, q, q, (1, 8, 8), None, remainder=word),
            lambda word: da.attention(q[0], q[0], q[0], (1, 8, 8), remainder=word),
        )
        for call in calls:
            for word, found in (("mean", "mean"), ("", ""), (True, "True"), (1.5, "1.5")):
                with self.assertRaisesRegex(ValueError, f"remainder: wanted None or pooled, found {found}"):
                    call(word)
        with self.assertRaisesRegex(ValueError, "region_order: wanted False with a remainder.*found True"):
            da.attention(q[0], q[0], q[0], (1, 8, 8), region_order=True, remainder="pooled")


class Pooled(unittest.TestCase):
    def test_kernels_get_means_of_k_and_v_only_with_lists_and_a_remainder(self):
        """Given a stand-in for the compiled module, claim: Call's last two arguments are the pooled k and v, in their
        type, and are left out where there is nothing to add."""
        calls = []

        class Layout:
            heads, regions, head_dim, text = 2, 4, 8, 3

        class Compiled:
            def pool_elements(self, layout, kind, rows, pooled, stream):
                assert (layout, kind, stream) == (Layout, "avg", 7)
                pooled.copy_(rows[:, : layout.regions])

            class Call:
                def __init__(self, layout, scale, region_order, *tensors):
                    calls.append(tensors)

                def workspace(self, kernel):
                    return 0

                def launch(self, kernel, workspace, stream):
                    pass

        class OnSeven:
            def __enter__(self):
                return 7

            def __exit__(self, *_):
                pass

        class Lists:
            columns, counts, order = (torch.zeros(1) for _ in range(3))

            def require_fit(self, *_):
                pass

        q, k, v = torch.randn(3, 2, 16 + 3, 8).to(torch.bfloat16)
        with (
            mock.patch.object(_checks, "compiled", lambda: Compiled()),
            mock.patch.object(_checks, "require_shared_rows", lambda q, _, **rows: [q, *rows.values()]),
            mock.patch.object(_checks, "layout_of", lambda *_: Layout),
            mock.patch.object(_checks, "capsule", lambda tensor: tensor),
            mock.patch.object(_checks, "launching_on", lambda _: OnSeven()),
        ):
            for lists, remainder in ((None, None), (None, "pooled"), (Lists(), None), (Lists(), "pooled")):
                _attention.attention(q, k, v, (1, 4, 4), (2, 2), lists, remainder=remainder)
        self.assertEqual([len(tensors) for tensors in calls], [8, 8, 8, 10])
        for pooled, rows in zip(calls[-1][8:], (k, v)):
            self.assertEqual((pooled.dtype, pooled.shape), (torch.bfloat16, (2, 4, 8)))
            self.assertTrue(torch.equal(pooled, rows[:, :4]))
