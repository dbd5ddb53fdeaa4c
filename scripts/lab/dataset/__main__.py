"""Writes records as one data set: records.csv, a row a record, and fields.csv, what each of its columns means: type, unit,
which direction is better, how many records have it. With --parquet also records.parquet (needs pyarrow), whose lists are
lists and whose fields carry their meaning.

A field is the path to a value in a record, such as config.sparsity; in CSV a list is JSON. Every record of every file is
there: older ones of a cell, failed and skipped ones too (column status).

Exit status 0: fine; 2: nothing was written: one line on stderr.
"""

import argparse
import os
import sys
import tempfile

from lab.shared import record_file
from lab.shared.one_line_parser import OneLineParser, Refused, writes_stdout

from . import flat, tables


def parse(arguments):
    parser = OneLineParser(
        prog="lab.dataset",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python3 -m lab.dataset --results results --out build/dataset --parquet",
    )
    parser.add_argument(
        "--results", required=True, metavar="DIR", help="folder whose files of records are taken, folders in it too"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to; made if it is not there")
    parser.add_argument("--parquet", action="store_true", help="records.parquet as well")
    return parser.parse_args(arguments)


def rows_of(results):
    """Every record as a flat row, with its file and line. Raises Malformed where a line is none, Refused without a file,
    OSError."""
    files = record_file.files_in(results)
    if not files:
        raise Refused(f"{results}: wanted files of records, *.jsonl or *.jsonl.gz, found none")
    return [
        {"file": name, "line": line, **flat.flat(record)}
        for name, path in files.items()
        for line, record in enumerate(record_file.read_all(path), 1)
    ]


@writes_stdout("dataset")
def main(arguments=None):
    options = parse(arguments)
    try:
        if options.parquet:
            tables.need_pyarrow()
        rows = rows_of(options.results)
        fields = flat.dictionary(rows)
        os.makedirs(options.out, exist_ok=True)
        # Made beside its place and moved there whole: what breaks off leaves earlier files as they were.
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=options.out) as folder:
            tables.write_csv(rows, fields, os.path.join(folder, "records.csv"))
            tables.write_dictionary(fields, os.path.join(folder, "fields.csv"))
            if options.parquet:
                tables.write_parquet(rows, fields, os.path.join(folder, "records.parquet"))
            for name in sorted(os.listdir(folder)):
                os.replace(os.path.join(folder, name), os.path.join(options.out, name))
    except (OSError, record_file.Malformed, Refused) as error:
        print(f"dataset: {error}", file=sys.stderr)
        return 2
    print(f"{len(rows)} records of {len(flat.experiments(rows))} experiments, {len(fields)} fields -> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
