"""Write and read captured Q/K/V: the HDF5 dump format `draftattention-qkv`, version 1, or 2 where it is causal.

Needs h5py and numpy only. Torch tensors are accepted; torch is imported only when one comes.

Write (the file appears under its name only when whole):

    with DumpWriter("run.h5", model="photodit", source="step 10, seed 7",
                    frames=8, height=32, width=48, text_tokens=16) as dump:
        dump.add("layer1_step10", q, k, v, layer=1, step=10, timestep=0.86)   # each [heads, tokens, head_dim]

Read:

    for capture in read_dump("run.h5"):
        capture.q          # [heads, tokens, head_dim], float32 (float64 where the file holds float64)

Element types: float16, float32, float64, and bfloat16, which is held as uint16 bits with the dataset attribute
`dtype = "bfloat16"`. Everything a reader refuses is a DumpError (a ValueError) that names the file, the object,
what was wanted and what was found; the writer refuses the same at once. harness/dump/format.md has the rules, and
dump_rules_test.py holds this reader, this writer and draftbench to the same cases.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5g
from lab.shared import dump_hdf5, dump_rules
from lab.shared.dump_rules import ELEMENTS, FORMAT, GRID_MINIMUM, VERSION, DumpError

__all__ = ["DumpError", "DumpWriter", "Capture", "OpenDump", "read_dump", "to_bfloat16_bits", "from_bfloat16_bits"]
ROOT_ATTRIBUTES = ["format", "version", "model", "source", *GRID_MINIMUM, "causal"]
CAPTURE_ATTRIBUTES = ["layer", "step", "timestep", "steps", "prompt", "branch", "softmax_scale", "model_heads"]
TENSORS = ("q", "k", "v", "o")


# ---------------------------------------------------------------------------------------------------- bfloat16


def to_bfloat16_bits(values):
    """float array -> uint16 array of bfloat16 bits, rounded to nearest even; NaN stays NaN."""
    single = np.ascontiguousarray(values, dtype=np.float32)
    bits = single.view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(single), np.uint16(0x7FC0), rounded)


def from_bfloat16_bits(bits):
    """uint16 array of bfloat16 bits -> float32 array (exact)."""
    return (np.asarray(bits, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32)


def _as_storable(path, where, array):
    """numpy array or torch tensor -> (numpy array, its element)."""
    if hasattr(array, "detach"):
        import torch

        tensor = array.detach().cpu().contiguous()
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.int16).numpy().view(np.uint16), "bfloat16"
        if str(tensor.dtype) not in ("torch." + element for element in ELEMENTS):
            raise DumpError(path, where, "float16, bfloat16, float32 or float64", tensor.dtype)
        array = tensor.numpy()
    try:
        array = np.asarray(array)
    except ValueError as error:  # lists of different lengths
        raise DumpError(path, where, "an array", error) from error
    if array.dtype == np.uint16:
        return array, "bfloat16"
    element = array.dtype.newbyteorder("=").name
    if element not in ELEMENTS or array.dtype.kind != "f":
        raise DumpError(path, where, "float16, float32, float64 or bfloat16 bits as uint16", array.dtype)
    return array.astype(element, copy=False), element


# ------------------------------------------------------------------------------------------------------ writing


def replaceable(path):
    """The file that a dump is written to: `path`, or what it leads to by links. An older dump, which OpenDump takes, or
    an empty file may be replaced. Raises DumpError for what else may stand there: notes, a folder, a device, a FIFO."""

    def refuse(found):
        raise DumpError(path, "file", "a new file or a dump to replace", found)

    found = os.path.realpath(path)
    if os.path.islink(found):
        refuse("links that lead nowhere")
    if not os.path.lexists(found):
        return found
    if not os.path.isfile(found):
        refuse("a directory" if os.path.isdir(found) else "no regular file")
    if os.path.getsize(found) > 0:
        try:
            OpenDump(found).close()
        except DumpError:
            refuse("a file that is none")
    return found


class DumpWriter:
    """One dump being written. A context manager: renamed when whole, removed on an exception.

    The five grid and origin arguments are the root attributes of the format; `frames`, `height`, `width` count
    latent tokens after patchify. `causal`: each token attends to itself and those before it, and all lie in one row, as
    a language model's. `compression`: gzip's level, 0 for none. Raises DumpError at once for what a reader
    would refuse. Integers may come from any library, also as floats that are integers.
    """

    def __init__(self, path, *, model, source, frames, height, width, text_tokens, causal=False, compression=9):
        self.path = os.fspath(path)
        self._target = replaceable(self.path)
        grid = dump_rules.grid(self.path, dict(frames=frames, height=height, width=width, text_tokens=text_tokens))
        texts = {
            name: dump_rules.text(self.path, f"attribute {name} of /", value)
            for name, value in (("model", model), ("source", source))
        }
        is_causal = dump_rules.causal(self.path, grid, int(causal))
        version = dict(format=FORMAT, version=2 if is_causal else 1)
        self._root = version | texts | grid | (dict(causal=1) if is_causal else {})
        self._tokens = dump_rules.tokens(grid)
        self._compression = dump_rules.integer(self.path, "compression", compression, 0, 9)
        self._shape = None  # (q heads, k heads, head_dim) of the first capture: all share it
        self._names = set()
        self._text_bytes = 0  # of all captures
        self._temporary = f"{self._target}.part-{os.getpid()}"
        self._file: Any = None
        self._output: Any = None

    def __enter__(self):
        if self._output is not None:
            raise DumpError(self.path, "file", "a writer for each dump", "one that has written its dump")
        try:
            self._output = dump_hdf5.Output(self._temporary)
        except OSError as error:
            raise DumpError(self.path, "file", "to write here", error.strerror) from error
        self._file = h5py.File(self._output, "w")
        self._file.attrs.update(self._root)
        self._file.create_group("captures")
        return self

    def __exit__(self, kind, value, trace):
        try:
            try:
                self._file.close()
            finally:
                self._output.close()
            if kind is None:
                self._require_written()
                if not self._names:
                    raise DumpError(self.path, "/captures", "at least one capture", "none")
                os.replace(self._temporary, self._target)
        finally:
            if os.path.exists(self._temporary):
                os.remove(self._temporary)
        return False

    def _require_written(self):
        if self._output.error is not None:
            raise DumpError(self.path, "file", "to write all of it", self._output.error.strerror)

    def add(
        self,
        name,
        q,
        k,
        v,
        o=None,
        *,
        layer,
        step,
        timestep,
        steps=None,
        prompt=None,
        branch=None,
        softmax_scale=None,
        model_heads=None,
    ):
        """Add one capture. q, o: [heads, tokens, head_dim]; k, v: the same or fewer heads (a whole divisor).

        `timestep` in the model's own unit; `model_heads` lists, for each stored head, its index in the model.
        """
        if self._file is None or not self._file.id.valid:
            raise DumpError(self.path, "file", "an open writer: with DumpWriter(...) as dump", "a closed one")
        dump_rules.name(self.path, name)
        where = f"/captures/{name}"
        if name in self._names:
            raise DumpError(self.path, where, "a new name", "a capture of that name")
        if len(self._names) == dump_rules.MOST_CAPTURES:
            raise DumpError(self.path, "/captures", f"at most {dump_rules.MOST_CAPTURES} captures", "one more")
        given = {n: a for n, a in dict(q=q, k=k, v=v, o=o).items() if a is not None}
        for dataset in ("q", "k", "v"):
            if dataset not in given:
                raise DumpError(self.path, f"{where}/{dataset}", "an array", "None")
        arrays = {n: _as_storable(self.path, f"{where}/{n}", a) for n, a in given.items()}
        for dataset, (array, _) in arrays.items():
            dump_rules.shape(self.path, f"{where}/{dataset}", array.shape, self._tokens)
        shape = dump_rules.heads(self.path, where, {n: a.shape for n, (a, _) in arrays.items()})
        dump_rules.same(self.path, where, self._shape, shape)
        attributes = self._attributes(
            where, shape[0], layer, step, timestep, steps, prompt, branch, softmax_scale, model_heads
        )
        for dataset, (array, element) in arrays.items():
            _check_finite(self.path, f"{where}/{dataset}", array, element)
        text_bytes = dump_rules.text_bytes(self.path, self._text_bytes, attributes)
        group = self._file["captures"].create_group(name)
        for dataset, (array, element) in arrays.items():
            chunk = (1, dump_rules.chunk_tokens(array.shape[1], array.shape[2], array.itemsize), array.shape[2])
            packed = (
                dict(shuffle=True, compression="gzip", compression_opts=self._compression) if self._compression else {}
            )
            stored = group.create_dataset(dataset, data=array, chunks=chunk, **packed)
            if element == "bfloat16":
                stored.attrs["dtype"] = element
        group.attrs.update(attributes)
        self._file.flush()
        self._require_written()
        self._shape, self._text_bytes = shape, text_bytes
        self._names.add(name)

    def _attributes(self, where, heads, layer, step, timestep, steps, prompt, branch, softmax_scale, model_heads):
        """The attributes of a capture that are known, each as the file holds it."""

        def at(name):
            return f"attribute {name} of {where}"

        known = dict(
            layer=dump_rules.integer(self.path, at("layer"), layer),
            step=dump_rules.integer(self.path, at("step"), step),
            timestep=dump_rules.number(self.path, at("timestep"), timestep),
        )
        if steps is not None:
            known["steps"] = dump_rules.integer(self.path, at("steps"), steps)
        for name, value in (("prompt", prompt), ("branch", branch)):
            if value is not None:
                known[name] = dump_rules.text(self.path, at(name), value)
        if softmax_scale is not None:
            known["softmax_scale"] = dump_rules.number(self.path, at("softmax_scale"), softmax_scale, positive=True)
        if model_heads is not None:
            try:
                listed = list(model_heads)
            except TypeError:
                raise DumpError(self.path, at("model_heads"), f"{heads} integers", repr(model_heads)) from None
            if len(listed) != heads:
                raise DumpError(self.path, at("model_heads"), f"{heads} indices", len(listed))
            known["model_heads"] = np.array(
                [dump_rules.integer(self.path, at("model_heads"), h) for h in listed], np.int64
            )
        return known


# ------------------------------------------------------------------------------------------------------ reading


@dataclass(frozen=True)
class Capture:
    """One attention call: the file's grid, the call's attributes, and the decoded arrays."""

    name: str
    model: str
    source: str
    frames: int
    height: int
    width: int
    text_tokens: int
    causal: bool
    layer: int
    step: int
    timestep: float
    steps: int | None
    prompt: str | None
    branch: str | None
    softmax_scale: float
    model_heads: list | None
    q: np.ndarray  # [heads, tokens, head_dim]
    k: np.ndarray  # [kv_heads, tokens, head_dim]
    v: np.ndarray  # [kv_heads, tokens, head_dim]
    o: np.ndarray | None  # [heads, tokens, head_dim]


class OpenDump:
    """A dump whose layout has been checked; its numbers are read when asked for. A context manager.

    `root`: the root attributes. `captures`: for each name, in order, the capture's attributes. `shape`: (heads, kv
    heads, head_dim) that all share. Raises DumpError; FileNotFoundError if there is no such file.
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        if not os.path.exists(self.path):
            raise FileNotFoundError(f"{self.path}: no such file")
        try:
            self._file = h5py.File(self.path, "r")
        except (OSError, RuntimeError, ValueError) as error:
            raise DumpError(self.path, "file", "a whole HDF5 file", error) from error
        try:
            with dump_hdf5.reading(self.path, "file", "a sound HDF5 file"):
                self._read()
        except BaseException:
            self.close()
            raise

    def _read(self):
        top = h5g.open(self._file.id, b"/")
        self.root = _read_root(self.path, dump_hdf5.Attributes(self.path, "/", top, ROOT_ATTRIBUTES))
        captures = dump_hdf5.child(self.path, top, b"captures", "/captures", "a group")
        self.shape, self.captures, self._tensors = None, {}, {}
        text_bytes = 0
        for raw in dump_hdf5.names(self.path, captures):
            name = raw.decode()
            group = dump_hdf5.child(self.path, captures, raw, f"/captures/{name}", "a group")
            attributes = dump_hdf5.Attributes(self.path, f"/captures/{name}", group, CAPTURE_ATTRIBUTES)
            found = {n: attributes.integer(n) for n in ("layer", "step")}
            found["timestep"] = attributes.number("timestep")
            found["steps"] = attributes.integer("steps") if attributes.has("steps") else None
            found |= {n: attributes.text(n) if attributes.has(n) else None for n in ("prompt", "branch")}
            text_bytes = dump_rules.text_bytes(self.path, text_bytes, found)
            shape = self._open_tensors(name, group)
            dump_rules.same(self.path, f"/captures/{name}", self.shape, shape)
            self.shape = shape
            has_heads, has_scale = attributes.has("model_heads"), attributes.has("softmax_scale")
            found["model_heads"] = attributes.integers("model_heads", shape[0]) if has_heads else None
            found["softmax_scale"] = attributes.number("softmax_scale", True) if has_scale else shape[2] ** -0.5
            self.captures[name] = found

    def _open_tensors(self, name, group):
        """Opens the datasets of a capture; returns (heads, kv heads, head_dim)."""
        shapes = {}
        for tensor in TENSORS:
            where = f"/captures/{name}/{tensor}"
            look = dump_hdf5.link if tensor == "o" else dump_hdf5.child
            dataset = look(self.path, group, tensor.encode(), where, "a dataset")
            if dataset is None:
                continue
            with dump_hdf5.reading(self.path, where, "a readable dataset"):
                dump_rules.shape(
                    self.path, where, dump_hdf5.shape_of(self.path, where, dataset), dump_rules.tokens(self.root)
                )
                element = dump_hdf5.element(self.path, where, dataset)
                dump_hdf5.check_storage(self.path, where, dataset)
            shapes[tensor] = dataset.shape
            self._tensors[name, tensor] = (h5py.Dataset(dataset), element)
        return dump_rules.heads(self.path, f"/captures/{name}", shapes)

    def has(self, name, tensor):
        return (name, tensor) in self._tensors

    def element(self, name, tensor):
        """float16, bfloat16, float32 or float64."""
        return self._tensors[name, tensor][1]

    def head(self, name, tensor, head):
        """One head as the file holds it, [tokens, head_dim], in this machine's byte order; bfloat16 as uint16 bits."""
        dataset, element = self._tensors[name, tensor]
        with dump_hdf5.reading(self.path, f"/captures/{name}/{tensor} head {head}", "readable chunks"):
            return dataset[head].astype(np.uint16 if element == "bfloat16" else element, copy=False)

    def decoded(self, name, tensor):
        """[heads, tokens, head_dim] as float32, or float64 where the file holds that. Refuses NaN and infinity."""
        dataset, element = self._tensors[name, tensor]
        out = np.empty(dataset.shape, np.float64 if element == "float64" else np.float32)
        for head in range(dataset.shape[0]):
            raw = self.head(name, tensor, head)
            out[head] = from_bfloat16_bits(raw) if element == "bfloat16" else raw
        _check_finite(self.path, f"/captures/{name}/{tensor}", out, element, decoded=True)
        return out

    def close(self):
        self._tensors = {}
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        return False


def read_dump(path) -> Iterator[Capture]:
    """Check the whole file's layout, then yield its captures by name, each decoded when its turn comes.

    float16, bfloat16 and float32 come as float32, float64 as float64. Raises DumpError; FileNotFoundError if
    there is no such file.
    """
    with OpenDump(path) as dump:
        for name, attributes in dump.captures.items():
            fields: dict[str, Any] = {n: dump.root[n] for n in ("model", "source", *GRID_MINIMUM, "causal")}
            fields |= attributes
            fields |= {n: dump.decoded(name, n) if dump.has(name, n) else None for n in TENSORS}
            yield Capture(name=name, **fields)


def _read_root(path, attributes):
    found = attributes.text("format")
    if found != FORMAT:
        raise DumpError(path, attributes.at("format"), repr(FORMAT), repr(found))
    version = attributes.integer("version")
    if not 1 <= version <= VERSION:
        raise DumpError(path, attributes.at("version"), f"version 1 to {VERSION}", f"version {version}")
    if version == 1 and attributes.has("causal"):  # readers of version 1 take it for another name's
        raise DumpError(path, attributes.at("causal"), "none in version 1", "one")
    root = {name: attributes.text(name) for name in ("model", "source")}
    grid = dump_rules.grid(path, {name: attributes.integer(name) for name in GRID_MINIMUM})
    is_causal = dump_rules.causal(path, grid, attributes.integer("causal")) if version > 1 else False
    return root | grid | dict(causal=is_causal)


def _check_finite(path, where, array, element, decoded=False):
    values = from_bfloat16_bits(array) if element == "bfloat16" and not decoded else array
    finite = np.isfinite(values)
    if not finite.all():
        first = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), finite.shape))
        raise DumpError(path, where, "finite values", f"{finite.size - int(finite.sum())} NaN or Inf, first at {first}")
