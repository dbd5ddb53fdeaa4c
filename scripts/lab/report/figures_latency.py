"""Plots of timed attention calls: time by sparsity, the roofline, and Figure 4's labels beside the projection."""

import math
from statistics import median

from . import projection, style
from .finding import percent
from .timings import (
    PAPER_SHAPES,
    attention_flops,
    by_call,
    call_of,
    choose,
    is_dense,
    kernel,
    kernels,
    main_order,
    median_ms,
    panel_titles,
    paper_masks,
    policy,
    provenance,
)

COLUMNS = 3
MOST_CALLS, MOST_KERNELS, MOST_POINTS = 9, 12, 200
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))  # one a call
IDEAL = ": dense time x kept share"


def pictures(cells, overhead, folder):
    """[(stem, caption)] of the plots that these latency records allow."""
    timed = [cell for cell in paper_masks(cells) if median_ms(cell) and policy(cell) in ("dense", "draft")]
    order = main_order(timed)
    timed = choose(timed, order=order) if timed and order else timed
    if not timed:
        return []
    calls = by_call(timed)
    more = style.left_out(len(calls), MOST_CALLS)
    timed = [cell for _, members in calls[:MOST_CALLS] for cell in members] if more else timed
    names = kernels(timed)
    if len(names) > MOST_KERNELS:
        more += style.left_out(len(names), MOST_KERNELS, "kernels")
        timed = [cell for cell in timed if kernel(cell) in names[:MOST_KERNELS]]
    text = f"Tokens in {order} order. " if order in ("token", "region") else ""
    found = [
        (
            draw_latency(timed, folder),
            "Time of one attention call by sparsity, median and 10% to 90%, and the ideal: the dense time times the"
            f" kept share; below it, the rate over kept blocks as a share of the dense one. {text}{provenance(timed)}{more}",
        )
    ]
    if any(attention_flops(cell) for cell in timed):
        found.append((draw_roofline(timed, overhead, folder), roofline_caption(timed, overhead) + more))
    return found


def draw_latency(cells, folder):
    """Two panels a call: milliseconds, and the share of the dense rate."""
    calls = by_call(cells)
    columns = min(COLUMNS, len(calls))
    bands = math.ceil(len(calls) / columns)
    figure, axes = style.panels(
        2 * bands, columns, 0.3 + 4.4 * bands, sharex=True, gridspec_kw={"height_ratios": [2.2, 1] * bands}
    )
    titles = panel_titles([call for call, _ in calls])
    lowest = min((cell.metrics.get("rate_over_dense", 1) for cell in cells), default=1)
    handles = {}
    for number in range(bands * columns):
        top, bottom = (axes[2 * (number // columns) + row][number % columns] for row in (0, 1))
        if number >= len(calls):
            top.set_visible(False)
            bottom.set_visible(False)
            continue
        call, members = calls[number]
        _draw_call(top, bottom, members)
        top.set_title(titles[call], loc="left", fontsize=9)
        bottom.axhline(1, color=style.GREY, linewidth=1)
        bottom.set_ylim(min(0.8, math.floor(10 * lowest) / 10), 1.08)
        style.percent_axis(bottom.yaxis)
        style.percent_axis(bottom.xaxis, style.spaced({cell.sparsity or 0 for cell in cells}, 0.2))
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
        members = sorted(choose(cells, kernel=name), key=lambda cell: cell.sparsity or 0)
        members = style.thinned(members, MOST_POINTS)
        x = [cell.sparsity or 0 for cell in members]
        middle = [median_ms(cell) for cell in members]
        around = [
            [ms - cell.timing.get("p10_ms", ms) for ms, cell in zip(middle, members)],
            [cell.timing.get("p90_ms", ms) - ms for ms, cell in zip(middle, members)],
        ]
        around = [[max(0.0, value) for value in side] for side in around]
        top.errorbar(x, middle, around, color=colour, linestyle=line, marker=marker, capsize=2, label=name)
        dense = next((cell for cell in members if is_dense(cell)), None)
        if dense:
            points = [
                (cell.sparsity or 0, median_ms(dense) * share)
                for cell in members
                if (share := 1.0 if is_dense(cell) else cell.metrics.get("kept_share")) is not None
            ]
            top.plot(*zip(*points), color=colour, linestyle=":", linewidth=1.2, label=name + IDEAL)
        points = [
            (cell.sparsity or 0, cell.metrics["rate_over_dense"])
            for cell in members
            if "rate_over_dense" in cell.metrics
        ]
        if points:
            bottom.plot(*zip(*points), color=colour, linestyle=line, marker=marker)
    top.set_yscale("log")
    style.plain_log(top.yaxis)


def bandwidth(overhead):
    """TB/s at which the fastest timed reordering reads and writes device memory; None where there is none."""
    rates = [cell.metrics.get("gb_per_s") for cell in overhead if cell.config.get("part") in ("reorder", "restore")]
    return max((rate for rate in rates if rate and rate > 0), default=0) / 1e3 or None


def roofline_caption(cells, overhead):
    memory = bandwidth(overhead)
    roof = (
        f"the memory roof is {memory:.2f} TB/s, the rate of the reordering, which only moves data"
        if memory
        else "no record holds a rate of device memory, so that only the roof of the matrix product is drawn"
    )
    return (
        "Roofline: the rate over kept blocks against FLOPs a byte of device memory, counting q, k, v read and the"
        f" output written once; {roof}. From right to left: dense, then rising sparsity. {provenance(cells)}"
    )


def draw_roofline(cells, overhead, folder):
    figure, axes = style.panels(1, 1, 4.0)
    axis = axes[0][0]
    calls = [call for call, _ in by_call(cells)]
    points = [
        (call_of(cell), kernel(cell), attention_flops(cell) / call_of(cell).minimum_bytes, cell)
        for cell in cells
        if attention_flops(cell) and call_of(cell).minimum_bytes
    ]
    products = [cell.metrics["matmul_tflops"] for cell in cells if cell.metrics.get("matmul_tflops", 0) > 0]
    roof = median(products) if products else None
    memory = bandwidth(overhead)
    right = 2 * max((x for _, _, x, _ in points), default=1e5)
    left = min(100.0, 0.5 * min((x for _, _, x, _ in points), default=100.0))
    if roof:
        start = roof / memory if memory else left
        axis.plot([start, right], [roof, roof], color=style.BLACK, linewidth=1.4)
        axis.annotate(
            f"matrix product, 8192$^3$: {roof:.0f} TFLOP/s", (start, roof), textcoords="offset points", xytext=(0, 5)
        )
        if memory:
            axis.plot([left, start], [memory * left, roof], color=style.BLACK, linewidth=1.4, linestyle="--")
            axis.annotate(
                f"memory: {memory:.2f} TB/s",
                (math.sqrt(left * start), memory * math.sqrt(left * start)),
                textcoords="offset points",
                xytext=(6, -12),
            )
    for name in kernels(cells):
        colour, _, marker = style.kernel_style(name)
        for number, call in enumerate(calls):
            found = sorted((x, cell.timing["tflops_kept"]) for c, k, x, cell in points if (c, k) == (call, name))
            found = style.thinned(found, MOST_POINTS)
            if found:
                look = {"color": colour, "marker": marker, "linestyle": LINES[number % len(LINES)]}
                axis.plot(*zip(*found), **look, linewidth=1, alpha=0.8)
        axis.plot([], [], color=colour, marker=marker, linestyle="none", label=name)
    titles = panel_titles(calls)
    for number, call in enumerate(calls):
        title = ", ".join(titles[call].split("\n"))
        axis.plot([], [], color=style.GREY, linestyle=LINES[number % len(LINES)], linewidth=1.2, label=title)
    axis.set_xscale("log")
    axis.set_yscale("log")
    low = min([cell.timing["tflops_kept"] for _, _, _, cell in points] + [memory * left if memory else 100.0])
    axis.set_ylim(0.7 * low, 1.6 * max([roof or 0] + [cell.timing["tflops_kept"] for _, _, _, cell in points]))
    axis.set_xlim(left, right)
    style.plain_log(axis.yaxis)
    style.plain_log(axis.xaxis)
    axis.set_xlabel("FLOPs over kept blocks / bytes of q, k, v and output")
    axis.set_ylabel("TFLOP/s over kept blocks")
    style.legend_strip(figure, *axis.get_legend_handles_labels(), 2)
    return style.save(figure, folder, "roofline")


def figure_4(rows, projected, folder):
    """Printed labels beside the projections; rows are those of latency_findings.compare. Returns (stem, caption)."""
    shapes = [shape for shape in PAPER_SHAPES if any(row[0] == shape and row[5] for row in rows)]
    figure, axes = style.panels(1, len(shapes), 3.4, sharey=True)
    looks = (
        ("printed, H100", style.GREY, ""),
        ("printed, A100", "#C4C4C4", ""),
        ("projected, token order", style.BLUE, ""),
        ("projected, with gather", style.SKY, "//"),
    )
    for axis, shape in zip(axes[0], shapes):
        members = [row for row in rows if row[0] == shape]
        sparsities = sorted({row[1] for row in members})
        for place, sparsity in enumerate(sparsities):
            printed = {row[2]: row[3] for row in members if row[1] == sparsity}
            cell = next(row[5] for row in members if row[1] == sparsity)
            same = [
                other
                for other in choose(projected, order="gather", sparsity=sparsity)
                if cell and call_of(other) == call_of(cell)
            ]
            values = [
                float(printed["H100"]) if "H100" in printed else None,
                float(printed["A100"]) if "A100" in printed else None,
                projection.speedup(cell) if cell else None,
                projection.speedup(same[0]) if same else None,
            ]
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
        axis.set_title(" ".join(PAPER_SHAPES[shape]), loc="left")
    axes[0][0].set_ylabel("end-to-end speed-up (x)")
    handles = {}
    for axis in axes[0]:
        handles.update(zip(*reversed(axis.get_legend_handles_labels())))
    names = [label for label, _, _ in looks if label in handles]
    style.legend_strip(figure, [handles[name] for name in names], names, 4)
    cells = [row[5] for row in rows if row[5]]
    return (
        style.save(figure, folder, "figure_4_projected"),
        "Figure 4's labels beside the projected speed-up of a whole video (everything but attention at the rate of a"
        f" matrix product). {provenance(cells)}",
    )
