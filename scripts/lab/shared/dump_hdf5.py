"""Reads HDF5's side of a dump for qkv_dump: links, attributes and the headers of datasets, as the C++ reader does.

h5py's high-level interface follows links into other files and turns types into others; this asks HDF5 itself.
"""

import contextlib
import math
import os

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5t, h5z

from lab.shared import dump_rules
from lab.shared.dump_rules import DumpError

FILTERS = {h5z.FILTER_DEFLATE: "gzip", h5z.FILTER_SHUFFLE: "shuffle", h5z.FILTER_FLETCHER32: "fletcher32"}
FLOATS = {
    "float16": (h5t.IEEE_F16LE, h5t.IEEE_F16BE),
    "float32": (h5t.IEEE_F32LE, h5t.IEEE_F32BE),
    "float64": (h5t.IEEE_F64LE, h5t.IEEE_F64BE),
}
GZIP_AT_MOST = 1032  # how much smaller deflate makes anything


@contextlib.contextmanager
def reading(path, where, wanted):
    """What HDF5 or h5py cannot do with a damaged file is a refusal."""
    try:
        yield
    except DumpError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, SystemError, OverflowError, MemoryError) as error:
        raise DumpError(path, where, wanted, error) from error


class Output:
    """The file that h5py writes through. What a full disk refuses is kept as `error`, and HDF5 is told that all is well:
    told the truth, it tries again when the interpreter ends, and crashes."""

    def __init__(self, path):
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115
        self.error = None

    def _try(self, call, otherwise):
        try:
            return call()
        except OSError as error:
            self.error = self.error or error
            return otherwise

    def write(self, data):
        def whole():
            rest = memoryview(data).cast("B")
            while len(rest):
                rest = rest[self._file.write(rest) :]
            return len(data)

        return self._try(whole, len(data))

    def truncate(self, size=None):
        return self._try(lambda: self._file.truncate(size), size)

    def close(self):
        self._try(self._file.close, None)

    def read(self, size=-1):
        return self._file.read(size)

    def readinto(self, buffer):
        return self._file.readinto(buffer)

    def seek(self, offset, whence=0):
        return self._file.seek(offset, whence)

    def tell(self):
        return self._file.tell()

    def flush(self):
        pass


def _type_name(kind):
    """What an HDF5 type is, for messages."""
    try:
        return str(kind.dtype)
    except (TypeError, ValueError, OSError, RuntimeError):
        return f"HDF5's type class {kind.get_class()} of {kind.get_size()} bytes"


def _value(attribute):
    """An attribute's value and type, for messages."""
    name = _type_name(attribute.get_type())
    try:
        values = np.empty(attribute.shape, attribute.dtype)
        attribute.read(values)
        return f"{values.tolist()!r} of type {name}"
    except (TypeError, ValueError, OSError, RuntimeError):
        return name


class Attributes:
    """The attributes of one object; one that cannot be read is never taken for one that is not there."""

    def __init__(self, path, where, node, known):
        """`known`: the attributes that the object may have by the format."""
        self._path, self._where, self._id = path, where, node
        self._names: list[bytes] = []
        try:  # A name that is not there makes HDF5 look at every attribute. Listing damaged ones ends it (1.10.8).
            h5a.exists(node, b"no attribute has this name")
            h5a.iterate(node, self._names.append)
            count = h5a.get_num_attrs(node)
        except (OSError, RuntimeError) as error:
            names = ", ".join(repr(name) for name in known if not self._is_told(name))
            raise DumpError(
                path, f"attributes {names} of {where}", "readable attributes or none of that name", error
            ) from error
        if len(self._names) != count:
            raise DumpError(path, f"attributes of {where}", f"{count} readable ones", len(self._names))
        object_bytes = 0
        for name in self._names:
            with reading(path, f"attribute {name.decode(errors='replace')} of {where}", "a readable attribute"):
                attribute = h5a.open(node, name)
                object_bytes += attribute.get_type().get_size() * attribute.get_space().get_simple_extent_npoints()
            if object_bytes > dump_rules.LARGEST_ATTRIBUTE:
                raise DumpError(
                    path,
                    f"attributes of {where}",
                    f"at most {dump_rules.LARGEST_ATTRIBUTE} bytes in all",
                    f"{object_bytes} up to {name.decode(errors='replace')}",
                )

    def _is_told(self, name):
        """Whether HDF5 can say if there is an attribute of that name; behind a damaged one it cannot."""
        try:
            h5a.exists(self._id, name.encode())
            return True
        except (OSError, RuntimeError):
            return False

    def has(self, name):
        return name.encode() in self._names

    def at(self, name):
        return f"attribute {name} of {self._where}"

    def _open(self, name, wanted, kinds, count):
        if not self.has(name):
            raise DumpError(self._path, self.at(name), wanted, "nothing")
        with reading(self._path, self.at(name), "a readable attribute"):
            attribute = h5a.open(self._id, name.encode())
            kind = attribute.get_type().get_class()
            points = attribute.get_space().get_simple_extent_npoints()
        if kind not in kinds:
            raise DumpError(self._path, self.at(name), wanted, _value(attribute))
        if points != count:
            raise DumpError(self._path, self.at(name), f"{wanted}, {count} in all", f"{points} values")
        return attribute

    def text(self, name):
        attribute = self._open(name, "a string", (h5t.STRING,), 1)
        with reading(self._path, self.at(name), "a readable attribute"):
            kind = attribute.get_type()
            values = np.empty(attribute.shape, attribute.dtype)
            attribute.read(values)
            raw = values.reshape(-1)[0] if kind.is_variable_str() else values.tobytes().rstrip(b"\0")
        try:
            found = raw.decode() if isinstance(raw, bytes) else raw
        except UnicodeDecodeError:
            raise DumpError(self._path, self.at(name), "text in UTF-8", repr(raw)) from None
        return dump_rules.text(self._path, self.at(name), found)

    def integers(self, name, count):
        attribute = self._open(name, "an integer", (h5t.INTEGER,), count)
        with reading(self._path, self.at(name), "a readable attribute"):
            if attribute.get_type().get_size() > 8:
                raise DumpError(self._path, self.at(name), "an integer of at most 64 bits", "a wider one")
            values = np.empty(attribute.shape, attribute.dtype)
            attribute.read(values)
        return [dump_rules.integer(self._path, self.at(name), value) for value in values.reshape(-1).tolist()]

    def integer(self, name):
        return self.integers(name, 1)[0]

    def number(self, name, positive=False):
        attribute = self._open(name, "a number", (h5t.FLOAT, h5t.INTEGER), 1)
        with reading(self._path, self.at(name), "a readable attribute"):
            values = np.empty(attribute.shape, np.float64)
            attribute.read(values, mtype=h5t.NATIVE_DOUBLE)
        return dump_rules.number(self._path, self.at(name), float(values.reshape(-1)[0]), positive)


def link(path, parent, name, where, wanted):
    """The object that a hard link leads to, or None where there is no link of that name."""
    with reading(path, where, wanted):
        if not parent.links.exists(name):
            return None
        kind = parent.links.get_info(name).type
        if kind != h5l.TYPE_HARD:
            found = {
                h5l.TYPE_SOFT: "a soft link, which may lead out of it",
                h5l.TYPE_EXTERNAL: "a link to another file",
            }.get(kind, "another link")
            raise DumpError(path, where, f"{wanted} in this file", found)
        found = h5py.h5o.open(parent, name)
    if not isinstance(found, {"a group": h5g.GroupID, "a dataset": h5d.DatasetID}[wanted]):
        raise DumpError(path, where, wanted, type(found).__name__)
    return found


def child(path, parent, name, where, wanted):
    found = link(path, parent, name, where, wanted)
    if found is None:
        raise DumpError(path, where, wanted, "nothing")
    return found


def names(path, group):
    """The names in /captures, in the order of their bytes."""
    found: list[bytes] = []
    with reading(path, "/captures", "readable names"):
        group.links.iterate(found.append)
    for raw in found:
        where = f"/captures/{raw.decode(errors='replace')}"
        with reading(path, where, "a name in UTF-8"):
            dump_rules.name(path, raw.decode())
    if not found:
        raise DumpError(path, "/captures", "at least one capture", "none")
    if len(found) > dump_rules.MOST_CAPTURES:
        raise DumpError(path, "/captures", f"at most {dump_rules.MOST_CAPTURES} captures", len(found))
    return sorted(found)


def element(path, where, dataset):
    """float16, bfloat16, float32 or float64; refuses any other element type."""
    attributes = Attributes(path, where, dataset, ["dtype"])
    mark = attributes.text("dtype") if attributes.has("dtype") else None
    with reading(path, where, "a readable element type"):
        kind = dataset.get_type()
        if (
            kind.get_class() == h5t.INTEGER
            and kind.get_size() == 2
            and kind.get_sign() == h5t.SGN_NONE
            and mark == "bfloat16"
        ):
            return mark
        for name, types in FLOATS.items():
            if mark in (None, name) and any(kind.equal(one) for one in types):
                return name
    raise DumpError(
        path,
        where,
        "float16, float32, float64, or uint16 with dtype = 'bfloat16'",
        f"{_type_name(kind)} with dtype = {mark!r}",
    )


def shape_of(path, where, dataset):
    """The shape of a dataset whose numbers lie in this file: asking a virtual one opens others."""
    properties = dataset.get_create_plist()
    if properties.get_layout() == h5d.VIRTUAL or properties.get_external_count():
        raise DumpError(path, where, "numbers in this file", "numbers in another file")
    return dataset.shape or ()  # None where there is no space at all


def check_storage(path, where, dataset):
    """All of the numbers are in the file, and every HDF5 reads them."""
    properties = dataset.get_create_plist()
    layout = properties.get_layout()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    for code in filters:
        if code not in FILTERS:
            raise DumpError(path, where, "no filter but shuffle, gzip and fletcher32", f"filter {code}")
    if layout == h5d.CONTIGUOUS and dataset.get_offset() is None:
        raise DumpError(path, where, "numbers", "none: they were never written")
    shape = dataset.shape
    file_bytes, size = os.path.getsize(path), dataset.get_type().get_size()
    most = file_bytes * (GZIP_AT_MOST if layout == h5d.CHUNKED and h5z.FILTER_DEFLATE in filters else 1)
    chunk = properties.get_chunk() if layout == h5d.CHUNKED else (0, 0, 0)
    for what in (shape, chunk):
        claimed = what[0] * what[1] * what[2] * size
        if claimed > most:
            raise DumpError(
                path,
                where,
                f"at most the {most} bytes that a file of {file_bytes} bytes can hold",
                f"{list(what)}, {claimed} bytes",
            )
    if math.prod(chunk) * size > dump_rules.LARGEST_CHUNK:
        raise DumpError(
            path,
            where,
            f"chunks of at most {dump_rules.LARGEST_CHUNK} bytes",
            f"{list(chunk)}, {math.prod(chunk) * size} bytes",
        )
    if layout != h5d.CHUNKED:
        wanted, stored = shape[0] * shape[1] * shape[2] * size, dataset.get_storage_size()
        end = (dataset.get_offset() or 0) + stored
        if stored != wanted or end > file_bytes:
            raise DumpError(path, where, f"{wanted} bytes within the file's {file_bytes}", f"{stored} up to {end}")
        return
    wanted = [-(-extent // step) for extent, step in zip(shape, chunk)]
    written = dataset.get_num_chunks()
    if written != np.prod(wanted, dtype=object):
        raise DumpError(path, where, f"{wanted[0] * wanted[1] * wanted[2]} written chunks", written)
    for index in np.ndindex(*wanted):
        at = tuple(int(i) * step for i, step in zip(index, chunk))
        info = dataset.get_chunk_info_by_coord(at)
        if info.byte_offset is None or info.size == 0:
            raise DumpError(path, where, f"a written chunk at {list(at)}", "none")
