"""Small sound dumps of every layout, filter, element type and file version that the format allows."""

import os

import h5py
import numpy as np

FRAMES, HEIGHT, WIDTH, TEXT, HEADS, DIM = 1, 3, 4, 2, 2, 4
TOKENS = FRAMES * HEIGHT * WIDTH + TEXT


def numbers(name, dtype, heads=HEADS, dim=DIM, tokens=TOKENS):
    return np.random.default_rng(ord(name[0])).standard_normal((heads, tokens, dim)).astype(dtype)


def root(file, **changes):
    values = dict(
        format="draftattention-qkv",
        version=1,
        model="seed",
        source="fuzzing",
        frames=FRAMES,
        height=HEIGHT,
        width=WIDTH,
        text_tokens=TEXT,
    )
    for name, value in (values | changes).items():
        file.attrs[name] = value


def without_times(properties):
    """So that the same seeds have the same bytes whenever they are written."""
    properties.set_obj_track_times(False)
    return properties


def new_group(parent, name):
    if name in parent:
        return parent[name]
    properties = without_times(h5py.h5p.create(h5py.h5p.GROUP_CREATE))
    if parent.file.id.get_create_plist().get_link_creation_order():
        properties.set_link_creation_order(h5py.h5p.CRT_ORDER_TRACKED | h5py.h5p.CRT_ORDER_INDEXED)
    return h5py.Group(h5py.h5g.create(parent.id, name.encode(), gcpl=properties))


def new_file(path, latest=False, order=False, user_block=0):
    properties = without_times(h5py.h5p.create(h5py.h5p.FILE_CREATE))
    properties.set_userblock(user_block)
    if order:
        properties.set_link_creation_order(h5py.h5p.CRT_ORDER_TRACKED | h5py.h5p.CRT_ORDER_INDEXED)
        properties.set_attr_creation_order(h5py.h5p.CRT_ORDER_TRACKED | h5py.h5p.CRT_ORDER_INDEXED)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_LATEST if latest else h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, properties, access))


def capture(file, name="c", dtype=np.float32, tensors="qkv", kv_heads=HEADS, attributes=None, **layout):
    """One capture; `layout` goes to create_dataset."""
    group = new_group(new_group(file, "captures"), name)
    group.attrs.update(dict(layer=0, step=1, timestep=0.5) | (attributes or {}))
    for tensor in tensors:
        array = numbers(tensor, np.float32, kv_heads if tensor in "kv" else HEADS)
        if dtype == "bfloat16":
            stored = group.create_dataset(tensor, data=(array.view(np.uint32) >> 16).astype(np.uint16), **layout)
            stored.attrs["dtype"] = "bfloat16"
        else:
            group.create_dataset(tensor, data=array.astype(dtype), **layout)
    return group


def compact(file):
    group = new_group(new_group(file, "captures"), "c")
    group.attrs.update(dict(layer=0, step=1, timestep=0.5))
    properties = without_times(h5py.h5p.create(h5py.h5p.DATASET_CREATE))
    properties.set_layout(h5py.h5d.COMPACT)
    for tensor in "qkv":
        array = numbers(tensor, np.float32)
        space = h5py.h5s.create_simple(array.shape)
        dataset = h5py.h5d.create(group.id, tensor.encode(), h5py.h5t.IEEE_F32LE, space, properties)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array)


HEAD = dict(chunks=(1, TOKENS, DIM))
EXTRA = dict(steps=50, prompt="a cat, \u00e9l\u00e9gant", branch="cond", softmax_scale=0.3, model_heads=[3, 7])
# name: (arguments of new_file, what to put in behind the root attributes)
SEEDS = {
    "contiguous_f4": ({}, lambda f: capture(f)),
    "contiguous_f8_attributes": ({}, lambda f: capture(f, dtype=np.float64, tensors="qkvo", attributes=EXTRA)),
    "contiguous_big_endian": ({}, lambda f: capture(f, dtype=">f4")),
    "compact_f4": ({}, compact),
    "chunked_f2": ({}, lambda f: capture(f, dtype=np.float16, **HEAD)),
    "chunked_bf16_grouped": ({}, lambda f: capture(f, dtype="bfloat16", kv_heads=1, **HEAD)),
    "gzip_shuffle_fletcher": ({}, lambda f: capture(f, compression="gzip", shuffle=True, fletcher32=True, **HEAD)),
    "gzip_small_chunks": ({}, lambda f: capture(f, compression="gzip", chunks=(1, 5, 3))),
    "fletcher_f8": ({}, lambda f: capture(f, dtype=np.float64, fletcher32=True, **HEAD)),
    "resizable": ({}, lambda f: capture(f, maxshape=(None, TOKENS, None), chunks=(1, 8, 8))),
    "latest": (dict(latest=True), lambda f: capture(f, attributes=EXTRA)),
    "latest_gzip": (dict(latest=True), lambda f: capture(f, compression="gzip", shuffle=True, chunks=(1, 5, 4))),
    "latest_resizable": (dict(latest=True), lambda f: capture(f, maxshape=(None, TOKENS, DIM), chunks=(1, 8, 4))),
    "creation_order": (dict(order=True), lambda f: [capture(f, n, attributes=EXTRA) for n in ("b", "a")]),
    "many_captures": ({}, lambda f: [capture(f, f"layer{i}", tensors="qkv") for i in range(12)]),
    "user_block": (dict(user_block=512), lambda f: capture(f)),
}


def write(folder):
    for name, (arguments, fill) in SEEDS.items():
        with new_file(os.path.join(folder, name + ".h5"), **arguments) as file:
            root(file)
            fill(file)


def structure_offsets(path):
    """The offsets of a file's bytes that are no captured numbers."""
    is_number = np.zeros(os.path.getsize(path), bool)

    def mark(_, found):
        if not isinstance(found, h5py.Dataset):
            return
        pieces = []
        if found.chunks:
            pieces = [found.id.get_chunk_info(i) for i in range(found.id.get_num_chunks())]
            pieces = [(piece.byte_offset, piece.size) for piece in pieces]
        elif found.id.get_offset() is not None:
            pieces = [(found.id.get_offset(), found.id.get_storage_size())]
        for offset, size in pieces:
            is_number[offset : offset + size] = True

    with h5py.File(path, "r") as file:
        file.visititems(mark)
    return np.flatnonzero(~is_number).tolist()
