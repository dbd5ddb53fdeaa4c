"""Tests of the relative error: against its definition, and that nothing wrong passes for near."""

import math
import unittest

import pytest

torch = pytest.importorskip("torch")

from lab.shared.relative import relative_l2


class RelativeL2(unittest.TestCase):
    def test_is_the_definition(self):
        """Given numbers of bfloat16, whose differences float32 has to 2^-24, claim: the definition's in float64, to 2^-22."""
        torch.manual_seed(1)
        for shape in ((7,), (3, 5), (2, 3, 4)):
            found, wanted = torch.randn(2, *shape).bfloat16()
            truth = ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()
            self.assertLessEqual(abs(relative_l2(found, wanted) / truth - 1), 2.0**-22)
        self.assertEqual(relative_l2(wanted, wanted), 0.0)

    def test_nothing_wrong_is_near(self):
        ones = torch.ones(2, 3)
        spoiled = ones.clone()
        spoiled[1, 2] = math.nan
        for found, wanted in ((spoiled, ones), (ones, spoiled), (ones, torch.ones(3, 2)), (0 * ones, 0 * ones)):
            self.assertTrue(math.isnan(relative_l2(found, wanted)))
        self.assertEqual(relative_l2(ones, 0 * ones), math.inf)
