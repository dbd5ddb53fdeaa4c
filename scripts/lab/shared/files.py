"""What several programs ask of files. Standard library only."""

import hashlib
import json
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[3]  # of the checkout, or of an installation's share/draftbench
OF_REPORT = (  # files of records in results/ that the report is made of, those that are there, for reproduce.sh too
    "records.jsonl",
    "gpu/all_heads.jsonl.gz",
    "gpu/policies.jsonl.gz",
    "gpu/latency.jsonl",
    "gpu/remainder.jsonl",
    "gpu/overhead.jsonl",
    "gpu/peers.jsonl",
    "gpu/pipelines.jsonl",
    "video/minidit.jsonl.gz",
    "video/videos.jsonl",
    "video/video_times.jsonl",
)


def sha256_of(path):
    """The file's SHA-256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json_lines(path):
    """The objects of a JSON Lines file, such as a log; none where there is no file. Raises ValueError, with the file and
    the line, where a line is no object. Files of records have a reader of their own, record_file.py."""
    if not os.path.exists(path):
        return []
    rows = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                rows.append(None)
            if not isinstance(rows[-1], dict):
                raise ValueError(f"{path}:{number}: wanted a JSON object, found none")
    return rows


def rows_with(path, names):
    """read_json_lines, every row with all these names. Raises ValueError where one lacks one."""
    rows = read_json_lines(path)
    for number, row in enumerate(rows, 1):
        if lacking := [name for name in names if name not in row]:
            raise ValueError(f"{path}:{number}: wanted {lacking[0]}, found {', '.join(row) or 'nothing'}")
    return rows
