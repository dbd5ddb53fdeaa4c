"""A report made in this process, its pictures drawn but not written: report_test.py's Report looks at the files."""

import contextlib
import csv
import io
import json
import os
import pathlib
import tempfile
from unittest import mock

import matplotlib.pyplot as plt

from lab.report import __main__ as report
from lab.report import style


def save(figure, folder, stem):
    """style.save without dots: everything is drawn, since odd numbers and texts fail there, and an empty file stands for
    it. Layout and rasters are four fifths of a report's time."""
    style.make_drawable(figure)
    figure.set_layout_engine("none")
    figure.draw_without_rendering()
    pathlib.Path(folder, f"{stem}.png").touch()
    plt.close(figure)
    return stem


def make(items, out=None):
    """(exit status, stderr, report.md or "", {table: rows}) of these records; what is no dict is a line as it stands."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.jsonl")
        with open(path, "wb") as stream:
            for item in items:
                stream.write(item if isinstance(item, bytes) else json.dumps(item).encode() + b"\n")
        return report_of(path, out or os.path.join(folder, "out"))


def report_of(path, out):
    words = io.StringIO()
    with (
        contextlib.redirect_stderr(words),
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.object(style, "save", save),
    ):
        status = report.main([path, "--out", out])
    text, tables = "", {}
    if os.path.exists(os.path.join(out, "report.md")):
        with open(os.path.join(out, "report.md"), encoding="utf-8") as stream:
            text = stream.read()
        for name in os.listdir(os.path.join(out, "tables")):
            with open(os.path.join(out, "tables", name), newline="", encoding="utf-8") as stream:
                tables[name.removesuffix(".csv")] = list(csv.DictReader(stream))
        unknown = set(os.listdir(out)) - {"report.md", "tables", "plots"}
        if unknown:
            raise AssertionError(f"left behind: {unknown}")
    return status, words.getvalue(), text, tables
