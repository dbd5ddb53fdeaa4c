"""One table of dumps, each sound but for one thing, and what every reader and writer must say to it.

A case: its name; what is done to a sound dump (`edit`, a function of the open file, or `remake`, of its path); the word
that a refusal must name, None where the dump is accepted; and, where the writer can be asked for the same, `write`:
keyword arguments of DumpWriter ("root"), of add() ("call"), the arrays, or the captures' names.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import h5py
import numpy as np

from lab.fuzzing import dump_seeds
from lab.fuzzing.dump_seeds import DIM, HEADS, TOKENS, capture, numbers

Q = "captures/c/q"


@dataclass(frozen=True)
class Case:
    name: str
    word: str | None  # in every refusal; None: accepted
    edit: Callable | None = None
    remake: Callable | None = None
    write: dict | None = field(default=None)


def fixed(raw, pad=h5py.h5t.STR_NULLPAD):
    """An attribute of one fixed-length string of exactly these bytes."""

    def put(node, name):
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(len(raw))
        kind.set_strpad(pad)
        if name in node.attrs:
            del node.attrs[name]
        attribute = h5py.h5a.create(node.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
        attribute.write(np.frombuffer(raw, f"S{len(raw)}").reshape(()), mtype=kind)

    return put


def attribute(where, name, value, word, write=None):
    """The attribute as `value`: anything that h5py stores, or a function that puts it in."""

    def edit(file):
        node = file[where]
        if name in node.attrs:
            del node.attrs[name]
        value(node, name) if callable(value) else node.attrs.__setitem__(name, value)

    shown = getattr(value, "__name__", None) or (repr(value) if len(repr(value)) < 60 else type(value).__name__)
    return Case(f"{where} {name} = {shown}", word, edit, write=write)


def linked(count):
    """So many captures, all of them one."""

    def edit(file):
        for name in range(count - len(file["captures"])):
            file[f"captures/{name}"] = file["captures/c"]

    return edit


def attributes_of_another_tool(count, each):
    """So many of so many bytes, which only the newer file version holds."""

    def remake(path):
        remade(latest=True)(path)
        with h5py.File(path, "r+", libver="latest") as file:
            for number in range(count):
                file["captures/aa"].attrs.create(f"of another tool {number}", np.zeros(each, np.uint8))

    return remake


def two_prompts(each):
    def edit(file):
        file.copy("captures/c", "captures/d")
        for name in "cd":
            file[f"captures/{name}"].attrs["prompt"] = "x" * each

    return edit


def missing(where, name):
    return Case(f"{where} without {name}", name, lambda file: file[where].attrs.__delitem__(name))


def root(name, value, word, write="same"):
    return attribute("/", name, value, word, {"root": {name: value}} if write == "same" else None)


def call(name, value, word, write="same"):
    return attribute("captures/c", name, value, word, {"call": {name: value}} if write == "same" else None)


def dataset(name, word, write=None, at=Q, **created):
    """A dataset made anew by create_dataset."""

    def edit(file):
        del file[at]
        file.create_dataset(at, **created)

    return Case(name, word, edit, write=write)


def link(name, at, target, word):
    def edit(file):
        found = target(file) if callable(target) else target
        if at in file:
            del file[at]
        file[at] = found

    return Case(name, word, edit)


def layout(name, word, **arguments):
    """All of the capture stored so."""

    def edit(file):
        del file["captures/c"]
        capture(file, **arguments)

    return Case(name, word, edit)


def big(wanted):
    """A type that h5py has no name for."""

    def edit(file):
        del file[Q]
        array = numbers("q", np.float32)
        made = h5py.h5d.create(file["captures/c"].id, b"q", wanted(), h5py.h5s.create_simple(array.shape))
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, array)

    return edit


def native_bfloat16():
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def enumeration():
    return h5py.enum_dtype({"a": 0, "b": 1}, np.uint16)


def poked(value, dtype=np.float32):
    def edit(file):
        del file["captures/c"]
        group = capture(file, dtype=dtype)
        group["v"][1, 3, 2] = value

    return edit


def external_storage(file):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_external(b"numbers.raw", 0, h5py.h5f.UNLIMITED)
    del file[Q]
    h5py.h5d.create(
        file["captures/c"].id, b"q", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((HEADS, TOKENS, DIM)), properties
    )


def virtual(file):
    del file[Q]
    source = h5py.VirtualLayout((HEADS, TOKENS, DIM), "f4")
    source[...] = h5py.VirtualSource("other.h5", Q, (HEADS, TOKENS, DIM))
    file["captures/c"].create_virtual_dataset("q", source)


def damaged_name(path):
    """The length of an attribute's name, so that HDF5 cannot read that attribute nor any behind it."""
    with h5py.File(path, "r+") as file:
        file["captures/c"].attrs["softmax_scale"] = 0.3
    with open(path, "rb") as file:
        content = file.read()
    at = content.index(b"softmax_scale\0")
    with open(path, "wb") as file:
        file.write(content[:at] + b"softmax\0scale\0" + content[at + 14 :])


def damaged_type(path):
    with h5py.File(path, "r+") as file:
        file["captures/c"].attrs["softmax_scale"] = 0.3
    with open(path, "rb") as file:
        content = bytearray(file.read())
    at = content.index(b"softmax_scale\0") + 16  # the name is padded to eights; the type's class and version follow
    content[at] = 0x0F
    with open(path, "wb") as file:
        file.write(content)


def remade(**arguments):
    def remake(path):
        with dump_seeds.new_file(path, **arguments) as file:
            dump_seeds.root(file)
            for name in ("zz", "aa"):
                capture(file, name, attributes=dict(softmax_scale=0.3, prompt="p"))

    return remake


def cut(path):
    os.truncate(path, os.path.getsize(path) * 2 // 3)


def claims(shape, **created):
    """A dataset with a shape that the file cannot hold."""

    def edit(file):
        del file[Q]
        made = file.create_dataset(Q, shape=shape, dtype="f4", **created)
        if "chunks" in created:
            made[0, 0, 0] = 1

    return edit


def causal(value, **grid):
    """The whole as version 2, with this `causal` and axes."""
    return lambda file: file.attrs.update(version=2, causal=value, **grid)


ROW = dict(frames=1, height=1, width=TOKENS, text_tokens=0)
OTHER = h5py.ExternalLink("other.h5", "/captures/c")
ARRAYS = {tensor: numbers(tensor, np.float32) for tensor in "qkv"}
EDGE = 2**63

CASES = [
    Case("sound", None, lambda file: None, write={}),
    *(
        missing("/", name)
        for name in ("format", "version", "model", "source", "frames", "height", "width", "text_tokens")
    ),
    *(missing("captures/c", name) for name in ("layer", "step", "timestep")),
    root("format", "something else", "format", None),
    root("format", 3, "format", None),
    root("version", 0, "version", None),
    root("version", 3, "version", None),
    root("version", 2, "causal", None),
    root("causal", 1, "causal", None),  # of version 1, whose readers would not look at it
    *(
        Case(f"causal {value!r} on {TOKENS} tokens in a row", word, causal(value, **grid), write=write)
        for value, word, grid, write in (
            (1, None, ROW, dict(root=dict(causal=True, **ROW))),
            (0, None, ROW, dict(root=dict(causal=False, **ROW))),
            (2, "causal", ROW, dict(root=dict(causal=2, **ROW))),
            (1.0, "causal", ROW, None),
            ("1", "causal", ROW, None),
            (1, "one row of tokens", {}, dict(root=dict(causal=True))),
        )
    ),
    root("version", 1.0, "version", None),
    root("version", "1", "version", None),
    root("version", [1], None, None),
    root("version", [1, 1], "version", None),
    root("version", np.uint64(2**64 - 1), "version", None),
    root("model", 3, "model"),
    root("model", "", None),
    root("model", "\u6a21\u578b \u00e9", None),
    root("model", "\x1b[31mred", None),
    root("model", "\u202egnp", None),
    root("model", ["a", "b"], "model", None),
    root("model", ["one"], None, None),
    root("model", h5py.Empty("S4"), "model", None),
    root("model", np.bytes_(b"ascii"), None, None),
    root("model", np.bytes_(b"caf\xe9"), "UTF-8", None),
    root("model", fixed(b"abc\0\0"), None, None),
    root("model", fixed(b"a\0b"), "NUL", None),
    root("model", fixed(b"abc   ", h5py.h5t.STR_SPACEPAD), None, None),
    root("source", b"caf\xe9", "UTF-8", None),
    Case("model with NUL", "NUL", write={"root": {"model": "a\0b"}}),
    Case("model with a lone surrogate", "UTF-8", write={"root": {"model": "a\ud800"}}),
    Case("model None", "model", write={"root": {"model": None}}),
    root("source", "x" * 70_000, None),
    root("frames", 0, "frames"),
    root("frames", -1, "frames"),
    root("frames", 1_000_001, "frames"),
    root("frames", True, "frames"),
    root("frames", "1", "frames"),
    root("frames", 1.5, "frames"),
    root("frames", float("nan"), "frames"),
    root("frames", [1, 1], "frames"),
    root("frames", np.int8(1), None),
    root("frames", np.array(1, ">i8"), None),
    root("frames", np.uint64(2**64 - 1), "frames"),
    root("frames", h5py.Empty("i8"), "frames", None),
    root("frames", 1.0, "frames", None),
    Case("frames 1.0, written", None, write={"root": {"frames": 1.0}}),
    root("height", 2, "q"),
    root("width", 0, "width"),
    root("text_tokens", -1, "text_tokens"),
    root("text_tokens", 3, "q"),
    root("other", h5py.Empty("f4"), None, None),
    call("layer", 1.5, "layer"),
    call("layer", -1, None),
    call("layer", 2**63 - 1, None),
    call("layer", np.uint64(EDGE), "layer"),
    call("layer", True, "layer"),
    call("layer", "3", "layer"),
    call("step", float("inf"), "step"),
    call("step", [1, 2], "step"),
    call("timestep", 7, None),
    call("timestep", np.float16(0.5), None),
    call("timestep", np.longdouble(0.5), None),
    call("timestep", float("nan"), "timestep"),
    call("timestep", float("-inf"), "timestep"),
    call("timestep", "0.5", "timestep"),
    call("timestep", 1j, "timestep"),
    call("timestep", True, "timestep"),
    call("steps", 50, None),
    call("steps", 2.5, "steps"),
    call("steps", h5py.Empty("i8"), "steps", None),
    Case("steps 50.0, written", None, write={"call": {"steps": 50.0}}),
    call("prompt", "x" * 2**24, "prompt"),
    call("prompt", "\x01" * (2**24 - 1), None),
    call("prompt", 3, "prompt"),
    call("prompt", "a\nb", None),
    call("prompt", np.bytes_(b"\xff"), "prompt", None),
    call("branch", "cond", None),
    call("branch", 1.0, "branch"),
    call("branch", np.void(b"ab"), "branch", None),
    call("softmax_scale", 0.3, None),
    call("softmax_scale", 1, None),
    call("softmax_scale", 0.0, "softmax_scale"),
    call("softmax_scale", -1.0, "softmax_scale"),
    call("softmax_scale", float("nan"), "softmax_scale"),
    call("softmax_scale", "0.3", "softmax_scale"),
    call("softmax_scale", [0.3, 0.3], "softmax_scale"),
    call("model_heads", [5, 9], None),
    call("model_heads", [5], "model_heads"),
    call("model_heads", [0.5, 1.5], "model_heads"),
    call("model_heads", [[5], [9]], None, None),
    call("model_heads", 5, "model_heads"),
    call("model_heads", "ab", "model_heads"),
    call("of another tool", [1, 2, 3], None, None),
    *(
        Case(
            f"{count} attributes of {each} bytes",
            word and "attributes of /captures/aa",
            remake=attributes_of_another_tool(count, each),
        )
        for count, each, word in (
            (1, 15_000_000, None),
            (2, 8_000_000, None),
            (2, 9_000_000, "too many bytes"),
            (1, 17_000_000, "too many bytes"),
            (1, 240_000_000, "too many bytes"),
            (20, 15_000_000, "too many bytes"),
        )
    ),
    *(
        Case(
            f"two prompts of {each} bytes",
            word,
            two_prompts(each),
            write={"names": ["c", "d"], "call": {"prompt": "x" * each}},
        )
        for each, word in ((2**23, None), (2**23 + 1, "prompts and branches"))
    ),
    Case("an attribute whose name is damaged", "softmax_scale", remake=damaged_name),
    Case("an attribute whose type is damaged", "softmax_scale", remake=damaged_type),
    Case("no captures", "/captures", lambda file: file["captures"].__delitem__("c"), write={"names": []}),
    Case("no group captures", "/captures", lambda file: file.__delitem__("captures")),
    Case(
        "captures a dataset",
        "/captures",
        lambda file: (file.__delitem__("captures"), file.create_dataset("captures", data=1)),
    ),
    Case("a capture a dataset", "/captures/d", lambda file: file.create_dataset("captures/d", data=1)),
    *(
        Case(
            f"without {tensor}",
            f"/captures/c/{tensor}",
            lambda file, t=tensor: file["captures/c"].__delitem__(t),
            write={"arrays": {tensor: None}},
        )
        for tensor in "qkv"
    ),
    Case("q a group", "/captures/c/q", lambda file: (file.__delitem__(Q), file.create_group(Q))),
    *(
        Case(
            f"name {name!r}",
            None,
            lambda file, n=name: file.move("captures/c", "captures/" + n),
            write={"names": [name]},
        )
        for name in ("\u0441\u043b\u043e\u0439 0", "a b,c", "\x1b[31mX", "..", "\u202ex", "x" * 300)
    ),
    *(Case(f"name {name!r}", "/captures/", write={"names": [name]}) for name in ("", ".", "a/b", "a\0b", "a\ud800")),
    Case("name None", "/captures/", write={"names": [None]}),
    Case("one name twice", "/captures/c", write={"names": ["c", "c"]}),
    Case("a name in latin-1", "UTF-8", lambda file: h5py.h5g.create(file["captures"].id, b"caf\xe9")),
    Case("two captures", None, lambda file: capture(file, "b"), write={"names": ["c", "b"]}),
    Case("captures that disagree", "/captures/d", lambda file: _other_dim(capture(file, "d"))),
    dataset(
        "q of rank 2",
        "rank",
        data=np.zeros((TOKENS, DIM), "f4"),
        write={"arrays": {"q": np.zeros((TOKENS, DIM), "f4")}},
    ),
    dataset(
        "q of rank 4",
        "rank",
        data=np.zeros((1, HEADS, TOKENS, DIM), "f4"),
        write={"arrays": {"q": np.zeros((1, HEADS, TOKENS, DIM), "f4")}},
    ),
    dataset("q a scalar", "rank", data=np.float32(1)),
    dataset("q without a space", "rank", data=h5py.Empty("f4")),
    *(
        dataset(f"q of {list(shape)}", word, data=np.zeros(shape, "f4"), write={"arrays": {"q": np.zeros(shape, "f4")}})
        for shape, word in (
            ((HEADS, TOKENS - 1, DIM), "q"),
            ((HEADS, TOKENS, DIM + 1), "k"),
            ((0, TOKENS, DIM), "q"),
            ((HEADS, TOKENS, 0), "q"),
            ((3, TOKENS, DIM), "k"),
            ((4, TOKENS, DIM), None),
        )
    ),
    dataset(
        "v of fewer heads than k",
        "v",
        at="captures/c/v",
        data=np.zeros((1, TOKENS, DIM), "f4"),
        write={"arrays": {"v": np.zeros((1, TOKENS, DIM), "f4")}},
    ),
    *(
        Case(
            f"{count} outputs",
            word,
            lambda file, n=count: file["captures/c"].create_dataset("o", data=np.zeros((n, TOKENS, DIM), "f4")),
            write={"arrays": {"o": np.zeros((count, TOKENS, DIM), "f4")}},
        )
        for count, word in ((HEADS, None), (1, "o"))
    ),
    *(layout(f"elements {kind}", None, dtype=kind) for kind in ("f2", "f4", "f8", ">f2", ">f4", ">f8", "bfloat16")),
    *(
        dataset(
            f"q of {kind}",
            "float16",
            data=np.ones((HEADS, TOKENS, DIM), kind),
            write={"arrays": {"q": np.ones((HEADS, TOKENS, DIM), kind)}},
        )
        for kind in ("i1", "i4", "i8", "u4", "?", "c8", "g")
    ),
    dataset("q of uint16 without a mark", "float16", data=np.ones((HEADS, TOKENS, DIM), "u2")),
    dataset(
        "q of int16",
        "float16",
        data=np.ones((HEADS, TOKENS, DIM), "i2"),
        write={"arrays": {"q": np.ones((HEADS, TOKENS, DIM), "i2")}},
    ),
    dataset("q of big-endian uint16 without a mark", "float16", data=np.ones((HEADS, TOKENS, DIM), ">u2")),
    dataset("q of strings", "float16", data=np.full((HEADS, TOKENS, DIM), b"ab")),
    dataset("q an enum", "float16", shape=(HEADS, TOKENS, DIM), dtype=enumeration()),
    dataset("q a compound", "float16", data=np.ones((HEADS, TOKENS, DIM), [("r", "f4")])),
    Case("q of HDF5's own bfloat16", "float16", big(native_bfloat16)),
    attribute(Q, "dtype", "bfloat16", "dtype"),
    attribute(Q, "dtype", "float32", None),
    attribute(Q, "dtype", 4, "dtype"),
    *(
        layout(f"layout {name}", word, **given)
        for name, word, given in (
            ("contiguous", None, {}),
            ("chunked", None, dict(chunks=(1, 4, 3))),
            ("gzip", None, dict(compression="gzip")),
            ("shuffle", None, dict(shuffle=True, chunks=True)),
            ("fletcher32", None, dict(fletcher32=True)),
            ("all three", None, dict(compression="gzip", shuffle=True, fletcher32=True, chunks=(1, 5, 4))),
            ("one chunk", None, dict(compression="gzip", chunks=(HEADS, TOKENS, DIM))),
            ("lzf", "filter", dict(compression="lzf")),
            ("scaleoffset", "filter", dict(scaleoffset=4)),
            ("resizable", None, dict(maxshape=(None, None, None), chunks=(1, 8, 8))),
        )
    ),
    Case("layout compact", None, lambda file: (file.__delitem__("captures/c"), dump_seeds.compact(file))),
    Case("layout virtual", "another file", virtual),
    Case("layout external", "another file", external_storage),
    dataset("contiguous, never written", "never written", shape=(HEADS, TOKENS, DIM), dtype="f4"),
    dataset("chunked, never written", "chunks", shape=(HEADS, TOKENS, DIM), dtype="f4", chunks=(1, TOKENS, DIM)),
    Case("one chunk of two written", "chunks", lambda file: _half_written(file)),
    *(
        Case(f"claims {list(shape)} {created}", word, claims(shape, **created))
        for shape, word, created in (
            ((2**44, TOKENS, DIM), "heads", dict(chunks=(1, TOKENS, DIM))),
            ((HEADS, TOKENS, 2**40), "head_dim", dict(chunks=(1, 1, 64))),
            ((60_000, TOKENS, 60_000), "bytes", dict(chunks=(1, 1, 64))),
            ((60_000, TOKENS, 60_000), "bytes", dict(chunks=(1, 1, 64), compression="gzip")),
        )
    ),
    *(
        Case(f"{value} in {kind}", "v", poked(value, kind))
        for value in (np.nan, np.inf, -np.inf)
        for kind in ("f2", "f4", "f8")
    ),
    *(
        Case(f"{value} written", "v", write={"arrays": {"v": np.where(ARRAYS["v"] > 1, value, ARRAYS["v"])}})
        for value in (np.nan, np.inf)
    ),
    Case("float16 that overflowed", "q", write={"arrays": {"q": np.full((HEADS, TOKENS, DIM), np.inf, np.float16)}}),
    Case("float32's largest", None, poked(np.finfo("f4").max)),
    link("a capture in another file", "captures/c", OTHER, "another file"),
    link("/captures in another file", "captures", h5py.ExternalLink("other.h5", "/captures"), "another file"),
    link("q in another file", Q, h5py.ExternalLink("other.h5", "/" + Q), "another file"),
    link("q in a file that is not there", Q, h5py.ExternalLink("none.h5", "/x"), "another file"),
    link("q in a device", Q, h5py.ExternalLink("/dev/zero", "/x"), "another file"),
    link(
        "q by a soft link through another file",
        Q,
        lambda f: (f.__setitem__("x", OTHER), h5py.SoftLink("/x/q"))[1],
        "soft link",
    ),
    link("q by a soft link", Q, h5py.SoftLink("/captures/c/k"), "soft link"),
    link("a capture by a soft link", "captures/d", h5py.SoftLink("/captures/c"), "soft link"),
    link("a soft link to nothing", "captures/d", h5py.SoftLink("/nowhere"), "soft link"),
    link("o by a soft link to nothing", "captures/c/o", h5py.SoftLink("/nowhere"), "soft link"),
    link(
        "/captures by a soft link",
        "captures",
        lambda f: (f.move("captures", "there"), h5py.SoftLink("/there"))[1],
        "soft link",
    ),
    *(
        Case(f"{count} captures", word, linked(count))
        for count, word in ((4096, None), (4097, "at most 4096 captures"))
    ),
    link("a capture by two hard links", "captures/d", lambda f: f["captures/c"], None),
    link("q and k one dataset", Q, lambda f: f["captures/c/k"], None),
    Case("file version latest", None, remake=remade(latest=True)),
    Case("order of creation", None, remake=remade(order=True)),
    Case("a user block", None, remake=remade(user_block=1024)),
    Case("cut short", "HDF5", remake=cut),
]


def _other_dim(group):
    for tensor in "qkv":
        del group[tensor]
        group[tensor] = np.zeros((HEADS, TOKENS, DIM + 1), "f4")


def _half_written(file):
    del file[Q]
    file.create_dataset(Q, (HEADS, TOKENS, DIM), "f4", chunks=(1, TOKENS, DIM))[0] = 1
