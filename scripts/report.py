#!/usr/bin/env python3
"""Makes the report, its tables and its plots from records alone. Needs Python 3.9, numpy, scipy and
matplotlib, or newer.

The records are the JSON Lines that draftbench writes with --out; the paper's numbers come from data/paper. The newest
record of a cell wins. The same records give the same bytes.
"""

import argparse
import os
import sys
from collections import Counter

PAPER_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "data", "paper")


def parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "example:\n  scripts/report.py results/records.jsonl results/gpu/latency.jsonl results/gpu/overhead.jsonl"
            " results/gpu/peers.jsonl results/video/videos.jsonl --out results/\n"
            "writes results/report.md, results/tables/*.csv, results/plots/*.png and *.svg"
        ),
    )
    parser.add_argument(
        "records", nargs="+", metavar="RECORDS.jsonl", help="files of records; the newer record of a cell wins"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to; made if it is not there")
    parser.add_argument(
        "--paper", default=PAPER_FOLDER, metavar="DIR", help="folder of the paper's tables (default: data/paper)"
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
    try:
        from reporting import document
        from reporting import records as record_files
        from reporting.finding import VERDICTS
        from reporting.paper import Paper
    except ImportError as error:
        print(
            f"report: needs numpy, scipy and matplotlib (Debian: python3-numpy, python3-scipy, python3-matplotlib): {error}", file=sys.stderr
        )
        return 2
    try:
        records = record_files.load(options.records)
        paper = Paper(options.paper)
    except OSError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    sections = document.write(records, paper, options.out)
    verdicts = Counter(section.verdict for section in sections)
    print(
        f"{len(records.cells)} records -> {os.path.join(options.out, 'report.md')}: "
        + ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS)
    )
    for cell in records.failed:
        print(f"report: FAILED record: {cell.describe()}: {cell.reason or 'no reason given'}", file=sys.stderr)
    for text in records.broken:
        print(f"report: unreadable line: {text}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
