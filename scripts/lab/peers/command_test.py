"""Tests of the command, whose GPU is the CPU here."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
from lab.peers import __main__ as command
from lab.peers import comparison, inputs, stand_in
from lab.peers.stand_in import Clock
from lab.shared import timing


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = os.path.join(folder.name, "peers.jsonl")

    def test_no_gpu_is_one_line_and_no_file(self):
        done = subprocess.run(
            [sys.executable, "-m", "lab.peers", "wan_512p", "--out", self.out],
            capture_output=True,
            text=True,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        )
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"\Apeers: (no GPU: PyTorch|needs PyTorch: ).*\n\Z")
        self.assertFalse(os.path.exists(self.out))

    def test_bad_options_are_refused(self):
        for option, value, words in (
            ("--sparsity", "0.5,1", r"wanted numbers in \(0, 1\), found 0.5,1"),
            ("--rounds", "0", "wanted a whole number of at least 1, found 0"),
            ("--heads", "1,-2", "wanted numbers of heads, found 1,-2"),
        ):
            with self.assertRaises(SystemExit) as stop, contextlib.redirect_stderr(io.StringIO()) as text:
                command.main(["wan_512p", "--out", self.out, f"{option}={value}"])
            self.assertEqual(stop.exception.code, 2)
            self.assertRegex(text.getvalue(), words)

    def run_command(self, *arguments):
        """(exit status, stdout, stderr) of a run whose GPU is the CPU."""
        make = inputs.random_call
        with contextlib.ExitStack() as stack:
            for where, name, value in (
                (command, "require_gpu", lambda: torch),
                (command, "require_library", lambda: stand_in),
                (timing, "GpuTimer", Clock),
                (inputs, "random_call", lambda *a: make(*a[:-1], "cpu")),
                (comparison, "matmul_job", lambda device: comparison.Job(work=lambda: None)),
            ):
                stack.enter_context(mock.patch.object(where, name, value))
            out, err = (
                stack.enter_context(redirect(io.StringIO()))
                for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr)
            )
            status = command.main([*arguments, "--out", self.out])
        return status, out.getvalue(), err.getvalue()

    def test_records_are_appended(self):
        for runs in (1, 2):
            options = "--kernels wgmma,mma --sparsity 0.5 --rounds 2 --head-dim 16 --commit abc"
            status, out, _ = self.run_command("1x1x8x32+3", *options.split())
            self.assertEqual(status, 0)
            self.assertIn("wgmma", out)
            with open(self.out) as file:
                found = [json.loads(line) for line in file]
            self.assertEqual([record["status"] for record in found], ["ok"] * 4 * runs)
        self.assertEqual(found[0]["build"]["commit"], "abc")
        self.assertEqual(
            found[0]["machine"].keys() & {"gpu", "cpu", "sm_clock_before_mhz", "sm_clock_after_mhz"},
            {"gpu", "cpu", "sm_clock_before_mhz", "sm_clock_after_mhz"},
        )

    def test_failures_and_refusals_have_their_exit_status(self):
        status, _, err = self.run_command("nowhere.h5")
        self.assertEqual((status, err.count("\n")), (2, 1))
        self.assertRegex(err, "peers: nowhere.h5: no such dump")
        status, _, err = self.run_command("1x1x8x32", "--heads", "0")
        self.assertEqual((status, err), (2, "peers: --captures, --heads: wanted a dump, found the shape 1x1x8x32\n"))
        self.assertFalse(os.path.exists(self.out))
        with mock.patch.object(comparison, "relative_l2", lambda out, reference: 1.0):
            self.assertEqual(self.run_command("1x1x8x32", "--kernels", "mma", "--head-dim", "16")[0], 1)

    def test_a_run_of_skipped_kernels_alone_is_no_success(self):
        made = comparison.records_of
        skipped = lambda *given: [record | {"status": "skipped", "reason": "not here"} for record in made(*given)]
        with mock.patch.object(comparison, "records_of", skipped):
            status, _, err = self.run_command("1x1x8x32", "--kernels", "mma", "--head-dim", "16")
        self.assertEqual((status, err.splitlines()[-1]), (1, "peers: no kernel ran: every one was skipped"))
