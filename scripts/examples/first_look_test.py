"""Runs first_look.py and first_look on a dump and holds their recalls to the records of `draftbench pooling`."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from lab.checks.program import PROGRAM
from lab.shared.files import ROOT

HERE = pathlib.Path(__file__).resolve().parent
DUMP = ROOT / "data" / "photodit_ragged.h5"
FIRST_LOOK = pathlib.Path(PROGRAM).parent / "first_look"
PROGRAMS = {"Python": [sys.executable, str(HERE / "first_look.py")], "C++": [str(FIRST_LOOK)]}
SPARSITY = 0.9
# Recalls are means of sums of at most 1e4 probabilities in float64; twelve decimals are printed.
TOLERANCE = 1e-9


def call(*command):
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)


def numbers(text):
    """What an example printed: capture, regions, kept share, blocks, recall of the draft and of the random mask."""
    pattern = (
        r"capture (\S+), head 0: (\d+) regions\nkept    (\S+) of (\d+) blocks\n"
        r"recall  (\S+) of the draft mask, (\S+) of a random mask\n"
    )
    capture, *found = re.fullmatch(pattern, text).groups()
    return capture, *map(float, found)


def recorded(dump, capture):
    """Recall and kept share by policy, as `draftbench pooling` records them for head 0 of the capture."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "records.jsonl")
        cell = ["--heads", "0", "--pool", "avg", "--rule", "softmax", "--region", "8x16", "--sparsity", SPARSITY]
        done = call(PROGRAM, "pooling", dump, "--capture", capture, *cell, "--quiet", "--out", out)
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in out.read_text().splitlines()]
    metrics = {record["config"]["policy"]: record["metrics"] for record in records}
    return {
        policy: (found["attention_recall"], found["kept_blocks"] / found["total_blocks"])
        for policy, found in metrics.items()
    }


class FirstLook(unittest.TestCase):
    def printed(self, program, *arguments):
        done = call(*PROGRAMS[program], *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), program)
        return numbers(done.stdout)

    def test_both_print_what_draftbench_records(self):
        found = {program: self.printed(program, DUMP) for program in PROGRAMS}
        capture = found["C++"][0]
        wanted = recorded(DUMP, capture)
        for program, (name, regions, share, blocks, drafted, chance) in found.items():
            with self.subTest(program=program):
                self.assertEqual((name, blocks), (capture, regions**2))
                self.assertLessEqual(abs(share - wanted["draft"][1]), 1e-6)  # six decimals are printed
                self.assertLessEqual(abs(drafted - wanted["draft"][0]), TOLERANCE)
                self.assertLessEqual(abs(chance - wanted["random"][0]), TOLERANCE)

    def test_another_sparsity_gives_other_numbers(self):
        """Negative control: the comparison above can fail."""
        for program in PROGRAMS:
            other, usual = (self.printed(program, DUMP, sparsity) for sparsity in (0.8, SPARSITY))
            for field in (2, 4, 5):  # kept share and both recalls
                self.assertGreater(other[field] - usual[field], 0.01, program)

    def test_a_missing_dump_is_one_line(self):
        done = call(FIRST_LOOK, HERE / "none.h5")
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1), done.stderr)
