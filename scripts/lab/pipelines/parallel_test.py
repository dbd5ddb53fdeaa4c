"""Tests of steps on several devices: the command with two processes that exchange tokens by gloo, on tiny models."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")
if not hasattr(diffusers, "ContextParallelConfig") or not torch.distributed.is_available():
    pytest.skip("no context parallelism here", allow_module_level=True)

from lab.pipelines import configurations, parallel, parallel_steps
from lab.pipelines.stopwatch import Step
from lab.shared.metrics import METRICS
from lab.shared.record_file import read_all
from lab.shared.record_format import identity, problem

TINY = ["--tiny", "--device", "cpu", "--kernel", "torch", "--rounds", "1"]
LIMIT_S = 300


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = os.path.join(folder.name, "parallel.jsonl")

    def refused(self, *arguments):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), mock.patch.object(parallel, "require_offline", lambda: None):
            status = parallel.main([*TINY, "--out", self.out, *arguments])
        self.assertEqual((status, errors.getvalue().count("\n")), (2, 1), errors.getvalue())
        self.assertFalse(os.path.exists(self.out))
        return errors.getvalue()

    def test_two_processes_against_one(self):
        """Given HunyuanVideo, claim: both of our configurations give on two devices what they give on one; diffusers' own,
        which masks other tokens than the padding, does not, which is seen and said."""
        command = [sys.executable, "-m", "lab.pipelines.parallel", *TINY, "--out", self.out, "--shape", "tiny_hunyuan"]
        command += ["--configurations", "dense_own,dense_ours,draft_60"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 1, done.stderr)
        records = read_all(self.out)
        self.assertEqual(len(records), 6)
        for record in records:
            self.assertIsNone(problem(record))
            self.assertTrue(record["metrics"].keys() <= METRICS.keys())
            config, metrics = record["config"], record["metrics"]
            compared = {name: value for name, value in metrics.items() if name.endswith("rel_l2")}
            self.assertEqual(len(compared), 2 * (config["ranks"] == 2))
            wrong = config["ranks"] == 2 and config["configuration"] == "dense_own"
            self.assertEqual(record["status"], "failed" if wrong else "ok", record)
            for value in compared.values():
                self.assertEqual(value > 2.0**-13, wrong, record)
        self.assertEqual(len(set(map(identity, records))), 6)  # none hides another
        self.assertRegex(done.stdout, r"tiny_hunyuan draft_60: a step [\d.]+ s on 1, [\d.]+ s on 2: [\d.]+ x")

    def test_bad_usage_is_one_line(self):
        for arguments, words in (
            (["--shape", "wan_4k"], "--shape: wanted one of tiny_hunyuan, tiny_wan, found 'wan_4k'"),
            (["--shape", "tiny_wan", "--ranks", "3"], "--ranks: wanted a number that divides the 2 heads, found 3"),
            (["--shape", "tiny_wan", "--configurations", "draft_9x"], "--configurations: wanted dense_own"),
            (["--shape", "tiny_wan", "--configurations", "dense_best"], "wanted none of FP8 and not dense_best"),
            (["--shape", "tiny_wan", "--configurations", ""], "--configurations: wanted at least one"),
            (["--shape", "tiny_wan", "--steps-timed", "7"], "--steps-timed: wanted at most the 6 of a video"),
        ):
            self.assertIn(words, self.refused(*arguments))
        with mock.patch.object(torch.cuda, "device_count", lambda: 1):
            self.assertIn("wanted 2 GPUs, found 1", self.refused("--shape", "tiny_wan", "--device", "cuda"))
        with mock.patch.dict(os.environ, RANK="0", WORLD_SIZE="4", LOCAL_RANK="0"):
            self.assertIn("--ranks: wanted the 4 processes", self.refused("--shape", "tiny_wan"))


class Comparing(unittest.TestCase):
    def test_what_is_no_rounding_is_said(self):
        draft, dense = configurations.parse("draft_90"), configurations.parse("dense_ours")
        rows = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0))
        alone = parallel_steps.Seen(rows, rows)
        share = parallel_steps.Seen(rows, rows[:, :4])
        found = parallel_steps.differences(share, alone)
        self.assertEqual(found, {"parallel_rel_l2": 0.0, "parallel_attention_rel_l2": 0.0})
        self.assertEqual(parallel_steps.why_wrong(draft, found, "cpu"), "")
        other = parallel_steps.differences(parallel_steps.Seen(rows, rows[:, 4:]), alone)
        for kind in ("cpu", "cuda"):
            for configuration in (draft, dense):
                self.assertIn("parallel_attention_rel_l2", parallel_steps.why_wrong(configuration, other, kind))
        lost = parallel_steps.differences(parallel_steps.Seen(rows[:, :7], None), alone)
        self.assertIn("found nan", parallel_steps.why_wrong(dense, lost, "cuda"))

    def test_the_slowest_process_counts(self):
        turns = [
            parallel_steps.Turn([Step(1.0, 2.0, 3.0, 1), Step(9.0, 1.0, 1.0, 1)], 1.0, 5.0),
            parallel_steps.Turn([Step(2.0, 1.0, 4.0, 1), Step(8.0, 2.0, 1.0, 1)], 1.0, 6.0),
        ]
        found = parallel_steps.slowest(turns)
        self.assertEqual(found.steps, [Step(2.0, 2.0, 4.0, 1), Step(9.0, 2.0, 1.0, 1)])
        self.assertEqual(found.peak_gb, 6.0)


if __name__ == "__main__":
    unittest.main()
