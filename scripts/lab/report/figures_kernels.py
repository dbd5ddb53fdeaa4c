"""Bars of kernels side by side: by kind of mask, and beside other projects' kernels."""

from statistics import median

from . import style
from .finding import percent
from .timings import POLICIES, by_call, choose, kernels, one, panel_titles, policy, provenance, sparsities

MOST_CALLS, MOST_KERNELS, MOST_GROUPS = 6, 12, 12
PRODUCT = "matrix product, 8192$^3$"
POLICY_LOOKS = {
    "draft": (style.BLUE, ""),
    "random": (style.SKY, "//"),
    "uneven": (style.ORANGE, "\\\\"),
    "worst": (style.RED, "xx"),
}


def _grid(count, height):
    columns = min(3, count)
    rows = -(-count // columns)
    figure, axes = style.panels(rows, columns, 0.5 + height * rows, sharey=True)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes


def _collect(handles, axis):
    for handle, label in zip(*axis.get_legend_handles_labels()):
        handles.setdefault(label, handle)


def draw_balance(cells, folder):
    """Share of the dense rate by kind of mask; one panel a call, one group a kernel. Returns (stem, caption)."""
    calls = by_call(cells)
    more, calls = style.left_out(len(calls), MOST_CALLS), calls[:MOST_CALLS]
    figure, axes = _grid(len(calls), 2.5)
    titles, handles = panel_titles([call for call, _ in calls]), {}
    lowest = min(cell.metrics["rate_over_dense"] for cell in cells)
    for axis, (call, members) in zip(axes.flat, calls):
        names = kernels(members)[:MOST_KERNELS]
        kinds = [kind for kind in POLICIES if any(policy(cell) == kind for cell in members)]
        for place, name in enumerate(names):
            for number, kind in enumerate(kinds):
                cell = one(members, kernel=name, policy=kind)
                if cell is None:
                    continue
                colour, hatch = POLICY_LOOKS[kind]
                share, x = cell.metrics["rate_over_dense"], place + 0.2 * (number - (len(kinds) - 1) / 2)
                axis.bar(x, share, 0.19, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=kind)
                style.above(axis, x, share, f"{100 * share:.0f}")
        axis.axhline(1, color=style.BLACK, linewidth=0.8)
        axis.set_xticks(range(len(names)), names)
        axis.grid(axis="x", visible=False)
        axis.set_title(titles[call], loc="left", fontsize=9)
        style.percent_axis(axis.yaxis)
        _collect(handles, axis)
    for row in axes:
        row[0].set_ylabel("rate over kept\nblocks / dense")
    axes[0][0].set_ylim(0, max(1.12, 1.1 * max(cell.metrics["rate_over_dense"] for cell in cells)))
    style.legend_strip(figure, list(handles.values()), [f"mask: {label}" for label in handles], 4)
    caption = (
        f"The rate over kept blocks as a share of the kernel's own dense rate at {percent(cells[0].sparsity, 0)}"
        f" sparsity, by kind of mask; the lowest is {percent(lowest)}.{more} {provenance(cells)}"
    )
    return style.save(figure, folder, "load_balance"), caption


def draw_peers(cells, folder, left_out):
    """TFLOP/s over kept blocks, one panel a call, one group a sparsity. Returns (stem, caption)."""
    calls = by_call(cells)
    more, calls = style.left_out(len(calls), MOST_CALLS), calls[:MOST_CALLS]
    figure, axes = style.panels(len(calls), 1, 0.7 + 2.1 * len(calls), sharex=False)
    titles, handles = panel_titles([call for call, _ in calls]), {}
    for (axis,), (call, members) in zip(axes, calls):
        names, groups = kernels(members)[:MOST_KERNELS], style.thinned(sparsities(members), MOST_GROUPS)
        start = 0.0
        ticks = []
        for sparsity in groups:
            there = [name for name in names if choose(members, kernel=name, sparsity=sparsity)]
            for number, name in enumerate(there):
                cell = one(members, kernel=name, sparsity=sparsity)
                _bar(axis, start + number, cell, name)
            ticks.append((start + (len(there) - 1) / 2, "dense" if not sparsity else percent(sparsity, 0)))
            start += len(there) + 1.2
        products = [cell.metrics["matmul_tflops"] for cell in members if "matmul_tflops" in cell.metrics]
        if products:
            axis.axhline(median(products), color=style.BLACK, linestyle="--", linewidth=1, label=PRODUCT)
        axis.set_xticks(*zip(*ticks))
        axis.tick_params(axis="x", length=0)
        axis.grid(axis="x", visible=False)
        axis.set_title(titles[call].replace("\n", ", "), loc="left", fontsize=9)
        axis.set_ylabel("TFLOP/s over\nkept blocks")
        axis.set_ylim(top=1.1 * axis.get_ylim()[1])
        _collect(handles, axis)
    axes[-1][0].set_xlabel("sparsity")
    labels = sorted(handles, key=lambda label: label == PRODUCT)
    style.legend_strip(figure, [handles[label] for label in labels], labels, 4)
    caption = (
        "Kernels that took turns in one run on the same tensors and masks: rate over kept blocks, bars from the 10% to"
        f" the 90% time. Kernels for dense attention only stand under dense only.{left_out}{more} {provenance(cells)}"
    )
    return style.save(figure, folder, "peers"), caption


def _bar(axis, x, cell, name):
    rate = cell.timing.get("tflops_kept") or 0.0
    middle = cell.timing["median_ms"]
    low, high = (cell.timing.get(edge) or middle for edge in ("p90_ms", "p10_ms"))
    around = [[max(0.0, rate - rate * middle / low)], [max(0.0, rate * middle / high - rate)]]
    axis.bar(x, rate, 0.9, color=style.kernel_style(name)[0], label=name)
    axis.errorbar(x, rate, around, color=style.BLACK, linewidth=0.9, capsize=1.5)
    style.above(axis, x, rate, f"{rate:.0f}", 7.5)
