"""Not in the paper: whether a kept block costs the same wherever it stands, so that uneven rows cost nothing."""

import pandas as pd

from .. import style
from ..calls import POLICIES, calls, kernels, main_order, newest, of_main_kernel, panel_titles, paper_masks, provenance
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, percent, table_of
from ..frame import drawable, having, left_out, rows, with_metrics

SPARSITY = 0.9
LEAST_SHARE = 0.9  # of the dense rate
MEANING = {
    "draft": "the draft mask of the call's own Q and K",
    "random": "every block by chance",
    "uneven": "rows of 0 to 3 times the average length",
    "worst": "full rows and empty ones",
}
LOOKS = {
    "draft": (style.BLUE, ""),
    "random": (style.SKY, "//"),
    "uneven": (style.ORANGE, "\\\\"),
    "worst": (style.RED, "xx"),
}
COLUMNS = {
    "call, data": "label",
    "kernel": "kernel",
    "mask": "mask",
    "blocks a row, mean": "row_blocks_mean",
    "blocks a row, most": "row_blocks_max",
    "empty rows": "empty_rows",
    "median (ms)": "median_ms",
    "TFLOP/s, kept blocks": "tflops_kept",
    "of its dense rate": "rate_over_dense",
    "GPU": "gpu",
    "commit": "commit",
}
MOST_CALLS, MOST_KERNELS = 6, 12


def judge(records, paper, plots):
    cells = paper_masks(calls(records, "latency"))
    of_kind = cells[cells["mask"].isin(POLICIES) & (cells["sparsity"] == SPARSITY)]
    cells = having(
        with_metrics(of_kind, "rate_over_dense", "row_blocks_mean", "row_blocks_max", "empty_rows"), "rate_over_dense"
    )
    cells = cells[cells["order"] == main_order(cells)]
    facts = {"lowest": {}, "left_out": left_out(of_kind, "rate_over_dense")}
    if cells["mask"].nunique() < 2:
        return Judged(NOT_TESTABLE, facts)
    own = of_main_kernel(cells)
    lowest = {kind: min(shares) for kind, shares in own.groupby("mask")["rate_over_dense"]}
    slow = {kind for kind, share in lowest.items() if share < LEAST_SHARE}
    verdict = CONTRADICTED if slow - {"worst"} else CAVEAT if slow or len(lowest) < len(POLICIES) else CONFIRMED
    first = next(rows(own))
    facts |= {"kernel": first.kernel, "order": first.order, "count": len(own)}
    facts["lowest"] = {kind: lowest[kind] for kind in POLICIES if kind in lowest}
    facts["worst"] = min(dict.fromkeys(own["mask"]), key=lowest.get)
    facts["absent"] = [kind for kind in POLICIES if kind not in lowest]
    drawn = drawable(cells)
    return Judged(verdict, facts, [_table(cells)], [] if drawn.empty else [_draw(drawn, plots)])


def _table(cells):
    caption = f"The same number of blocks at {percent(SPARSITY, 0)} sparsity, placed in four ways. {provenance(cells)}"
    placed = cells.assign(place=[POLICIES.index(kind) for kind in cells["mask"]])
    placed = placed.sort_values(["call", "kernel", "place"], kind="stable")
    return table_of("load_balance", caption, placed, COLUMNS, columns_shown=9, carries=_is_slow)


def _is_slow(row):
    return row["of its dense rate"] is not None and row["of its dense rate"] < LEAST_SHARE


def _draw(cells, folder):
    """Share of the dense rate by kind of mask; one panel a call, one group a kernel. (stem, caption)."""
    groups = [group for _, group in cells.groupby("call")]
    more, groups = style.left_out(len(groups), MOST_CALLS), groups[:MOST_CALLS]
    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    figure, axes = style.panels(lines, columns, 0.5 + 2.5 * lines, sharey=True)
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    titles, handles = panel_titles(pd.concat(groups)), {}
    for axis, members in zip(axes.flat, groups):
        names = kernels(members)[:MOST_KERNELS]
        kinds = [kind for kind in POLICIES if kind in set(members["mask"])]
        shares = newest(members, "kernel", "mask").set_index(["kernel", "mask"])["rate_over_dense"].to_dict()
        for place, name in enumerate(names):
            for number, kind in enumerate(kinds):
                if (share := shares.get((name, kind))) is None:
                    continue
                colour, hatch = LOOKS[kind]
                x = place + 0.2 * (number - (len(kinds) - 1) / 2)
                axis.bar(x, share, 0.19, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=kind)
                style.above(axis, x, share, f"{100 * share:.0f}")
        axis.axhline(1, color=style.BLACK, linewidth=0.8)
        axis.set_xticks(range(len(names)), names)
        axis.grid(axis="x", visible=False)
        axis.set_title(titles[members["call"].iat[0]], loc="left", fontsize=9)
        style.percent_axis(axis.yaxis)
        style.collect(handles, axis)
    for row in axes:
        row[0].set_ylabel("rate over kept\nblocks / dense")
    axes[0][0].set_ylim(0, max(1.12, 1.1 * max(cells["rate_over_dense"])))
    style.legend_strip(figure, list(handles.values()), [f"mask: {label}" for label in handles], 4)
    caption = (
        f"The rate over kept blocks as a share of the kernel's own dense rate at {percent(SPARSITY, 0)} sparsity, by kind of"
        f" mask; the lowest is {percent(min(cells['rate_over_dense']))}.{more} {provenance(cells)}"
    )
    return style.save(figure, folder, "load_balance"), caption
