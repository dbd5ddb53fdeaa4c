"""Reads files of records, JSON Lines or, named .gz, such compressed by gzip, line by line. Standard library only.

Everything that is no record is told apart: what two readers of JSON might take differently (a key twice, a number that no
double holds, nesting without end, bytes that are no UTF-8), and what record_format.problem finds in the object.
"""

import gzip
import json
import os
import pathlib
import re
import stat
import zlib

from lab.shared.record_format import LARGEST, is_number, name_of, problem, shown

MOST_LEVELS = 32  # of nesting
MOST_MEMBERS = 10_000  # of one object
MOST_BYTES = 2**28  # of a line
INCOMPLETE = "an incomplete last line"  # the beginning of a record, as a stopped run leaves it

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_STRING = rb'"(?:[^"\\]|\\.)*"'
_MARKS = re.compile(_STRING + rb'|[\[\]{}"]', re.DOTALL)  # a quotation mark by itself opens a string that never ends
_LEVELS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


def files_in(folder):
    """{name below the folder: path} of its files of records, folders in it too, sorted; not those of runs that are not
    over."""
    folder = pathlib.Path(folder)
    found = [path for path in (*folder.rglob("*.jsonl"), *folder.rglob("*.jsonl.gz")) if ".partial." not in path.name]
    return dict(sorted((path.relative_to(folder).as_posix(), path) for path in found))


class Malformed(ValueError):
    """A file that holds something else than records: one line, with the file, the line and the field."""


def _has_odd_number(record):
    """Whether some number, wherever it stands, is none that a double holds. Every record of every file is asked."""
    stack = [record]
    while stack:
        value = stack.pop()
        for each in value.values() if type(value) is dict else value:
            kind = type(each)
            if kind is float or kind is int:
                if not -LARGEST <= each <= LARGEST and not is_number(each):
                    return True
            elif kind is dict or kind is list:
                stack.append(each)
    return False


def _odd_number(record):
    """The first such number, as a problem."""
    stack = [("", record)]
    while stack:
        where, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{where}.{name_of(key)}" if where else name_of(key), each) for key, each in value.items()]
        elif isinstance(value, list):
            stack += [(f"{where}[{place}]", each) for place, each in enumerate(value)]
        elif type(value) in (int, float) and not is_number(value):
            return f"{where}: wanted a finite number, found {shown(value)}"
    raise ValueError("no such number")


def _too_deep(line):
    """The field of the record in which brackets stand within more than MOST_LEVELS others, or None. Those inside strings
    are not counted."""
    level, field = 0, b'""'
    for mark in _MARKS.finditer(line):
        text = mark.group()
        level += _LEVELS.get(text, 0)
        if level > MOST_LEVELS:
            return field[1:-1].decode("utf-8", "replace")
        if level == 1 and text not in _LEVELS:
            field = text
    return None


def _unique(pairs):
    if len(pairs) > MOST_MEMBERS:
        raise Malformed(f"{name_of(pairs[MOST_MEMBERS][0])}: wanted at most {MOST_MEMBERS} members, found more")
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Malformed(f"{name_of(twice)}: wanted one value, found {names.count(twice)}")
    return found


_decode = json.JSONDecoder(object_pairs_hook=_unique).decode


def parse(line):
    """(record, None), or (None, what is wrong) of one line of bytes."""
    if len(line.removesuffix(b"\n")) > MOST_BYTES:
        return None, f"wanted at most {MOST_BYTES} bytes, found more"
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return None, f"wanted UTF-8, found byte 0x{line[error.start]:02x} in column {error.start + 1}"
    if line.count(b"[") + line.count(b"{") > MOST_LEVELS and (field := _too_deep(line)) is not None:
        return None, f"{name_of(field)}: wanted at most {MOST_LEVELS} levels of nesting, found more"
    try:
        record = _decode(text)
    except json.JSONDecodeError as error:
        return None, f"wanted one JSON object, found none: {error.msg}, column {error.pos + 1}"
    except Malformed as error:
        return None, str(error)
    except ValueError:  # what Python says of a whole number of too many digits
        return None, "wanted numbers of at most 4300 digits, found a longer one"
    if _SURROGATE.search(line):
        try:
            json.dumps(record, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            return None, f"wanted Unicode text, found the lone surrogate {shown(error.object[error.start])}"
    found = problem(record) or (_odd_number(record) if _has_odd_number(record) else None)
    return (None, found) if found else (record, None)


def _is_cut(line):
    """Whether the line begins like a record and ends before its object does."""
    if not re.match(rb'\s*\{\s*("|$)', line) or _too_deep(line) is not None:
        return False
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":  # a last letter may be cut in two
            return False
    level = 0
    for mark in _MARKS.finditer(line):
        if mark.group() == b'"':
            return True
        level += _LEVELS.get(mark.group(), 0)
    return level > 0


def is_compressed(path):
    return os.fspath(path).endswith(".gz")


def _lines_of(stream, path):
    try:
        yield from stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Malformed(f"{path}: wanted what gzip made, found damage: {error}") from None


def read(path):
    """Yields (line number, record, None) or (line number, None, problem) for every line. A last line
    that is the beginning of a record has the problem INCOMPLETE. Raises Malformed where the path is no regular file, or
    what gzip made is damaged or cut off, OSError where it cannot be read."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        found = "a folder" if os.path.isdir(path) else "no regular file"
        raise Malformed(f"{path}: wanted a file of records, found {found}")
    with gzip.open(path) if is_compressed(path) else open(path, "rb") as stream:
        for number, line in enumerate(_lines_of(stream, path), 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            record, found = parse(line)
            if found and not line.endswith(b"\n") and _is_cut(line):
                found = INCOMPLETE
            yield number, record, found


def read_all(path):
    """Every record of a file, for a run that goes on with it; none where there is no file. Raises Malformed, with the
    file and the line, if it holds anything else, a line that is not whole included."""
    if not os.path.lexists(path):
        return []
    records = []
    for number, record, found in read(path):
        if found:
            raise Malformed(f"{path}:{number}: {found}")
        records.append(record)
    return records
