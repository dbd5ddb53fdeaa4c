"""Calls, ratios, runs and the projection, on cases with known answers."""

import os
import random
import tempfile
import unittest

from lab.report import calls, frame, projection
from lab.report.tests import synthetic_gpu
from lab.report.tests import synthetic_records as synthetic


def load(items):
    """Their cells, with what is known of their calls."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "records.jsonl")
        synthetic.write(path, items)
        return calls.timed(frame.load([path]))


def one(item):
    return next(frame.rows(load([item])))


def latency(shape="hunyuan_768p", sparsity=0.9, order="token", **more):
    policy = "draft" if sparsity else "dense"
    return dict(synthetic_gpu.latency(shape, "wgmma", order, policy, sparsity, random.Random(1)), **more)


class Calls(unittest.TestCase):
    def test_shape_bytes_and_flops(self):
        cell = one(latency(sparsity=0.0))
        self.assertEqual((cell.name, cell.size, cell.mask), ("HunyuanVideo 768p", "24 x 126,976 tokens", "dense"))
        self.assertEqual(cell.bytes_moved, 4 * 24 * 126976 * 128 * 2)
        # Dense: n / 2 FLOPs a byte of 16-bit q, k, v and output.
        self.assertAlmostEqual(calls.attention_flops(cell) / cell.bytes_moved / (126976 / 2), 1, delta=1e-12)

    def test_another_shape_is_named_by_its_grid(self):
        source = {"heads": 2, "text_tokens": 5, "head_dim": 64, "grid": {"frames": 3, "height": 16, "width": 32}}
        cell = one(latency(input=source))
        self.assertEqual((cell.name, cell.size), ("2 x 3x16x32 + 5", f"2 x {3 * 16 * 32 + 5:,} tokens of 64"))

    def test_calls_alike_are_told_apart(self):
        first = latency()
        dumped = [dict(first, input=dict(first["input"], dump=name)) for name in ("a.h5", "b.h5")]
        titles = calls.panel_titles(load([first, *dumped]))
        self.assertEqual(len(set(titles.values())), 3)

    def test_calls_stand_in_the_order_of_the_papers_shapes(self):
        shapes = ("hunyuan_768p", "2x3x16x32+5", "wan_512p")
        cells = load([latency(shape) if "x" not in shape else latency(input={"shape": shape}) for shape in shapes])
        self.assertEqual(list(cells.sort_values("call")["shape"]), ["wan_512p", "hunyuan_768p", "2x3x16x32+5"])

    def test_the_paper_s_mask_is_preferred(self):
        first = latency()
        other = dict(first, config=dict(first["config"], rule="row"))
        dense = latency(sparsity=0.0)
        self.assertEqual(sorted(calls.paper_masks(load([first, other, dense]))["rule"]), ["", "softmax"])
        self.assertEqual(list(calls.paper_masks(load([other]))["rule"]), ["row"])

    def test_the_newest_of_a_key(self):
        first = latency()
        again = dict(first, config=dict(first["config"], extra=1), time="2031-01-01T00:00:00Z")
        found = calls.newest(load([first, again, latency(sparsity=0.0)]), "mask")
        self.assertEqual(sorted(found["time"]), ["2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"])


class Ratios(unittest.TestCase):
    def test_ratio_of_medians_with_all_pairs_of_samples(self):
        first = one(latency(timing={"median_ms": 4.0, "samples_ms": [3.0, 4.0, 5.0]}))
        second = one(latency(timing={"median_ms": 2.0, "samples_ms": [2.0]}))
        middle, low, high = calls.ratio(first, second)
        self.assertEqual(middle, 2.0)
        self.assertAlmostEqual(low, 1.6, delta=1e-12)
        self.assertAlmostEqual(high, 2.4, delta=1e-12)
        self.assertIsNone(calls.ratio(one(latency(timing={})), second))


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
        cell = one(latency(metrics=metrics, timing={"median_ms": 5.0}))
        self.assertAlmostEqual(projection.limit(cell), 10 / 8.5, delta=1e-12)
        self.assertAlmostEqual(projection.share_of_video(cell, 1.0), 0.075 / 8.95, delta=1e-12)

    def test_nothing_is_made_up(self):
        cell = one(latency(metrics={"projected_speedup": 2.0}))
        self.assertIsNone(projection.limit(cell))
        self.assertIsNone(projection.share_of_video(cell, 1.0))

    def test_tolerance_of_printed_numbers(self):
        self.assertEqual([projection.tolerance(text) for text in ("1.22", "1.3", "2")], [0.005, 0.05, 0.5])


if __name__ == "__main__":
    unittest.main()
