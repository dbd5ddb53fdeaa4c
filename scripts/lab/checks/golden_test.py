"""Help, records and report are those that are shipped; and that it would be seen if they were not."""

import re
import shutil
import subprocess

import pytest

from lab.checks import golden
from lab.checks.program import PROGRAM

DUMP = "photodit_ragged.h5"


def test_help():
    found = golden.difference(golden.HELP.read_text(), golden.help_text(PROGRAM))
    again = f"PYTHONPATH=scripts python3 -m lab.checks.golden --write --draftbench {PROGRAM}"
    assert found is None, f"{found}; if it is meant: {again}"


def compared(old, new):
    """What `draftbench compare --strict` prints last, and its exit status."""
    done = subprocess.run([PROGRAM, "compare", "--strict", old, new], capture_output=True, text=True)
    return done.stdout + done.stderr, done.returncode


def test_records_of_a_shipped_dump(tmp_path):
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    lines = golden.shipped_cells(DUMP)
    assert len(lines) > 100
    old.write_text("".join(lines))
    dump = golden.ROOT / "data" / DUMP
    subprocess.run([PROGRAM, "run", dump, "--quiet", "--out", new], check=True, capture_output=True)
    text, status = compared(old, new)
    assert status == 0, text
    assert f"{len(lines)} cells compared" in text and "0 only in OLD, 0 only in NEW" in text, text
    # A number that moved by a millionth is seen.
    moved = re.sub(
        r'("attention_recall": ?)(0\.\d+)', lambda m: m[1] + repr(float(m[2]) * (1 - 1e-6)), lines[0], count=1
    )
    assert moved != lines[0]
    old.write_text("".join([moved, *lines[1:]]))
    text, status = compared(old, new)
    assert status == 1 and "attention_recall" in text, text


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(golden.RESULTS / "video" / "pictures", folder / "video" / "pictures")
    golden.report(folder)
    return folder


def test_report(made):
    found = golden.difference((golden.RESULTS / "report.md").read_text(), (made / "report.md").read_text())
    assert found is None, f"{found}; {golden.MAKE_AGAIN}"


@pytest.mark.parametrize("kind", ["tables", "plots"])
def test_files_of_the_report(made, kind):
    """Tables by their numbers; of plots the names: another Matplotlib draws other bytes."""
    every = [{path.name for path in (folder / kind).iterdir()} for folder in (golden.RESULTS, made)]
    names = [sorted(found - {"all_measurements.csv"}) for found in every]  # too large to be shipped
    assert names[0] == names[1], golden.MAKE_AGAIN
    for name in names[0] if kind == "tables" else ():
        texts = [(folder / kind / name).read_text() for folder in (golden.RESULTS, made)]
        found = golden.difference(*texts)
        assert found is None, f"{name}: {found}; {golden.MAKE_AGAIN}"


def test_what_differs_is_seen():
    assert golden.difference("a 1.0 b\n", "a 1.0 b\n") is None
    assert golden.difference("a 1.0 b\n", "a 1.0000000000001 b\n") is None
    assert "line 2" in golden.difference("x\na 1.0 b\n", "x\na 1.00000000001 b\n")
    assert "line 1" in golden.difference("a 1.0 b\n", "a 1.0 c\n")
    assert "wanted 2 lines" in golden.difference("a\nb\n", "a\n")
    assert "line 1" in golden.difference("a 0.0\n", "a 1e-20\n")
