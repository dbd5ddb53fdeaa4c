"""One table of lines of record files, each sound but for one thing, and what every reader must say to it.

A case: its name; the word that a refusal must name, None where the line is a record; and the line's bytes.
"""

import json
from dataclasses import dataclass

SOUND = {
    "schema": 2,
    "experiment": "bounds",
    "input": {
        "dump": "a.h5",
        "sha256": "ab",
        "capture": "c",
        "layer": 3,
        "step": 7,
        "head": 1,
        "grid": {"frames": 2, "height": 8, "width": 16},
        "text_tokens": 3,
        "head_dim": 64,
    },
    "config": {
        "policy": "draft",
        "pool": "avg",
        "rule": "softmax",
        "region": [8, 16],
        "sparsity": 0.5,
        "device": "cpu",
    },
    "metrics": {"attention_recall": 0.5, "check_3_3": 1},
    "timing": {
        "samples_ms": [1.0, 2.0, 3.0],
        "median_ms": 2.0,
        "p10_ms": 1.0,
        "p90_ms": 3.0,
        "tflops_kept": 0.5,
        "warmup": 2,
        "l2_flush": 1024,
    },
    "machine": {"cpu": "a", "gpu": None},
    "build": {"commit": "ab", "dirty": False},
    "status": "ok",
    "time": "2026-01-01T00:00:00Z",
}
LARGEST = int(1.7976931348623157e308)
DROPPED = object()


@dataclass(frozen=True)
class Case:
    name: str
    word: str | None  # in every refusal; None: accepted
    line: bytes


def changed(path, value):
    """The sound line with the value at "part.name" set, or taken away."""
    made = json.loads(json.dumps(SOUND))
    *parts, name = path.split(".")
    holder = made
    for part in parts:
        holder = holder.setdefault(part, {})
    if value is DROPPED:
        del holder[name]
    else:
        holder[name] = value
    return json.dumps(made).encode()


def field(path, word, *values):
    """A case for each value of a field; `word` is True where the refusal must name the field."""
    return [
        Case(f"{path} = {json.dumps(value)[:40]}", path if word else None, changed(path, value)) for value in values
    ]


def good(path, *values):
    return field(path, False, *values)


def bad(path, *values):
    return field(path, True, *values)


def text(name, word, old, new):
    """The sound line with a piece of its text replaced."""
    line = json.dumps(SOUND).encode()
    if old not in line:
        raise ValueError(f"{old} is not in the sound line")
    return Case(name, word, line.replace(old, new, 1))


def arrays(name, word, written):
    return text(name, word, b'"status"', b'"arrays": ' + written + b', "status"')


def without(path, word):
    return Case(f"without {path}", word, changed(path, DROPPED))


SOUND_LINE = json.dumps(SOUND).encode()
WHOLE = (-(2**63), -1, 0, 2**63, 2**64 - 1)
NO_WHOLE = (2**64, -(2**63) - 1, 1.0, True, "0", [])
MAPS = {"draft_map": [[0.5, 0.5], [0.1, 0.9]], "mask": ["10", "01"]}

# Lines that are of the sound line's cell, and lines that are of another.
SAME_CELL = [
    changed("input.dump", "renamed.h5"),
    changed("input.layer", 4),
    changed("config.sparsity", 0.5000),
    changed("config.region", [8.0, 16]).replace(b"8.0", b"8"),
    changed("config.seed", None),
    changed("machine.gpu", "of another machine"),
    changed("metrics.attention_recall", 0.25),
    changed("run", "another"),
]
OTHER_CELL = [
    changed("experiment", "pooling"),
    changed("input.sha256", "cd"),
    changed("input.sha256", None),
    changed("input.capture", "d"),
    changed("input.head", 2),
    changed("input.head", [1]),
    changed("config.sparsity", 0.75),
    changed("config.seed", 0),
    changed("config.device", "cuda"),
    changed("config.more", "x"),
]

CASES = [
    Case("sound", None, SOUND_LINE),
    # What stands at the top.
    *bad("schema", 0, 1, 3, 2.0, True, "2"),
    *bad("experiment", "", 3, []),
    *[without(name, name) for name in ("schema", "experiment", "input", "config", "metrics", "status")],
    *[
        case
        for name in ("input", "config", "metrics", "timing", "machine", "build", "arrays")
        for case in bad(name, [1], "x", 3)
    ],
    *bad("status", "OK", "", ["ok"]),
    *good("status", "skipped", "failed"),
    *bad("reason", 3),
    *bad("time", 3),
    *good("notes", "x", {"a": [1]}),
    *bad("notes", 3, []),
    *good("metrics", {}),
    without("timing", None),
    *good("run", None, "20260101T000000Z-0a1b2c3d"),
    *bad("run", 3),
    *good("something", None, [], {"a": [1, "b"]}),
    # Whole numbers of dumps may be any; others count.
    *[case for name in ("layer", "step", "steps", "model_head") for case in good(f"input.{name}", None, *WHOLE)],
    *[case for name in ("layer", "step", "steps", "model_head") for case in bad(f"input.{name}", *NO_WHOLE)],
    *[case for name in ("text_tokens", "head_dim", "tokens", "clips") for case in bad(f"input.{name}", -1, *NO_WHOLE)],
    *good("config.seed", 0, 2**63, 2**64 - 1),
    *bad("config.seed", -1, *NO_WHOLE),
    text("a seed of -0", None, b'"policy"', b'"seed": -0, "policy"'),
    *good("input.head", [], [0, 2**64 - 1]),
    *bad("input.head", -1, 2**64, 1.0, True, "0", [-1], [1.0], ["0"], [[0]]),
    *good("input.grid", None),
    *bad("input.grid", [2, 8, 16]),
    *bad("input.grid.frames", 0, -1, 2.0, None),
    *good("input.grid.frames", 1, 2**64 - 1),
    *bad("input.grid.height", 1.5),
    without("input.grid.width", "input.grid.width"),
    *bad("input.model", 3),
    *bad("input.shift", "x"),
    *good("input.timestep", None, 80, 0.5, -0.0, -1e308),
    *bad("input.timestep", "80", True, [0.5], {}),
    # The config.
    *good("config.region", [1, 2**64 - 1]),
    *bad("config.region", [8], [8, 0], [8.0, 16], [8, 2**64], [8, 16, 1], "8x16"),
    *good("config.sparsity", 0, 0.0, -0.0, 0.999),
    *bad("config.sparsity", 1, 1.0, -1e-300, "0.5", True),
    *bad("config.kernel", 5),
    *good("config.operands", "fp8"),
    *bad("config.operands", 8),
    *good("config.quantising", "timed"),
    *bad("config.quantising", True),
    *good("config.remainder", "pooled"),
    *bad("config.remainder", True),
    *bad("config.sustain_ms", 0, -1),
    *bad("config.dense_steps", 1.5, -0.1),
    *good("config.heads", 3, "all"),
    *bad("config.heads", -1),
    *bad("config.seconds", -1),
    # What was measured.
    *good("metrics.attention_recall", 0, -1e308, 5e-324, "not_applicable", 2**70, LARGEST, LARGEST + 2**970 - 1),
    *bad("metrics.attention_recall", None, True, "0.5", "", [1], {}),
    *good("timing.samples_ms", [1], [5e-324, 1e308]),
    *bad("timing.samples_ms", [], 1, "1", {}),
    *[
        Case(f"samples_ms {json.dumps(value)}", "timing.samples_ms", changed("timing.samples_ms", value))
        for value in ([0], [-1], [None], ["1"], [1, 0])
    ],
    *[case for name in ("median_ms", "p10_ms", "p90_ms") for case in bad(f"timing.{name}", 0, -1, "1", True)],
    *bad("timing.tflops_kept", -1),
    *good("timing.tflops_kept", 0),
    *bad("timing.warmup", -1),
    *bad("timing.l2_flush", -1, True),
    *bad("timing.calls_per_sample", -1, 1.5),
    # Where.
    *bad("machine.gpu", 5),
    *bad("machine.driver", []),
    *bad("machine.sm_clock_before_mhz", "x"),
    *bad("machine.throttle_reasons", "x", [1]),
    *good("machine.throttle_reasons", [], ["idle"]),
    *bad("build.dirty", "yes", 0),
    *bad("build.commit", 3),
    *bad("build.compiler", 3),
    # Arrays, which most readers leave out.
    *good("arrays", {}, MAPS, {"psnr": [1, 2.5]}, {"more": "x"}),
    *bad("arrays.psnr", 3, ["x"], [None]),
    *bad("arrays.mask", ["01", "1"], ["1x", "01"], [], "01", ["1", "0"], [[1]]),
    *bad("arrays.block_mass", [[0.5], [0.1]], [[None]], [1]),
    Case("maps of two sizes", "arrays.mask", changed("arrays", MAPS | {"mask": ["1"]})),
    arrays("a key twice in arrays", "a", b'{"a": 1, "a": 2}'),
    arrays("NaN in arrays", "wanted", b'{"a": NaN}'),
    arrays("32 levels", None, b'{"a": ' + b"[" * 30 + b"]" * 30 + b"}"),
    arrays("33 levels", "arrays", b'{"a": ' + b"[" * 31 + b"]" * 31 + b"}"),
    arrays("10000 members", None, b"{" + b", ".join(b'"%d": 1' % i for i in range(10_000)) + b"}"),
    arrays(
        "10001 members", "wanted at most 10000 members", b"{" + b", ".join(b'"%d": 1' % i for i in range(10_001)) + b"}"
    ),
    # Text.
    Case("an empty line", "one JSON object", b""),
    Case("a line of spaces", "one JSON object", b"  \t"),
    Case("a list", "wanted", b"[1]"),
    Case("words", "one JSON object", b"hello"),
    Case("two records", "one JSON object", SOUND_LINE * 2),
    Case("the end of a line of another system", None, SOUND_LINE + b"\r"),
    Case("a mark of byte order within", "one JSON object", b"\xef\xbb\xbf" + SOUND_LINE),
    text("a key twice", "status", b'"status": "ok"', b'"status": "ok", "status": "failed"'),
    text("a key twice, escaped", "status", b'"status": "ok"', b'"status": "ok", "st\\u0061tus": "failed"'),
    text("a lone surrogate", "wanted", b'"avg"', b'"\\ud800"'),
    text("a pair of surrogates", None, b'"a.h5"', b'"\\ud83d\\ude00"'),
    text("no UTF-8", "wanted", b'"a.h5"', b'"\xff"'),
    text("a control character", "wanted", b'"a.h5"', b'"\x01"'),
    text("too small", None, b"0.5", b"1e-400"),
    text("too large", "wanted", b"0.5", b"1e400"),
    text("a whole number too large", "wanted", b'"check_3_3": 1', b'"check_3_3": ' + str(LARGEST + 2**970).encode()),
]
