"""What a well-formed record is, for every Python reader of record files. Standard library only.

An object of schema 1: `experiment`, `input`, `config`, `metrics`, `status`, and whatever else a run left. What is none is
never guessed at: `problem` says which field, what was wanted and what was found. record_file.py reads files of them.
"""

import json
import sys

SCHEMA = 1
STATUSES = ("ok", "failed", "skipped")
NOT_APPLICABLE = "not_applicable"  # a metric that is relative to nothing: no number, and no failure
LEAST_WHOLE, MOST_WHOLE = -(2**63), 2**64 - 1  # what 64 bits hold, with a sign or without
MAPS = ("draft_map", "block_mass", "mask")

LARGEST = sys.float_info.max
ROUNDED_TO_LARGEST = int(LARGEST) + 2**970 - 1  # the last whole number that rounds to a double


def is_number(value):
    if type(value) is int:
        return -ROUNDED_TO_LARGEST <= value <= ROUNDED_TO_LARGEST
    return type(value) is float and -LARGEST <= value <= LARGEST  # false for NaN


def _whole(least, most=MOST_WHOLE):
    return lambda value: type(value) is int and least <= value <= most


def _listed(fits):
    return lambda value: isinstance(value, list) and all(map(fits, value))


TEXT = ("text", lambda value: isinstance(value, str))
FLAG = ("true or false", lambda value: isinstance(value, bool))
WHOLE = ("a whole number", _whole(LEAST_WHOLE))
COUNT = ("a whole number of at least 0", _whole(0))
SIDE = ("a whole number of at least 1", _whole(1))
NUMBER = ("a finite number", is_number)
SHARE = ("a number in [0, 1]", lambda value: is_number(value) and 0 <= value <= 1)
SPARSITY = ("a number in [0, 1)", lambda value: is_number(value) and 0 <= value < 1)
AMOUNT = ("a finite number of at least 0", lambda value: is_number(value) and value >= 0)
TIME = ("a finite number above 0", lambda value: is_number(value) and value > 0)
TIMES = ("numbers above 0", lambda value: bool(value) and _listed(TIME[1])(value))
NUMBERS = ("finite numbers", _listed(is_number))
REGION = ("two whole numbers of at least 1", lambda value: _listed(SIDE[1])(value) and len(value) == 2)
TEXTS = ("texts", _listed(TEXT[1]))
OBJECT = ("an object", lambda value: isinstance(value, dict))
METRIC = (f'a finite number or "{NOT_APPLICABLE}"', lambda value: is_number(value) or value == NOT_APPLICABLE)
HEADS = ("a whole number of at least 0, or text", lambda value: COUNT[1](value) or isinstance(value, str))

REQUIRED = {
    "schema": (f"{SCHEMA}", lambda value: type(value) is int and value == SCHEMA),
    "experiment": ("a name", lambda value: isinstance(value, str) and value != ""),
    "input": OBJECT,
    "config": OBJECT,
    "status": (f"one of {', '.join(STATUSES)}", lambda value: isinstance(value, str) and value in STATUSES),
}
OPTIONAL = {
    "metrics": OBJECT,
    "timing": OBJECT,
    "arrays": OBJECT,
    "machine": OBJECT,
    "build": OBJECT,
    "reason": TEXT,
    "time": TEXT,
    "notes": ("an object or text", lambda value: isinstance(value, (dict, str))),
}
TOP = {**REQUIRED, **OPTIONAL}
FIELDS = {  # what readers count on; other names may hold anything. Null is the same as no value.
    "input": {
        **dict.fromkeys(
            ("dump", "sha256", "capture", "model", "resolution", "shape", "data", "prompts", "weights_sha256"), TEXT
        ),
        **dict.fromkeys(("layer", "step", "steps", "model_head"), WHOLE),  # a dump's: it may count from anywhere
        **dict.fromkeys(
            (
                "head",
                "heads",
                "head_dim",
                "text_tokens",
                "tokens",
                "layers",
                "clips",
                "batch",
                "first_seed",
                "probe_clips",
            ),
            COUNT,
        ),
        **dict.fromkeys(("frames", "height", "width"), SIDE),
        "grid": OBJECT,
        "shift": NUMBER,
    },
    "config": {
        **dict.fromkeys(
            (
                "policy",
                "pool",
                "rule",
                "kernel",
                "device",
                "order",
                "element",
                "part",
                "method",
                "model",
                "resolution",
                "counting",
            ),
            TEXT,
        ),
        "region": REGION,
        "sparsity": SPARSITY,
        "seed": COUNT,
        "seconds": AMOUNT,
        "sustain_ms": TIME,
        "dense_steps": SHARE,
        "heads": HEADS,
    },
    "timing": {
        **dict.fromkeys(("median_ms", "p10_ms", "p90_ms"), TIME),
        "samples_ms": TIMES,
        "tflops_kept": AMOUNT,
        **dict.fromkeys(("warmup", "l2_flush"), AMOUNT),
        "calls_per_sample": COUNT,
    },
    "machine": {
        **dict.fromkeys(("gpu", "cpu", "driver"), TEXT),
        **dict.fromkeys(("sm_clock_before_mhz", "sm_clock_after_mhz", "power_before_w", "power_after_w"), NUMBER),
        "throttle_reasons": TEXTS,
    },
    "build": {"commit": TEXT, "dirty": FLAG, "compiler": TEXT},
    "arrays": dict.fromkeys(
        ("psnr", "ssim", "lpips", "distance", "one_step", "contrast", "psnr_matched", "effective_blocks"), NUMBERS
    ),
}
GRID = dict.fromkeys(("frames", "height", "width"), SIDE)


def shown(value, most=60):
    """A value as a message shows it: on one line, in ASCII, not longer than `most`."""
    if isinstance(value, (dict, list)) and len(value) > 4:
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if type(value) is int and abs(value) > 10**most:
        return f"a number of {value.bit_length()} bits"
    text = json.dumps(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def name_of(key, most=60):
    text = json.dumps(key)[1:-1].replace('\\"', '"')
    return text if len(text) <= most else text[: most - 3] + "..."


def _unlike(values, kinds, where):
    """The first field of `values` that is not of its kind."""
    for name, value in values.items():
        kind = kinds.get(name)
        if kind is not None and value is not None and not kind[1](value):
            return f"{where}{name}: wanted {kind[0]}, found {shown(value)}"
    return None


def _missing(record):
    for name, (wanted, _) in REQUIRED.items():
        if record.get(name) is None:
            return f"{name}: wanted {wanted}, found {'null' if name in record else 'nothing'}"
    return None


def problem(record):
    """What keeps this value from being a record, as "FIELD: wanted ..., found ..."; None if it is one."""
    if not isinstance(record, dict):
        return f"wanted a record, found {shown(record)}"
    schema = record.get("schema")
    if type(schema) is int and schema > SCHEMA:
        return f"schema: wanted {SCHEMA}, found {shown(schema)}: a later version of the format"
    found = _missing(record) or _unlike(record, TOP, "")
    if found:
        return found
    if record.get("metrics") is None and record["status"] == "ok" and not record.get("timing"):
        return "metrics: wanted an object, found nothing"
    for name, value in (record.get("metrics") or {}).items():
        if not METRIC[1](value):
            return f"metrics.{name_of(name)}: wanted {METRIC[0]}, found {shown(value)}"
    for part, kinds in FIELDS.items():
        found = _unlike(record.get(part) or {}, kinds, part + ".")
        if found:
            return found
    return _unlike(record["input"].get("grid") or {}, GRID, "input.grid.") or _bad_maps(record.get("arrays") or {})


def _bad_maps(arrays):
    """The maps of a head are square and of one size: numbers, and rows of 0 and 1."""
    size = None
    for name in MAPS:
        rows = arrays.get(name)
        if rows is None:
            continue
        fits = (lambda row: isinstance(row, str) and not set(row) - {"0", "1"}) if name == "mask" else NUMBERS[1]
        words = "rows of 0 and 1" if name == "mask" else "rows of finite numbers"
        if not isinstance(rows, list) or not rows or not all(map(fits, rows)):
            return f"arrays.{name}: wanted {words}, found {shown(rows)}"
        size = size or len(rows)
        lengths = {len(rows), *map(len, rows)}
        if lengths != {size}:
            return (
                f"arrays.{name}: wanted {size} rows of {size}, found sides {', '.join(map(str, sorted(lengths)[:4]))}"
            )
    return None
