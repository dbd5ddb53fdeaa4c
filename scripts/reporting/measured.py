"""What was measured: dumps, heads, machine and build; and every record as one table."""

from collections import Counter

from .finding import Table, markdown_table


def captures_table(records):
    rows = []
    for key in sorted({cell.capture_key for cell in records.cells if cell.dump}):
        cells = [cell for cell in records.cells if cell.capture_key == key]
        source = cells[0].input
        grid = source.get("grid", {})
        shape = (
            f"{grid.get('frames', '?')} x {grid.get('height', '?')} x {grid.get('width', '?')} +"
            f" {source.get('text_tokens', 0)} text"
        )
        step = f"{source.get('step', '?')}" + (f" of {source['steps']}" if "steps" in source else "")
        heads = sorted({cell.input.get("head") for cell in cells})
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


def section(records, table):
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
    if table.rows:
        lines += markdown_table(table) + [""]
    lines += [f"- Machine: {text}." for text in _distinct(_machine(cell.machine) for cell in records.cells)]
    lines += [f"- Build: {text}." for text in _distinct(_build(cell.build) for cell in records.cells)]
    if records.skipped:
        lines += [
            f"- Skipped: {count} records: {reason}."
            for reason, count in sorted(Counter(cell.reason for cell in records.skipped).items())
        ]
    return lines + [""]


def _distinct(texts):
    return sorted({text for text in texts if text})


def _machine(machine):
    return ", ".join(
        f"{key} {value}"
        for key, value in machine.items()
        if value not in (None, "") and not isinstance(value, (dict, list))
    )


def _build(build):
    commit = str(build.get("commit") or "")[:12]
    if not commit:
        return ""
    state = " with uncommitted changes" if build.get("dirty") else ""
    return f"commit {commit}{state}" + (f", {build['compiler']}" if build.get("compiler") else "")


def all_measurements(records):
    """Every ok record in one CSV file, for readers with their own questions."""
    cells = [cell for cell in records.cells if cell.dump]
    names = sorted({name for cell in cells for name in cell.metrics})
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
        + [cell.metrics.get(name) for name in names]
        for cell in cells
    ]
    rows.sort(key=lambda row: [str(value) for value in row[:12]])
    return Table("all_measurements", "Every record.", columns, rows)
