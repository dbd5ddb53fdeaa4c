"""Which kernel draft_attention and its like choose on which GPU, and what it gets, without one."""

import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from draftattention import _dropin, _fallback
from torch_cases import CASES, LAYOUTS, inputs

GRID = (2, 16, 32)


def chosen(kernel, capability, dim=128, region=(8, 16), dtype=torch.bfloat16, grid=GRID, remainder=False):
    with mock.patch("torch.cuda.get_device_capability", return_value=capability):
        return _dropin.choose_kernel(kernel, torch.device("cuda", 0), dtype, (4, grid, region, 5, dim), remainder)


class Choice(unittest.TestCase):
    def test_auto_takes_the_first_that_can_do_the_call(self):
        hopper = "wgmma" if any(row["name"] == "wgmma" and row["supports"] for row in da.kernels()) else "mma"
        for kernel, found in [
            (hopper, chosen("auto", (9, 0))),
            (hopper, chosen("auto", (9, 0), dim=64, dtype=torch.float16)),
            ("mma", chosen("auto", (9, 0), region=(8, 8))),
            ("mma", chosen("auto", (8, 0))),
            ("mma", chosen("auto", (12, 0), dim=64)),
            ("blas", chosen("auto", (9, 0), dim=96)),
            ("blas", chosen("auto", (8, 9), dim=256)),
        ]:
            self.assertEqual(found, kernel)

    def test_auto_takes_pytorch_where_no_kernel_can(self):
        for found in [
            chosen("auto", (7, 5)),
            chosen("auto", (9, 0), dtype=torch.float32),
            chosen("auto", (9, 0), dtype=torch.float64),
            chosen("auto", (9, 0), dim=100),
            chosen("auto", (9, 0), region=(1, 1), grid=(40, 32, 32)),
            chosen("auto", (9, 0), dim=96, remainder=True),
        ]:
            self.assertEqual(found, "torch")
        for kernel in ("auto", "torch"):
            self.assertEqual(_dropin.choose_kernel(kernel, torch.device("cpu"), torch.bfloat16, ()), "torch")

    def test_a_named_one_is_taken_or_refused(self):
        for name in ("blas", "mma", "torch"):
            self.assertEqual(chosen(name, (9, 0)), name)
        for arguments, message in [
            (dict(kernel="mma", capability=(8, 0), dim=96), "kernel: mma wants head_dim 64 or 128, found 96"),
            (dict(kernel="mma", capability=(7, 5)), "kernel: mma wants compute capability 8.0 or newer, found 7.5"),
            (dict(kernel="wgmma", capability=(8, 0)), "kernel: wgmma (needs compute capability 9.0|this build)"),
            (dict(kernel="blas", capability=(9, 0), remainder=True), "kernel: blas has no pooled remainder"),
            (dict(kernel="mma", capability=(9, 0), dim=100), "head_dim must be a multiple of 8, found 100"),
            (
                dict(kernel="blas", capability=(9, 0), dtype=torch.float32),
                "q: wanted torch.bfloat16 or torch.float16 for kernel blas, found torch.float32",
            ),
            (dict(kernel="fast", capability=(9, 0)), "kernel: wanted one of auto, torch, .*mma.*, found fast"),
        ]:
            with self.assertRaisesRegex(ValueError, message):
                chosen(**arguments)


class Calls(unittest.TestCase):
    """Given PyTorch in the place of the kernels, claim: they get [batch * heads, tokens, head_dim], contiguous and
    aligned, with the call's lists and scale, and what they return has the caller's order of axes, bit for bit."""

    def setUp(self):
        self.attended = mock.create_autospec(da.attention, side_effect=self.attend)
        self.drafted = mock.create_autospec(da.draft_lists, side_effect=self.draft)
        for target, name, stand_in in [
            (_dropin, "attention", self.attended),
            (_dropin, "draft_lists", self.drafted),
            (torch.cuda, "is_current_stream_capturing", lambda: False),
        ]:
            patch = mock.patch.object(target, name, stand_in)
            patch.start()
            self.addCleanup(patch.stop)

    def attend(self, q, k, v, grid, region, lists, kernel, *, scale, remainder):
        for x in (q, k, v):
            self.assertTrue(x.dim() == 3 and x.is_contiguous() and x.data_ptr() % 16 == 0)
        self.assertEqual(kernel, "mma")
        if lists is not None:
            self.assertEqual((lists.grid, lists.region), (grid, region))
            self.assertEqual((lists.counts.shape[0], lists.text_tokens), (q.shape[0], self.text))
        return _fallback.attention(q, k, v, grid, region, lists and lists.mask, scale, remainder), None

    def draft(self, q, k, grid, region, pool, rule, sparsity, check, *, scale):
        self.assertTrue(check and q.is_contiguous() and k.is_contiguous())
        mask = _fallback.draft_mask(q, k, grid, region, pool, rule, sparsity, scale)
        return da.lists_from_mask(mask, grid, region, self.text)

    def as_kernel(self, function, *arguments, **named):
        with mock.patch.object(_dropin, "choose_kernel", return_value="mma"):
            return function(*arguments, **named)

    def test_is_what_pytorch_computes(self):
        for case in CASES:
            grid, region, self.text, _ = case
            q, k, v, mask = inputs(case, torch.bfloat16)
            draft = dict(sparsity=0.5, pool="max", rule="row")
            for layout in LAYOUTS:
                rows = [x if layout == "bhnd" else x.transpose(1, 2).contiguous() for x in (q, k, v)]
                rows[1] = torch.zeros(k.numel() + 1, dtype=k.dtype)[1:].view(rows[1].shape).copy_(rows[1])
                named = dict(region=region, layout=layout, scale=0.3)
                for function, arguments, more in [
                    (da.draft_attention, (*rows, grid), draft),
                    (da.draft_mask, (*rows[:2], grid), draft),
                    (da.draft_attention, (*rows, grid), dict(sparsity=0)),
                    (da.block_attention, (*rows, grid, mask), {}),
                    (da.block_attention, (*rows, grid, None), {}),
                    (da.block_attention, (*rows, grid, mask[0, 1]), {}),
                    (da.draft_attention, (*rows, grid), draft | dict(remainder="pooled")),
                    (da.block_attention, (*rows, grid, mask), dict(remainder="pooled")),
                ]:
                    with self.subTest(case=case, layout=layout, function=function.__name__, **more):
                        found = self.as_kernel(function, *arguments, **named, **more)
                        wanted = function(*arguments, kernel="torch", **named, **more)
                        self.assertEqual(found.shape, wanted.shape)
                        self.assertTrue(torch.equal(found, wanted))
        self.assertEqual(self.attended.call_count, 7 * len(LAYOUTS) * len(CASES))
        self.assertEqual(self.drafted.call_count, 3 * len(LAYOUTS) * len(CASES))

    def test_nothing_waits_while_a_graph_is_captured(self):
        case = CASES[0]
        self.text = case[2]
        q, k, _, _ = inputs(case, torch.bfloat16)
        self.drafted.side_effect = lambda *arguments, **named: self.draft(*arguments[:7], True, **named)
        with mock.patch.object(torch.cuda, "is_current_stream_capturing", lambda: True):
            self.as_kernel(da.draft_mask, q, k, case[0])
        self.assertIs(self.drafted.call_args.args[7], False)
