"""What was measured: dumps, heads, machine and build; and every record as one table."""

from collections import Counter

from .finding import Table, markdown_table
from .records import NOTHING, TIMED, VIDEOS
from .timings import call_of, commit
from .videos import grid_of

OF_THE_MOMENT = ("sm_clock", "power", "throttle")  # these differ from record to record


def captures_table(records):
    rows = []
    groups = {}
    for cell in _studied(records):
        groups.setdefault(cell.capture_key, []).append(cell)
    for key, cells in sorted(groups.items(), key=lambda item: item[0]):
        source = cells[0].input
        grid = cells[0].grid
        shape = (
            f"{grid.get('frames', '?')} x {grid.get('height', '?')} x {grid.get('width', '?')} +"
            f" {source.get('text_tokens', 0)} text"
        )
        step = f"{source.get('step', '?')}" + (f" of {source['steps']}" if "steps" in source else "")
        heads = {cell.input.get("head") for cell in cells}
        rows.append(
            (
                key[0],
                key[1],
                source.get("model", ""),
                key[2],
                source.get("layer", ""),
                step,
                shape,
                source.get("head_dim", ""),
                len(heads),
                len(cells),
            )
        )
    return Table(
        "measured",
        "One row a capture. Everywhere in this report a head is one head of one captured call: a head captured at two steps counts twice.",
        (
            "dump",
            "sha256 (first 8)",
            "model",
            "capture",
            "layer",
            "step",
            "grid (frames x height x width)",
            "head_dim",
            "heads",
            "records",
        ),
        rows,
        shown=60,
    )


def _studied(records):
    """Records of what attention does on a dump; the timed ones have tables of their own."""
    return [cell for cell in records.cells if cell.dump and cell.experiment not in TIMED]


def gpu_runs_table(records):
    runs = {}
    for cell in records.of(*TIMED):
        call = call_of(cell)
        key = (cell.experiment, call.gpu, cell.machine.get("driver") or "", commit(cell), call.label, call.size)
        runs.setdefault(key, []).append(cell.time)
    for cell in records.of(*VIDEOS):
        machine, source = cell.machine, cell.input
        key = (
            cell.experiment,
            machine.get("gpu") or machine.get("cpu") or "",
            machine.get("driver") or "",
            commit(cell),
        )
        runs.setdefault(
            (*key, f"{source.get('model')}, {grid_of(cell)} tokens", f"{source.get('clips')} clips"), []
        ).append(cell.time)
    rows = [key + (len(times), min(times), max(times)) for key, times in sorted(runs.items())]
    columns = (
        "experiment",
        "GPU",
        "driver",
        "commit",
        "what",
        "size (heads x tokens, or clips)",
        "records",
        "first (UTC)",
        "last (UTC)",
    )
    return Table(
        "gpu_runs",
        "Timed attention calls, and videos of the small model. These records are of the commit and the GPU that they name: scripts/reproduce.sh, which"
        ' needs no GPU, adds them as they are and does not make them again. A "+" marks a build with uncommitted'
        " changes.",
        columns,
        rows,
        shown=60,
    )


def section(records, table, runs):
    counts = Counter(cell.experiment for cell in records.cells)
    lines = [
        "## What was measured",
        "",
        "Records: "
        + (", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none")
        + "."
        + (f" {records.superseded} older records of cells measured again were left out." if records.superseded else ""),
        "",
    ]
    for shown in (table, runs):
        if shown.rows:
            lines += markdown_table(shown) + [""]
    lines += [f"- Machine: {text}." for text in _distinct(_machine(cell.machine) for cell in records.cells)]
    lines += [f"- Build: {text}." for text in _distinct(_build(cell.build) for cell in records.cells)]
    if records.skipped:
        lines += [
            f"- Skipped: {count} records: {reason}."
            for reason, count in sorted(Counter(cell.reason for cell in records.skipped).items())
        ]
    lines += _nothing(records)
    return lines + [""]


def _nothing(records):
    """What the records have no value of, because it is relative to nothing."""
    counts = Counter(name for cell in records.cells for name in cell.not_applicable)
    if not counts:
        return []
    words = ", ".join(f"{name} in {count} records" for name, count in sorted(counts.items()))
    return [f"- Relative to nothing, {NOTHING} in tables: {words}."]


def _distinct(texts):
    return sorted({text for text in texts if text})


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
    names = sorted({name for cell in cells for name in (*cell.metrics, *cell.not_applicable)})
    columns = [
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
    ] + names
    rows = [
        [
            cell.experiment,
            cell.dump,
            cell.input.get("capture"),
            cell.input.get("layer"),
            cell.input.get("step"),
            cell.input.get("head"),
            cell.policy,
            cell.pool,
            cell.rule,
            cell.region,
            cell.sparsity,
            cell.config.get("seed"),
        ]
        + [cell.shown(name) for name in names]
        for cell in cells
    ]
    rows.sort(key=lambda row: [str(value) for value in row[:12]])
    return Table("all_measurements", "Every record.", columns, rows)
