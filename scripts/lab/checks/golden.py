"""What a change that is no change of behaviour must leave equal: the program's help, the records of a shipped dump, and
the report that is made of the shipped records.

`--write` replaces the help that is kept, golden_help.txt; `--report` makes results/ anew from the shipped records, and
scripts/reproduce.sh the records themselves. A number that moves on purpose has a line in results/CHANGES.md.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys

from lab.shared.files import OF_REPORT, ROOT
from lab.shared.record_file import read_all
from lab.shared.record_format import identity

HELP = ROOT / "scripts" / "lab" / "checks" / "golden_help.txt"
RESULTS = ROOT / "results"
RELATIVE = 1e-12  # of numbers in texts: what is left of another order of summation
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
MAKE_AGAIN = "if it is meant: PYTHONPATH=scripts python3 -m lab.checks.golden --report"


def help_text(program):
    """`draftbench --help` and that of every subcommand, one after the other."""

    def of(*arguments):
        return subprocess.run([program, *arguments, "--help"], capture_output=True, text=True, check=True).stdout

    whole = of()
    names = re.findall(r"^  (\w+) {2,}", whole.partition("Subcommands:")[2], re.MULTILINE)
    return "".join(
        f"$ draftbench {' '.join([*name, '--help'])}\n{of(*name)}" for name in ([], *([one] for one in names))
    )


def difference(wanted, found):
    """The first line in which two texts differ by more than rounding, as a message; None if there is none."""
    pairs = list(zip(wanted.splitlines(), found.splitlines()))
    for number, (old, new) in enumerate(pairs, 1):
        if old != new and not _are_close(old, new):
            return f"line {number}: wanted {old[:200]!r}, found {new[:200]!r}"
    lines = len(wanted.splitlines()), len(found.splitlines())
    return None if lines[0] == lines[1] else f"wanted {lines[0]} lines, found {lines[1]}"


def _are_close(old, new):
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return False
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new))
    return all(math.isclose(float(a), float(b), rel_tol=RELATIVE, abs_tol=0.0) for a, b in pairs)


def report(folder):
    """Makes the report of the shipped records in `folder`."""
    records = [path for name in OF_REPORT if (path := RESULTS / name).exists()]
    program = [sys.executable, "-m", "lab.report"]
    where = ["--out", folder, "--site", os.path.join(folder, "site")]
    subprocess.run([*program, *records, *where], check=True, capture_output=True, cwd=ROOT / "scripts")


def shipped_cells(dump):
    """The shipped records of a dump, as lines; the newest of a cell."""
    newest = {}
    for record in read_all(RESULTS / "records.jsonl"):
        if record["input"].get("dump") == dump:
            newest[identity(record)] = record
    return [json.dumps(record) + "\n" for record in newest.values()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep the help as it is now; wants --draftbench")
    parser.add_argument("--draftbench", metavar="PATH", help="the program, such as build/release/draftbench")
    parser.add_argument("--report", action="store_true", help="make results/ anew from the shipped records")
    options = parser.parse_args()
    if not options.write and not options.report:
        parser.error("wanted --write or --report, found neither")
    if options.write and not (options.draftbench and os.access(options.draftbench, os.X_OK)):
        parser.error(f"--draftbench: wanted the program, found {options.draftbench}")
    if options.write:
        HELP.write_text(help_text(os.path.abspath(options.draftbench)))
    if options.report:
        report(RESULTS)


if __name__ == "__main__":
    main()
