"""The files of the data set. Text of records that a spreadsheet would take for a formula has an apostrophe before it in
CSV; Parquet has it as it is."""

import csv
import json

from lab.shared.one_line_parser import Refused

from .flat import DICTIONARY

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _in_csv(value):
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else repr(value)  # all digits of a number


def _write(path, head, rows):
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def write_csv(rows, fields, path):
    """One row a record; columns in the order of the dictionary."""
    names = [field[0] for field in fields]
    _write(path, names, ([_in_csv(row.get(name)) for name in names] for row in rows))


def write_dictionary(fields, path):
    _write(path, DICTIONARY, fields)


def need_pyarrow():
    """The module. Raises Refused where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise Refused(f"--parquet: wanted the package pyarrow (pip: pyarrow), found none: {error}") from None
    return pyarrow


def write_parquet(rows, fields, path):
    """Lists of numbers, of texts and of rows are lists; a list of anything else is JSON, as is a value of several types."""
    pyarrow = need_pyarrow()
    columns, schema = [], []
    for name, kind, unit, better, _, meaning in fields:
        values = [row.get(name) for row in rows]
        array = _array(pyarrow, values, kind)
        about = {"unit": unit, "better": better, "meaning": meaning}
        schema.append(pyarrow.field(name, array.type, metadata={key: text for key, text in about.items() if text}))
        columns.append(array)
    table = pyarrow.Table.from_arrays(columns, schema=pyarrow.schema(schema))
    pyarrow.parquet.write_table(table, path, compression="zstd")


def _array(pyarrow, values, kind):
    types = {"boolean": pyarrow.bool_(), "integer": pyarrow.int64(), "number": pyarrow.float64()}
    if kind in types:
        try:
            return pyarrow.array(
                [float(each) if kind == "number" and each is not None else each for each in values], types[kind]
            )
        except OverflowError:  # whole numbers of 64 bits without a sign
            return pyarrow.array(values, pyarrow.uint64())
    if kind == "list":
        number, text = pyarrow.float64(), pyarrow.string()
        for item in (number, text, pyarrow.list_(number)):
            try:
                return pyarrow.array(values, pyarrow.list_(item))
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, TypeError):
                continue
    texts = [
        value if isinstance(value, str) or value is None else json.dumps(value, ensure_ascii=False) for value in values
    ]
    return pyarrow.array(texts, pyarrow.string())
