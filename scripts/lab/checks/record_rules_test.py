"""One format, one set of rules: draftbench's reader and Python's agree on every case of record_rules_cases."""

import glob
import os
import subprocess
import tempfile
import unittest

from lab.checks.program import PROGRAM
from lab.checks.record_rules_cases import CASES, SOUND_LINE, changed
from lab.shared import record_file
from lab.shared.files import ROOT

OTHER_CELL = changed("input.head", 2)  # with something to compare, whatever the case has
RESULTS = os.path.join(ROOT, "results")


def program(path):
    """The refusal of `draftbench compare` in one line, or None."""
    done = subprocess.run([PROGRAM, "compare", path, path], capture_output=True, timeout=60)
    lines = done.stderr.decode().splitlines()
    if done.returncode in (0, 1) and not lines:
        return None
    if done.returncode != 2 or len(lines) != 1:
        raise AssertionError(f"exit status {done.returncode}: {done.stderr}")
    return lines[0]


def python(path):
    return next((problem for _, _, problem in record_file.read(path) if problem), None)


class Rules(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "a.jsonl")

    def test_every_reader_says_the_same(self):
        for case in CASES:
            with open(self.path, "wb") as stream:
                stream.write(OTHER_CELL + b"\n" + case.line + b"\n")
            for reader in (program, python):
                with self.subTest(case=case.name, reader=reader.__name__):
                    refusal = reader(self.path)
                    if case.word is None:
                        self.assertIsNone(refusal)
                    else:
                        self.assertIsNotNone(refusal, "accepted")
                        self.assertIn(case.word, refusal)
                        self.assertTrue(refusal.isprintable(), refusal)

    def test_both_kinds_of_cases_are_there(self):
        refused = sum(case.word is not None for case in CASES)
        self.assertGreater(refused, 100)
        self.assertGreater(len(CASES) - refused, 50)

    def test_a_mark_of_byte_order_may_begin_a_file(self):
        with open(self.path, "wb") as stream:
            stream.write(b"\xef\xbb\xbf" + SOUND_LINE + b"\n")
        self.assertEqual((program(self.path), python(self.path)), (None, None))

    def test_every_reader_takes_the_shipped_records(self):
        paths = glob.glob(os.path.join(RESULTS, "**", "*.jsonl"), recursive=True)
        self.assertGreater(len(paths), 5)
        for path in paths:
            self.assertEqual((program(path), python(path)), (None, None), path)
