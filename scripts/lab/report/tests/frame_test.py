"""Loading: newest wins, failures are kept, broken lines are reported."""

import json
import os
import tempfile
import unittest

from lab.report import frame
from lab.report.tests import synthetic_gpu
from lab.report.tests import synthetic_records as synthetic


def load(lines):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "records.jsonl")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
        return frame.load([path])


def cell(recall=0.5, **more):
    source = next(synthetic.heads())[0]
    return synthetic.record(
        "pooling",
        source,
        synthetic.config("draft", "avg", "softmax", (8, 16), 0.9),
        {"attention_recall": recall, "output_rel_l2": 0.3},
        **more,
    )


class Loading(unittest.TestCase):
    def test_newest_wins_whatever_the_order_of_the_lines(self):
        for order in (1, -1):
            pair = [cell(0.1, time="2030-01-01T00:00:00Z"), cell(0.2, time="2030-01-02T00:00:00Z")][::order]
            loaded = load(pair)
            self.assertEqual([found["attention_recall"] for found in loaded.of()["metrics"]], [0.2])
            self.assertEqual(loaded.superseded, 1)

    def test_of_equal_times_the_later_line_wins(self):
        self.assertEqual(load([cell(0.1), cell(0.2)]).of()["metrics"][0]["attention_recall"], 0.2)

    def test_a_dump_is_known_by_its_content(self):
        renamed = cell(0.2)
        renamed["input"] = dict(renamed["input"], dump="renamed.h5")
        self.assertEqual(len(load([cell(0.1), renamed]).of()), 1)
        other = cell(0.2)
        other["input"] = dict(other["input"], sha256="0" * 64)
        self.assertEqual(len(load([cell(0.1), other]).of()), 2)

    def test_a_time_belongs_to_a_gpu_and_to_the_heads_of_its_call(self):
        first = synthetic_gpu.generate(("wan_512p",), (0.9,))[1]
        other_gpu = dict(first, machine=dict(first["machine"], gpu="NVIDIA Other"))
        self.assertEqual(len(load([first, first, other_gpu]).of()), 2)
        dumped = dict(first["input"], dump="a.h5", sha256="0" * 64)
        fewer = dict(dumped, head=[0, 1, 2])
        self.assertEqual(len(load([dict(first, input=dumped), dict(first, input=fewer)]).of()), 2)
        moved = dict(cell(), machine={"gpu": "NVIDIA Other"})  # what a mask does is the same on every machine
        self.assertEqual(len(load([cell(), moved]).of()), 1)

    def test_a_call_without_a_dump_has_a_name(self):
        loaded = load(synthetic_gpu.generate(("wan_512p",), (0.9,))[:1])
        call = next(frame.rows(loaded.of()))
        self.assertEqual((call.dump, call.sha), ("", ""))
        self.assertIn("latency: wan_512p (", frame.describe(call))

    def test_a_newer_success_replaces_a_failure(self):
        loaded = load([cell(status="failed", reason="x"), cell(0.4, time="2031-01-01T00:00:00Z")])
        self.assertEqual((len(loaded.of()), len(loaded.of(status="failed"))), (1, 0))

    def test_failures_and_skips_are_kept_apart(self):
        other = cell(status="skipped", reason="no GPU")
        other["config"] = dict(other["config"], sparsity=0.5)
        loaded = load([cell(status="failed", reason="out of memory"), other])
        self.assertTrue(loaded.of().empty)
        self.assertEqual(list(loaded.of(status="failed")["reason"]), ["out of memory"])
        self.assertEqual(list(loaded.of(status="skipped")["reason"]), ["no GPU"])

    def test_a_metric_that_is_not_finite_is_refused(self):
        loaded = load([cell(float("nan"))])
        self.assertTrue(loaded.of().empty)
        self.assertEqual(
            loaded.broken,
            ['records.jsonl:1: metrics.attention_recall: wanted a finite number or "not_applicable", found NaN'],
        )

    def test_masks_with_a_remainder_are_apart_from_those_without(self):
        other = cell(0.5)
        other["config"] = dict(other["config"], remainder="pooled")
        loaded = load([cell(0.25), other])
        self.assertEqual(len(loaded.of()), 2)
        for remainder, recall in (("", 0.25), ("pooled", 0.5)):
            found = frame.with_remainder(loaded.of(), remainder)["metrics"]
            self.assertEqual([metrics["attention_recall"] for metrics in found], [recall])
        self.assertEqual(len(loaded.judged("pooling")), 1)

    def test_a_cell_is_known_by_its_numbers_however_they_are_written(self):
        lines = []
        for number in (0.0, 0, -0.0):
            made = cell()
            made["config"]["sparsity"] = number
            lines.append(json.dumps(made) + "\n")
        self.assertEqual((len(load(lines).of()), load(lines).superseded), (1, 2))
        made["config"]["sparsity"] = 5e-324
        self.assertEqual(len(load([*lines, json.dumps(made) + "\n"]).of()), 2)

    def test_broken_lines_are_named(self):
        loaded = load([cell(), '{"experiment": "bounds", "inp\n', "[1, 2]\n", "\n"])
        self.assertEqual(len(loaded.of()), 1)
        self.assertEqual(
            [text.split(": ")[0] for text in loaded.broken], [f"records.jsonl:{line}" for line in (2, 3, 4)]
        )

    def test_numbers_missing_ones_and_those_relative_to_nothing_are_told_apart(self):
        other = cell("not_applicable")
        other["config"] = dict(other["config"], sparsity=0.5)
        other["metrics"]["kept_blocks"] = 7
        cells = load([cell(), other]).of().sort_values("sparsity")
        found = frame.with_metrics(cells, "attention_recall", "kept_blocks")
        self.assertEqual(list(found["attention_recall"]), [None, 0.5])
        self.assertEqual([(type(value), value) for value in found["kept_blocks"]], [(int, 7), (type(None), None)])
        self.assertEqual(list(frame.shown(cells, "attention_recall")), [frame.NOTHING, 0.5])
        self.assertEqual(list(frame.having(found, "attention_recall")["sparsity"]), [0.9])
        self.assertIn("attention_recall in 1 of 2 records.", frame.left_out(cells, "attention_recall", "kept_blocks"))

    def test_no_records_are_a_frame_with_columns(self):
        cells = load([]).of("bounds")
        self.assertTrue(frame.with_metrics(cells, "attention_recall").empty)
        self.assertEqual(list(frame.where(cells, []).columns), frame.COLUMNS)


if __name__ == "__main__":
    unittest.main()
