"""draft_attention, draft_mask and block_attention on a GPU, held to float64 (truth.py)."""

import math

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
import gpu_test
from draftattention import _dropin
from gpu_cases import CASES, GpuTest, inputs
from truth import draft_scores

PREFERRED = ("wgmma", "mma", "blas")


def batched(case):
    """q, k, v [2, heads, tokens, head_dim] and a random mask [2, heads, regions, regions] of a case."""
    return [torch.stack(both) for both in zip(inputs(case, seed=0), inputs(case, seed=1))]


def laid(layout, *tensors):
    """Tensors [batch, heads, tokens, head_dim], or the same with tokens and heads exchanged, contiguous."""
    return [x if layout == "bhnd" else x.transpose(1, 2).contiguous() for x in tensors]


def wrong(case, q, k, v, mask, o):
    """What of o [2, heads, tokens, head_dim] rounding does not explain under the mask (None: dense), as text."""
    found = []
    for entry in range(2):
        expected = gpu_test.truths(case, q[entry], k[entry], v[entry], None if mask is None else mask[entry])
        found += gpu_test.wrong(expected, o[entry], torch.stack([truth.lse for truth in expected]))
    return found


class Attention(GpuTest):
    def test_draft_attention_is_the_truth_under_its_draft_mask(self):
        for case in CASES:
            _, grid, region, text, _, dtype = case
            q, k, v, _ = batched(case)
            for kernel in ("auto", "torch"):
                for sparsity in (0.0, 0.5, 0.9):
                    named = dict(region=region, sparsity=sparsity, text_tokens=text, kernel=kernel)
                    mask = da.draft_mask(q, k, grid, **named)
                    for layout in ("bhnd", "bnhd"):
                        with self.subTest(case=case, layout=layout, **named):
                            rows = laid(layout, q, k, v)
                            o = da.draft_attention(*rows, grid, layout=layout, **named)
                            self.assertEqual((o.shape, o.dtype, o.device), (rows[0].shape, dtype, q.device))
                            self.assertEqual(wrong(case, q, k, v, mask, *laid(layout, o)), [])

    def test_block_attention_is_the_truth_with_every_kernel(self):
        calls = 0
        for case in CASES:
            _, grid, region, _, _, _ = case
            q, k, v, mask = batched(case)
            for kept in (mask, None):
                for kernel in (*self.here, "auto", "torch"):
                    with self.subTest(case=case, kernel=kernel, dense=kept is None):
                        try:
                            o = da.block_attention(q, k, v, grid, kept, region=region, kernel=kernel)
                        except ValueError as error:  # regions that wgmma does not do
                            self.assertEqual(kernel, "wgmma", error)
                            self.assertNotEqual(region, (8, 16), error)
                            continue
                        calls += 1
                        self.assertEqual(wrong(case, q, k, v, kept, o), [])
        self.assertGreaterEqual(calls, 6 * len(CASES))

    def test_the_check_can_fail(self):
        case = CASES[2]
        q, k, v, mask = batched(case)
        o = da.block_attention(q, k, v, case[1], mask, region=case[2])
        self.assertEqual(wrong(case, q, k, v, mask, o), [])
        scaled, nan = o.clone(), o.clone()
        scaled[1, 0, 0] *= 1.02
        nan[0, 1, 3, 5] = math.nan
        for bad in (scaled, nan, o.flip(0)):
            self.assertNotEqual(wrong(case, q, k, v, mask, bad), [])

    def test_wider_types_are_computed_in_pytorch(self):
        case = CASES[0]
        for dtype in (torch.float32, torch.float64):
            q, k, v = (x.to(dtype) for x in batched(case)[:3])
            for sparsity in (0.0, 0.5):
                found, wanted = (
                    da.draft_attention(q, k, v, case[1], sparsity=sparsity, kernel=kernel)
                    for kernel in ("auto", "torch")
                )
                self.assertEqual(found.dtype, dtype)
                self.assertTrue(torch.equal(found, wanted))
                mask = da.draft_mask(q, k, case[1], sparsity=sparsity)
                self.assertEqual(wrong(case, q, k, v, mask, found), [])


class Masks(GpuTest):
    def test_are_the_float64_ones_where_float32_can_tell(self):
        """Given a mask of either arithmetic, claim: its counts are exact, and it leaves out no block for one whose
        float64 score is lower by more than float32's error."""
        judge = gpu_test.Drafts().violations
        for case in CASES:
            heads, grid, region, _, dim, _ = case
            q, k, _, _ = batched(case)
            for pool in ("avg", "max"):
                maps = {
                    (b, h): draft_scores(q[b, h], k[b, h], grid, region, pool, 1 / math.sqrt(dim))
                    for b in range(2)
                    for h in range(heads)
                }
                for rule in ("softmax", "logits", "released", "row"):
                    for sparsity in (0.0, 0.5, 0.9):
                        for kernel in ("auto", "torch"):
                            named = dict(pool=pool, rule=rule, sparsity=sparsity, kernel=kernel)
                            mask = da.draft_mask(q, k, grid, region=region, **named)
                            self.assertEqual((mask.dtype, mask.device), (torch.bool, q.device))
                            with self.subTest(case=case, **named):
                                for at, (scores, logs, slack) in maps.items():
                                    read = logs if rule in ("softmax", "released") else scores
                                    self.assertEqual(judge(rule, sparsity, mask[at], read, slack), [])

    def test_are_the_lists_own(self):
        case = CASES[0]
        q, k, _, _ = batched(case)
        mask = da.draft_mask(q, k, case[1], sparsity=0.5)
        for entry in range(2):
            lists = da.draft_lists(q[entry], k[entry], case[1], sparsity=0.5)
            self.assertTrue(torch.equal(mask[entry], lists.mask))

    def test_nan_raises(self):
        case = CASES[0]
        q, k, v, _ = batched(case)
        q[1, 0, 5, 7] = math.nan
        for kernel in ("auto", "torch"):
            with self.assertRaisesRegex(ValueError, r"wanted scores of numbers, found NaN in heads \[2\]"):
                da.draft_attention(q, k, v, case[1], kernel=kernel)


class Calls(GpuTest):
    def test_auto_is_the_first_kernel_that_can_do_the_call(self):
        case = CASES[0]  # regions of 8 x 16 and a head_dim of 128, as kernels() asks for
        q, k, v, mask = batched(case)
        wanted = next(name for name in PREFERRED if name in self.here)
        sizes = (2 * case[0], case[1], case[2], case[3], case[4])
        self.assertEqual(_dropin.choose_kernel("auto", q.device, q.dtype, sizes), wanted)
        outputs = [da.block_attention(q, k, v, case[1], mask, kernel=kernel) for kernel in ("auto", wanted)]
        self.assertTrue(torch.equal(*outputs))

    def test_any_strides_and_alignment_give_the_same_bits(self):
        case = CASES[0]
        q, k, v, mask = batched(case)
        wanted = da.block_attention(q, k, v, case[1], mask)
        shifted = torch.zeros(q.numel() + 1, dtype=q.dtype, device="cuda")[1:].view(q.shape).copy_(q)
        self.assertNotEqual(shifted.data_ptr() % 16, 0)
        strided = k.transpose(1, 2).contiguous().transpose(1, 2)
        self.assertFalse(strided.is_contiguous())
        self.assertTrue(torch.equal(da.block_attention(shifted, strided, v, case[1], mask), wanted))

    def test_autocast_casts_and_shared_heads_are_repeated(self):
        """As scaled_dot_product_attention: bits of the call with cast tensors and repeated heads."""
        case = CASES[0]
        grid = case[1]
        q, k, v, mask = batched(case)
        dtype, heads = q.dtype, q.shape[1]
        wanted = da.draft_attention(q, k, v, grid, sparsity=0.5)
        with torch.autocast("cuda", dtype=dtype):
            self.assertTrue(torch.equal(da.draft_attention(q.float(), k.float(), v, grid, sparsity=0.5), wanted))
            lists = da.draft_lists(q[0].float(), k[0], grid, sparsity=0.5)
            o, _ = da.attention(q[0], k[0].float(), v[0].float(), grid, lists=lists, kernel="mma")
        again, _ = da.attention(q[0], k[0], v[0], grid, lists=lists, kernel="mma")
        self.assertTrue(torch.equal(o, again))
        self.assertEqual(o.dtype, dtype)
        one, two = k[:, :1], v[:, :1]
        full = [x.repeat_interleave(heads, dim=1) for x in (one, two)]
        for kernel in ("auto", "torch"):
            named = dict(kernel=kernel)
            found = da.draft_attention(q, one, two, grid, sparsity=0.5, enable_gqa=True, **named)
            self.assertTrue(torch.equal(found, da.draft_attention(q, *full, grid, sparsity=0.5, **named)))
            found = da.block_attention(q, one, two, grid, mask, enable_gqa=True, **named)
            self.assertTrue(torch.equal(found, da.block_attention(q, *full, grid, mask, **named)))
        shared = da.draft_lists(q[0], one[0], grid, sparsity=0.5, enable_gqa=True)
        self.assertTrue(torch.equal(shared.mask, da.draft_lists(q[0], full[0][0], grid, sparsity=0.5).mask))
        found, _ = da.attention(q[0], one[0], two[0], grid, lists=shared, kernel="mma", enable_gqa=True)
        wanted, _ = da.attention(q[0], full[0][0], full[1][0], grid, lists=shared, kernel="mma")
        self.assertTrue(torch.equal(found, wanted))

    def test_a_graph_holds_a_draft_and_its_attention(self):
        case = CASES[0]
        q, k, v, _ = batched(case)
        kernel = next(name for name in PREFERRED if name in self.here)
        if kernel == "blas":  # cuBLAS wants memory of its own kind within a graph
            self.skipTest("neither mma nor wgmma runs on this GPU")
        wanted = da.draft_attention(q, k, v, case[1], sparsity=0.5, kernel=kernel)
        late = [torch.zeros_like(x) for x in (q, k, v)]
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = da.draft_attention(*late, case[1], sparsity=0.5, kernel=kernel)
        for to, x in zip(late, (q, k, v)):
            to.copy_(x)
        graph.replay()
        torch.cuda.synchronize()
        self.assertTrue(torch.equal(found, wanted))

    def test_refusals(self):
        case = CASES[0]
        q, k, v, mask = batched(case)
        grid, wide = case[1], q.float()
        thin = torch.zeros((1, 1, 128, 96), dtype=torch.float16, device="cuda")
        for call, message in [
            (lambda: da.draft_attention(q, k.cpu(), v, grid), "k: wanted a tensor on cuda:0, found cpu"),
            (lambda: da.block_attention(q, k, v, grid, mask.cpu()), "mask: wanted a tensor on cuda:0, found cpu"),
            (
                lambda: da.draft_attention(wide, wide, wide, grid, kernel="mma"),
                "q: wanted torch.bfloat16 or torch.float16 for kernel mma, found torch.float32",
            ),
            (lambda: da.draft_mask(thin, thin, (1, 8, 16), kernel="mma"), "kernel: mma wants head_dim 64 or 128"),
            (lambda: da.draft_attention(q, k, v, grid, kernel="fast"), "kernel: wanted one of auto.*fast"),
        ]:
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                call()
