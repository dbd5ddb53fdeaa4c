"""Section 3.3: whether tokens have to be moved so that the regions of sparse attention are contiguous."""

import pandas as pd

from .. import style
from ..calls import ORDERS, calls, newest, of_main_kernel, panel_titles, paper_masks, provenance, rank_of, ratio
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, at_paper, table_of
from ..frame import drawable, rows

COLUMNS = {
    "call, data": "label",
    "kernel": "kernel",
    "sparsity": "sparsity",
    "token order (ms)": "token",
    "region order (ms)": "region",
    "gather (ms)": "gather",
    "gather - token (ms)": "more",
    "gather / token - 1": "share",
    "its 10%": "low",
    "its 90%": "high",
    "region / token - 1": "against",
    "GPU": "gpu",
    "commit": "commit",
}
LOOKS = {
    "token": (style.BLUE, "o", "token order, read in place"),
    "region": (style.GREEN, "s", "region order, tokens moved beforehand"),
    "gather": (style.RED, "D", "gather: moved, attended to, moved back"),
}
MOST_PANELS = 6


def judge(records, paper, plots):
    cells = paper_masks(calls(records, "latency"))
    cases = _cases(cells[cells["mask"].isin(("dense", "draft"))])
    facts = {"judged": 0}
    used = pd.concat([case["cells"] for case in cases]) if cases else cells.iloc[:0]
    own = of_main_kernel(used)
    cases_own = [case for case in cases if case["kernel"] in set(own["kernel"])]
    judged = [case for case in cases_own if case["sparsity"] and case["gather"] is not None]
    tables = [_table(cases, used)] if cases else []
    if not judged:
        return Judged(NOT_TESTABLE, facts, tables)
    wins = sum(case["token"] < case["gather"] for case in judged)
    saved = [case["share"] for case in judged]
    shown = judged + [case for case in cases_own if not case["sparsity"]]
    drawn = drawable(pd.concat([case["cells"] for case in shown]))
    facts |= {"judged": len(judged), "kernel": judged[0]["kernel"], "wins": wins, "saved": sorted(saved)}
    facts["against"] = sorted(
        ratio(case["token_cell"], case["region_cell"])[0] - 1 for case in judged if case["region_cell"]
    )
    verdict = CONTRADICTED if wins == len(judged) else CAVEAT if wins else CONFIRMED
    return Judged(verdict, facts, tables, [] if drawn.empty else [_draw(drawn, plots)])


def _cases(cells):
    """A row a call, kernel and sparsity where token order and another were timed in one run; the main kernel's first."""
    found = []
    timed = newest(cells, "call", "kernel", "sparsity", "order")
    for (call, kernel, sparsity), group in timed.groupby(["call", "kernel", "sparsity"]):
        orders = {cell.order: cell for cell in rows(group) if cell.median_ms}
        token = orders.get("token")
        if token is None:
            continue
        same = [name for name in ORDERS[1:] if name in orders and token.run and orders[name].run == token.run]
        if not same:
            continue
        region, gather = (orders[name] if name in same else None for name in ("region", "gather"))
        share, low, high = ratio(gather, token) if gather else (None, None, None)
        found.append(
            {
                "place": (rank_of(kernel), call, sparsity),
                "cells": group[group["order"].isin(("token", *same))],
                "token_cell": token,
                "region_cell": region,
                "label": token.label,
                "kernel": kernel,
                "sparsity": token.sparsity,
                "token": token.median_ms,
                "region": region and region.median_ms,
                "gather": gather and gather.median_ms,
                "more": gather and gather.median_ms - token.median_ms,
                "share": gather and share - 1,
                "low": gather and low - 1,
                "high": gather and high - 1,
                "against": region and ratio(region, token)[0] - 1,
                "gpu": token.gpu,
                "commit": token.commit,
            }
        )
    return sorted(found, key=lambda case: case["place"])


def _table(cases, used):
    caption = (
        "One attention call by order of tokens, each row from one run; 10% and 90% of the ratio over all pairs of"
        f" samples. {provenance(used)}"
    )
    frame = pd.DataFrame([{name: case[name] for name in COLUMNS.values()} for case in cases], dtype=object)
    return table_of("section_3_3_orders", caption, frame, COLUMNS, columns_shown=11, carries=at_paper)


def _draw(cells, folder):
    """Region order and gather against token order, in percent; one panel a call. (stem, caption)."""
    groups = [group for _, group in cells.groupby("call")]
    more, groups = style.left_out(len(groups), MOST_PANELS), groups[:MOST_PANELS]
    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    figure, axes = style.panels(lines, columns, 0.6 + 2.6 * lines, sharey=True, sharex=True)
    titles = panel_titles(pd.concat(groups))
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    handles = {}
    for number, (axis, members) in enumerate(zip(axes.flat, groups)):
        by_order = {name: group for name, group in members.groupby("order")}
        token = dict(zip(by_order["token"]["sparsity"], by_order["token"]["median_ms"])) if "token" in by_order else {}
        for name in ORDERS:
            colour, marker, label = LOOKS[name]
            points = sorted(
                (cell.sparsity, cell.median_ms / token[cell.sparsity] - 1, cell.median_ms - token[cell.sparsity])
                for cell in rows(by_order.get(name, members.iloc[:0]))
                if cell.sparsity in token
            )
            if not points:
                continue
            axis.plot(*list(zip(*points))[:2], color=colour, marker=marker, label=label)
            if name == "gather":
                for point in (points[0], points[-1]) if len(points) > 1 else points:
                    _beside(axis, point, point[0] == points[0][0], colour)
        axis.set_title(titles[members["call"].iat[0]], loc="left", fontsize=9)
        style.percent_axis(axis.xaxis, style.spaced(sorted(set(cells["sparsity"])), 0.2))
        style.percent_axis(axis.yaxis)
        if number + columns >= len(groups):
            axis.set_xlabel("sparsity")
            axis.tick_params(labelbottom=True)
        if number % columns == 0:
            axis.set_ylabel("time against token order")
        handles.update(zip(*reversed(axis.get_legend_handles_labels())))
    style.legend_strip(figure, list(handles.values()), list(handles), 3)
    caption = (
        "Attention with tokens in region order, and with moving q, k, v there and the output back, against reading"
        f" regions straight from token order; medians, kernel {cells['kernel'].iat[0]}, one run a call.{more}"
        f" {provenance(cells)}"
    )
    return style.save(figure, folder, "token_orders"), caption


def _beside(axis, point, is_first, colour):
    sparsity, share, gap = point
    above = 12 if share >= 0 else -19  # away from the line of token order
    axis.annotate(
        f"{gap:+.2f} ms",
        (sparsity, share),
        textcoords="offset points",
        xytext=(0 if is_first else -6, above if is_first else -2),
        fontsize=8,
        color=colour,
        horizontalalignment="left" if is_first else "right",
        bbox=style.BEHIND_TEXT,
        zorder=4,
    )
