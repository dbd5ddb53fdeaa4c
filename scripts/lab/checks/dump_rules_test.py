"""One format, one set of rules: draftbench, Python's reader and Python's writer agree on every case of
dump_rules_cases."""

import os
import subprocess
import tempfile
import unittest

import h5py
from qkv_dump import DumpError, DumpWriter, read_dump

from lab.checks import dump_rules_cases
from lab.checks.program import PROGRAM
from lab.fuzzing import dump_seeds

ROOT = dict(
    model="seed",
    source="fuzzing",
    frames=dump_seeds.FRAMES,
    height=dump_seeds.HEIGHT,
    width=dump_seeds.WIDTH,
    text_tokens=dump_seeds.TEXT,
)
CALL = dict(layer=0, step=1, timestep=0.5)


class Rules(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = self.sound("dump.h5")
        self.sound("other.h5")  # where links and virtual datasets lead

    def sound(self, name):
        path = os.path.join(self.folder, name)
        with dump_seeds.new_file(path) as file:
            dump_seeds.root(file)
            dump_seeds.capture(file)
        return path

    def program(self):
        """The refusal of `draftbench inspect --check` in one line, or None. A progress line, where all is slow, is none."""
        done = subprocess.run([PROGRAM, "inspect", self.path, "--check"], capture_output=True, text=True, timeout=60)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("reading heads: ")]
        self.assertIn((done.returncode, len(lines)), ((0, 0), (2, 1)), done.stderr)
        return lines[0] if lines else None

    def python(self):
        try:
            for _ in read_dump(self.path):
                pass
        except DumpError as error:
            return str(error)

    def writer(self, names=("c",), root=None, call=None, arrays=None):
        path = os.path.join(self.folder, "written.h5")
        try:
            with DumpWriter(path, **(ROOT | (root or {}))) as dump:
                for name in names:
                    dump.add(name, **(dump_rules_cases.ARRAYS | (arrays or {})), **(CALL | (call or {})))
        except DumpError as error:
            self.assertEqual([file for file in os.listdir(self.folder) if "written" in file], [])
            return str(error)
        for reader in (self.program, self.python):  # what it writes the readers read
            self.path, kept = path, self.path
            self.assertIsNone(reader())
            self.path = kept

    def agree(self, case, who, refusal):
        if case.word is None:
            self.assertIsNone(refusal, who)
        else:
            self.assertIsNotNone(refusal, f"{who} accepts it")
            self.assertIn(case.word, refusal.replace(self.folder, ""), who)
            self.assertTrue(refusal.isprintable(), refusal)

    def run_case(self, case):
        if case.edit:
            with h5py.File(self.path, "r+") as file:
                case.edit(file)
        if case.remake:
            case.remake(self.path)
        if case.edit or case.remake:
            self.agree(case, "draftbench", self.program())
            self.agree(case, "the reader in Python", self.python())
        if case.write is not None:
            self.agree(case, "the writer in Python", self.writer(**case.write))

    def test_a_disagreement_is_found(self):
        """The check can fail: a sound dump that the table calls unsound, and the reverse."""
        sound, broken = dump_rules_cases.CASES[:2]
        for case in (
            dump_rules_cases.Case("", "word", sound.edit),
            dump_rules_cases.Case("", None, broken.edit),
            dump_rules_cases.Case("", "another word", broken.edit),
        ):
            self.sound("dump.h5")
            with self.assertRaises(AssertionError):
                self.run_case(case)


def _test_of(case):
    return lambda self: self.run_case(case)


for _number, _case in enumerate(dump_rules_cases.CASES):
    _test = _test_of(_case)
    _test.__doc__ = _case.name
    setattr(Rules, f"test_{_number:03}", _test)
