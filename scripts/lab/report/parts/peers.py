"""Not in the paper: this project's kernels beside others', on the same tensors and masks in one run."""

from statistics import median

import pandas as pd

from .. import style
from ..calls import (
    OWN_KERNELS,
    calls,
    kernels,
    newest,
    of_main_kernel,
    panel_titles,
    paper_masks,
    provenance,
    rank_of,
    ratio,
)
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, PAPER_SPARSITY, Judged, percent, table_of
from ..frame import drawable, having, left_out, rows, where, with_columns, with_metrics, with_shown

NARROW = {"operands": "operands", "quantising": "quantising"}  # columns of their own where there are 8-bit kernels
COLUMNS = {
    "call, data": "label",
    "sparsity": "sparsity",
    "kernel": "kernel",
    "order": "order",
    "median (ms)": "median_ms",
    "10% (ms)": "p10_ms",
    "90% (ms)": "p90_ms",
    "TFLOP/s, kept blocks": "tflops_kept",
    "of the matrix product": "share_of_matmul",
    "their time / ours": "middle",
    "its 10%": "low",
    "its 90%": "high",
    "output against ours (rel. L2)": "output_rel_l2",
    "samples": "samples",
    "GPU": "gpu",
    "commit": "commit",
}
MOST_CALLS, MOST_KERNELS, MOST_GROUPS = 6, 24, 12
PRODUCT = "matrix product, 8192$^3$"


def judge(records, paper, plots):
    cells = calls(records, "peers")
    cells = paper_masks(cells)
    cells = where(cells, [bool(time) for time in cells["median_ms"]])
    gone = records.of("peers", status="skipped")
    facts = {"cells": len(cells), "judged": 0, "by_peer": {}, "left_out": "", "narrow": []}
    facts["gone"] = _gone(gone, set(cells["kernel"]))
    if cells.empty:
        return Judged(NOT_TESTABLE, facts)
    cells = _with_ratios(cells)
    others = having(cells, "middle")
    facts |= {"kernels": len(kernels(cells)), "judged": len(others)}
    facts["left_out"] = left_out(cells, "share_of_matmul", "output_rel_l2")
    drawn = drawable(cells)
    tables, pictures = [_table(cells)], [] if drawn.empty else [_draw(drawn, plots, left_out_words(facts["gone"]))]
    if others.empty:
        return Judged(NOT_TESTABLE, facts, tables, pictures)
    facts["by_peer"] = {name: (min(group["middle"]), max(group["middle"])) for name, group in others.groupby("kernel")}
    facts["ours"] = " and ".join(sorted(set(others["ours"]), key=rank_of))
    facts["narrow"] = _narrow(others)
    facts["closest"] = next(
        rows(others[others["middle"] == min(others["middle"])].sort_values(["call", "sparsity"], kind="stable"))
    )
    facts["moved"] = sorted(set(cells["kernel"][~cells["kernel"].isin(OWN_KERNELS) & (cells["order"] == "region")]))
    facts["notes"] = [note.rstrip(".") + "." for note in sorted(_notes(cells))]
    faster = any((group["high"] < 1).all() for _, group in others.groupby("kernel"))
    verdict = CONTRADICTED if faster else CONFIRMED if (others["middle"] >= 1).all() else CAVEAT
    return Judged(verdict, facts, tables, pictures)


def _gone(skipped, measured):
    """[(kernel, reasons)] of those that ran nowhere; of a reason what was wanted, since what was found differs by call."""
    reasons = {}
    for row in rows(skipped):
        if row.kernel not in measured:
            reason = (row.reason or "no reason given").partition(", found ")[0]
            reasons.setdefault(row.kernel or "", set()).add(reason)
    return sorted((name, "; ".join(sorted(found))) for name, found in reasons.items())


def left_out_words(gone):
    return f" Left out: {'; '.join(f'{name} ({reason})' for name, reason in gone)}." if gone else ""


def _notes(cells):
    """What the records say of each kernel, in one text a kernel, and of the run."""
    found = set()
    for cell in rows(cells):
        notes = dict(cell.notes)
        for name in ("reference", "method"):
            if note := notes.pop(name, ""):
                found.add(f"{name}: {note}")
        origin = " ".join(notes.pop(name) for name in ("package", "version") if notes.get(name))
        texts = [notes.pop("kernel", ""), origin, *(f"{name}: {note}" for name, note in notes.items())]
        if any(texts):
            found.add(f"{cell.kernel}: {'; '.join(text.rstrip('.') for text in texts if text)}")
    return found


def _narrow(others):
    """[(kernel, whether its quantising is timed, ours that it is set against)] of those with 8-bit operands."""
    narrow = where(others, [bool(operands) for operands in others["operands"]])
    return sorted({(cell.kernel, cell.quantising or "timed", cell.ours) for cell in rows(narrow)})


def _with_ratios(cells):
    """Columns ours, middle, low and high: for others' cells of one run and mask with a kernel of this project, that kernel,
    and their time over its. It is the project's main kernel of the call; for those with 8-bit operands the one with such
    operands too whose time has as much of the quantising in it, or all of it, where that ran."""
    ours = {}
    for _, group in cells[cells["kernel"].isin(OWN_KERNELS)].groupby("call"):
        for kind, members in group.groupby(_kind(group)):
            chosen = rows(newest(of_main_kernel(members), "run", "sparsity"))
            ours |= {(cell.call, cell.run, cell.sparsity, kind): cell for cell in chosen if cell.run}
    found = []
    for cell, kind in zip(rows(cells), _kind(cells)):
        wanted = (kind, "timed", "") if kind else ("",)
        own = next((own for each in wanted if (own := ours.get((cell.call, cell.run, cell.sparsity, each)))), None)
        found.append((own.kernel, *ratio(cell, own)) if own and cell.kernel not in OWN_KERNELS else (None,) * 4)
    names = ("ours", "middle", "low", "high")
    columns = {name: [row[place] for row in found] for place, name in enumerate(names)}
    return with_columns(cells, **columns)


def _kind(cells):
    """ "" of cells whose operands are the tensors' own, else what their time has of quantising."""
    kinds = [
        (quantising or "timed") if operands else ""
        for operands, quantising in zip(cells["operands"], cells["quantising"])
    ]
    return pd.Series(kinds, index=cells.index, dtype=object)


def _table(cells):
    own = cells[cells["kernel"].isin(OWN_KERNELS)]
    ours = kernels(own)[0] if len(own) else "none"
    narrow_ones = "".join(f"; beside {name} {theirs}" for name, _, theirs in _narrow(having(cells, "middle")))
    of_runs = cells.groupby(["label", "sparsity", "kernel"])["run"].nunique()
    twice = (
        " A kernel that stands twice was timed in several runs: the file has their commits."
        if of_runs.max() > 1
        else ""
    )
    caption = (
        "Kernels that took turns in one run; the ratio's 10% and 90% are over all pairs of samples. Ours ="
        f" {ours}{narrow_ones}.{twice} {provenance(cells)}"
    )
    placed = with_shown(cells, "share_of_matmul", "output_rel_l2")
    ranks = {name: rank for rank, name in enumerate(kernels(cells))}
    placed = placed.assign(
        place=[ranks[name] for name in cells["kernel"]], samples=[len(each or ()) for each in cells["samples_ms"]]
    )
    placed = placed.sort_values(["call", "sparsity", "place"], kind="stable")
    last = placed["label"].iloc[-1]

    def is_largest(row):
        return row["call, data"] == last and row["sparsity"] in (0, PAPER_SPARSITY)

    narrow = any(cells["operands"])
    columns = COLUMNS | NARROW if narrow else COLUMNS
    return table_of("peers", caption, placed, columns, columns_shown=13, shown=12, carries=is_largest)


def _run_to_draw(group):
    """The newest run of a kind of call with sparse rows; without any, the newest."""
    sparse = group[group["sparsity"] > 0]
    return newest(sparse if len(sparse) else group, "label")["run"].iat[0]


def _draw(cells, folder, gone):
    """TFLOP/s over kept blocks, one panel a kind of call, of its newest run, one group a sparsity. (stem, caption)."""
    groups = [
        group[group["run"] == _run_to_draw(group)]
        for _, group in with_metrics(cells, "matmul_tflops").groupby("label", sort=False)
    ]
    more, groups = style.left_out(len(groups), MOST_CALLS), groups[:MOST_CALLS]
    figure, axes = style.panels(len(groups), 1, 0.7 + 2.1 * len(groups), sharex=False)
    titles, handles = panel_titles(pd.concat(groups)), {}
    colours = style.kernel_colours(kernels(cells))
    for (axis,), members in zip(axes, groups):
        names = kernels(members)[:MOST_KERNELS]
        start, ticks = 0.0, []
        for sparsity in style.thinned(sorted(set(members["sparsity"])), MOST_GROUPS):
            there = newest(members[members["sparsity"] == sparsity], "kernel").set_index("kernel")
            found = [name for name in names if name in there.index]
            for number, name in enumerate(found):
                _bar(axis, start + number, there.loc[name], name, colours[name])
            ticks.append((start + (len(found) - 1) / 2, "dense" if not sparsity else percent(sparsity, 0)))
            start += len(found) + 1.2
        products = list(members["matmul_tflops"].dropna())
        if products:
            axis.axhline(median(products), color=style.BLACK, linestyle="--", linewidth=1, label=PRODUCT)
        axis.set_xticks(*zip(*ticks))
        axis.tick_params(axis="x", length=0)
        axis.grid(axis="x", visible=False)
        axis.set_title(titles[members["call"].iat[0]].replace("\n", ", "), loc="left", fontsize=9)
        axis.set_ylabel("TFLOP/s over\nkept blocks")
        axis.set_ylim(top=1.25 * axis.get_ylim()[1])
        style.collect(handles, axis)
    axes[-1][0].set_xlabel("sparsity")
    labels = sorted(handles, key=lambda label: label == PRODUCT)
    style.legend_strip(figure, [handles[label] for label in labels], labels, 4)
    caption = (
        "Kernels that took turns in one run on the same tensors and masks: rate over kept blocks, bars from the 10% to"
        " the 90% time; of each size the newest run with sparse calls, the others in the table. Kernels for dense attention only stand under"
        f" dense only.{gone}{more} {provenance(pd.concat(groups))}"
    )
    return style.save(figure, folder, "peers"), caption


def _bar(axis, x, cell, name, colour):
    rate, middle = cell["tflops_kept"] or 0.0, cell["median_ms"]
    low, high = (cell[edge] or middle for edge in ("p90_ms", "p10_ms"))
    around = [[max(0.0, rate - rate * middle / low)], [max(0.0, rate * middle / high - rate)]]
    axis.bar(x, rate, 0.9, color=colour, label=name)
    axis.errorbar(x, rate, around, color=style.BLACK, linewidth=0.9, capsize=1.5)
    style.above(axis, x, rate + around[1][0], f"{rate:.0f}", 6.5, rotation=90)
