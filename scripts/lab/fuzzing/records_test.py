"""The fuzzer of record files finds what it looks for: programs and reports that do wrong are violations."""

import json
import os
import random
import stat
import tempfile
import unittest

from lab.fuzzing import record_changes, records
from lab.fuzzing.runner import ACCEPTED, REFUSED, VIOLATION, Limits

WHOLE = b'{"schema": 2}\n{"schema": 2, "experiment": "a"}\n'


class Continuing(unittest.TestCase):
    def outcome(self, script, before=WHOLE):
        """What is made of a program of the shell that is given this out.jsonl."""
        with tempfile.TemporaryDirectory() as folder:
            program, subject = os.path.join(folder, "program"), records.Records()
            with open(program, "w", encoding="utf-8") as stream:
                stream.write("#!/bin/sh\n" + script)
            os.chmod(program, stat.S_IRWXU)
            with open(os.path.join(folder, "out.jsonl"), "wb") as stream:
                stream.write(before)
            subject.program = program
            return subject.judge({"arguments": [], "fine": (0, 1), "by": "continued"}, folder, Limits())

    def test_lines_stay_and_refusals_change_nothing(self):
        for script, before, kind in (
            ("echo '{}' >> out.jsonl", WHOLE, ACCEPTED),
            ("echo '{}' >> out.jsonl; exit 1", WHOLE, ACCEPTED),
            (
                "head -c 14 out.jsonl > x; mv x out.jsonl; echo '{}' >> out.jsonl",
                WHOLE[:20],
                ACCEPTED,
            ),  # the cut line is gone
            ("echo 'a: wanted b, found c' >&2; exit 2", WHOLE, REFUSED),
            ("echo '{}' > out.jsonl", WHOLE, VIOLATION),
            ("sed -i 1d out.jsonl", WHOLE, VIOLATION),
            (": > out.jsonl; echo 'a: wanted b, found c' >&2; exit 2", WHOLE, VIOLATION),
            ("echo >> out.jsonl; echo 'a: wanted b, found c' >&2; exit 2", WHOLE, VIOLATION),
            ("echo a >&2; echo b >&2; exit 2", WHOLE, VIOLATION),
            ("kill -SEGV $$", WHOLE, VIOLATION),
        ):
            self.assertEqual(self.outcome(script, before).kind, kind, script)


class FakeReport:
    """A report.main that does one thing."""

    def __init__(self, act):
        self.main = lambda arguments: act(arguments[-1])


class Reporting(unittest.TestCase):
    def outcome(self, act):
        with tempfile.TemporaryDirectory() as folder:
            subject = records.Records()
            subject.report = FakeReport(act)
            return subject.judge({"by": "reported", "whole": True}, folder, Limits())

    @staticmethod
    def writes(text, status=0, say="", extra=()):
        def act(out):
            os.makedirs(out)
            for name, content in (("report.md", text), *extra):
                with open(os.path.join(out, name), "w", encoding="utf-8") as stream:
                    stream.write(content)
            if say:
                os.write(2, say.encode())
            return status

        return act

    def test_reports_that_are_right(self):
        def refuses(_):
            os.write(2, b"report: a.jsonl:1: x\n")
            return 2

        self.assertEqual(self.outcome(self.writes("# a &lt;script&gt;")).kind, ACCEPTED)
        self.assertEqual(self.outcome(self.writes("# a", 1, "report: FAILED record: x\n")).kind, ACCEPTED)
        self.assertEqual(self.outcome(refuses).kind, REFUSED)

    def test_reports_that_are_wrong(self):
        def breaks(_):
            raise KeyError("attention_recall")

        for act, reason in (
            (breaks, "KeyError at records_test.py"),
            (lambda _: 3, "exit status 3"),
            (lambda _: os.kill(os.getpid(), 11), "ended by SIGSEGV"),
            (lambda _: 2, "0 lines on stderr with exit status 2"),
            (self.writes("# a", 0, "a warning\n"), "1 lines on stderr with exit status 0"),
            (self.writes("# a", 1, "a\nb\n"), "2 lines on stderr with exit status 1"),
            (self.writes("# a", 2, "report: x\n"), "refused, and something was written"),
            (self.writes("<script>", 0), "markup out of a record"),
            (self.writes("# a", 0, "", [(".unfinished", "")]), "left .unfinished behind"),
        ):
            outcome = self.outcome(act)
            self.assertEqual(outcome.kind, VIOLATION, reason)
            self.assertIn(reason, outcome.reason)


class Damage(unittest.TestCase):
    def test_the_seeds_are_records_of_every_kind(self):
        seeds = records.load_seeds()
        self.assertEqual(set(seeds), {name for _, names, _ in records.SOURCES for name in names})
        for name, lines in seeds.items():
            self.assertGreater(len(lines), 1, name)
            self.assertTrue(all(json.loads(line)["experiment"] == name for line in lines))

    def test_changes_change_something_and_depend_on_the_seed_alone(self):
        line = records.load_seeds()["bounds"][0]
        different = 0
        for seed in range(200):
            made = []
            for _ in range(2):
                rng, record = random.Random(seed), json.loads(line)
                record_changes.change_structure(rng, record)
                made.append(
                    (
                        json.dumps(record),
                        record_changes.change_text(rng, line)[0],
                        record_changes.change_bytes(rng, line)[0],
                    )
                )
            self.assertEqual(made[0], made[1])
            different += json.loads(made[0][0]) != json.loads(line) or made[0][1] != line or made[0][2] != line
        self.assertGreater(different, 190)
