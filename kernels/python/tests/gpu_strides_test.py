"""Tensors that are not contiguous, on a GPU: the same bits as contiguous ones', no copies, nothing written between rows."""

import math
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from draftattention import _dropin
from gpu_cases import CASES, GpuTest, inputs
from gpu_streams_test import SLEEP


def batched(case, entries):
    """q, k, v [entries, heads, tokens, head_dim] and a random mask [entries, heads, regions, regions] of a case."""
    return [torch.stack(each) for each in zip(*(inputs(case, seed=seed) for seed in range(entries)))]


def fused(q, k, v):
    """q, k, v as parts of one projection [batch, tokens, 3, heads, head_dim], each [batch, tokens, heads, head_dim]."""
    return torch.stack([x.transpose(1, 2) for x in (q, k, v)], dim=2).unbind(2)


class Strides(GpuTest):
    @property
    def kernels(self):
        """All that run here and take strides, 8-bit ones too, and what is chosen without a name."""
        return [row["name"] for row in da.kernels() if row["here"] == "" and _dropin.takes_strides(row["name"])] + [
            "auto"
        ]

    def test_tokens_first_and_parts_of_a_projection_have_the_contiguous_bits(self):
        calls = 0
        for case in CASES:
            _, grid, region, _, _, _ = case
            for entries in (1, 2):
                q, k, v, mask = batched(case, entries)
                for kernel in self.kernels:
                    for function, arguments, more in [
                        (da.draft_attention, (), dict(sparsity=0.5)),
                        (da.draft_attention, (), dict(sparsity=0.0)),
                        (da.draft_attention, (), dict(sparsity=0.7, pool="max", rule="row", remainder="pooled")),
                        (da.block_attention, (mask,), {}),
                    ]:
                        named = dict(region=region, kernel=kernel, **more)
                        with self.subTest(case=case, entries=entries, **named):
                            try:
                                wanted = function(q, k, v, grid, *arguments, **named)
                            except ValueError as error:  # head_dim or regions that a kernel does not do
                                self.assertIn(kernel, ("wgmma", "wgmma_8bit"), error)
                                continue
                            self.assertTrue(torch.isfinite(wanted).all())
                            tokens_first = [x.transpose(1, 2).contiguous() for x in (q, k, v)]
                            for rows in (tokens_first, fused(q, k, v)):
                                calls += 1
                                o = function(*rows, grid, *arguments, layout="bnhd", **named)
                                self.assertTrue(o.is_contiguous() and o.shape == rows[0].shape)
                                self.assertTrue(torch.equal(o.transpose(1, 2), wanted))
                                heads_first = [x.transpose(1, 2) for x in rows]
                                o = function(*heads_first, grid, *arguments, **named)
                                self.assertTrue(o.is_contiguous() and torch.equal(o, wanted))
        self.assertGreaterEqual(calls, 2 * 8 * len(CASES))

    def test_the_check_can_fail(self):
        case = CASES[0]
        q, k, v, _ = batched(case, 2)
        wanted = da.draft_attention(q, k, v, case[1], sparsity=0.5)
        rows = list(fused(q, k, v))
        rows[1] = rows[1].flip(2)  # k's heads exchanged
        o = da.draft_attention(*rows, case[1], sparsity=0.5, layout="bnhd")
        self.assertFalse(torch.equal(o.transpose(1, 2), wanted))

    def test_masks_are_the_contiguous_ones(self):
        for case in CASES:
            q, k, v, _ = batched(case, 2)
            parts = fused(q, k, v)
            for rule in ("softmax", "row"):
                named = dict(region=case[2], sparsity=0.5, rule=rule)
                wanted = da.draft_mask(q, k, case[1], **named)
                self.assertTrue(torch.equal(da.draft_mask(*parts[:2], case[1], layout="bnhd", **named), wanted))
                lists = da.draft_lists(*(x[0].transpose(0, 1) for x in parts[:2]), case[1], **named)
                self.assertTrue(torch.equal(lists.mask, wanted[0]))

    def test_attention_writes_between_nothing(self):
        """Given an `out` with NaN around its rows, claim: it gets the contiguous call's bits and the NaN stay."""
        case = CASES[0]
        heads, grid, region, _, dim, dtype = case
        q, k, v, _ = inputs(case)
        lists = da.draft_lists(q, k, grid, region, sparsity=0.5)
        views = [x[0].transpose(0, 1) for x in fused(q[None], k[None], v[None])]
        for kernel in self.kernels[:-1]:
            wanted, sums = da.attention(q, k, v, grid, region, lists, kernel)
            memory = torch.full((q.shape[1], heads, dim + 16), math.nan, dtype=dtype, device="cuda")
            out = memory[..., 8 : dim + 8].transpose(0, 1)
            o, lse = da.attention(*views, grid, region, lists, kernel, out=out)
            self.assertIs(o, out)
            self.assertTrue(torch.equal(out, wanted) and torch.equal(lse, sums), kernel)
            self.assertTrue(memory[..., :8].isnan().all() and memory[..., dim + 8 :].isnan().all())

    def test_the_drop_in_writes_to_a_view(self):
        """Given an `out` whose last tokens are not the call's, as padding is, claim: the bits of a new output, and what
        stands behind stays."""
        case = CASES[0]
        q, k, v, _ = batched(case, 2)
        rows = fused(q, k, v)
        for kernel in self.kernels:
            named = dict(region=case[2], sparsity=0.5, layout="bnhd", kernel=kernel)
            wanted = da.draft_attention(*rows, case[1], **named)
            batch, tokens, heads, dim = wanted.shape
            memory = torch.full((batch, tokens + 3, heads, dim), math.nan, dtype=wanted.dtype, device="cuda")
            o = da.draft_attention(*rows, case[1], out=memory[:, :tokens], **named)
            self.assertTrue(torch.equal(o, wanted) and memory[:, tokens:].isnan().all(), kernel)

    def test_refusals(self):
        case = CASES[0]
        q, k, v, _ = inputs(case)
        grid = case[1]
        tokens_first = q.transpose(0, 1).contiguous().transpose(0, 1)
        wide = torch.zeros((*q.shape[:2], 132), dtype=q.dtype, device="cuda")[..., :128]
        same = torch.empty_like(q[:1]).expand(q.shape)
        for call, message in [
            (lambda: da.attention(tokens_first, k, v, grid, kernel="blas"), "kernel blas wants contiguous tensors"),
            (
                lambda: da.attention(wide, k, v, grid, kernel="mma"),
                "q: wanted consecutive numbers in a row, .*16 bytes",
            ),
            (lambda: da.attention(q, k, same, grid, kernel="mma"), "v: wanted consecutive numbers in a row"),
            (lambda: da.attention(q, k, v, grid, kernel="mma", out=same), "out: wanted consecutive numbers in a row"),
        ]:
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                call()


class Memory(GpuTest):
    GRID, HEADS, DIM = (8, 64, 64), 4, 128

    def peak(self, rows, **named):
        """Bytes that a call allocates at most, beyond those of its output."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        o = da.draft_attention(*rows, self.GRID, layout="bnhd", **named)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before - o.numel() * o.element_size()

    def test_a_call_allocates_its_output_and_what_its_lists_take(self):
        """Given 256 regions, whose maps and lists take less than a tenth of q, claim: no copy of a tensor is made; of a
        q whose pointer is not aligned one is."""
        if "mma" not in self.here:
            self.skipTest("neither mma nor wgmma runs on this GPU")
        for entries in (1, 2):
            shape = (entries, math.prod(self.GRID), self.HEADS, self.DIM)
            generator = torch.Generator("cuda").manual_seed(0)
            projection = torch.randn((*shape[:2], 3, *shape[2:]), generator=generator, device="cuda").bfloat16()
            q, k, v = projection.unbind(2)
            size = q.numel() * q.element_size()
            shifted = torch.zeros(q.numel() + 1, dtype=q.dtype, device="cuda")[1:].view(shape).copy_(q)
            self.peak((q, k, v))  # loads kernels
            for sparsity in (0.0, 0.9):
                for rows in ((q, k, v), [x.contiguous() for x in (q, k, v)]):
                    self.assertLess(self.peak(rows, sparsity=sparsity), size / 2)
                self.assertGreaterEqual(self.peak((shifted, k, v), sparsity=sparsity), size)


class Checks(GpuTest):
    """Of draft scores, made once attention is enqueued."""

    def setUp(self):
        if "mma" not in self.here:
            self.skipTest("neither mma nor wgmma runs on this GPU")

    def test_nan_is_found_in_any_layout_and_the_gpu_goes_on(self):
        for case in CASES:
            q, k, v, _ = batched(case, 2)
            named = dict(region=case[2], sparsity=0.5)
            wanted = da.draft_attention(q, k, v, case[1], **named)
            bad = q.clone()
            bad[1, 0, : math.prod(case[1])] = math.nan
            head = case[0]
            for rows, layout in (((bad, k, v), "bhnd"), (fused(bad, k, v), "bnhd")):
                for rule in ("softmax", "logits", "released", "row"):
                    with self.assertRaisesRegex(ValueError, rf"scores of numbers, found NaN in heads \[{head}\]"):
                        da.draft_attention(*rows, case[1], layout=layout, rule=rule, **named)
            torch.cuda.synchronize()
            self.assertTrue(torch.equal(da.draft_attention(q, k, v, case[1], **named), wanted))

    def test_the_host_waits_for_the_draft_and_not_for_attention(self):
        case = CASES[0]
        q, k, v, _ = batched(case, 1)
        attend = _dropin.attention

        def late(*arguments, **named):
            torch.cuda._sleep(SLEEP)
            return attend(*arguments, **named)

        wanted = da.draft_attention(q, k, v, case[1], sparsity=0.5)
        with mock.patch.object(_dropin, "attention", late):
            o = da.draft_attention(q, k, v, case[1], sparsity=0.5)
            self.assertFalse(torch.cuda.current_stream().record_event().query(), "the host waited for attention")
            self.assertTrue(torch.equal(o, wanted))
            q[0, 1, 5, 7] = math.nan
            with self.assertRaisesRegex(ValueError, r"found NaN in heads \[1\]"):
                da.draft_attention(q, k, v, case[1], sparsity=0.5)
        torch.cuda.synchronize()
