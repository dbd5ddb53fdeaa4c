"""What dropped blocks add as a whole, remainder="pooled", on a GPU, held to float64 (truth.py)."""

import math

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from draftattention import _attention, _checks
from gpu_cases import CASES, GpuTest, inputs
from gpu_test import wrong
from truth import attention_truth, block_means, blocks_of_tokens, full_mask


def pooled_rows(case, rows):
    """[heads, regions, head_dim]: what the kernels get."""
    with _checks.launching_on(rows.device) as stream:
        return _attention.pooled_rows(_checks.layout_of("rows", rows, case[1], case[2]), rows, stream)


def truths(case, q, k, v, mask):
    """The truth of each head, with the pooled rows that the kernels get."""
    heads, grid, region, text, dim, _ = case
    blocks = blocks_of_tokens(grid, region, text).cuda()
    regions = blocks.clamp(max=mask.shape[-1] - 1)  # text is always kept: it may have any row in its place
    pooled = [pooled_rows(case, x)[:, regions] for x in (k, v)]
    return [
        attention_truth(
            q[h],
            k[h],
            v[h],
            full_mask(mask[h], grid, region, text)[blocks][:, blocks],
            1.0 / math.sqrt(dim),
            [x[h] for x in pooled],
        )
        for h in range(heads)
    ]


class Remainder(GpuTest):
    def test_pooled_rows_are_means(self):
        """Given sums in float32 of up to 128 numbers and one rounding to 16 bits (truth.py's u and e)."""
        for case in CASES:
            _, grid, region, text, _, dtype = case
            _, k, _, _ = inputs(case)
            blocks = blocks_of_tokens(grid, region, text).cuda()
            video = math.prod(grid)
            found = pooled_rows(case, k)
            for head in range(case[0]):
                of_tokens = found[head].double()[blocks[:video]]
                wanted = block_means(k[head, :video], blocks[:video])
                sizes = block_means(k[head, :video].abs(), blocks[:video])
                bound = torch.finfo(dtype).eps / 2 * wanted.abs() + 2.0**-24 * 129 * sizes + 2.0**-24
                self.assertTrue(((of_tokens - wanted).abs() <= bound).all(), case)

    def test_is_the_truth_with_every_kernel(self):
        calls = 0
        for case in CASES:
            _, grid, region, text, _, _ = case
            q, k, v, mask = inputs(case)
            lists = da.lists_from_mask(mask, grid, region, text)
            expected = truths(case, q, k, v, mask)
            for kernel in self.here:
                with self.subTest(case=case, kernel=kernel):
                    try:
                        o, lse = da.attention(q, k, v, grid, region, lists, kernel, remainder="pooled")
                    except ValueError as error:  # regions that wgmma does not do; blas has no remainder
                        self.assertTrue(kernel == "blas" or (kernel == "wgmma" and region != (8, 16)), error)
                        continue
                    calls += 1
                    self.assertEqual(wrong(expected, o, lse), [])
                    again, _ = da.attention(q, k, v, grid, region, lists, kernel, remainder="pooled")
                    self.assertTrue(torch.equal(o, again))
        self.assertGreaterEqual(calls, len(CASES))

    def test_the_check_can_fail(self):
        case = CASES[2]
        _, grid, region, text, _, _ = case
        q, k, v, mask = inputs(case)
        lists, expected = da.lists_from_mask(mask, grid, region, text), truths(case, q, k, v, mask)
        o, lse = da.attention(q, k, v, grid, region, lists, "mma", remainder="pooled")
        self.assertEqual(wrong(expected, o, lse), [])
        self.assertNotEqual(wrong(expected, *da.attention(q, k, v, grid, region, lists, "mma")), [])

    def test_where_nothing_is_dropped_there_is_none(self):
        for case in CASES:
            _, grid, region, text, _, _ = case
            q, k, v, mask = inputs(case)
            lists = da.lists_from_mask(torch.ones_like(mask), grid, region, text)
            for kernel in ("mma",):
                outputs = [
                    da.attention(q, k, v, grid, region, lists, kernel, remainder=word) for word in (None, "pooled")
                ]
                for found, wanted in zip(*outputs):
                    self.assertTrue(torch.equal(found, wanted), case)

    def test_the_drop_in_is_the_kernel_s(self):
        case = CASES[0]
        _, grid, region, text, _, _ = case
        q, k, v, mask = inputs(case)
        found = da.block_attention(q[None], k[None], v[None], grid, mask[None], kernel="mma", remainder="pooled")
        lists = da.lists_from_mask(mask, grid, region, text)
        wanted, _ = da.attention(q, k, v, grid, region, lists, "mma", remainder="pooled")
        self.assertTrue(torch.equal(found[0], wanted))
