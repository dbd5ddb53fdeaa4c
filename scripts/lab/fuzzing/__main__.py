"""The command line of the fuzzers: `python3 -m lab.fuzzing SUBJECT ...`. Exit status 1 if the program did anything but
accept or refuse in one line."""

import argparse
import importlib
import json
import os
import shlex
import sys
import time

from lab.fuzzing.runner import Fuzz, Limits, summary

SUBJECTS = ("dumps", "records")


def parse(arguments):
    parser = argparse.ArgumentParser(prog="lab.fuzzing", description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--count", type=int, default=2000, help="how many cases")
    parser.add_argument("--seed", type=int, default=1, help="what the cases depend on, beside their index")
    parser.add_argument("--draftbench", required=True, metavar="PATH", help="the program")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="how many at once")
    parser.add_argument("--seconds", type=float, default=Limits.seconds, help="a case that takes longer is a violation")
    parser.add_argument("--megabytes", type=float, default=Limits.bytes / 1e6, help="memory, likewise")
    parser.add_argument("--out", metavar="FILE", help="append the summary, one JSON line, to this file")
    parser.add_argument("--only", type=int, metavar="INDEX", help="just this case, and show what the program did")
    parser.add_argument("--keep", metavar="FOLDER", help="with --only: where its files are left")
    options = parser.parse_args(arguments)
    if options.count < 1 or options.jobs < 1:
        parser.error("--count and --jobs: wanted at least 1")
    if options.keep and options.only is None:
        parser.error("--keep wants --only INDEX")
    if not os.access(options.draftbench, os.X_OK):
        parser.error(f"--draftbench: no such program: {options.draftbench}")
    return options


def show_one(fuzz, index, keep):
    """Makes one case again, in a folder that stays."""
    folder = os.path.abspath(keep or f"case-{index}")
    seeds = os.path.join(folder, "seeds")
    os.makedirs(seeds, exist_ok=True)
    fuzz.subject.prepare(seeds, fuzz.program)
    case, outcomes = fuzz.one(index, folder)
    print(f"{folder}: {case.recipe}")
    for command, outcome in zip(case.commands, outcomes):
        arguments = command["arguments"] if isinstance(command, dict) else command
        print(
            f"{shlex.join(arguments)}: {outcome.kind} {outcome.reason} ({outcome.seconds:.2f} s, {outcome.bytes / 1e6:.0f} MB)"
        )
    return int(any(outcome.kind == "violation" for outcome in outcomes))


def main(arguments):
    options = parse(arguments)
    subject = importlib.import_module(f"lab.fuzzing.{options.subject}").subject()
    fuzz = Fuzz(subject, options.seed, options.draftbench, Limits(options.seconds, int(options.megabytes * 1e6)))
    if options.only is not None:
        return show_one(fuzz, options.only, options.keep)
    started = time.monotonic()
    results = list(fuzz.many(range(options.count), options.jobs))
    record = summary(fuzz, results, time.monotonic() - started)
    line = json.dumps(record)
    if options.out:
        with open(options.out, "a") as file:
            file.write(line + "\n")
    print(line)
    for violation in record["violations"][:20]:
        print(f"case {violation['index']}: {violation['reason']}: {violation['recipe']}", file=sys.stderr)
    return int(record["status"] != "ok")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
