"""The kernel of 8-bit operands on PyTorch tensors: its outputs are near the truth, and quantising apart changes nothing.
How near, row by row: kernels/attend/attention_test.cpp and `draftbench verify`."""

import math
import unittest

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from gpu_cases import CASES, GpuTest, inputs
from gpu_test import truths

KERNEL = "wgmma_8bit"
# INT8 queries and keys, E4M3 weights and values: 4.3e-2 on normal tensors (reference/rounding/eight_bit_test.cpp).
NEAR = 6e-2


class EightBits(GpuTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        why = next(row["here"] for row in da.kernels() if row["name"] == KERNEL)
        if why:
            raise unittest.SkipTest(why)

    def outputs(self, case, sparse):
        _, grid, region, text, _, _ = case
        q, k, v, mask = inputs(case)
        lists = da.lists_from_mask(mask, grid, region, text) if sparse else None
        named = dict(region=region, lists=lists, kernel=KERNEL)
        return (
            da.attention(q, k, v, grid, **named),
            truths(case, q, k, v, mask if sparse else None),
            (q, k, v, grid, named),
        )

    def test_is_near_the_truth(self):
        for case in [case for case in CASES if case[4] == 128]:
            for sparse in (False, True):
                with self.subTest(case=case, sparse=sparse):
                    (o, lse), expected, _ = self.outputs(case, sparse)
                    wanted = torch.stack([truth.o for truth in expected]).to(o.device, torch.float64)
                    sums = torch.stack([truth.lse for truth in expected]).to(o.device, torch.float64)
                    error = (o.double() - wanted).norm() / wanted.norm()
                    self.assertLess(error.item(), NEAR)
                    self.assertGreater(error.item(), 1e-4)  # it does round
                    empty = sums == -math.inf
                    self.assertTrue(torch.equal(lse == -math.inf, empty))
                    self.assertTrue((o[empty] == 0).all())
                    self.assertLess((lse.double() - sums)[~empty].abs().max().item(), 0.2)

    def test_quantising_apart_gives_the_same_bits(self):
        (o, lse), _, (q, k, v, grid, named) = self.outputs(CASES[0], True)
        attend = da.QuantisedAttention(q, k, v, grid, **named)
        for _ in range(2):
            apart, sums = attend()
            self.assertTrue(torch.equal(o, apart) and torch.equal(lse, sums))

    def test_refuses_what_it_cannot_do(self):
        case = CASES[1]
        q, k, v, _ = inputs(case)
        with self.assertRaisesRegex(ValueError, "head_dim must be 128, found 64"):
            da.attention(q, k, v, case[1], kernel=KERNEL)
        with self.assertRaisesRegex(ValueError, "kernel mma does not quantise"):
            da.QuantisedAttention(q, k, v, case[1], kernel="mma")


if __name__ == "__main__":
    unittest.main()
