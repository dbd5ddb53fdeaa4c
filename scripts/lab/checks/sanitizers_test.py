"""Tests of sanitizers on small fake programs: what is recorded of good, failing, crashing and hanging suites and of
sanitizers' findings."""

import fnmatch
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

from lab.checks import sanitizers
from lab.shared.files import ROOT

MACHINE = {"machine": {"cpu": "fake", "gpu": "fake GPU"}, "build": {"commit": "abc", "dirty": False}}
# A suite finds gtest's output file among its arguments, like every fake below that needs it.
FIND_XML = "for word; do case $word in --gtest_output=xml:*) xml=${word#--gtest_output=xml:};; esac; done\n"
SANITIZER = """#!/bin/sh
[ "$1 $3 $4" = "--tool --error-exitcode 86" ] || exit 99
tool=$2
shift 4
echo "========= COMPUTE-SANITIZER"
"$@"
status=$?
%s
exit $status
"""
CLEAN = """if [ $tool = racecheck ]; then
  echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"
else
  echo "========= ERROR SUMMARY: 0 errors"
fi"""


ENTRIES = {  # of gtest's XML
    "passed": '<testcase name="{}" status="run" result="completed" classname="Suite" />',
    "failed": '<testcase name="{}" status="run" result="completed" classname="Suite"><failure message="x"/></testcase>',
    "skipped": '<testcase name="{}" status="run" result="skipped" classname="Suite"><skipped message="x"/></testcase>',
    "disabled": '<testcase name="{}" status="notrun" result="suppressed" classname="Suite" />',
}


def results(**tests):
    """gtest's XML of one suite."""
    entries = "".join(ENTRIES[result].format(name) for name, result in tests.items())
    return f'<testsuites tests="{len(tests)}"><testsuite name="Suite">{entries}</testsuite></testsuites>'


class GpuTests(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "build" / "kernels").mkdir(parents=True)
        (self.folder / "bin").mkdir()
        self.out = self.folder / "records.jsonl"
        only_about = """[ "$*" = "about --device cuda" ] || exit 9"""
        self.program("build/draftbench", f"#!/bin/sh\n{only_about}\necho '{json.dumps(MACHINE)}'\n")
        self.suite("kernels_test")
        self.suite("experiments_gpu_test")
        self.sanitizer(CLEAN)

    def program(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def suite(self, name, xml=results(A="passed", B="passed"), status=0, before=""):
        place = "build/kernels/" if name == "kernels_test" else "build/"
        self.program(place + name, f"#!/bin/sh\n{FIND_XML}{before}\necho '{xml}' >\"$xml\"\nexit {status}\n")

    def sanitizer(self, summary):
        self.program("bin/compute-sanitizer", SANITIZER % summary)

    def call(self, *options, status=0, path=None):
        path = path or f"{self.folder / 'bin'}:{os.environ['PATH']}"
        script = [sys.executable, "-m", "lab.checks.sanitizers"]
        command = [*script, "--build", self.folder / "build", "--out", self.out, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"PATH": path})
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def records(self):
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def only_failure(self, *options):
        """The one record that is not ok, after a run that ends with status 1."""
        done = self.call(*options, status=1)
        failed = [record for record in self.records() if record["status"] != "ok"]
        self.assertEqual(len(failed), 1, failed)
        self.assertEqual(failed[0]["status"], "failed")
        self.assertIn(failed[0]["reason"], done.stdout)
        return failed[0]

    def test_good_suites_are_ok_records(self):
        self.suite("kernels_test", results(A="passed", B="skipped", C="disabled", D="passed"))
        done = self.call()
        first, second = self.records()
        seconds = first["metrics"].pop("seconds")
        self.assertGreater(seconds, 0)
        self.assertEqual(first["metrics"], {"tests": 4, "passed": 2, "failed": 0, "skipped": 2})
        self.assertEqual(first["config"], {"suite": "kernels_test", "tool": "none", "filter": "*", "device": "cuda"})
        self.assertEqual(second["config"]["suite"], "experiments_gpu_test")
        self.assertRegex(first.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual(" ".join(first), "schema experiment run input config metrics status machine build")
        self.assertEqual({key: first[key] for key in MACHINE}, MACHINE)
        lines = done.stdout.splitlines()
        self.assertEqual(len(lines), 3)
        self.assertEqual(len(set(line.index(word) for line, word in zip(lines, ("status", "ok", "ok")))), 1)
        self.call()
        self.assertEqual(self.records()[1], second, "records are appended to")
        self.assertEqual(len(self.records()), 4)

    def test_sanitizers_run_each_suite_with_small_tests(self):
        self.call("--sanitizers")
        found = {(r["config"]["suite"], r["config"]["tool"]): r for r in self.records()}
        self.assertEqual(len(found), 2 * 5)
        for tool in sanitizers.TOOLS:
            record = found["kernels_test", tool]
            self.assertEqual(record["metrics"]["tool_errors"], 0)
            self.assertEqual("tool_warnings" in record["metrics"], tool == "racecheck")
            self.assertEqual(record["config"]["filter"], sanitizers.tool_filter("kernels_test", tool))
        self.assertNotIn("tool_errors", found["kernels_test", "none"]["metrics"])
        self.assertEqual(found["kernels_test", "none"]["config"]["filter"], "*")

    def test_a_given_filter_is_every_runs(self):
        self.suite("kernels_test", before='case "$*" in *--gtest_filter=Pooling.\\**) ;; *) exit 9;; esac')
        self.call("--sanitizers", "--filter", "Pooling.*")
        self.assertEqual({r["config"]["filter"] for r in self.records()}, {"Pooling.*"})

    def package(self, test):
        """A build of the package, and one test file in the place of its own."""
        (self.folder / "build" / "kernels" / "python" / "draftattention").mkdir(parents=True, exist_ok=True)
        (self.folder / "build" / "kernels" / "python" / "draftattention" / "_kernels.abi3.so").touch()
        (self.folder / "tests").mkdir(exist_ok=True)
        (self.folder / "tests" / "gpu_any_test.py").write_text(
            "import unittest\nclass Any(unittest.TestCase):\n"
            "    def test_first(self):\n        pass\n"
            f"    def test_second(self):\n        {test}\n"
        )

    def test_the_packages_tests_are_a_suite(self):
        tests = mock.patch.object(sanitizers, "TESTS", str(self.folder / "tests"))
        tests.start()
        self.addCleanup(tests.stop)

        def measured():
            return sanitizers.measure(str(self.folder / "build"), sanitizers.PACKAGE, "none", "*", 60)

        for test, counts, reasons in (
            ("pass", (2, 2, 0, 0), []),
            ("self.skipTest('no kernel')", (2, 1, 0, 1), []),
            ("self.fail('why it failed')", (2, 1, 1, 0), ["failed: gpu_any_test.Any.test_second"]),
            ("raise unittest.SkipTest('x')", (2, 1, 0, 1), []),
        ):
            self.package(test)
            metrics, found, output = measured()
            self.assertEqual(tuple(metrics[name] for name in ("tests", "passed", "failed", "skipped")), counts, output)
            self.assertEqual([re.sub("[^ ]*(?=gpu_any)", "", one) for one in found], reasons)
        self.package("self.skipTest('no kernel')")
        for name in ("gpu_one_test.py", "gpu_two_test.py"):  # the same names twice, failing beside a skipped one
            (self.folder / "tests" / name).write_text(
                "import unittest\nclass Any(unittest.TestCase):\n"
                "    def test_nan(self):\n        for i in range(3):\n"
                "            with self.subTest(i):\n                self.fail('x')\n"
            )
        metrics, found, output = measured()
        self.assertEqual([metrics[name] for name in ("tests", "passed", "failed", "skipped")], [4, 1, 2, 1], output)
        self.assertRegex(found[0], r"^failed: \S*gpu_one_test.Any.test_nan, \S*gpu_two_test.Any.test_nan$")
        for name in ("gpu_one_test.py", "gpu_two_test.py"):
            (self.folder / "tests" / name).unlink()
        self.package("import os; os.kill(os.getpid(), 11)")
        self.assertEqual(measured()[1], ["no test results, ended by SIGSEGV"])
        (self.folder / "tests" / "gpu_any_test.py").write_text(
            "import unittest\nraise unittest.SkipTest('no PyTorch')\n"
        )
        self.assertEqual(measured()[1], ["every test was skipped"])

    def test_suites_can_be_chosen(self):
        self.assertIn("draftattention is left out", self.call().stderr)
        self.out.unlink()
        self.call("--suites", "experiments_gpu_test")
        self.assertEqual([record["config"]["suite"] for record in self.records()], ["experiments_gpu_test"])
        self.assertIn("no module of draftattention", self.call("--suites", "draftattention", status=2).stderr)
        self.assertIn("found 'fast_test'", self.call("--suites", "fast_test", status=2).stderr)

    def test_failed_tests_are_named(self):
        self.suite("kernels_test", results(A="passed", B="failed", C="failed"), status=1, before="echo why it failed")
        record = self.only_failure()
        self.assertEqual(record["reason"], "failed: Suite.B, Suite.C")
        self.assertEqual(record["metrics"]["failed"], 2)
        self.assertIn("  | why it failed\n", self.call(status=1).stderr)

    def test_a_crash_is_a_failure(self):
        self.suite("kernels_test", before="kill -SEGV $$")
        record = self.only_failure()
        self.assertEqual(record["reason"], "no test results, ended by SIGSEGV")
        self.assertEqual(list(record["metrics"]), ["seconds"])

    def test_results_that_show_nothing_are_a_failure(self):
        for xml, status, reason in (
            (results(A="passed"), 3, "exit status 3"),  # a crash behind the last test
            ("<testsuites><testsuite>", 0, "no test results, exit status 0"),
            ("<testsuites></testsuites>", 0, "no test ran"),
            (results(A="skipped"), 0, "every test was skipped"),
        ):
            self.out.unlink(missing_ok=True)
            self.suite("kernels_test", xml, status)
            self.assertEqual(self.only_failure()["reason"], reason)

    def test_a_hanging_suite_is_ended_with_its_children(self):
        self.suite("kernels_test", before=f"sleep 300 & echo $! >{self.folder}/child; wait")
        self.assertEqual(self.only_failure("--timeout", "0.5")["reason"], "no end within 0.5 s")
        child = pathlib.Path("/proc", (self.folder / "child").read_text().strip(), "stat")
        deadline = time.monotonic() + 10  # a signal takes effect a little later
        while child.exists() and child.read_text().split()[2] != "Z":
            self.assertLess(time.monotonic(), deadline, "the child still runs")
            time.sleep(0.01)

    def test_a_suite_that_is_missing_or_cannot_be_started_is_a_failure(self):
        self.program("build/kernels/kernels_test", "\x7fELF and nothing more")
        self.assertIn("could not be started", self.only_failure()["reason"])
        self.out.unlink()
        (self.folder / "build" / "kernels" / "kernels_test").unlink()
        self.assertIn("no program kernels_test", self.only_failure()["reason"])

    def test_what_a_sanitizer_finds_is_a_failure(self):
        for tool, summary, wanted in (
            ("memcheck", "ERROR SUMMARY: 3 errors", "memcheck found 3 errors"),
            ("initcheck", "ERROR SUMMARY: 1 error", "initcheck found 1 error"),
            ("racecheck", "RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)", "racecheck found 1 error"),
        ):
            self.out.unlink(missing_ok=True)
            case = f'case "$tool $1" in "{tool} "*kernels_test) echo "========= {summary}"; exit 86;; esac\n'
            self.sanitizer(case + CLEAN)
            record = self.only_failure("--sanitizers")
            self.assertEqual(record["config"]["tool"], tool)
            self.assertEqual(record["reason"], wanted)
            self.assertEqual(record["metrics"]["tool_errors"], int(re.search(r"\d", summary)[0]))

    def test_summaries_that_say_nothing_are_failures(self):
        self.sanitizer("echo '========= ERROR SUMMARY: 0 errors'")  # racecheck's is another line
        self.call("--sanitizers", status=1)
        reasons = {r["config"]["tool"]: r.get("reason") for r in self.records()}
        self.assertEqual(reasons.pop("racecheck"), "racecheck printed no summary")
        self.assertEqual(set(reasons.values()), {None})

    def test_the_sanitizers_exit_status_counts_without_a_summary_of_errors(self):
        self.sanitizer(CLEAN + '\ncase "$tool $1" in "synccheck "*kernels_test) exit 86;; esac')
        self.assertEqual(self.only_failure("--sanitizers")["reason"], "exit status 86")

    def test_race_warnings_are_counted_apart(self):
        line = "========= RACECHECK SUMMARY: 2 hazards displayed (0 errors, 2 warnings)"
        self.sanitizer(CLEAN.replace("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)", line))
        self.call("--sanitizers")
        metrics = next(r["metrics"] for r in self.records() if r["config"]["tool"] == "racecheck")
        self.assertEqual((metrics["tool_errors"], metrics["tool_warnings"]), (0, 2))

    def test_a_missing_sanitizer_is_a_failure(self):
        if shutil.which("compute-sanitizer", path="/bin:/usr/local/cuda/bin"):
            self.skipTest("this machine has one where it is always found")
        (self.folder / "bin" / "compute-sanitizer").unlink()
        self.call("--sanitizers", status=1, path=str(self.folder / "bin") + ":/bin")
        failed = [r for r in self.records() if r["status"] == "failed"]
        self.assertEqual(len(failed), 8)
        self.assertEqual({r["reason"] for r in failed}, {"compute-sanitizer was not found"})

    def test_bad_usage_is_one_line_and_status_2(self):
        def refused(says, *options):
            done = self.call(*options, status=2)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(says, done.stderr)
            self.assertEqual(done.stdout, "")

        refused("--timeout", "--timeout", "0")
        refused("Is a directory", "--out", str(self.folder))
        self.assertFalse(self.out.exists())
        self.out.write_text('{"schema": 2}\n{"sch')
        refused("not whole")
        for text, says in (
            ("notes\n", "jsonl:1: wanted one JSON object"),
            ('{"schema": 3}\n', "jsonl:1: schema: wanted 2, found 3"),
            ("[]\n", "jsonl:1: wanted a record"),
        ):
            self.out.write_text(text)
            refused(says)
            self.assertEqual(self.out.read_text(), text, "what is no file of records stays as it is")
        self.out.unlink()
        refused("no regular file", "--out", "/dev/null")
        self.program("build/draftbench", "#!/bin/sh\necho 'draftbench: no GPU: why' >&2\nexit 2\n")
        refused("no GPU: why")
        self.program("build/draftbench", "#!/bin/sh\necho hello\n")
        refused("about --device cuda")
        (self.folder / "build" / "draftbench").unlink()
        refused("no draftbench")
        self.assertFalse(self.out.exists(), "nothing is recorded without provenance")


class LeftOut(unittest.TestCase):
    """The tests that the sanitizers leave out exist, and the heavy ones are among them."""

    @staticmethod
    def names(suite):
        files = sorted((ROOT / ("kernels" if suite == "kernels_test" else "experiments")).rglob("*_test.cpp"))
        found = re.findall(r"^TEST_([FP])\((\w+), (\w+)\)", "".join(f.read_text() for f in files), re.MULTILINE)
        return [f"Kernels/{s}.{t}/mma" if kind == "P" else f"{s}.{t}" for kind, s, t in found]

    def kept(self, suite, tool):
        without = sanitizers.tool_filter(suite, tool).removeprefix("*").removeprefix("-").split(":")
        return [name for name in self.names(suite) if not any(fnmatch.fnmatchcase(name, p) for p in without)]

    def test_every_pattern_matches_a_test(self):
        for suite, _, pattern, _ in sanitizers.LEFT_OUT:
            self.assertTrue(fnmatch.filter(self.names(suite), pattern), pattern)
        self.assertFalse(fnmatch.filter(self.names("kernels_test"), "Selection.IsExactOnAThousandMaps"))

    def test_heavy_tests_are_left_out_and_small_ones_are_not(self):
        for tool in sanitizers.TOOLS:
            kept = " ".join(self.kept("kernels_test", tool))
            for heavy in ("RunsAreBitIdentical", "Beyond2To31", "LargestMap", "AThousandMaps"):
                self.assertNotIn(heavy, kept)
            for small in ("Attending.NaN", "LogitSweeps.TheCheck", "MaskSweeps.Pad", "Selection.ANaN", "Lists.Empty"):
                self.assertIn(small, kept)
            self.assertEqual("OnEveryLayout" in kept, tool == "memcheck")
            self.assertGreaterEqual(len(self.kept("experiments_gpu_test", tool)), 8)
