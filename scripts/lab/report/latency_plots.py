"""Plots of timed attention calls: time by sparsity, and the roofline."""

import math
from statistics import median

import pandas as pd

from . import style
from .calls import attention_flops, kernels, main_order, panel_titles, paper_masks, provenance
from .frame import rows, where, with_metrics

COLUMNS = 3
MOST_CALLS, MOST_KERNELS, MOST_POINTS = 9, 12, 200
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))  # one a call
IDEAL = ": dense time x kept share"


def pictures(cells, overhead, folder):
    """[(stem, caption)] of the plots that these latency records allow."""
    cells = paper_masks(cells)
    timed = where(cells, [bool(time) for time in cells["median_ms"]])
    timed = timed[timed["mask"].isin(("dense", "draft"))]
    order = main_order(timed)
    timed = timed[timed["order"] == order] if order else timed
    if timed.empty:
        return []
    timed = with_metrics(timed, "rate_over_dense", "kept_share", "matmul_tflops")
    groups = [group for _, group in timed.groupby("call")]
    more = style.left_out(len(groups), MOST_CALLS)
    timed = pd.concat(groups[:MOST_CALLS]) if more else timed
    names = kernels(timed)
    if len(names) > MOST_KERNELS:
        more += style.left_out(len(names), MOST_KERNELS, "kernels")
        timed = timed[timed["kernel"].isin(names[:MOST_KERNELS])]
    text = f"Tokens in {order} order. " if order in ("token", "region") else ""
    caption = (
        "Time of one attention call by sparsity, median and 10% to 90%, and the ideal: the dense time times the"
        f" kept share; below it, the rate over kept blocks as a share of the dense one. {text}{provenance(timed)}{more}"
    )
    found = [(_draw_latency(timed, folder), caption)]
    if any(attention_flops(cell) for cell in rows(timed)):
        found.append(_draw_roofline(timed, _bandwidth(overhead), folder, more))
    return found


def _draw_latency(cells, folder):
    """Two panels a call: milliseconds, and the share of the dense rate."""
    groups = [group for _, group in cells.groupby("call")]
    columns = min(COLUMNS, len(groups))
    bands = math.ceil(len(groups) / columns)
    figure, axes = style.panels(
        2 * bands, columns, 0.3 + 4.4 * bands, sharex=True, gridspec_kw={"height_ratios": [2.2, 1] * bands}
    )
    titles = panel_titles(cells)
    lowest = min(1 if rate is None else rate for rate in cells["rate_over_dense"])
    handles = {}
    for number in range(bands * columns):
        top, bottom = (axes[2 * (number // columns) + row][number % columns] for row in (0, 1))
        if number >= len(groups):
            top.set_visible(False)
            bottom.set_visible(False)
            continue
        _draw_call(top, bottom, groups[number])
        top.set_title(titles[groups[number]["call"].iat[0]], loc="left", fontsize=9)
        bottom.axhline(1, color=style.GREY, linewidth=1)
        bottom.set_ylim(min(0.8, math.floor(10 * lowest) / 10), 1.08)
        style.percent_axis(bottom.yaxis)
        style.percent_axis(bottom.xaxis, style.spaced(set(cells["sparsity"]), 0.2))
        bottom.set_xlabel("sparsity")
        bottom.tick_params(labelbottom=True)
        handles.update(zip(*reversed(top.get_legend_handles_labels())))
        if number % columns == 0:
            top.set_ylabel("one attention call (ms)")
            bottom.set_ylabel("rate over kept\nblocks / dense")
    labels = sorted(handles, key=lambda label: label.endswith(IDEAL))
    style.legend_strip(figure, [handles[label] for label in labels], labels, 4)
    return style.save(figure, folder, "latency_by_sparsity")


def _draw_call(top, bottom, cells):
    for name in kernels(cells):
        colour, line, marker = style.kernel_style(name)
        members = list(rows(cells[cells["kernel"] == name].sort_values("sparsity", kind="stable")))
        members = style.thinned(members, MOST_POINTS)
        x, middle = [cell.sparsity for cell in members], [cell.median_ms for cell in members]
        low = [max(0.0, cell.median_ms - (cell.median_ms if cell.p10_ms is None else cell.p10_ms)) for cell in members]
        high = [max(0.0, (cell.median_ms if cell.p90_ms is None else cell.p90_ms) - cell.median_ms) for cell in members]
        top.errorbar(x, middle, [low, high], color=colour, linestyle=line, marker=marker, capsize=2, label=name)
        dense = next((cell for cell in members if cell.mask == "dense"), None)
        if dense:
            shares = [(cell.sparsity, 1.0 if cell.mask == "dense" else cell.kept_share) for cell in members]
            points = [(sparsity, dense.median_ms * share) for sparsity, share in shares if share is not None]
            top.plot(*zip(*points), color=colour, linestyle=":", linewidth=1.2, label=name + IDEAL)
        points = [(cell.sparsity, cell.rate_over_dense) for cell in members if cell.rate_over_dense is not None]
        if points:
            bottom.plot(*zip(*points), color=colour, linestyle=line, marker=marker)
    top.set_yscale("log")
    style.plain_log(top.yaxis)


def _bandwidth(overhead):
    """TB/s at which the fastest timed reordering reads and writes device memory; None where there is none."""
    moves = with_metrics(overhead[overhead["part"].isin(("reorder", "restore"))], "gb_per_s")
    return max((rate for rate in moves["gb_per_s"] if rate and rate > 0), default=0) / 1e3 or None


def _draw_roofline(cells, memory, folder, more):
    """(stem, caption)"""
    figure, axes = style.panels(1, 1, 4.0)
    axis = axes[0][0]
    points = [
        (flops / cell.bytes_moved, cell.tflops_kept, cell.call, cell.kernel)
        for cell in rows(cells)
        if (flops := attention_flops(cell)) and cell.bytes_moved
    ]
    products = [rate for rate in cells["matmul_tflops"] if (rate or 0) > 0]
    roof = median(products) if products else None
    right = 2 * max((x for x, *_ in points), default=1e5)
    left = min(100.0, 0.5 * min((x for x, *_ in points), default=100.0))
    if roof:
        _draw_roof(axis, roof, memory, left, right)
    calls = sorted(set(cells["call"]))
    for name in kernels(cells):
        colour, _, marker = style.kernel_style(name)
        for number, call in enumerate(calls):
            found = style.thinned(sorted(point[:2] for point in points if point[2:] == (call, name)), MOST_POINTS)
            if found:
                look = {"color": colour, "marker": marker, "linestyle": LINES[number % len(LINES)]}
                axis.plot(*zip(*found), **look, linewidth=1, alpha=0.8)
        axis.plot([], [], color=colour, marker=marker, linestyle="none", label=name)
    titles = panel_titles(cells)
    for number, call in enumerate(calls):
        title = ", ".join(titles[call].split("\n"))
        axis.plot([], [], color=style.GREY, linestyle=LINES[number % len(LINES)], linewidth=1.2, label=title)
    axis.set_xscale("log")
    axis.set_yscale("log")
    low = min([rate for _, rate, *_ in points] + [memory * left if memory else 100.0])
    axis.set_ylim(0.7 * low, 1.6 * max([roof or 0] + [rate for _, rate, *_ in points]))
    axis.set_xlim(left, right)
    style.plain_log(axis.yaxis)
    style.plain_log(axis.xaxis)
    axis.set_xlabel("FLOPs over kept blocks / bytes of q, k, v and output")
    axis.set_ylabel("TFLOP/s over kept blocks")
    style.legend_strip(figure, *axis.get_legend_handles_labels(), 2)
    words = (
        f"the memory roof is {memory:.2f} TB/s, the rate of the reordering, which only moves data"
        if memory
        else "no record holds a rate of device memory, so that only the roof of the matrix product is drawn"
    )
    caption = (
        "Roofline: the rate over kept blocks against FLOPs a byte of device memory, counting q, k, v read and the"
        f" output written once; {words}. From right to left: dense, then rising sparsity. {provenance(cells)}{more}"
    )
    return style.save(figure, folder, "roofline"), caption


def _draw_roof(axis, roof, memory, left, right):
    start = roof / memory if memory else left
    axis.plot([start, right], [roof, roof], color=style.BLACK, linewidth=1.4)
    text = f"matrix product, 8192$^3$: {roof:.0f} TFLOP/s"
    axis.annotate(text, (start, roof), textcoords="offset points", xytext=(0, 5))
    if memory:
        axis.plot([left, start], [memory * left, roof], color=style.BLACK, linewidth=1.4, linestyle="--")
        middle = (math.sqrt(left * start), memory * math.sqrt(left * start))
        axis.annotate(f"memory: {memory:.2f} TB/s", middle, textcoords="offset points", xytext=(6, -12))
