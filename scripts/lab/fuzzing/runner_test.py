"""The runner judges programs that do everything a fuzzed program may do; a case can be made again from its index."""

import os
import random
import sys
import tempfile
import unittest

from lab.fuzzing.dumps import Dumps
from lab.fuzzing.runner import ACCEPTED, REFUSED, VIOLATION, Case, Fuzz, Limits, judge, run, summary
from lab.shared import record_format

LIMITS = Limits(seconds=2.0, bytes=300_000_000)
AT_LEISURE = Limits(seconds=60.0, bytes=300_000_000)  # for what two Pythons do on a busy machine


class Judged(unittest.TestCase):
    def shell(self, script, fine=(0,)):
        return judge(*run(["sh", "-c", script], "/", LIMITS), LIMITS, fine)

    def violates(self, reason, outcome):
        self.assertEqual(outcome.kind, VIOLATION)
        self.assertIn(reason, outcome.reason)

    def test_accepted_and_refused(self):
        self.assertEqual(self.shell("echo table").kind, ACCEPTED)
        self.assertEqual(self.shell("exit 1", fine=(0, 1)).kind, ACCEPTED)
        refused = self.shell("echo draftbench: x.h5: file: wanted a, found b >&2; exit 2")
        self.assertEqual((refused.kind, refused.reason), (REFUSED, "draftbench: x.h5: file: wanted a, found b"))

    def test_what_is_late_once_is_run_again(self):
        with tempfile.TemporaryDirectory() as folder:
            mark = os.path.join(folder, "was_here")
            self.assertEqual(self.shell(f"test -e {mark} || {{ touch {mark}; sleep 60; }}").kind, ACCEPTED)

    def test_everything_else_violates(self):
        self.violates("exit status 1", self.shell("exit 1"))
        self.violates("exit status 3", self.shell("echo a >&2; exit 3"))
        self.violates("SIGSEGV", self.shell("kill -SEGV $$"))
        self.violates("0 lines", self.shell("exit 2"))
        self.violates("2 lines", self.shell("printf 'a\\nb\\n' >&2; exit 2"))
        self.violates("not done in 2 s", self.shell("sleep 60"))
        self.violates("not done in 2 s", self.shell("exec >&- 2>&-; sleep 60"))
        self.violates("control characters", self.shell("printf '\\033[31m'"))
        for text in ("\u202e", "\u200b", "\x9b"):
            self.violates("control characters", judge(0, text.encode(), b"", 0.0, 0, LIMITS))
        for words in ("stod", "std::bad_alloc", "[json.exception.type_error.316] invalid"):
            self.violates("bare words", self.shell(f"echo 'draftbench: {words}' >&2; exit 2"))

    def test_memory_counts_that_of_children(self):
        many = [
            sys.executable,
            "-c",
            "import subprocess, sys; subprocess.run([sys.executable, '-c', 'bytearray(400_000_000)'])",
        ]
        self.violates("more than 300 MB", judge(*run(many, "/", AT_LEISURE), AT_LEISURE))


class Cases(unittest.TestCase):
    def test_a_case_depends_on_seed_and_index_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            subject = Dumps()
            subject.prepare(folder, "")
            made = []
            for key in ("dumps 1 7", "dumps 1 8", "dumps 1 7"):
                case = subject.case(random.Random(key), folder)
                with open(os.path.join(folder, "mutant.h5"), "rb") as file:
                    made.append((case.recipe, case.commands, file.read()))
        self.assertEqual(made[0], made[2])
        self.assertNotEqual(made[0], made[1])


class AllFine:
    """A subject whose every case is fine."""

    name = "test"

    def prepare(self, folder, program):
        pass

    def case(self, rng, folder):
        return Case([["fine"]], "fine")

    def notes(self, case, outcomes):
        return ["noted"]


class Whole(unittest.TestCase):
    def test_a_violation_is_summed_up(self):
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "program")
            with open(program, "w") as file:
                file.write(
                    '#!/bin/sh\n[ "$1" = about ] && echo \'{"machine": {}, "build": {}}\'\n[ "$1" != bad ] || exit 9\n'
                )
            os.chmod(program, 0o755)
            fuzz = Fuzz(AllFine(), 1, program, LIMITS)
            results = list(fuzz.many(range(20), 2))
            self.assertEqual(sorted(index for index, *_ in results), list(range(20)))
            record = summary(fuzz, results, 1.0)
            self.assertIsNone(record_format.problem(record))
            self.assertEqual(
                (record["status"], record["metrics"][ACCEPTED], record["notes"]), ("ok", 20, {"noted": 20})
            )
            bad = judge(*run([program, "bad"], folder, LIMITS), LIMITS)
            record = summary(fuzz, results + [(20, Case([["bad"]], "bad"), [bad], [])], 1.0)
            self.assertEqual((record["status"], record["metrics"][VIOLATION]), ("failed", 1))
            self.assertEqual(record["violations"][0]["index"], 20)
