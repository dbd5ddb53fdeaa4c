"""Runs the GPU tests of a build folder and appends one record a run to a JSON Lines file. Standard library only.

Exit status 0: every run is fine; 1: a test failed, a sanitizer found an error, or a run gave no result; 2: bad usage,
no GPU, or a file that cannot be written, one line on stderr. Without a GPU nothing is recorded. What a run that is not
fine printed goes to stderr.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from xml.etree import ElementTree

from lab.shared.files import ROOT
from lab.shared.one_line_parser import OneLineParser, Refused
from lab.shared.records import make_record, open_records

SUITES = ("kernels_test", "experiments_gpu_test")
PACKAGE = "draftattention"  # the Python package's GPU tests, a suite as well; without sanitizers
TESTS = os.path.join(ROOT, "kernels", "python", "tests")
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
ALL_BUT_MEMCHECK = tuple(tool for tool in TOOLS if tool != "memcheck")
TOOL_ERROR_STATUS = 86  # what a sanitizer exits with if it found something; no test program does

# What the sanitizers do not run, because they slow kernels down by one to three orders of magnitude. All else is small:
# a few heads of at most some thousand tokens. (suite, tools, pattern of gtest, reason)
LEFT_OUT = (
    ("kernels_test", TOOLS, "*.RunsAreBitIdentical*", "10 to 1,000 repeats of a call that other tests make once"),
    ("kernels_test", TOOLS, "*.TensorsBeyond2To31Elements*", "16 GiB of tensors; the tools keep notes on each byte"),
    ("kernels_test", TOOLS, "Selection.IsExactOnTheLargestMap", "maps of 3,960 regions"),
    ("kernels_test", TOOLS, "Selection.IsTheReferencesBitForBitOnAThousandMaps", "thousands of selections"),
    ("kernels_test", TOOLS, "DraftMaps.SoftmaxIsTheReferencesRowByRow", "maps of up to 4,100 regions"),
    ("kernels_test", TOOLS, "Lists.SayWhatTheMaskSaysAndRowsStandLongestFirst", "600 selections, up to 990 regions"),
    ("kernels_test", ALL_BUT_MEMCHECK, "*OnEveryLayout*", "all shapes; bounds, which shapes decide, are memcheck's"),
    ("kernels_test", ALL_BUT_MEMCHECK, "LogitSweeps.DeviationsAreTheReferences", "all shapes, likewise"),
    (
        "experiments_gpu_test",
        ("initcheck",),
        "Verifying.OneWrongBlockIndexIsFound",
        "the mistake that it plants copies whole lists, and what stands behind a list's end is never written",
    ),
)


def tool_filter(suite, tool):
    """gtest's filter of a suite under a sanitizer."""
    patterns = [pattern for of, tools, pattern, _ in LEFT_OUT if of == suite and tool in tools]
    return "*-" + ":".join(patterns) if patterns else "*"


def find_program(build, name):
    """Path of a program of the build folder, or None."""
    places = [os.path.join(build, folder, name) for folder in ("", "kernels")]
    return next((os.path.abspath(place) for place in places if os.access(place, os.X_OK)), None)


def about(build):
    """{"machine", "build"} as the records of this build have them."""
    program = find_program(build, "draftbench")
    if program is None:
        raise Refused(f"{build}: no draftbench in it")
    try:
        done = subprocess.run([program, "about", "--device", "cuda"], capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise Refused(done.stderr.strip() or f"{program} about --device cuda: {exit_words(done.returncode)}")
        found = json.loads(done.stdout)
        return {"machine": found["machine"], "build": found["build"]}
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
        raise Refused(f"{program} about --device cuda: {error!r}") from error


def package_folder(build):
    """What belongs on PYTHONPATH of a build folder with the package's module, or None."""
    folder = os.path.join(os.path.abspath(build), "kernels", "python")
    package = os.path.join(folder, PACKAGE)
    return folder if os.path.isdir(package) and any(name.endswith(".so") for name in os.listdir(package)) else None


def run(command, timeout, **more):
    """(exit status or None after a timeout, output, seconds); more: of the environment. Ends the command's children
    too."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GTEST_")} | more
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        running = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        try:
            status = running.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            try:
                os.killpg(running.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            running.wait()
        seconds = time.monotonic() - start
        output.seek(0)
        return status, output.read().decode(errors="replace"), seconds


def read_results(path):
    """[(test, "passed", "failed" or "skipped")] of the JUnit file that gtest and pytest write; None if it is not there or
    not whole."""
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return None
    results = []
    for case in cases:
        said = {part.tag for part in case} | {case.get("result"), case.get("status")}
        result = "failed" if said & {"failure", "error"} else "skipped" if said & {"skipped", "notrun"} else "passed"
        results.append((f"{case.get('classname')}.{case.get('name')}", result))
    return results


def read_summary(tool, output):
    """(errors, warnings) that the sanitizer counts, summed over its summaries; None if there is none."""
    word = (
        r"RACECHECK SUMMARY: \d+ hazards? displayed \((\d+) errors?, (\d+) warnings?\)"
        if tool == "racecheck"
        else r"ERROR SUMMARY: (\d+) errors?()"
    )
    found = re.findall(r"^=+ " + word, output, re.MULTILINE)
    return tuple(sum(int(count[i] or 0) for count in found) for i in (0, 1)) if found else None


def exit_words(status):
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def command_of(build, suite, tool, chosen, python):
    """(words that run a suite under one tool or "none", its option that wants a path of results after it, what the
    environment gets). Raises FileNotFoundError where a program is missing."""
    if suite == PACKAGE:
        path = os.pathsep.join(filter(None, (package_folder(build), os.environ.get("PYTHONPATH"))))
        more = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        return [python, "-m", "pytest", "-o", "python_files=gpu*_test.py", TESTS], "--junit-xml=", more
    program = find_program(build, suite)
    if program is None:
        raise FileNotFoundError(f"no program {suite} in {build}")
    command = []
    if tool != "none":
        sanitizer = shutil.which("compute-sanitizer", path=os.environ.get("PATH", "") + ":/usr/local/cuda/bin")
        if sanitizer is None:
            raise FileNotFoundError("compute-sanitizer was not found")
        command = [sanitizer, "--tool", tool, "--error-exitcode", str(TOOL_ERROR_STATUS)]
    return [*command, program, f"--gtest_filter={chosen}"], "--gtest_output=xml:", {}


def measure(build, suite, tool, chosen, timeout, python=sys.executable):
    """(metrics, reasons why the run is not fine, its output) of one suite under one tool or "none"."""
    try:
        command, option, more = command_of(build, suite, tool, chosen, python)
    except FileNotFoundError as error:
        return {}, [str(error)], ""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "results.xml")
        try:
            status, output, seconds = run([*command, option + path], timeout, **more)
        except OSError as error:
            return {}, [f"{command[0]} could not be started: {error}"], ""
        results = read_results(path)
    metrics, reasons = {}, []
    if status is None:
        reasons.append(f"no end within {timeout:g} s")
    if results is not None:
        metrics["tests"] = len(results)
        for result in ("passed", "failed", "skipped"):
            metrics[result] = sum(found == result for _, found in results)
        if metrics["failed"]:
            reasons.append("failed: " + ", ".join(test for test, found in results if found == "failed"))
        elif not metrics["passed"]:
            reasons.append("no test ran" if not results else "every test was skipped")
    elif status is not None:
        reasons.append(f"no test results, {exit_words(status)}")
    metrics["seconds"] = round(seconds, 3)
    if tool != "none":
        summary = read_summary(tool, output)
        if summary is not None:
            metrics["tool_errors"] = summary[0]
            if tool == "racecheck":
                metrics["tool_warnings"] = summary[1]
            if summary[0]:
                reasons.append(f"{tool} found {summary[0]} error" + ("s" if summary[0] > 1 else ""))
        elif status is not None:
            reasons.append(f"{tool} printed no summary")
    if status not in (0, None) and not reasons:
        reasons.append(exit_words(status))
    return metrics, reasons, output


def print_table(records):
    columns = ("tests", "passed", "failed", "skipped", "tool_errors", "tool_warnings", "seconds")
    rows = [("suite", "tool", *(name.replace("tool_", "") for name in columns), "status")]
    for record in records:
        metrics = [record["metrics"].get(name, "-") for name in columns]
        verdict = record["status"] + (": " + record["reason"] if "reason" in record else "")
        rows.append((record["config"]["suite"], record["config"]["tool"], *map(str, metrics), verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        print("  ".join([*cells, row[-1]]))


def parse(arguments):
    parser = OneLineParser(
        "lab.checks.sanitizers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  PYTHONPATH=scripts python3 -m lab.checks.sanitizers --build build/release --out results/gpu_tests.jsonl --sanitizers",
    )
    parser.add_argument("--build", required=True, metavar="DIR", help="build folder with draftbench and the tests")
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON Lines file to append the records to")
    parser.add_argument(
        "--suites",
        type=lambda text: text.split(","),
        metavar="LIST",
        help=f"some of {','.join((*SUITES, PACKAGE))} (default: all; {PACKAGE} where it was built)",
    )
    parser.add_argument(
        "--python", default=sys.executable, metavar="P", help=f"with PyTorch, for {PACKAGE} (default: this)"
    )
    parser.add_argument("--sanitizers", action="store_true", help=f"then run each suite under {', '.join(TOOLS)} too")
    parser.add_argument("--filter", metavar="F", help="gtest's filter of all runs (sanitizers' default: small tests)")
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="seconds for each run (default 600)")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    try:
        if not options.timeout > 0:
            raise Refused(f"--timeout: wanted seconds above 0, found {options.timeout:g}")
        if wrong := [suite for suite in options.suites or () if suite not in (*SUITES, PACKAGE)]:
            raise Refused(f"--suites: wanted some of {', '.join((*SUITES, PACKAGE))}, found {wrong[0]!r}")
        built = package_folder(options.build) is not None
        if not built and PACKAGE in (options.suites or ()):
            raise Refused(f"{options.build}: no module of {PACKAGE} in it")
        provenance = about(options.build)
        file = open_records(options.out)
    except Refused as refusal:
        print(f"sanitizers: {refusal}", file=sys.stderr)
        return 2
    if not built and options.suites is None:
        print(f"sanitizers: {PACKAGE} is left out: {options.build} has no module of it", file=sys.stderr)
    records = []
    with file:
        for tool in ("none", *TOOLS) if options.sanitizers else ("none",):
            for suite in options.suites or (*SUITES, *([PACKAGE] if built else [])):
                if suite == PACKAGE and tool != "none":
                    continue
                chosen = options.filter or (tool_filter(suite, tool) if tool != "none" else "*")
                if suite == PACKAGE:
                    chosen = "*"
                print(f"sanitizers: {suite}" + ("" if tool == "none" else f" under {tool}"), file=sys.stderr)
                metrics, reasons, output = measure(options.build, suite, tool, chosen, options.timeout, options.python)
                config = {"suite": suite, "tool": tool, "filter": chosen, "device": "cuda"}
                status = "failed" if reasons else "ok"
                where = provenance["machine"], provenance["build"]
                record = make_record("gpu_tests", {}, config, metrics, *where, status, "; ".join(reasons))
                if reasons:
                    print("".join(f"  | {line}\n" for line in output.splitlines()), end="", file=sys.stderr)
                file.write(json.dumps(record).encode() + b"\n")
                file.flush()
                records.append(record)
    print_table(records)
    return 1 if any(record["status"] != "ok" for record in records) else 0


if __name__ == "__main__":
    sys.exit(main())
