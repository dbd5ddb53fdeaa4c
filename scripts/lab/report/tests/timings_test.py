"""Calls, ratios, runs and the projection, on cases with known answers."""

import os
import random
import tempfile
import unittest

from lab.report import projection, timings
from lab.report import records as record_files
from lab.report.tests import synthetic_gpu
from lab.report.tests import synthetic_records as synthetic


def load(items):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "records.jsonl")
        synthetic.write(path, items)
        return record_files.load([path]).cells


def latency(shape="hunyuan_768p", sparsity=0.9, order="token", **more):
    policy = "draft" if sparsity else "dense"
    return dict(synthetic_gpu.latency(shape, "wgmma", order, policy, sparsity, random.Random(1)), **more)


class Calls(unittest.TestCase):
    def test_shape_bytes_and_flops(self):
        cell = load([latency(sparsity=0.0)])[0]
        call = timings.call_of(cell)
        self.assertEqual((call.name, call.tokens), ("HunyuanVideo 768p", 33 * 48 * 80 + 256))
        self.assertEqual(call.minimum_bytes, 4 * 24 * 126976 * 128 * 2)
        # Dense: n / 2 FLOPs a byte of 16-bit q, k, v and output.
        self.assertAlmostEqual(timings.attention_flops(cell) / call.minimum_bytes / (126976 / 2), 1, delta=1e-12)

    def test_another_shape_is_named_by_its_grid(self):
        source = {"heads": 2, "text_tokens": 5, "head_dim": 64, "grid": {"frames": 3, "height": 16, "width": 32}}
        call = timings.call_of(load([latency(input=source)])[0])
        self.assertEqual((call.name, call.tokens), ("2 x 3x16x32 + 5", 3 * 16 * 32 + 5))

    def test_calls_alike_are_told_apart(self):
        one = latency()
        calls = [
            timings.call_of(cell)
            for cell in load([one] + [dict(one, input=dict(one["input"], dump=name)) for name in ("a.h5", "b.h5")])
        ]
        titles = timings.panel_titles(calls)
        self.assertEqual(len(set(titles.values())), 3)

    def test_the_paper_s_mask_is_preferred(self):
        one = latency()
        other = dict(one, config=dict(one["config"], rule="row"))
        dense = latency(sparsity=0.0)
        found = timings.paper_masks(load([one, other, dense]))
        self.assertEqual(sorted(cell.rule for cell in found), ["", "softmax"])
        self.assertEqual([cell.rule for cell in timings.paper_masks(load([other]))], ["row"])


class Ratios(unittest.TestCase):
    def test_quantiles(self):
        values = [4.0, 1.0, 3.0, 2.0]
        self.assertEqual([timings.quantile(values, share) for share in (0, 0.5, 1)], [1.0, 2.5, 4.0])
        self.assertAlmostEqual(timings.quantile(values, 0.1), 1.3, delta=1e-12)
        self.assertEqual(timings.quantile([7.0], 0.9), 7.0)

    def test_ratio_of_medians_with_all_pairs_of_samples(self):
        first = load([latency(timing={"median_ms": 4.0, "samples_ms": [3.0, 4.0, 5.0]})])[0]
        second = load([latency(timing={"median_ms": 2.0, "samples_ms": [2.0]})])[0]
        middle, low, high = timings.ratio(first, second)
        self.assertEqual(middle, 2.0)
        self.assertAlmostEqual(low, 1.6, delta=1e-12)
        self.assertAlmostEqual(high, 2.4, delta=1e-12)
        self.assertIsNone(timings.ratio(load([latency(timing={})])[0], second))

    def test_a_run_is_known_by_its_id(self):
        first = latency(run="one")
        again = dict(first, run="another")
        bare = dict(first, run=None)
        first, again, bare = (load([item])[0] for item in (first, again, bare))
        self.assertTrue(timings.same_run(first, first))
        self.assertFalse(timings.same_run(first, again))
        self.assertFalse(timings.same_run(bare, bare))  # nothing says that they are of one run


class Projection(unittest.TestCase):
    def test_limit_and_share(self):
        # 100 calls of 20 ms dense, 5 ms sparse, 1 ms draft, 8 s of other work: 10 s, and 8 + 0.5 + 0.75 * 0.6 = 8.95 s.
        metrics = {
            "projected_dense_s": 10.0,
            "projected_sparse_s": 8.95,
            "projected_speedup": 10.0 / 8.95,
            "projected_other_s": 8.0,
            "projected_calls": 100,
            "projected_sparse_share": 0.75,
        }
        cell = load([latency(metrics=metrics, timing={"median_ms": 5.0})])[0]
        self.assertAlmostEqual(projection.limit(cell), 10 / 8.5, delta=1e-12)
        self.assertAlmostEqual(projection.share(cell, 1.0), 0.075 / 8.95, delta=1e-12)

    def test_nothing_is_made_up(self):
        cell = load([latency(metrics={"projected_speedup": 2.0})])[0]
        self.assertIsNone(projection.limit(cell))
        self.assertIsNone(projection.share(cell, 1.0))

    def test_tolerance_of_printed_numbers(self):
        self.assertEqual([projection.tolerance(text) for text in ("1.22", "1.3", "2")], [0.005, 0.05, 0.5])


if __name__ == "__main__":
    unittest.main()
