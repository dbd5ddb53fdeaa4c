"""What several scripts ask of files. Standard library only."""

import hashlib


def sha256_of(path):
    """The file's SHA-256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
