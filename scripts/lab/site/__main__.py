"""Makes the site of a folder of results: pages that a browser opens from disk, without a server and without anything from
elsewhere. Needs what the report needs, markdown-it-py, Pillow and the library D3.

The folder has files of records, and plots that lab.report made of them. Verdicts, boards, heads, times and videos are made
of the records; every number links to its record.

Exit status 0: fine (runs of tests that failed are said on the first page); 1: the site is written, but a record failed, a last line is not whole or the site is larger than 15 MB;
2: nothing was written: one line on stderr.
"""

import argparse
import gc
import logging
import os
import sys
import warnings

from lab.shared.files import ROOT
from lab.shared.one_line_parser import OneLineParser, writes_stdout

MOST_BYTES = 15e6


def parse(arguments):
    parser = OneLineParser(
        prog="lab.site",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python3 -m lab.site --results results --out results/site\nwrites results/site/index.html, to be opened",
    )
    parser.add_argument(
        "--results", required=True, metavar="DIR", help="folder of records and of the report made of them"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to: a site there is replaced")
    parser.add_argument(
        "--paper", default=ROOT / "data" / "paper", metavar="DIR", help="the paper's tables (default: data/paper)"
    )
    parser.add_argument(
        "--d3", metavar="FILE", help="d3.min.js (default: npm's in node_modules/, else Debian's node-d3)"
    )
    return parser.parse_args(arguments)


@writes_stdout("site")
def main(arguments=None):
    options = parse(arguments)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home that cannot be written
    try:
        from lab.report.__main__ import refuse
        from lab.report.paper import Paper
        from lab.shared.record_file import Malformed
        from lab.site import pages, sources
    except ImportError as error:
        print(
            "site: needs numpy, scipy, matplotlib, pandas, jinja2, markdown-it-py and Pillow (Debian: python3-numpy,"
            f" python3-scipy, python3-matplotlib, python3-pandas, python3-jinja2, python3-markdown-it): {error}",
            file=sys.stderr,
        )
        return 2
    gc.disable()  # nothing of a record is garbage, and looking for it takes a third of the time
    try:
        d3 = pages.find_d3(options.d3)
        pages.require_own(pages.Path(options.out))
        found = sources.load(options.results)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries about odd numbers
            size, problems = pages.write(found, Paper(options.paper), options.results, options.out, d3)
    except (OSError, Malformed, pages.Unfit) as error:
        return refuse(error, "site")
    index = os.path.join(options.out, "index.html")
    print(f"{len(found.every.frame)} records -> {index}: {size / 1e6:.1f} MB; open it in a browser")
    for text, _ in problems:
        print(f"site: {text}", file=sys.stderr)
    if size > MOST_BYTES:
        print(f"site: wanted at most {MOST_BYTES / 1e6:g} MB, found {size / 1e6:.1f}", file=sys.stderr)
        return 1
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
