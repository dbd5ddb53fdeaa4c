"""What several scripts ask of files. Standard library only."""

import hashlib
import json
import os


def sha256_of(path):
    """The file's SHA-256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json_lines(path):
    """The values of a JSON Lines file; none where there is no file."""
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [json.loads(line) for line in file]
