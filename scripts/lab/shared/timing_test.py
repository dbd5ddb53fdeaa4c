"""Tests of statistics, rounds, and the clocks around a cell."""

import math
import statistics
import unittest

import pytest

pytest.importorskip("torch")
from lab.shared import timing


class Statistics(unittest.TestCase):
    def test_quantiles_of_known_samples(self):
        self.assertEqual(
            [timing.quantile([3.0, 1.0, 2.0, 4.0, 5.0], share) for share in (0, 0.1, 0.5, 0.9, 1)],
            [1.0, 1.4, 3.0, 4.6, 5.0],
        )
        self.assertEqual(timing.quantile([7.0], 0.9), 7.0)

    def test_the_standard_librarys_quantiles(self):
        samples = [float(i * i % 17) for i in range(12)]
        deciles = statistics.quantiles(samples, n=10, method="inclusive")
        for index, wanted in enumerate(deciles):
            # Claim: equal up to the roundings of two subtractions, a product and a sum of numbers of at most 16.
            self.assertLessEqual(abs(timing.quantile(samples, (index + 1) / 10) - wanted), 8 * 16 * 2.0**-53)
        self.assertTrue(math.isnan(timing.quantile([1.0, math.nan, 2.0], 0.0)))

    def test_every_job_once_a_round_in_changing_order(self):
        found = list(timing.shuffled_rounds("abcdefgh", 6, 1))
        orders = [tuple(found[i : i + 8]) for i in range(0, 48, 8)]
        self.assertTrue(all(sorted(order) == list("abcdefgh") for order in orders))
        self.assertGreater(len(set(orders)), 1)
        self.assertEqual(found, list(timing.shuffled_rounds("abcdefgh", 6, 1)))
        self.assertNotEqual(found, list(timing.shuffled_rounds("abcdefgh", 6, 2)))

    def test_clocks_are_medians_and_reasons_are_all_of_them(self):
        states = [
            (
                {"sm_clock_mhz": 1900 - i, "power_w": 100.0, "throttle_reasons": []},
                {"sm_clock_mhz": 1600 + i, "power_w": 600.0 + i, "throttle_reasons": ["sw_power_cap"] * (i == 1)},
            )
            for i in range(3)
        ]
        self.assertEqual(
            timing.machine_of({"gpu": "g"}, states),
            {
                "gpu": "g",
                "sm_clock_before_mhz": 1899,
                "sm_clock_after_mhz": 1601,
                "power_before_w": 100.0,
                "power_after_w": 601.0,
                "throttle_reasons": ["sw_power_cap"],
            },
        )
        self.assertEqual(timing.machine_of({"gpu": "g"}, [({}, {})]), {"gpu": "g"})
