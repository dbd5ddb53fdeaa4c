"""Which kernel draft_attention and its like choose on which GPU, and what it gets and writes, without one."""

import itertools
import math
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from draftattention import _dropin, _fallback, _lists, _views
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
    """Given PyTorch in the place of the kernels, claim: they get views [heads, tokens, head_dim] of the caller's own
    tensors, where they can take these, with the call's lists and scale, and write to the output, which is contiguous in
    the caller's layout; what comes out is PyTorch's, bit for bit."""

    def setUp(self):
        self.events, self.given, self.kernel, self.strided = [], [], "mma", True
        self.attended = mock.create_autospec(da.attention, side_effect=self.attend)
        self.drafted = mock.create_autospec(_lists.enqueue_draft, side_effect=self.draft)
        for target, name, stand_in in [
            (_dropin, "attention", self.attended),
            (_dropin, "enqueue_draft", self.drafted),
            (_dropin, "takes_strides", lambda kernel: self.strided),
            (torch.cuda, "is_current_stream_capturing", lambda: False),
        ]:
            patch = mock.patch.object(target, name, stand_in)
            patch.start()
            self.addCleanup(patch.stop)

    def attend(self, q, k, v, grid, region, lists, kernel, *, out, scale, remainder):
        self.events.append("attend")
        self.given += [x.data_ptr() for x in (q, k, v)]
        for x in (q, k, v, out):
            self.assertEqual(x.dim(), 3)
            if q.shape[2] % 8 == 0:  # as every kernel wants it
                self.assertTrue(_views.has_kernel_strides(x) and x.data_ptr() % 16 == 0)
            self.assertTrue(self.strided or x.is_contiguous())
        self.assertEqual((kernel, out.shape), (self.kernel, q.shape))
        if lists is not None:
            self.assertEqual((lists.grid, lists.region), (grid, region))
            self.assertEqual((lists.counts.shape[0], lists.text_tokens), (q.shape[0], self.text))
            for x in (lists.columns, lists.counts, lists.order, lists.mask):
                self.assertTrue(x.is_contiguous())
        self.blocks = grid, region
        if lists is None:  # dense attention is the same in any blocks; PyTorch's bits are not
            grid, region = self.own
        _fallback.attention(q, k, v, grid, region, lists and lists.mask, scale, out, remainder)

    def draft(self, q, k, grid, region, pool, rule, sparsity, scale, check):
        self.events.append("draft")
        self.assertTrue(check)
        mask = _fallback.draft_mask(torch.cat(q), torch.cat(k), grid, region, pool, rule, sparsity, scale)
        scores = mock.Mock(require=lambda: self.events.append("require"))
        return da.lists_from_mask(mask, grid, region, self.text), scores

    def as_kernel(self, function, *arguments, **named):
        with mock.patch.object(_dropin, "choose_kernel", return_value=self.kernel):
            return function(*arguments, **named)

    def test_is_what_pytorch_computes(self):
        for case in CASES:
            grid, region, self.text, _ = case
            self.own = grid, region
            q, k, v, mask = inputs(case, torch.bfloat16)
            draft = dict(sparsity=0.5, pool="max", rule="row")
            for layout, (self.kernel, self.strided) in itertools.product(LAYOUTS, (("mma", True), ("blas", False))):
                rows = [x if layout == "bhnd" else x.transpose(1, 2).contiguous() for x in (q, k, v)]
                rows[1] = torch.zeros(k.numel() + 1, dtype=k.dtype)[1:].view(rows[1].shape).copy_(rows[1])
                named = dict(region=region, layout=layout, scale=0.3)
                # Heads and batch entries of [batch, tokens, heads, head_dim] have one stride where there is one token, and
                # in a copy, which rows that are no multiple of 16 bytes take.
                in_place = self.strided and layout == "bnhd" and q.shape[3] % 8 == 0
                entries = 2 if in_place and q.shape[2] > 1 else 1
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
                        self.events.clear()
                        found = self.as_kernel(function, *arguments, **named, **more)
                        wanted = function(*arguments, kernel="torch", **named, **more)
                        self.assertEqual(found.shape, wanted.shape)
                        self.assertTrue(torch.equal(found, wanted))
                        self.assertTrue(found.is_contiguous() and wanted.is_contiguous())
                        # The scores are looked at once everything is enqueued.
                        drafts = function is not da.block_attention and more.get("sparsity") != 0
                        attends = 0 if function is da.draft_mask else entries
                        self.assertEqual(self.events, ["draft"] * drafts + ["attend"] * attends + ["require"] * drafts)

    def test_dense_calls_have_blocks_that_no_edge_cuts(self):
        """Given a grid, and that of the call's blocks, claim: regions where they divide the grid, else 128 tokens in a row; with
        a mask always regions."""
        self.text = 5
        for grid, dense in (((2, 16, 32), ((2, 16, 32), (8, 16))), ((2, 17, 32), ((1, 1, 1093), (1, 128)))):
            self.own = grid, (8, 16)
            q, k, v = (torch.randn(1, 2, math.prod(grid) + 5, 16).bfloat16() for _ in range(3))
            self.as_kernel(da.draft_attention, q, k, v, grid, sparsity=0.0)
            self.assertEqual(self.blocks, dense)
            self.as_kernel(da.block_attention, q, k, v, grid, None)
            self.assertEqual(self.blocks, dense)
            self.as_kernel(da.draft_attention, q, k, v, grid, sparsity=0.5)
            self.assertEqual(self.blocks, self.own)

    def test_nothing_is_copied_that_a_kernel_can_read(self):
        """Of parts of one projection to q, k and v, in either layout, and of what a kernel cannot read."""
        heads, dim, tokens = 2, 16, 2 * 9 * 17
        self.text = 0
        fused = torch.randn((2, tokens, 3 * heads * dim)).bfloat16()
        q, k, v = fused.unflatten(2, (3, heads, dim)).unbind(2)

        def copied(layout, *rows):
            """Which of q, k and v were not read where they stand."""
            self.given.clear()
            found = self.as_kernel(da.draft_attention, *rows, (2, 9, 17), layout=layout, sparsity=0.5)
            wanted = da.draft_attention(*rows, (2, 9, 17), layout=layout, sparsity=0.5, kernel="torch")
            self.assertTrue(torch.equal(found, wanted))
            own = [x.data_ptr() for x in rows]
            return [name for name, found, its in zip("qkv", self.given, own) if found != its]

        heads_first = [x.transpose(1, 2) for x in (q, k, v)]
        self.assertEqual(copied("bnhd", q, k, v), [])
        self.assertEqual(copied("bhnd", *heads_first), [])
        self.assertEqual(copied("bhnd", *(x.contiguous() for x in heads_first)), [])
        self.assertEqual(len(self.given), 3)  # one call for both entries
        shifted = torch.zeros(q.numel() + 1, dtype=q.dtype)[1:].view(q.shape).copy_(q)
        every_other = torch.stack([k, k], dim=-1).flatten(3)[..., ::2]
        expanded = v[:, :, :1].expand(v.shape)
        self.assertEqual(copied("bnhd", shifted, every_other, v), ["q", "k"])
        self.assertEqual(copied("bnhd", q, k, expanded), ["v"])
        self.kernel, self.strided = "blas", False
        self.assertEqual(copied("bnhd", q, k, v), ["q", "k", "v"])

    def test_nothing_waits_while_a_graph_is_captured(self):
        case = CASES[0]
        self.text = case[2]
        q, k, v, _ = inputs(case, torch.bfloat16)
        self.drafted.side_effect = lambda *arguments: (self.draft(*arguments[:8], True)[0], None)
        with mock.patch.object(torch.cuda, "is_current_stream_capturing", lambda: True):
            self.as_kernel(da.draft_mask, q, k, case[0])
            self.as_kernel(da.draft_attention, q, k, v, case[0])
        self.assertEqual([call.args[8] for call in self.drafted.call_args_list], [False, False])
        self.assertNotIn("require", self.events)


class Views(unittest.TestCase):
    def test_strides_that_kernels_take(self):
        rows = torch.zeros((2, 3, 40, 64), dtype=torch.float16)
        for taken, view in [
            (True, rows),
            (True, rows.transpose(1, 2)),
            (True, rows[:, :, ::3]),
            (True, rows[..., 8:24]),
            (True, rows[:1].expand(2, 3, 40, 64)),  # of batch entries that are one
            (True, rows[..., 1:17]),  # its pointer is another question
            (True, rows[:, :, :1, :12]),
            (False, rows[..., ::2]),
            (False, rows.transpose(2, 3)),
            (False, rows.flatten(2)[..., : 40 * 60].view(2, 3, 40, 60)),
            (False, rows[:, :1].expand(2, 3, 40, 64)),
            (False, rows[:, :, :1].expand(2, 3, 40, 64)),
            (False, rows.as_strided((2, 3, 40, 64), (7680, 2560, 32, 1))),
        ]:
            self.assertEqual(_views.has_kernel_strides(view), taken, view.stride())
        self.assertFalse(_views.has_kernel_strides(rows.float()[..., 2:].as_strided((3, 40, 62), (2560, 62, 1))))

    def test_calls_are_one_where_one_stride_leads_through_all_heads(self):
        rows = torch.arange(2 * 3 * 40 * 8).view(2, 3, 40, 8)
        tokens_first = rows.transpose(1, 2).contiguous().transpose(1, 2)
        for tensors, calls in [((rows, rows), 1), ((rows, tokens_first), 2), ((tokens_first[:1], rows[:1]), 1)]:
            found = _views.calls_of(tensors)
            self.assertEqual(len(found), calls)
            for at, tensor in enumerate(tensors):
                views = [call[at] for call in found]
                self.assertTrue(torch.equal(torch.cat(views), tensor.flatten(0, 1)))
                self.assertTrue(
                    all(x.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr() for x in views)
                )
