"""Tests of what a run leaves behind."""

import math
import unittest

import pytest

torch = pytest.importorskip("torch")
from lab.peers import records
from lab.peers.contenders import PEERS, Case
from lab.peers.inputs import random_call
from lab.peers.masks import kept_metrics

TIMING_KEYS = {"samples_ms", "median_ms", "p10_ms", "p90_ms", "tflops_kept", "warmup", "l2_flush"}
CONFIG_KEYS = {"device", "kernel", "element", "order", "policy", "region", "sparsity", "pool", "rule"}


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

    def test_what_is_not_finite_fails(self):
        record = self.record({"kept_blocks": 8, "output_rel_l2": math.nan})
        self.assertEqual((record["status"], record["metrics"]), ("failed", {"kept_blocks": 8}))
        self.assertEqual(record["reason"], "metric output_rel_l2 is nan")
        self.assertEqual(self.record({"output_rel_l2": 0.0})["status"], "ok")

    def test_keys_of_a_record(self):
        record = self.record({}, status="skipped", reason="not there", notes={"kernel": "n"})
        wanted = "schema experiment run input config metrics status reason notes machine build time"
        self.assertEqual(set(record), set(wanted.split()))
        self.assertEqual((record["schema"], record["experiment"]), (2, "peers"))
        self.assertRegex(record["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
