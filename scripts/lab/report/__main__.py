"""Makes the report, its tables and its plots from records alone. Needs Python 3.10, numpy, scipy, matplotlib, pandas
1.5 and jinja2, or newer.

The records are the JSON Lines that draftbench writes with --out; the paper's numbers come from data/paper. The newest
record of a cell wins. The same records give the same bytes.

Exit status 0: fine; 1: the report is written, but a record failed or a last line is not whole; 2: nothing was written,
because a line is no record, because there is none, or for bad usage: one line on stderr.
"""

import argparse
import gc
import logging
import os
import sys
import warnings
from collections import Counter

from lab.shared.files import ROOT
from lab.shared.one_line_parser import OneLineParser, writes_stdout

PAPER_FOLDER = ROOT / "data" / "paper"


def parse(arguments):
    parser = OneLineParser(
        prog="lab.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "example:\n  python3 -m lab.report results/records.jsonl results/gpu/latency.jsonl results/gpu/overhead.jsonl"
            " results/gpu/peers.jsonl results/video/videos.jsonl --out results/ --site results/site\n"
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
    parser.add_argument(
        "--site",
        metavar="DIR",
        help="folder where lab.site writes: the report links what is longer there (default: no links)",
    )
    return parser.parse_args(arguments)


@writes_stdout("report")
def main(arguments=None):
    options = parse(arguments)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home that cannot be written
    try:
        from lab.report import frame, page
        from lab.report.finding import VERDICTS
        from lab.report.foreign import plain
        from lab.report.paper import Paper
        from lab.shared.record_file import Malformed
    except ImportError as error:
        print(
            "report: needs numpy, scipy, matplotlib, pandas and jinja2 (Debian: python3-numpy, python3-scipy,"
            f" python3-matplotlib, python3-pandas, python3-jinja2): {error}",
            file=sys.stderr,
        )
        return 2
    gc.disable()  # nothing of a record is garbage, and looking for it takes a third of the time
    try:
        records = frame.load(options.records)
        paper = Paper(options.paper)
    except (OSError, Malformed) as error:
        return refuse(error)
    gc.freeze()
    gc.enable()
    if records.broken:
        more = f" (and {len(records.broken) - 1} more such lines)" if len(records.broken) > 1 else ""
        return refuse(plain(records.broken[0]) + more)
    if records.frame.empty:
        return refuse(f"nothing to report: no record in {', '.join(options.records)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries about odd numbers: what is wrong with a record is said by us
            sections = page.write(records, paper, options.out, options.site)
    except (OSError, page.Foreign) as error:
        return refuse(error)
    verdicts = Counter(section.verdict for section in sections)
    print(
        f"{len(records.of())} records -> {os.path.join(options.out, 'report.md')}: "
        + ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS)
    )
    if problems := problems_of(records):
        print(f"report: {problems}", file=sys.stderr)
        return 1
    return 0


def refuse(error, program="report"):
    """One line on stderr, and the exit status of a refused input."""
    from lab.report.foreign import inert, plain

    print(f"{program}: {plain(inert(str(error)))}", file=sys.stderr)
    return 2


def problems_of(records):
    """One line on the failed records and the lines that are not whole: the first of each; the report has all. "" without."""
    from lab.report.foreign import plain
    from lab.report.frame import describe, rows

    parts = []
    failed = list(rows(records.of(status="failed")))
    if failed:
        count = f"FAILED records: {len(failed)}, the first: " if len(failed) > 1 else "FAILED record: "
        parts.append(f"{count}{failed[0].source}: {describe(failed[0])}: {failed[0].reason or 'no reason given'}")
    if records.incomplete:
        parts.append(f"unreadable: {'; '.join(records.incomplete)}")
    return plain("; ".join(parts))


if __name__ == "__main__":
    sys.exit(main())
