"""What was measured: dumps, heads, machine and build; and every record as one table."""

from collections import Counter

import pandas as pd

from .calls import timed
from .finding import Table, markdown_table, table_anchor, table_of
from .frame import DUMP, NOTHING, TIMED, VIDEOS, rows, with_columns, with_shown
from .videos import with_grid

OF_THE_MOMENT = ("sm_clock", "power", "throttle")  # these differ from record to record
DUMPS = {
    "dump": "dump",
    "sha256 (first 8)": "sha",
    "model": "model",
    "grid (frames x height x width)": "shape_text",
    "head_dim": "head_dim",
    "prompts": "prompts",
    "layers": "layers",
    "steps": "steps",
    "captures": "captures",
    "heads": "count",
    "records": "records",
}
RUNS = {
    "experiment": "experiment",
    "GPU": "gpu",
    "driver": "driver",
    "commit": "commit",
    "what": "what",
    "size (heads x tokens, or clips)": "size",
    "records": "records",
    "first (UTC)": "first",
    "last (UTC)": "last",
}
CELL = [
    "experiment",
    "dump",
    "capture",
    "layer",
    "step",
    "head",
    "policy",
    "pool",
    "rule",
    "region",
    "sparsity",
    "seed",
]


def _studied(records):
    """Records of what attention does on a dump; the timed ones have tables of their own."""
    cells = records.of()
    return cells[(cells["dump"] != "") & ~cells["experiment"].isin(TIMED)]


def dumps_table(records):
    found = []
    for _, cells in _studied(records).groupby(DUMP):
        cell = next(rows(cells))
        sides = ("?" if side is None else side for side in (cell.frames, cell.height, cell.width))
        heads = [source.get("head") for source in cells["input"]]
        found.append(
            {
                **{name: getattr(cell, name) for name in DUMP},
                **{name: "" if (value := getattr(cell, name)) is None else value for name in ("model", "head_dim")},
                "shape_text": " x ".join(map(str, sides)) + f" + {cell.text_tokens or 0} text",
                "prompts": len({prompt for prompt in cells["prompt"] if prompt is not None}) or "",
                "layers": ", ".join(_in_order(cells["layer"])),
                "steps": ", ".join(_in_order(cells["step"])) + (f" of {cell.steps}" if cell.steps is not None else ""),
                "captures": len(set(cells["capture"])),
                "count": len(set(zip(cells["capture"], map(str, heads)))),
                "records": len(cells),
            }
        )
    return table_of(
        "measured",
        "One row a dump. Everywhere in this report a head is one head of one captured call: a head captured at two steps counts twice.",
        pd.DataFrame(found, columns=list(DUMPS.values()), dtype=object),
        DUMPS,
        shown=60,
    )


def _in_order(values):
    return [f"{value}" for value in sorted({value for value in values if value is not None})]


def gpu_runs_table(records):
    calls, videos = records.once(timed), with_grid(records.of(*VIDEOS))
    models, clips = ([source.get(name) for source in videos["input"]] for name in ("model", "clips"))
    videos = videos.assign(
        gpu=[gpu or cpu or "" for gpu, cpu in zip(videos["gpu"], videos["cpu"])],
        what=[f"{model}, {grid} tokens" for model, grid in zip(models, videos["grid_text"])],
        size=[f"{count} clips" for count in clips],
    )
    every = pd.concat([calls.assign(what=calls["label"]), videos])
    every = every.assign(driver=[driver or "" for driver in every["driver"]])
    keys = ["experiment", "gpu", "driver", "commit", "what", "size"]
    found = [
        {**dict(zip(keys, key)), "records": len(times), "first": min(times), "last": max(times)}
        for key, times in every.groupby(keys)["time"]
    ]
    return table_of(
        "gpu_runs",
        "Timed attention calls, and videos of the small model. These records are of the commit and the GPU that they name: scripts/reproduce.sh, which"
        ' needs no GPU, adds them as they are and does not make them again. A "+" marks a build with uncommitted'
        " changes.",
        pd.DataFrame(found, columns=list(RUNS.values()), dtype=object),
        RUNS,
        shown=0,
    )


def facts(records):
    """[(what, text)]: counts of records, machines, builds, and what was skipped or is relative to nothing."""
    cells, skipped = records.of(), records.of(status="skipped")
    old = f"; {records.superseded} older ones of cells measured again were left out" if records.superseded else ""
    found = [("Records", f"{_counted(cells['experiment'], '{count} {name}') or 'none'}{old}")]
    found.append(("Machines", "; ".join(sorted(set(map(_machine, cells["machine"])) - {""}))))
    found.append(("Builds", "; ".join(sorted(set(map(_build, cells["build"])) - {""}))))
    reasons = sorted(Counter(skipped["reason"]).items())
    found.append(("Skipped", "; ".join(f"{count} records: {reason.rstrip('.')}" for reason, count in reasons)))
    nothing = [name for names in cells["not_applicable"] for name in names]
    found.append((f"Relative to nothing, {NOTHING} in tables", _counted(nothing, "{name} in {count} records")))
    return [(what, text) for what, text in found if text]


def section(records, table, runs, site=""):
    lines = ["## What was measured", ""]
    if table.rows:
        lines += markdown_table(table, site) + [""]
    lines += [f"- {what}: {text}." for what, text in facts(records)]
    if runs.rows:
        place = f"{site}#{table_anchor(runs.name)}" if site else f"tables/{runs.name}.csv"
        gpus = sorted({row[runs.columns.index("GPU")] for row in runs.rows} - {""})
        lines.append(
            f"- Timed calls and videos: [{len(runs.rows)} runs]({place}) on {', '.join(gpus) or 'devices not named'}. {runs.caption}"
        )
    return lines + [""]


def _counted(names, words):
    return ", ".join(words.format(name=name, count=count) for name, count in sorted(Counter(names).items()))


def _machine(machine):
    return ", ".join(
        f"{key} {value}"
        for key, value in machine.items()
        if value not in (None, "") and not isinstance(value, (dict, list)) and not key.startswith(OF_THE_MOMENT)
    )


def _build(build):
    commit = str(build.get("commit") or "")[:12]
    if not commit:
        return ""
    state = " with uncommitted changes" if build.get("dirty") else ""
    return f"commit {commit}{state}" + (f", {build['compiler']}" if build.get("compiler") else "")


def all_measurements(records):
    """Every ok record of a dump but the timed ones in one CSV file, for readers with their own questions."""
    cells = _studied(records)
    cells = with_columns(cells, head=[source.get("head") for source in cells["input"]])
    metrics = {
        *(name for each in cells["metrics"] for name in each),
        *(name for each in cells["not_applicable"] for name in each),
    }
    names = sorted(metrics)
    cells = with_shown(cells, *names)
    found = list(zip(*(cells[name] for name in [*CELL, *names])))
    found.sort(key=lambda row: [str(value) for value in row[: len(CELL)]])
    return Table("all_measurements", "Every record.", [*CELL, *names], found)
