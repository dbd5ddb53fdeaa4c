"""Tests of statistics, rounds and records. Run: python3 scripts/peers/records_test.py"""

import math
import os
import re
import statistics
import sys
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
try:
    import torch
except ImportError:
    torch = None
if torch is not None:
    import gpu_runs

    from peers import records, timing
    from peers.contenders import PEERS, Case
    from peers.inputs import random_call
    from peers.masks import kept_metrics

TIMING_KEYS = {"samples_ms", "median_ms", "p10_ms", "p90_ms", "tflops_kept", "warmup", "l2_flush"}
CONFIG_KEYS = {"device", "kernel", "element", "order", "policy", "region", "sparsity", "pool", "rule"}


@unittest.skipIf(torch is None, "PyTorch is not installed")
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

    def test_throttle_bits(self):
        self.assertEqual(gpu_runs.throttle_names(0x1), [])
        self.assertEqual(gpu_runs.throttle_names(0x4 | 0x40), ["sw_power_cap", "hw_thermal_slowdown"])

    def test_a_machine_without_nvml_says_nothing(self):
        with mock.patch("ctypes.CDLL", side_effect=OSError):
            nvml = gpu_runs.Nvml("0")
        self.assertEqual((nvml.state(), nvml.driver()), ({}, None))


@unittest.skipIf(torch is None, "PyTorch is not installed")
class Records(unittest.TestCase):
    def setUp(self):
        self.call = random_call("2x1x16x32+16", 64, 1, "cpu")
        self.mask = torch.eye(4, dtype=torch.bool).expand(2, 4, 4)
        (self.flex,) = (peer for peer in PEERS if peer.name == "flex_attention")
        self.case = Case(0.75, "softmax", "avg", self.mask)

    def record(self, metrics, **more):
        config = records.config_of(self.flex, self.case)
        return records.make_record(self.call, config, metrics, {"gpu": None}, {}, **more)

    def test_config(self):
        self.assertEqual(
            records.config_of(self.flex, self.case),
            {
                "device": "cuda",
                "kernel": "flex_attention",
                "element": "bfloat16",
                "order": "region",
                "policy": "draft",
                "region": [8, 16],
                "sparsity": 0.75,
                "pool": "avg",
                "rule": "softmax",
            },
        )
        dense = records.config_of(self.flex, Case())
        self.assertEqual(set(dense), CONFIG_KEYS - {"pool", "rule"})
        self.assertEqual((dense["policy"], dense["sparsity"]), ("dense", 0.0))

    def test_rates_and_ratios_by_hand(self):
        counts = kept_metrics(self.call, self.mask)
        self.assertEqual((counts["kept_with_text"], counts["all_blocks"]), (26, 50))  # 2 x (4 + 4 + 5), 2 x 5 x 5
        dense = records.timing_of(self.call, 50, [4.0, 2.0, 3.0], 10)
        sparse = records.timing_of(self.call, 26, [2.0, 1.0, 1.5], 10)
        self.assertEqual(set(sparse), TIMING_KEYS)
        self.assertEqual((sparse["samples_ms"], sparse["warmup"], sparse["l2_flush"]), ([2.0, 1.0, 1.5], 1, 10))
        self.assertAlmostEqual(sparse["tflops_kept"], 4 * 128 * 128 * 64 * 26 / 1.5e-3 / 1e12)
        found = records.compared(counts, sparse, dense, 2 * sparse["tflops_kept"])
        self.assertAlmostEqual(found["speedup_over_dense"], 2)
        self.assertAlmostEqual(found["rate_over_dense"], 2 * 26 / 50)
        self.assertAlmostEqual(found["share_of_matmul"], 0.5)
        self.assertNotIn("speedup_over_dense", records.compared(counts, sparse, None, 1.0))

    def test_clocks_are_medians_and_reasons_are_all_of_them(self):
        states = [
            (
                {"sm_clock_mhz": 1900 - i, "power_w": 100.0, "throttle_reasons": []},
                {"sm_clock_mhz": 1600 + i, "power_w": 600.0 + i, "throttle_reasons": ["sw_power_cap"] * (i == 1)},
            )
            for i in range(3)
        ]
        self.assertEqual(
            records.machine_of({"gpu": "g"}, states),
            {
                "gpu": "g",
                "sm_clock_before_mhz": 1899,
                "sm_clock_after_mhz": 1601,
                "power_before_w": 100.0,
                "power_after_w": 601.0,
                "throttle_reasons": ["sw_power_cap"],
            },
        )
        self.assertEqual(records.machine_of({"gpu": "g"}, [({}, {})]), {"gpu": "g"})

    def test_what_is_not_finite_fails(self):
        record = self.record({"kept_blocks": 8, "output_rel_l2": math.nan})
        self.assertEqual((record["status"], record["metrics"]), ("failed", {"kept_blocks": 8}))
        self.assertEqual(record["reason"], "metric output_rel_l2 is nan")
        self.assertEqual(self.record({"output_rel_l2": 0.0})["status"], "ok")

    def test_keys_of_a_record(self):
        record = self.record({}, status="skipped", reason="not there", notes={"kernel": "n"})
        self.assertEqual(
            set(record),
            {
                "schema",
                "experiment",
                "input",
                "config",
                "metrics",
                "status",
                "reason",
                "notes",
                "machine",
                "build",
                "time",
            },
        )
        self.assertEqual((record["schema"], record["experiment"]), (1, "peers"))
        self.assertRegex(record["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")

    def test_build_and_machine_have_the_names_of_the_other_records(self):
        build = gpu_runs.build_info()
        self.assertLessEqual({"commit", "dirty", "type", "compiler", "flags", "cuda"}, set(build))
        self.assertTrue(build["commit"] == "unknown" or re.fullmatch("[0-9a-f]{40}", build["commit"]))
        told = gpu_runs.build_info("abc")
        self.assertEqual((told["commit"], told["dirty"]), ("abc", None))
        with mock.patch("ctypes.CDLL", side_effect=OSError):
            machine = gpu_runs.machine_info(gpu_runs.Nvml("0"))
        self.assertLessEqual({"cpu", "cores", "memory_gb", "gpu"}, set(machine))


if __name__ == "__main__":
    unittest.main()
