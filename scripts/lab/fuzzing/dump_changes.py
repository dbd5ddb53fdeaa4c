"""What is done to a sound dump: to its bytes, blindly or where HDF5's structures are, and to its objects by h5py."""

import os
import re

import h5py
import numpy as np

SIGNATURES = re.compile(
    rb"TREE|SNOD|HEAP|OHDR|OCHK|FRHP|FHDB|FHIB|BTHD|BTLF|BTIN|GCOL|FADB|FAHD|EAHD|EAIB|EADB|EASB|"
    rb"SMTB|SMLI|\x89HDF\r\n\x1a\n"
)
INTERESTING = [
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    32,
    63,
    64,
    127,
    128,
    255,
    256,
    1023,
    4096,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**44,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 2,
    2**64 - 1,
]


def _overwrite(rng, data, at):
    """An integer of 1, 2, 4 or 8 bytes: one that code stumbles over, or near the one that is there."""
    width = rng.choice((1, 2, 4, 8))
    at = max(0, min(at, len(data) - width))
    there = int.from_bytes(data[at : at + width], "little")
    value = rng.choice(INTERESTING) if rng.random() < 0.6 else there + rng.choice((-8, -1, 1, 8, 64, there))
    data[at : at + width] = (value % 256**width).to_bytes(width, "little")
    return f"{value} in {width} bytes at {at}"


def _flip(rng, data, at):
    data[at] ^= 1 << rng.randrange(8)
    return f"a flipped bit at {at}"


def _random_byte(rng, data, at):
    data[at] = rng.randrange(256)
    return f"another byte at {at}"


def _fill(rng, data, at):
    length, byte = rng.choice((2, 4, 8, 16, 64, 512)), rng.choice((0, 0xFF, 0x41))
    end = min(len(data), at + length)
    data[at:end] = bytes([byte]) * (end - at)
    return f"{end - at} bytes {byte:#x} at {at}"


def _copy_within(rng, data, at):
    length, source = rng.choice((4, 8, 24, 40, 96)), rng.randrange(len(data))
    piece = data[source : source + length]
    data[at : at + len(piece)] = piece
    return f"{len(piece)} bytes of {source} at {at}"


def _insert(rng, data, at):
    length = rng.choice((1, 7, 8, 64))
    data[at:at] = bytes(rng.randrange(256) for _ in range(length))
    return f"{length} bytes put in at {at}"


def _remove(rng, data, at):
    length = rng.choice((1, 7, 8, 64))
    del data[at : at + length]
    return f"{length} bytes taken out at {at}"


IN_PLACE = [
    (_overwrite, 40),
    (_flip, 20),
    (_random_byte, 15),
    (_fill, 8),
    (_copy_within, 12),
    (_insert, 1),
    (_remove, 1),
]


def _place(rng, data, structure):
    """An offset: near a signature, anywhere in the structure, or anywhere at all."""
    chance = rng.random()
    if chance < 0.45:
        found = [match.start() for match in SIGNATURES.finditer(data)]
        if found:
            return min(len(data) - 1, rng.choice(found) + rng.randrange(4, 120))
    return min(len(data) - 1, rng.choice(structure) if chance < 0.92 else rng.randrange(len(data)))


def change_bytes(rng, content, structure, other):
    """(changed bytes, how). `structure`: the offsets that matter most; `other`: another sound dump."""
    data = bytearray(content)
    chance = rng.random()
    if chance < 0.04:
        del data[rng.randrange(len(data)) :]
        return bytes(data), f"cut to {len(data)} bytes"
    if chance < 0.07:
        at = rng.randrange(len(data))
        return bytes(data[:at]) + other[at:], f"another dump from {at} on"
    if chance < 0.10:
        at, length = rng.randrange(min(len(data), len(other))), rng.choice((8, 64, 512, 2048))
        data[at : at + length] = other[at : at + length]
        return bytes(data), f"{length} bytes of another dump at {at}"
    if chance < 0.11:
        length = rng.choice((1, 512, 100_000))
        return bytes(data) + bytes(length), f"{length} zeros behind"
    steps, weights = zip(*IN_PLACE)
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 12))):
        done.append(rng.choices(steps, weights)[0](rng, data, _place(rng, data, structure)))
    return bytes(data), "; ".join(done)


def change_through_h5py(rng, path):
    """Changes an object of the file at `path` so that the file stays sound HDF5; returns how."""
    change = rng.choice((_change_attribute, _change_attribute, _change_dataset, _change_dataset, _change_link))
    with h5py.File(path, "r+") as file:
        try:
            return change(rng, file)
        except (
            ValueError,
            TypeError,
            OSError,
            RuntimeError,
            KeyError,
        ) as error:  # h5py's versions differ in what they make
            return f"what h5py makes of {change.__name__[1:]}: {error}"


VALUES = [
    0,
    -1,
    1,
    2**31,
    2**62,
    -(2**63),
    np.uint64(2**64 - 1),
    np.int8(3),
    True,
    2.0,
    2.5,
    float("nan"),
    float("inf"),
    1e308,
    "",
    "text",
    "caf\u00e9 \u202e\x1b[31m\n",
    np.bytes_(b"caf\xe9"),
    np.bytes_(b"a\0b"),
    "x" * 70_000,
    [1],
    [1, 2],
    [[1, 2]],
    [0.5, 1.5],
    np.zeros(0, "i8"),
    h5py.Empty("f8"),
    h5py.Empty("S4"),
    1 + 2j,
    np.longdouble(0.5),
    np.array((1, 2.0), dtype=[("a", "i4"), ("b", "f4")]),
    np.void(b"opaque"),
]


def _change_attribute(rng, file):
    node = rng.choice([file, *(g for g in file["captures"].values()), next(iter(file["captures"].values()))["q"]])
    known = sorted(set(node.attrs) | {"softmax_scale", "prompt", "branch", "steps", "model_heads", "dtype"})
    name = rng.choice(known)
    if rng.random() < 0.2 and name in node.attrs:
        del node.attrs[name]
        return f"without the attribute {name} of {node.name}"
    number = rng.randrange(len(VALUES))
    node.attrs[name] = VALUES[number]
    return f"attribute {name} of {node.name} as value {number}"


SHAPES = [
    (2, 14, 4),
    (2, 14),
    (2, 14, 4, 1),
    (1, 14, 4),
    (3, 14, 4),
    (2, 15, 4),
    (2, 14, 5),
    (0, 14, 4),
    (4, 14, 4),
    (),
]
TYPES = ["f4", "f8", "f2", ">f4", ">f2", "u2", "i2", "i8", "u1", "c8", "S4", "?", "g"]


def _change_dataset(rng, file):
    group = rng.choice(list(file["captures"].values()))
    name = rng.choice("qkvo")
    if name in group:
        del group[name]
        if rng.random() < 0.1:
            return f"without {group.name}/{name}"
    shape, dtype = rng.choice(SHAPES[:3] * 3 + SHAPES), rng.choice(TYPES[:2] * 3 + TYPES)
    layout = {}
    if len(shape) == 3 and 0 not in shape:
        layout = rng.choice(
            (
                {},
                {},
                dict(chunks=shape),
                dict(chunks=(1, 3, 3), maxshape=(None,) * 3),
                dict(compression="gzip"),
                dict(compression="lzf"),
                dict(shuffle=True, chunks=(1, 14, 4)),
                dict(fillvalue=np.ones((), dtype), chunks=(1, 14, 2)),
            )
        )
    if rng.random() < 0.2:
        group.create_dataset(name, shape=shape, dtype=dtype, **layout)  # never written
    else:
        group.create_dataset(name, data=np.zeros(shape, dtype), **layout)
    return f"{group.name}/{name} as {dtype} {shape} {layout}"


def _change_link(rng, file):
    """A name that leads elsewhere."""
    group = rng.choice(list(file["captures"].values()))
    at = rng.choice((f"{group.name}/{rng.choice('qkvo')}", group.name, "/captures", f"/captures/{rng.choice(NAMES)}"))
    target = rng.choice(
        (
            h5py.SoftLink("/captures"),
            h5py.SoftLink(group.name + "/k"),
            h5py.SoftLink(at),
            h5py.SoftLink("/nowhere"),
            h5py.ExternalLink("seeds/contiguous_f4.h5", "/captures/c/q"),
            h5py.ExternalLink(os.devnull, "/"),
            h5py.ExternalLink("mutant.h5", at),
            "hard",
        )
    )
    linked = file[group.name] if isinstance(target, str) else target
    if at in file:
        del file[at]
    file[at] = linked
    return f"{at} as {target if isinstance(target, str) else type(target).__name__ + ' ' + target.path}"


NAMES = ["z", "\x1b[2Jname", "\u202eeman", "caf\u00e9", "a b,c", "-", "..", "x" * 3000]
