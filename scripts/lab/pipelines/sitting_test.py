"""Tests of budgets, and of the command from its options to its records, on tiny models of the real classes."""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")
from lab.pipelines import __main__ as command
from lab.pipelines import budget, cases, pieces, pipeline, shapes
from lab.shared.metrics import METRICS
from lab.shared.record_file import read_all
from lab.shared.record_format import identity, problem

torch.set_num_threads(1)  # the tensors are tiny: threads would wait for each other
FEW = [
    "--configurations",
    "dense_own,dense_ours,draft_60,draft_90,draft_90_8bit",
    "--rounds",
    "2",
    "--complete",
    "draft_60",
]


class Budgets(unittest.TestCase):
    def test_a_budget_ends(self):
        now = [100.0]
        left = budget.Budget(2, lambda: now[0])
        self.assertTrue(left.fits(120.0) and not left.fits(120.1))
        now[0] += 60
        self.assertTrue(left.fits(60.0) and not left.fits(60.1))

    def test_estimates_are_of_what_was_measured(self):
        speeds = budget.Speeds("cuda")
        self.assertEqual(speeds.step_s("s", "a", 5e14), 2.0)  # a priori
        speeds.note("s", "b", 4.0, 2e15)
        self.assertAlmostEqual(speeds.step_s("s", "b", 2e15), 1.15 * 4.0)
        self.assertAlmostEqual(speeds.step_s("s", "a", 1e15), 1.8 * 2.0)
        self.assertEqual(speeds.step_s("another", "a", 5e14), 2.0)


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = os.path.join(folder.name, "pipelines.jsonl")

    def run_command(self, *arguments):
        """(exit status, stdout, stderr) of the command with tiny shapes, where nothing can be reached."""

        def unreachable(*_):
            raise AssertionError("the command wanted the network")

        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(shapes, "SHAPES", cases.TINY))
            stack.enter_context(mock.patch.object(command, "require_offline", lambda: None))  # imported long ago
            stack.enter_context(mock.patch.object(socket.socket, "connect", unreachable))
            out, err = (
                stack.enter_context(redirect(io.StringIO()))
                for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr)
            )
            try:
                status = command.main(["--device", "cpu", "--kernel", "torch", "--out", self.out, *arguments])
            except SystemExit as stop:
                status = stop.code
        return status, out.getvalue(), err.getvalue()

    def cells(self):
        """{(shape, part, configuration, turn): status}, and how many records there are."""
        found = read_all(self.out)
        names = [(one["input"]["shape"], *map(one["config"].get, ("part", "configuration", "turn"))) for one in found]
        return dict(zip(names, (one["status"] for one in found))), len(found)

    def test_a_table_from_nothing_to_all(self):
        status, out, _ = self.run_command(*FEW, "--minutes", "0.0005")
        self.assertEqual((status, self.cells()[1]), (3, 0))
        self.assertRegex(out, "left for the next sitting: tiny_hunyuan text .*more than a whole sitting")

        status, out, err = self.run_command(*FEW)
        self.assertEqual((status, err), (0, ""))
        cells, count = self.cells()
        self.assertEqual(count, len(cells))
        for shape in cases.TINY:
            for part in ("text", "vae", "file"):
                self.assertEqual(cells[shape, part, None, None], "ok", (shape, part))
            for name in ("dense_own", "dense_ours", "draft_60", "draft_90"):
                self.assertEqual([cells[shape, "steps", name, turn] for turn in (1, 2)], ["ok", "ok"])
            self.assertEqual(cells[shape, "steps", "draft_90_8bit", 1], "skipped")
            self.assertNotIn((shape, "steps", "draft_90_8bit", 2), cells)  # once is enough
            for part, name in (("masks", "draft_90"), ("profile", "draft_90"), ("complete", "draft_60")):
                self.assertEqual(cells[shape, part, name, None], "ok", part)
        self.check_records(read_all(self.out))
        self.assertRegex(out, r"tiny_wan +draft_60 +2 +[\d.]+ +[\d.]+ +[\d.]+")

        before = open(self.out, "rb").read()  # what is measured is not measured again
        self.assertEqual(self.run_command(*FEW)[0], 0)
        self.assertEqual(open(self.out, "rb").read(), before)

        gone = ("tiny_wan", "steps", "draft_60", 2)  # what is missing is
        kept = [
            line
            for line in before.splitlines(keepends=True)
            if (one := json.loads(line))
            and (one["input"]["shape"], *map(one["config"].get, ("part", "configuration", "turn"))) != gone
        ]
        self.assertEqual(len(kept), count - 1)
        with open(self.out, "wb") as file:
            file.writelines(kept)
        self.assertEqual(self.run_command(*FEW)[0], 0)
        self.assertEqual((self.cells()[0][gone], self.cells()[1]), ("ok", count))

    def check_records(self, records):
        for record in records:
            self.assertIsNone(problem(record))
            self.assertIn("random", record["notes"]["weights"])
            for name, value in record["metrics"].items():
                self.assertIn(name, METRICS)
                least, most = METRICS[name].get("range", [0, None])
                self.assertTrue(least <= value and (most is None or value <= most), (name, value))
        self.assertEqual(len(set(map(identity, records))), len(records))  # none hides another in a report
        whole = next(one for one in records if one["config"]["part"] == "complete")
        metrics = whole["metrics"]
        self.assertEqual(len(whole["timing"]["samples_ms"]), whole["input"]["steps"])
        parts = sum(metrics[name] for name in ("text_s", "steps_s", "vae_s", "file_s"))
        self.assertAlmostEqual(parts, metrics["whole_s"])

    def test_a_whole_video_of_one_shape(self):
        few = ["--configurations", "dense_own", "--no-text", "--profile", "", "--complete", "tiny_wan/draft_60"]
        self.assertEqual(self.run_command(*few)[0], 0)
        whole = [cell for cell in self.cells()[0] if cell[1] == "complete"]
        self.assertEqual(whole, [("tiny_wan", "complete", "draft_60", None)])

    def test_a_piece_that_fails_is_said_and_the_others_are_measured(self):
        few = [
            "--shapes",
            "tiny_wan",
            "--configurations",
            "dense_ours",
            "--rounds",
            "1",
            "--no-text",
            "--profile",
            "draft_90",
        ]

        def broken(*_):
            raise RuntimeError("no memory\nfor this")

        with mock.patch.object(pieces.Bench, "decoding", broken):
            status, out, _ = self.run_command(*few)
        self.assertEqual(status, 1)
        self.assertIn("failed: tiny_wan vae: RuntimeError: no memory for this", out)
        (failed,) = [one for one in read_all(self.out) if one["status"] == "failed"]
        self.assertEqual((failed["config"]["part"], failed["reason"]), ("vae", "RuntimeError: no memory for this"))
        self.assertEqual(self.cells()[0]["tiny_wan", "steps", "dense_ours", 1], "ok")
        self.assertEqual(self.run_command(*few)[0], 0)  # a later sitting tries it again
        self.assertEqual(self.cells()[0]["tiny_wan", "vae", None, None], "ok")

    def test_nothing_starts_that_would_end_too_late(self):
        """Time passes as the estimates say: at every start what is left is enough, and something is left over."""
        now, starts = [0.0], []
        fits = budget.Budget.fits

        def watched(this, seconds):
            started = fits(this, seconds)
            if started:
                starts.append((seconds, this.left_s()))
                now[0] += seconds
            return started

        with mock.patch.object(budget.Budget, "fits", watched):
            make = budget.Budget
            with mock.patch.object(budget, "Budget", lambda minutes: make(minutes, lambda: now[0])):
                status, out, _ = self.run_command("--no-text", *FEW, "--minutes", "0.05")
        self.assertEqual(status, 3)
        self.assertGreater(len(starts), 3)
        self.assertTrue(all(seconds <= left for seconds, left in starts), starts)
        self.assertIn("left for the next sitting", out)

    def test_numbers_that_overflow_fail(self):
        def wild(module, seed):
            for parameter in module.parameters():
                parameter.data.fill_(torch.inf)

        few = [
            "--shapes",
            "tiny_hunyuan",
            "--configurations",
            "dense_own",
            "--rounds",
            "1",
            "--no-text",
            "--profile",
            "",
        ]
        with mock.patch.object(pipeline, "build", lambda make, *_: (module := make().eval(), wild(module, 0))[0]):
            self.run_command(*few)
        statuses = {one["config"]["part"]: one["status"] for one in read_all(self.out)}
        self.assertIn("failed", statuses.values())

    def test_bad_options_are_one_line(self):
        for arguments, words in (
            (["--shapes", "wan_4k"], "--shapes: wanted some of tiny_hunyuan, tiny_wan, found 'wan_4k'"),
            (["--configurations", "draft_9x"], "--configurations: wanted dense_own, .* found 'draft_9x'"),
            (["--complete", "sparse"], "--complete: wanted dense_own, .* found 'sparse'"),
            (["--complete", "tiny_wan/sparse"], "--complete: wanted dense_own, .* found 'sparse'"),
            (["--complete", "wan/draft_90"], "--complete: wanted one of tiny_hunyuan, tiny_wan before /, found 'wan'"),
            (["--shapes", "tiny_wan", "--complete", "tiny_hunyuan/draft_90"], "wanted one of tiny_wan before /"),
            (["--minutes", "0"], "--minutes: wanted a number above 0, found 0"),
            (["--rounds", "0"], "--rounds: wanted a whole number from 1 on, found 0"),
            (["--steps-timed", "7"], "--steps-timed: wanted at most the 6 steps of a video, found 7"),
            (["--kernel", "fast"], "--kernel: wanted one of auto, torch.*, found 'fast'"),
        ):
            status, _, err = self.run_command(*arguments)
            self.assertEqual((status, err.count("\n")), (2, 1), err)
            self.assertRegex(err, r"\Apipelines: " + ".*" + words)
            self.assertFalse(os.path.exists(self.out))
        with open(self.out, "w") as file:
            file.write("no record\n")
        status, _, err = self.run_command()
        self.assertEqual((status, err.count("\n")), (2, 1))
        self.assertIn("pipelines.jsonl:1: wanted one JSON object", err)

    def test_no_gpu_is_one_line_and_no_file(self):
        done = subprocess.run(
            [sys.executable, "-m", "lab.pipelines", "--out", self.out],
            capture_output=True,
            text=True,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        )
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"\Apipelines: wanted a GPU, found none by PyTorch .*\n\Z")
        self.assertFalse(os.path.exists(self.out))
