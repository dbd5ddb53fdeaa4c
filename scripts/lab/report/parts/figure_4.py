"""Figure 4: end-to-end speed-ups, by projection from timed attention calls; and every timed call as one row."""

import pandas as pd

from .. import latency_plots, style
from ..calls import ORDERS, PAPER_NAMES, PAPER_SHAPES, calls, provenance, rank_of
from ..finding import CAVEAT, CONTRADICTED, NOT_TESTABLE, Judged, percent, table_of
from ..frame import drawable, left_out, with_columns, with_shown
from ..projection import limit, lowest, printed_labels, projected, tolerance

GPUS = ("H100", "A100")  # of the figure
COLUMNS = {
    "model": "model",
    "sparsity": "sparsity",
    "printed for": "printed_for",
    "printed (x)": "printed",
    "place of the label": "certainty",
    "projected (x)": "speedup",
    "projected with gather (x)": "gather",
    "reached": "answer",
    "dense video, projected (s)": "dense_s",
    "sparse video, projected (s)": "sparse_s",
    "data": "data",
    "projected on": "gpu",
    "commit": "commit",
}
LATENCY = {
    "call, data": "label",
    "kernel": "kernel",
    "order": "order",
    "blocks by": "mask",
    "sparsity": "sparsity",
    "kept share": "kept_share",
    "median (ms)": "median_ms",
    "10% (ms)": "p10_ms",
    "90% (ms)": "p90_ms",
    "TFLOP/s, kept blocks": "tflops_kept",
    "of the matrix product": "share_of_matmul",
    "of its dense rate": "rate_over_dense",
    "speed-up": "speedup_over_dense",
    "ideal (1 / kept share)": "ideal",
    "projected end to end (x)": "projected_speedup",
    "draft (ms)": "draft_ms",
    "pool": "pool",
    "rule": "rule",
    "region": "region",
    "element": "element",
    "SM clock before (MHz)": "sm_clock_before_mhz",
    "SM clock after (MHz)": "sm_clock_after_mhz",
    "power before (W)": "power_before_w",
    "power after (W)": "power_after_w",
    "throttled by": "throttled",
    "data": "data",
    "GPU": "gpu",
    "commit": "commit",
}
METRICS = ["kept_share", "share_of_matmul", "rate_over_dense", "speedup_over_dense", "projected_speedup", "draft_ms"]


def judge(records, paper, plots):
    labels = [row for row in paper.table("figure4") if row["speedup_x"]]
    cells = calls(records, "latency")
    facts = {"best": max(labels, key=lambda row: float(row["speedup_x"])), "cells": len(cells), "measured": []}
    if cells.empty:
        return Judged(NOT_TESTABLE, facts)
    tables = [_latency_table(cells)]
    pictures = latency_plots.pictures(drawable(cells), drawable(calls(records, "overhead")), plots)
    names = ("projected_speedup", "rate_over_dense", "speedup_over_dense", "share_of_matmul")
    facts["left_out"] = left_out(cells, *names)
    sparse = projected(records)
    compared = _compared(sparse, paper)
    measured = [row for row in compared if row["cell"]]
    facts |= {"measured": measured, "absent": sorted({_place(row) for row in compared if not row["cell"]})}
    if not measured:
        return Judged(NOT_TESTABLE, facts, tables, pictures)
    tables[0].shown = 0  # the labels carry the claim
    tables.insert(0, _table(compared))
    if all(row["cell"].drawable for row in measured):
        pictures.insert(0, _draw(compared, drawable(sparse), plots))
    facts["devices"] = ", ".join(sorted({row["cell"].gpu or "a GPU not named" for row in measured}))
    facts["top"] = max(measured, key=lambda row: row["speedup"])
    limits = {
        shape: [found for row in measured if row["shape"] == shape and (found := limit(row["cell"]))]
        for shape in PAPER_SHAPES
    }
    facts["limits"] = {PAPER_NAMES[shape]: max(found) for shape, found in limits.items() if found}
    by_gpu = [[row["reached"] for row in measured if row["printed_for"] == gpu] for gpu in GPUS]
    return Judged(CAVEAT if any(map(all, by_gpu)) else CONTRADICTED, facts, tables, pictures)


def _place(row):
    return f"{row['model']} at {percent(row['sparsity'], 0)}"


def _compared(cells, paper):
    """A row a printed label; `cell` is None where its shape and sparsity were not measured."""
    found = []
    for shape in PAPER_SHAPES:
        for sparsity, gpus in sorted(printed_labels(paper, shape).items()):
            cell = lowest(cells, shape, sparsity)
            row = {"shape": shape, "model": PAPER_NAMES[shape], "sparsity": sparsity, "cell": cell}
            row["gather"] = _gather(cells, cell)
            for gpu, (text, certainty) in sorted(gpus.items(), reverse=True):
                reached = bool(cell) and cell.projected_speedup >= float(text) - tolerance(text)
                label = {"printed_for": gpu, "printed": text, "certainty": certainty, "reached": reached}
                found.append(row | label | {"speedup": cell and cell.projected_speedup})
    return found


def _gather(cells, cell):
    """The projection of the same call and sparsity through a gather, or None."""
    if cell is None:
        return None
    same = cells[(cells["order"] == "gather") & (cells["sparsity"] == cell.sparsity) & (cells["call"] == cell.call)]
    return next(iter(same["projected_speedup"]), None)


def _table(compared):
    found = []
    for row in compared:
        cell = row["cell"]
        more = {"answer": "not measured"}
        if cell:
            more = {"answer": "yes" if row["reached"] else "no", "dense_s": cell.projected_dense_s}
            more |= {"sparse_s": cell.projected_sparse_s, "data": cell.origin, "gpu": cell.gpu, "commit": cell.commit}
        found.append(row | more)
    caption = "Printed end-to-end speed-ups beside the projected ones. gather = tokens moved to region order and back."
    frame = pd.DataFrame(found, columns=list(COLUMNS.values()), dtype=object)
    return table_of("figure_4", caption, frame, COLUMNS, shown=12)


def _latency_table(cells):
    """One row a timed call: draft masks in token order first, by kernel; calls in their order, rising sparsities in each."""
    cells = with_shown(cells, *METRICS)
    kept = [metrics.get("kept_share") for metrics in cells["metrics"]]
    dense = cells["mask"] == "dense"
    machine = cells["machine"]
    importance = [_importance(*row) for row in zip(cells["kernel"], cells["order"], cells["mask"])]
    ranks = {each: rank for rank, each in enumerate(sorted(set(importance)))}
    clocks = ("sm_clock_before_mhz", "sm_clock_after_mhz", "power_before_w", "power_after_w")
    cells = with_columns(
        cells,
        ideal=[None if is_dense or not share else 1 / share for is_dense, share in zip(dense, kept)],
        speedup_over_dense=cells["speedup_over_dense"].where(~dense, None),
        projected_speedup=cells["projected_speedup"].where(~dense, None),
        throttled=[", ".join(each.get("throttle_reasons") or ()) for each in machine],
        place=[ranks[each] for each in importance],
        **{name: [each.get(name) for each in machine] for name in clocks},
    )
    cells = cells.sort_values(["place", "call", "sparsity"], kind="stable")
    return table_of("latency", f"One attention call. {provenance(cells)}", cells, LATENCY, columns_shown=15)


def _importance(kernel, order, mask):
    usual = order in ("token", "") and mask in ("dense", "draft")
    return (not usual, rank_of(kernel), () if usual else (*_places(order, ORDERS), *_places(mask, ("dense", "draft"))))


def _places(value, known):
    return (known.index(value) if value in known else len(known), value)


def _draw(compared, projected_cells, folder):
    """Printed labels beside the projections. (stem, caption)."""
    shapes = [shape for shape in PAPER_SHAPES if any(row["shape"] == shape and row["cell"] for row in compared)]
    figure, axes = style.panels(1, len(shapes), 3.4, sharey=True)
    looks = (
        ("printed, H100", style.GREY, ""),
        ("printed, A100", "#C4C4C4", ""),
        ("projected, token order", style.BLUE, ""),
        ("projected, with gather", style.SKY, "//"),
    )
    handles = {}
    for axis, shape in zip(axes[0], shapes):
        members = [row for row in compared if row["shape"] == shape]
        sparsities = sorted({row["sparsity"] for row in members})
        for place, sparsity in enumerate(sparsities):
            there = [row for row in members if row["sparsity"] == sparsity]
            printed = {row["printed_for"]: row["printed"] for row in there}
            values = [float(printed[gpu]) if gpu in printed else None for gpu in GPUS]
            values += [there[0]["speedup"], _gather(projected_cells, there[0]["cell"])]
            for number, (value, (label, colour, hatch)) in enumerate(zip(values, looks)):
                if value is None:
                    continue
                x = place + 0.21 * (number - 1.5)
                axis.bar(x, value, 0.2, color=colour, hatch=hatch, edgecolor="white", linewidth=0.5, label=label)
                style.above(axis, x, value, printed[label[-4:]] if number < 2 else f"{value:.2f}", 7)
        axis.axhline(1, color=style.BLACK, linewidth=0.8)
        axis.set_xticks(range(len(sparsities)), [percent(sparsity, 0) for sparsity in sparsities])
        axis.set_xlabel("sparsity")
        axis.grid(axis="x", visible=False)
        axis.set_title(PAPER_NAMES[shape], loc="left")
        handles.update(zip(*reversed(axis.get_legend_handles_labels())))
    axes[0][0].set_ylabel("end-to-end speed-up (x)")
    names = [label for label, _, _ in looks if label in handles]
    style.legend_strip(figure, [handles[name] for name in names], names, 4)
    cells = pd.DataFrame([row["cell"]._asdict() for row in compared if row["cell"]])
    caption = (
        "Figure 4's labels beside the projected speed-up of a whole video (everything but attention at the rate of a"
        f" matrix product). {provenance(cells)}"
    )
    return style.save(figure, folder, "figure_4_projected"), caption
