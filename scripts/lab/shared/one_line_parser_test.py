"""Tests of commands whose standard output is gone."""

import contextlib
import io
import os
import subprocess
import sys

import pytest

from lab.shared.files import ROOT
from lab.shared.one_line_parser import writes_stdout

RECORDS = ROOT / "results" / "records.jsonl"


@writes_stdout("some")
def command(arguments):
    """Prints; then writes a file as it is told."""
    print("a line")
    with open(arguments, "w") as file:
        file.write("x")
    return 3


def test_a_command_keeps_its_status_and_its_own_errors(tmp_path):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert command(tmp_path / "file") == 3
        with pytest.raises(FileNotFoundError):
            command(tmp_path / "none" / "file")
        before = sys.stdout
    assert said.getvalue() == "a line\na line\n" and before is said


def test_a_full_disk_on_a_file_is_not_stdout_s(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(OSError, match="No space left"):
        command("/dev/full")


@pytest.mark.parametrize("redirection, why", [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
def test_the_report_says_so_in_one_line(tmp_path, redirection, why):
    few = tmp_path / "few.jsonl"
    with open(RECORDS) as file:
        few.write_text(file.readline())
    command = [sys.executable, "-m", "lab.report", str(few), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
    )
    assert (done.returncode, done.stderr) == (2, f"report: standard output cannot be written: {why}\n")
