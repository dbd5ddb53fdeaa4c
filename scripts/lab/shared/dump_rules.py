"""The rules of the dump format that need no HDF5: numbers, texts, names, shapes. harness/dump/format.md states them.

`wanted()`-style functions return the value as the file holds it or raise DumpError. The writer and the reader of
qkv_dump use the same ones.
"""

import math
import os

import numpy as np

FORMAT = "draftattention-qkv"
VERSION = 2  # the newest; a writer gives a dump the oldest that knows all that is in it
LONGEST_AXIS = 1_000_000
MOST_HEADS = LARGEST_HEAD_DIM = 65_536
MOST_CAPTURES = 4096
LARGEST_CHUNK = 2**27  # bytes
LARGEST_ATTRIBUTE = 2**24  # bytes
MOST_CHUNK_TOKENS = 4096
GRID_MINIMUM = {"frames": 1, "height": 1, "width": 1, "text_tokens": 0}
ELEMENTS = ("float16", "float32", "float64")
LARGEST_INTEGER = 2**63 - 1
LONGEST_FOUND = 200  # characters of a value in a message


class DumpError(ValueError):
    """A dump that breaks the format."""

    def __init__(self, path, where, wanted, found):
        self.wanted, self.found = wanted, found
        super().__init__(f"{shown(path)}: {shown(where)}: wanted {wanted}, found {shown(found)}")


def shown(value):
    """One printable line of a value, whatever it holds."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    text = text if len(text) <= LONGEST_FOUND else text[:LONGEST_FOUND] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _single(value):
    """A NumPy or torch scalar, or an array of one, as Python's number; anything else as it is."""
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "item") and getattr(value, "shape", None) in ((), (1,)):
        return value.item()
    return value


def integer(path, where, value, least=-LARGEST_INTEGER - 1, most=LARGEST_INTEGER):
    """An integer of any library; a float too if it is one, as 2.0."""
    number = _single(value)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise DumpError(path, where, "an integer", repr(value))
    if not least <= number <= most:
        raise DumpError(path, where, f"an integer from {least} to {most}", number)
    return number


def number(path, where, value, positive=False):
    """A finite number of any library."""
    found = _single(value)
    if isinstance(found, bool) or not isinstance(found, (int, float, np.floating)):
        raise DumpError(path, where, "a number", repr(value))
    try:
        found = float(found)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found) or (positive and found <= 0):
        raise DumpError(path, where, "a finite number above 0" if positive else "a finite number", repr(value))
    return found


def text(path, where, value):
    """Text that UTF-8 can hold, without NUL, which HDF5 ends a string at."""
    if not isinstance(value, str):
        raise DumpError(path, where, "a string", repr(value))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DumpError(path, where, "text in UTF-8", repr(value)) from None
    if "\0" in value:
        raise DumpError(path, where, "text without NUL", repr(value))
    if len(value.encode()) >= LARGEST_ATTRIBUTE:
        raise DumpError(path, where, f"text of fewer than {LARGEST_ATTRIBUTE} bytes", f"{len(value.encode())} bytes")
    return str(value)


def text_bytes(path, before, attributes):
    """The bytes of the captures' texts with those of one more; they share the size of one attribute."""
    found = before + sum(len((attributes.get(name) or "").encode()) for name in ("prompt", "branch"))
    if found > LARGEST_ATTRIBUTE:
        raise DumpError(path, "/captures", f"at most {LARGEST_ATTRIBUTE} bytes of prompts and branches in all", found)
    return found


def name(path, value):
    """The name of a capture: what a group of HDF5 can be called."""
    where = f"/captures/{shown(value)}"
    text(path, where, value)
    if value in ("", ".") or "/" in value:
        raise DumpError(path, where, "a name without '/' that is not empty and not '.'", repr(value))
    return value


def grid(path, values):
    """frames, height, width and text_tokens as integers within their range."""
    return {
        axis: integer(path, f"attribute {axis} of /", values[axis], least, LONGEST_AXIS)
        for axis, least in GRID_MINIMUM.items()
    }


def causal(path, grid, value):
    """Whether a token attends to itself and earlier ones alone; then all tokens of `grid` lie in one row."""
    found = integer(path, "attribute causal of /", value, 0, 1) == 1
    if found and tokens(grid) != grid["width"]:
        raise DumpError(path, "attribute causal of /", "1 on one row of tokens alone", f"it on {grid}")
    return found


def tokens(grid):
    return grid["frames"] * grid["height"] * grid["width"] + grid["text_tokens"]


def shape(path, where, found, wanted_tokens):
    """[heads, tokens, head_dim] of one dataset."""
    if len(found) != 3 or found[1] != wanted_tokens or 0 in found:
        rank = "" if len(found) == 3 else f"rank 3, not {len(found)}: "
        raise DumpError(path, where, f"{rank}shape [heads >= 1, {wanted_tokens} tokens, head_dim >= 1]", list(found))
    if found[0] > MOST_HEADS or found[2] > LARGEST_HEAD_DIM:
        raise DumpError(
            path, where, f"at most {MOST_HEADS} heads and a head_dim of at most {LARGEST_HEAD_DIM}", list(found)
        )


def chunk_tokens(tokens, head_dim, size):
    """Tokens of a chunk of one head, whose numbers have `size` bytes."""
    return min(tokens, MOST_CHUNK_TOKENS, max(LARGEST_CHUNK // (head_dim * size), 1))


def heads(path, where, shapes):
    """(heads, kv heads, head_dim) that the datasets of one capture agree on."""
    count, _, dim = shapes["q"]
    kv_heads = shapes["k"][0]
    for dataset, found in shapes.items():
        wanted = count if dataset in ("q", "o") else kv_heads
        if found[0] != wanted or found[2] != dim:
            raise DumpError(path, f"{where}/{dataset}", f"{wanted} heads of dimension {dim}", list(found))
    if count % kv_heads:
        raise DumpError(path, f"{where}/k", f"a whole divisor of {count} heads", f"{kv_heads} heads")
    return count, kv_heads, dim


def same(path, where, first, found):
    if first is not None and first != found:
        raise DumpError(path, where, f"(heads, kv heads, head_dim) = {first} as in the other captures", found)
