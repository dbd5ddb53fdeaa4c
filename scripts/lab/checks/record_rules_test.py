"""One format, one set of rules: draftbench's reader and Python's agree on every case of record_rules_cases."""

import glob
import json
import os
import subprocess
import tempfile
import unittest

from lab.checks.program import PROGRAM
from lab.checks.record_rules_cases import CASES, OTHER_CELL, SAME_CELL, SOUND_LINE, changed
from lab.shared import record_file, record_format
from lab.shared.files import ROOT

BESIDE = changed("input.head", 2)  # with something to compare, whatever the case has
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


def _object(line):
    try:
        return json.loads(line)
    except ValueError:
        return None


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
                stream.write(BESIDE + b"\n" + case.line + b"\n")
            for reader in (program, python):
                with self.subTest(case=case.name, reader=reader.__name__):
                    refusal = reader(self.path)
                    if case.word is None:
                        self.assertIsNone(refusal)
                    else:
                        self.assertIsNotNone(refusal, "accepted")
                        self.assertIn(case.word, refusal)
                        self.assertTrue(refusal.isprintable(), refusal)

    def test_both_have_one_identity(self):
        """A cell of the sound line, and of others: whether compare pairs them, and whether Python's identity is the same."""
        other = os.path.join(os.path.dirname(self.path), "b.jsonl")
        with open(self.path, "wb") as stream:
            stream.write(BESIDE + b"\n" + SOUND_LINE + b"\n")
        for lines, wanted in ((SAME_CELL, True), (OTHER_CELL, False)):
            for line in lines:
                with self.subTest(line=line, same=wanted), open(other, "wb") as stream:
                    both = [json.loads(text) for text in (SOUND_LINE, line)]
                    self.assertEqual(len(set(map(record_format.identity, both))) == 1, wanted)
                    stream.write((b"" if line == BESIDE else BESIDE + b"\n") + line + b"\n")
                    stream.flush()
                    done = subprocess.run([PROGRAM, "compare", "--json", self.path, other], capture_output=True)
                    self.assertEqual(json.loads(done.stdout)["cells"], 2 if wanted else 1, done.stderr)

    def test_a_gpu_makes_another_cell_of_what_it_measures(self):
        on = {gpu: json.loads(changed("machine.gpu", gpu)) for gpu in ("A", "B")}
        self.assertEqual(*map(record_format.identity, on.values()))
        for record in on.values():
            record["config"]["device"] = "cuda"
        self.assertNotEqual(*map(record_format.identity, on.values()))

    def test_the_schema_is_one_that_libraries_understand(self):
        """What a validator of JSON Schema says of every case: it refuses only what we refuse."""
        try:
            import jsonschema
        except ImportError:
            self.skipTest("no module jsonschema")
        with open(record_format.SCHEMA_FILE) as stream:
            schema = json.load(stream)
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        refused = 0
        for case in CASES:
            record, found = record_file.parse(case.line)
            with self.subTest(case=case.name):
                if found is None:
                    validator.validate(record)
                elif (value := _object(case.line)) is not None:
                    refused += not validator.is_valid(value)
        self.assertGreater(refused, 100)

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
