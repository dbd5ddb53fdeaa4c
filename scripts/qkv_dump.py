"""Write and read captured Q/K/V: the HDF5 dump format `draftattention-qkv`, version 1.

Needs h5py and numpy only. Torch tensors are accepted; torch is imported only when one comes.

Write (the file appears under its name only when whole):

    with DumpWriter("run.h5", model="minidit", source="step 10, seed 7",
                    frames=8, height=32, width=48, text_tokens=16) as dump:
        dump.add("layer1_step10", q, k, v, layer=1, step=10, timestep=0.86)   # each [heads, tokens, head_dim]

Read:

    for capture in read_dump("run.h5"):
        capture.q          # [heads, tokens, head_dim], float32 (float64 where the file holds float64)

Element types: float16, float32, float64, and bfloat16, which is held as uint16 bits with the dataset attribute
`dtype = "bfloat16"`. Everything a reader refuses is a DumpError (a ValueError) that names the file, the object,
what was wanted and what was found.
"""

import os
from dataclasses import dataclass
from typing import Iterator, Optional

import h5py
import numpy as np

FORMAT = "draftattention-qkv"
VERSION = 1
MAX_CHUNK_TOKENS = 4096
GRID_MINIMUM = {"frames": 1, "height": 1, "width": 1, "text_tokens": 0}


class DumpError(ValueError):
    """A dump that breaks the format."""

    def __init__(self, path, where, wanted, found):
        super().__init__(f"{path}: {where}: wanted {wanted}, found {found}")


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


def _as_storable(array):
    """numpy array or torch tensor -> (numpy array, its `dtype` attribute or None)."""
    if hasattr(array, "detach"):
        import torch

        tensor = array.detach().cpu().contiguous()
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.int16).numpy().view(np.uint16), "bfloat16"
        array = tensor.numpy()
    array = np.asarray(array)
    return (array, "bfloat16") if array.dtype == np.uint16 else (array, None)


# ------------------------------------------------------------------------------------------------------ writing

class DumpWriter:
    """One dump being written. A context manager: renamed when whole, removed on an exception.

    The five grid and origin arguments are the root attributes of the format; `frames`, `height`, `width` count
    latent tokens after patchify. `compression`: gzip's level, 0 for none. Raises DumpError for a grid or an array that a reader would refuse.
    """

    def __init__(self, path, *, model, source, frames, height, width, text_tokens, compression=9):
        self.path = os.fspath(path)
        grid = dict(frames=frames, height=height, width=width, text_tokens=text_tokens)
        for name, value in grid.items():
            if int(value) != value or value < GRID_MINIMUM[name]:
                raise DumpError(self.path, f"attribute {name}", f"an integer >= {GRID_MINIMUM[name]}", value)
        self._root = dict(format=FORMAT, version=VERSION, model=model, source=source, **grid)
        self._tokens = frames * height * width + text_tokens
        self._compression = compression
        self._shape = None  # (q heads, k heads, head_dim) of the first capture: all share it
        self._temporary = f"{self.path}.part-{os.getpid()}"
        self._file = None

    def __enter__(self):
        self._file = h5py.File(self._temporary, "w")
        self._file.attrs.update(self._root)
        self._file.create_group("captures")
        return self

    def __exit__(self, kind, value, trace):
        try:
            self._file.close()
            if kind is None:
                os.replace(self._temporary, self.path)
        finally:
            if os.path.exists(self._temporary):
                os.remove(self._temporary)
        return False

    def add(self, name, q, k, v, o=None, *, layer, step, timestep, steps=None, prompt=None, branch=None,
            softmax_scale=None, model_heads=None):
        """Add one capture. q, o: [heads, tokens, head_dim]; k, v: the same or fewer heads (a whole divisor).

        All of one element type. `timestep` in the model's own unit; `model_heads` lists, for each stored head,
        its index in the model.
        """
        arrays = {n: _as_storable(a) for n, a in dict(q=q, k=k, v=v, o=o).items() if a is not None}
        where = f"/captures/{name}"
        for dataset, (array, _) in arrays.items():
            if array.dtype not in (np.float16, np.float32, np.float64, np.uint16):
                raise DumpError(self.path, f"{where}/{dataset}", "float16, float32, float64 or bfloat16 bits as uint16",
                                array.dtype)
            _check_shape(self.path, f"{where}/{dataset}", array.shape, self._tokens)
        shape = _check_heads(self.path, where, {n: a.shape for n, (a, _) in arrays.items()})
        _check_same(self.path, where, self._shape, shape)
        if model_heads is not None and len(model_heads) != shape[0]:
            raise DumpError(self.path, f"{where} attribute model_heads", f"{shape[0]} indices", len(model_heads))
        for dataset, (array, kind) in arrays.items():
            _check_finite(self.path, f"{where}/{dataset}", array, kind)
        group = self._file.create_group(where)
        for dataset, (array, kind) in arrays.items():
            chunk = (1, min(array.shape[1], MAX_CHUNK_TOKENS), array.shape[2])
            packed = dict(shuffle=True, compression="gzip", compression_opts=self._compression) if self._compression else {}
            stored = group.create_dataset(dataset, data=array, chunks=chunk, **packed)
            if kind:
                stored.attrs["dtype"] = kind
        known = dict(layer=int(layer), step=int(step), timestep=float(timestep), steps=steps, prompt=prompt,
                     branch=branch, softmax_scale=softmax_scale, model_heads=model_heads)
        group.attrs.update({key: value for key, value in known.items() if value is not None})
        self._shape = shape


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
    layer: int
    step: int
    timestep: float
    steps: Optional[int]
    prompt: Optional[str]
    branch: Optional[str]
    softmax_scale: float
    model_heads: Optional[list]
    q: np.ndarray  # [heads, tokens, head_dim]
    k: np.ndarray  # [kv_heads, tokens, head_dim]
    v: np.ndarray  # [kv_heads, tokens, head_dim]
    o: Optional[np.ndarray]  # [heads, tokens, head_dim]


def read_dump(path) -> Iterator[Capture]:
    """Check the whole file's layout, then yield its captures by name, each decoded when its turn comes.

    float16, bfloat16 and float32 come as float32, float64 as float64. Raises DumpError; FileNotFoundError if
    there is no such file.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DumpError(path, "file", "a whole HDF5 file", error) from error
    with file:
        root = _read_root(path, file)
        tokens = root["frames"] * root["height"] * root["width"] + root["text_tokens"]
        groups = _child(path, file, "captures", h5py.Group)
        if len(groups) == 0:
            raise DumpError(path, "/captures", "at least one capture", "none")
        shared = None
        for name in groups:
            shape = _check_capture(path, _child(path, groups, name, h5py.Group), tokens)
            _check_same(path, f"/captures/{name}", shared, shape)
            shared = shape
        for name in groups:
            yield _load(path, name, groups[name], root)


def _read_root(path, file):
    found = _attribute(path, file, "format", str)
    if found != FORMAT:
        raise DumpError(path, "attribute format", repr(FORMAT), repr(found))
    version = _attribute(path, file, "version", int)
    if version < 1 or version > VERSION:
        raise DumpError(path, "attribute version", f"version 1 to {VERSION}", f"version {version}")
    root = {name: _attribute(path, file, name, str) for name in ("model", "source")}
    for name, minimum in GRID_MINIMUM.items():
        root[name] = _attribute(path, file, name, int)
        if root[name] < minimum:
            raise DumpError(path, f"attribute {name}", f"an integer >= {minimum}", root[name])
    return root


def _child(path, parent, name, kind):
    where = f"{parent.name.rstrip('/')}/{name}"
    try:
        child = parent.get(name)
    except (OSError, RuntimeError, KeyError) as error:
        raise DumpError(path, where, f"a readable {kind.__name__.lower()}", error) from error
    if not isinstance(child, kind):
        found = "nothing" if child is None else type(child).__name__
        raise DumpError(path, where, f"a {kind.__name__.lower()}", found)
    return child


def _attribute(path, node, name, kind, required=True):
    """The attribute as `kind` (str, int or float), or None where it is absent and not required."""
    where = f"{node.name} attribute {name}"
    if name not in node.attrs:
        if required:
            raise DumpError(path, where, f"a value of type {kind.__name__}", "nothing")
        return None
    value = node.attrs[name]
    if isinstance(value, bytes):
        value = value.decode()
    accepted = {str: str, int: (int, np.integer), float: (float, int, np.floating, np.integer)}[kind]
    if not isinstance(value, accepted):
        raise DumpError(path, where, f"a value of type {kind.__name__}", repr(value))
    return kind(value)


def _check_capture(path, group, tokens):
    """Attributes, element types and shapes of one capture; returns (heads, kv heads, head_dim)."""
    for name, kind in (("layer", int), ("step", int), ("timestep", float)):
        _attribute(path, group, name, kind)
    shapes = {}
    for name in ("q", "k", "v") + (("o",) if "o" in group else ()):
        dataset = _child(path, group, name, h5py.Dataset)
        _element_kind(path, dataset)
        _check_shape(path, dataset.name, dataset.shape, tokens)
        shapes[name] = dataset.shape
    return _check_heads(path, group.name, shapes)


def _element_kind(path, dataset):
    """'bfloat16' or None; refuses any other element type."""
    mark = _attribute(path, dataset, "dtype", str, required=False)
    if dataset.dtype == np.uint16 and mark == "bfloat16":
        return mark
    if dataset.dtype in (np.float16, np.float32, np.float64) and mark in (None, dataset.dtype.name):
        return None
    raise DumpError(path, dataset.name, "float16, float32, float64, or uint16 with dtype = 'bfloat16'",
                    f"{dataset.dtype} with dtype = {mark!r}")


def _check_shape(path, where, shape, tokens):
    if len(shape) != 3 or shape[1] != tokens or 0 in shape:
        raise DumpError(path, where, f"shape [heads >= 1, {tokens} tokens, head_dim >= 1]", list(shape))


def _check_heads(path, where, shapes):
    heads, _, dim = shapes["q"]
    kv_heads = shapes["k"][0]
    for name, shape in shapes.items():
        wanted = heads if name in ("q", "o") else kv_heads
        if shape[0] != wanted or shape[2] != dim:
            raise DumpError(path, f"{where}/{name}", f"{wanted} heads of dimension {dim}", list(shape))
    if heads % kv_heads:
        raise DumpError(path, f"{where}/k", f"a whole divisor of {heads} heads", f"{kv_heads} heads")
    return heads, kv_heads, dim


def _check_same(path, where, first, shape):
    if first is not None and first != shape:
        raise DumpError(path, where, f"(heads, kv heads, head_dim) = {first} as in the other captures", shape)


def _check_finite(path, where, array, kind, offset=()):
    values = from_bfloat16_bits(array) if kind == "bfloat16" else array
    finite = np.isfinite(values)
    if not finite.all():
        first = offset + tuple(int(i) for i in np.argwhere(~finite)[0])
        raise DumpError(path, where, "finite values", f"{finite.size - int(finite.sum())} NaN or Inf, first at {first}")


def _decode(path, dataset):
    """[heads, tokens, head_dim] as float32 or float64, one head in flight at a time."""
    kind = _element_kind(path, dataset)
    out = np.empty(dataset.shape, np.float64 if dataset.dtype == np.float64 else np.float32)
    bad, first = 0, None
    for head in range(dataset.shape[0]):
        try:
            raw = dataset[head]
        except OSError as error:
            raise DumpError(path, f"{dataset.name} head {head}", "readable chunks", error) from error
        out[head] = from_bfloat16_bits(raw) if kind == "bfloat16" else raw
        finite = np.isfinite(out[head])
        if not finite.all():
            first = first or (head, *(int(i) for i in np.argwhere(~finite)[0]))
            bad += finite.size - int(finite.sum())
    if bad:
        raise DumpError(path, dataset.name, "finite values", f"{bad} NaN or Inf, first at {first}")
    return out


def _load(path, name, group, root):
    optional = {n: _attribute(path, group, n, kind, required=False)
                for n, kind in (("steps", int), ("prompt", str), ("branch", str), ("softmax_scale", float))}
    if optional["softmax_scale"] is None:
        optional["softmax_scale"] = group["q"].shape[2] ** -0.5
    heads = group.attrs.get("model_heads")
    arrays = {n: _decode(path, group[n]) if n in group else None for n in ("q", "k", "v", "o")}
    return Capture(name=name, layer=_attribute(path, group, "layer", int), step=_attribute(path, group, "step", int),
                   timestep=_attribute(path, group, "timestep", float),
                   model_heads=None if heads is None else [int(h) for h in heads],
                   **{n: root[n] for n in ("model", "source", *GRID_MINIMUM)}, **optional, **arrays)
