"""Under autocast, and with heads that query heads share: draftattention does what scaled_dot_product_attention does."""

import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from draftattention import _checks, _dropin, _fallback
from torch.nn.functional import scaled_dot_product_attention
from torch_cases import CASES, inputs

CASE = CASES[0]
GRID, REGION = CASE[:2]
DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


def dtype_of(function, *tensors):
    """The output's type, or the kind of the error."""
    try:
        return function(*tensors).dtype
    except (ValueError, RuntimeError):
        return "refused"


class Autocast(unittest.TestCase):
    def test_types_are_those_of_scaled_dot_product_attention(self):
        """Given q, k and v in all types, alike or not, claim: the output's type, or a refusal, is SDPA's."""
        q, k, v, _ = inputs(CASE, torch.float32)
        found = set()
        for on in (torch.bfloat16, torch.float16, None):
            for a in DTYPES:
                for b in DTYPES:
                    for c in DTYPES:
                        rows = q.to(a), k.to(b), v.to(c)
                        with (
                            self.subTest(on=on, types=(a, b, c)),
                            torch.autocast("cpu", dtype=on, enabled=on is not None),
                        ):
                            wanted = dtype_of(scaled_dot_product_attention, *rows)
                            for function in (
                                lambda *x: da.draft_attention(*x, GRID, sparsity=0.5),
                                lambda *x: da.block_attention(*x, GRID, None),
                            ):
                                self.assertEqual(dtype_of(function, *rows), wanted)
                            found.add(wanted)
        self.assertEqual(found, {*DTYPES, "refused"})

    def test_values_are_those_of_the_cast_tensors(self):
        q, k, v, mask = inputs(CASE, torch.float32)
        cast = [x.bfloat16() for x in (q, k, v)]
        named = dict(sparsity=0.5, rule="row")
        wanted = (
            da.draft_attention(*cast, GRID, **named),
            da.draft_mask(*cast[:2], GRID, **named),
            da.block_attention(*cast, GRID, mask),
        )
        plain = da.draft_attention(q, k, v, GRID, **named)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = (
                da.draft_attention(q, k, cast[2], GRID, **named),
                da.draft_mask(q, cast[1], GRID, **named),
                da.block_attention(cast[0], k, v, GRID, mask),
            )
            with torch.autocast("cpu", enabled=False):
                self.assertTrue(torch.equal(da.draft_attention(q, k, v, GRID, **named), plain))
        for one, other in zip(found, wanted):
            self.assertTrue(torch.equal(one, other))
        self.assertFalse(torch.equal(plain.bfloat16(), wanted[0]))  # what the equality could have missed

    def test_mixed_types_are_refused_with_the_argument(self):
        q, k, v, _ = inputs(CASE, torch.float32)
        with self.assertRaisesRegex(ValueError, "v: wanted torch.float32, found torch.bfloat16"):
            da.draft_attention(q, k, v.bfloat16(), GRID)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with self.assertRaisesRegex(ValueError, "k: wanted torch.float64, found torch.bfloat16"):
                da.draft_mask(q.double(), k, GRID)
            with self.assertRaisesRegex(ValueError, "q: wanted torch.bfloat16 or .*, found torch.int32"):
                da.draft_mask(q.int(), k, GRID)

    def test_the_kernels_own_functions_cast_too(self):
        """Given rows that only lack a GPU, claim: they are refused for that alone, as they are cast."""
        rows = torch.zeros((2, 128, 64))
        self.assertEqual([x.dtype for x in _checks.autocast(rows, None)[:1]], [torch.float32])
        with (
            torch.autocast("cpu", dtype=torch.bfloat16),
            self.assertRaisesRegex(ValueError, "q: wanted a tensor on a CUDA device, found cpu"),
        ):
            _checks.require_shared_rows(rows, False, k=rows, v=rows)
        with self.assertRaisesRegex(ValueError, "q: wanted torch.bfloat16 or torch.float16, found torch.float32"):
            _checks.require_shared_rows(rows, False, k=rows)


class SharedHeads(unittest.TestCase):
    """enable_gqa: query head h uses head h // (heads / k's heads) of k and v."""

    def rows(self, dtype, heads=6, shared=2):
        q, k, v, mask = inputs(CASE, dtype)
        more, _, _, more_mask = inputs(CASE, dtype, seed=1)
        q, mask = torch.cat([q, more, q + more], dim=1), torch.cat([mask, more_mask, mask], dim=1)
        return q[:, :heads], k[:, :shared], v[:, :shared], mask[:, :heads]

    def test_is_attention_with_repeated_heads(self):
        for dtype in DTYPES:
            for heads, shared in ((6, 2), (6, 1), (4, 2), (2, 2)):
                q, k, v, mask = self.rows(dtype, heads, shared)
                for layout in ("bhnd", "bnhd"):
                    rows = [x if layout == "bhnd" else x.transpose(1, 2).contiguous() for x in (q, k, v)]
                    full = [
                        rows[0],
                        *(x.repeat_interleave(heads // shared, dim=1 if layout == "bhnd" else 2) for x in rows[1:]),
                    ]
                    for function, pick in ((da.draft_attention, 3), (da.draft_mask, 2)):
                        for rule in ("softmax", "row"):
                            named = dict(layout=layout, sparsity=0.6, rule=rule)
                            found = function(*rows[:pick], GRID, enable_gqa=True, **named)
                            self.assertTrue(torch.equal(found, function(*full[:pick], GRID, **named)))
                    for kept in (mask, None):
                        found = da.block_attention(*rows, GRID, kept, layout=layout, enable_gqa=True)
                        self.assertTrue(torch.equal(found, da.block_attention(*full, GRID, kept, layout=layout)))
        q, k, v, _ = self.rows(torch.float32)
        tiled = (x.repeat(1, 3, 1, 1) for x in (k, v))  # another order of the heads is seen
        self.assertFalse(
            torch.equal(da.draft_attention(q, k, v, GRID, enable_gqa=True), da.draft_attention(q, *tiled, GRID))
        )

    def test_is_scaled_dot_product_attention(self):
        """Dense, in float64: the two differ by rounding, 2 tokens eps of the largest |v| at most."""
        q, k, v, _ = self.rows(torch.float64)
        found = da.draft_attention(q, k, v, GRID, sparsity=0, enable_gqa=True)
        wanted = scaled_dot_product_attention(q, k, v, enable_gqa=True)
        tolerance = (
            2
            * q.shape[2]
            * torch.finfo(torch.float64).eps
            * v.abs().max().item()
            * (1 + (q.abs().amax() * k.abs().amax() * q.shape[3]).item())
        )
        self.assertLessEqual((found - wanted).abs().max().item(), tolerance)
        self.assertGreater((found - wanted.roll(1, dims=1)).abs().max().item(), tolerance)

    def test_kernels_get_a_copy_for_each_query_head(self):
        """Given PyTorch in the place of a kernel, which has no shared heads, claim: it gets as many as q has."""
        q, k, v, _ = self.rows(torch.bfloat16)
        given = []

        def attend(q, k, v, grid, region, lists, kernel, *, out, scale, remainder):
            given.append([x.shape for x in (q, k, v)])
            _fallback.attention(q, k, v, GRID, (8, 16), None, scale, out)  # dense in any blocks, but not bit by bit

        for layout in ("bhnd", "bnhd"):
            rows = [x if layout == "bhnd" else x.transpose(1, 2) for x in (q, k, v)]
            named = dict(layout=layout, enable_gqa=True)
            wanted = da.block_attention(*rows, GRID, None, **named)
            with (
                mock.patch.object(_dropin, "choose_kernel", return_value="mma"),
                mock.patch.object(_dropin, "takes_strides", return_value=False),
                mock.patch.object(_dropin, "attention", attend),
            ):
                self.assertTrue(torch.equal(da.block_attention(*rows, GRID, None, **named), wanted))
        self.assertEqual(given, [[(12, *q.shape[2:])] * 3] * 2)
        with mock.patch.object(_checks, "require_rows"):  # which wants a GPU
            rows = _checks.require_shared_rows(q[0], True, k=k[0], v=v[0])
            self.assertTrue(all(x.is_contiguous() for x in rows))
            for found, shared in zip(rows[1:], (k, v)):
                self.assertTrue(torch.equal(found, shared[0].repeat_interleave(3, dim=0)))
            with torch.autocast("cpu", dtype=torch.float16):
                rows = _checks.require_shared_rows(q[0].float(), True, k=k[0], v=v[0].float())
            self.assertEqual([x.dtype for x in rows], [torch.float16] * 3)

    def test_refusals(self):
        q, k, v, _ = self.rows(torch.float32)
        for call, message in [
            (
                lambda: da.draft_attention(q, k, v, GRID),
                r"k: wanted shape \[2, 6, .*\], found \[2, 2, .*\] \(with enable_gqa|k: .*enable_gqa=True",
            ),
            (
                lambda: da.draft_attention(q[:, :5], k, v, GRID, enable_gqa=True),
                r"k: wanted a number of heads that divides q's 5, found 2 heads",
            ),
            (
                lambda: da.draft_mask(k, q, GRID, enable_gqa=True),
                r"k: wanted a number of heads that divides q's 2, found 6 heads",
            ),
            (lambda: da.draft_attention(q, k[:, :0], v, GRID, enable_gqa=True), r"k: .* found 0 heads"),
            (
                lambda: da.draft_attention(q, k, v[:, :1], GRID, enable_gqa=True),
                r"v: wanted k's number of heads, 2, found 1 heads",
            ),
            (
                lambda: da.draft_attention(q, k, q, GRID, enable_gqa=True),
                r"v: wanted k's number of heads, 2, found 6 heads",
            ),
            (lambda: da.draft_attention(q, k[..., :3], v, GRID, enable_gqa=True), r"k: wanted shape \[2, 2, .*1"),
            (
                lambda: da.block_attention(q, k, v, GRID, None, enable_gqa=1),
                "enable_gqa: wanted True or False, found 1",
            ),
        ]:
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                call()
