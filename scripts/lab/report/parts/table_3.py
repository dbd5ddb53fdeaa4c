"""Table 3: what drafting and reordering cost beside the attention and a whole video."""

import pandas as pd

from .. import style
from ..calls import PAPER_NAMES, calls, main_order, newest, of_main_kernel, panel_titles, paper_masks, provenance
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, PAPER_SPARSITY, Judged, percent, table_of
from ..frame import drawable, having, left_out, rows, where, with_metrics, with_shown
from ..projection import share_of_video

PAPER_SHAPE = "hunyuan_768p"
DRAFT_PARTS = ("pool", "pool_q", "pool_k", "map", "softmax", "select", "lists")
MOVES = ("reorder", "restore")
ADDED = (*DRAFT_PARTS, "draft", *MOVES)
PARTS = (*ADDED, "attention", "attention_gather")
SPENT = {"draft": ("draft",), "draft and moving": ("draft", *MOVES)}
COLUMNS = {
    "call, data": "label",
    "sparsity": "at_sparsity",
    "part": "part",
    "median (ms)": "median_ms",
    "10% (ms)": "p10_ms",
    "90% (ms)": "p90_ms",
    "share of attention": "share_of_attention",
    "share of the projected video": "share_of_video",
    "GB/s": "gb_per_s",
    "kernel": "kernel_text",
    "bytes": "bytes",
    "GPU": "gpu",
    "commit": "commit",
}
LOOKS = {  # part: colour, hatch
    "pool": (style.BLUE, ""),
    "pool_q": (style.BLUE, ""),
    "pool_k": (style.SKY, ""),
    "map": (style.GREEN, ""),
    "softmax": (style.PURPLE, ""),
    "select": (style.ORANGE, ""),
    "lists": (style.RED, ""),
    "reorder": ("#B0B0B0", "//"),
    "restore": ("#DADADA", "\\\\"),
}
MOST_CALLS, MOST_STACKS = 4, 12


def judge(records, paper, plots):
    printed = paper.value("table_3_overhead") / 100
    most = 1.1 * printed
    cells = _drafted(calls(records, "overhead"))
    facts = {"printed": printed, "most": most, "cells": len(cells), "judged": []}
    if cells.empty:
        return Judged(NOT_TESTABLE, facts)
    videos = _end_to_end(calls(records, "latency"))
    facts["left_out"] = left_out(cells, "share_of_attention", "gb_per_s")
    for call, members in cells[cells["shape"] == PAPER_SHAPE].groupby("call"):
        if spent := _shares(parts(members, PAPER_SPARSITY), videos.get((call, PAPER_SPARSITY))):
            facts["judged"].append((next(rows(members)), spent))
    verdicts = [_verdict(spent, most) for _, spent in facts["judged"]]
    order = (CONTRADICTED, NOT_TESTABLE, CAVEAT, CONFIRMED)
    verdict = next((word for word in order if word in verdicts), NOT_TESTABLE)
    return Judged(verdict, facts, [_table(cells, videos)], _pictures(drawable(cells), plots))


def _drafted(cells):
    """The overhead records of the paper's kind of mask; of a part timed with several kernels the main one's."""
    cells = paper_masks(cells)
    cells = cells.assign(everywhere=[config.get("sparsity") is None for config in cells["config"]])
    cells = with_metrics(cells, "share_of_attention", "gb_per_s", "bytes")
    return pd.concat([cells.iloc[:0], *(of_main_kernel(cells[cells["part"] == name]) for name in PARTS)])


def parts(cells, sparsity):
    """{part: cell} at one sparsity; a part that does not depend on it may be recorded without one."""
    cells = where(cells, [bool(time) for time in cells["median_ms"]])
    found = {}
    for name in PARTS:
        of_part = cells[cells["part"] == name]
        of_part = of_part[of_part["order"] == main_order(of_part)]
        at = newest(of_part[of_part["sparsity"] == sparsity], "part")
        at = at if len(at) else where(of_part, list(of_part["everywhere"])).iloc[:1]
        if len(at):
            found[name] = next(rows(at))
    return found


def _by_sparsity(cells):
    """{sparsity: the cells of parts that can be taken at it}: a part that does not depend on it stands under all."""
    sparsities = sorted(set(cells["sparsity"]) - {0})
    return {each: cells[(cells["sparsity"] == each) | cells["everywhere"].astype(bool)] for each in sparsities}


def _end_to_end(cells):
    """{(call, sparsity): the latency record in token order whose projection says how long a video takes}."""
    cells = having(with_metrics(paper_masks(cells), "projected_speedup"), "projected_speedup")
    found = {}
    for call, members in cells.groupby("call"):
        members = of_main_kernel(members)
        members = members[(members["order"] == "token") & (members["mask"] == "draft")]
        found |= {(call, cell.sparsity): cell for cell in rows(members.drop_duplicates("sparsity"))}
    return found


def _shares(found, video):
    """Times of drafting, and of drafting and moving tokens, in ms and as shares of attention and of a whole video;
    video: the record of _end_to_end, or None."""
    attention = found["attention"].median_ms if "attention" in found else None
    spent = {}
    for name, needed in SPENT.items():
        if all(part in found for part in needed):
            time = sum(found[part].median_ms for part in needed)
            of_video = share_of_video(video, time) if video else None
            spent[name] = {"ms": time, "attention": time / attention if attention else None, "video": of_video}
    return spent


def _verdict(spent, most):
    """By shares of the whole video; by shares of attention, which are larger, where there is no projection."""
    if all(row["video"] is None and row["attention"] is None for row in spent.values()):
        return NOT_TESTABLE
    below = {
        name: share <= most
        for name, row in spent.items()
        if (share := row["video"] if row["video"] is not None else row["attention"]) is not None
    }
    if below.get("draft and moving"):
        return CONFIRMED
    if below.get("draft"):
        return CAVEAT
    return CONTRADICTED if spent["draft"]["video"] is not None else NOT_TESTABLE


def _table(cells, projected):
    found, places = [], []
    for call, members in cells.groupby("call"):
        for sparsity, there in _by_sparsity(members).items():
            places.append((-sparsity, call, sparsity, there))
    videos = [video for _, call, sparsity, _ in places if (video := projected.get((call, sparsity)))]
    for _, call, sparsity, there in sorted(places, key=lambda place: place[:2]):
        video = projected.get((call, sparsity))
        for name, cell in parts(with_shown(there, "share_of_attention", "gb_per_s"), sparsity).items():
            share = share_of_video(video, cell.median_ms) if video and name in ADDED else None
            kernel = cell.config.get("kernel")
            found.append(cell._asdict() | {"at_sparsity": sparsity, "share_of_video": share, "kernel_text": kernel})
    used = pd.concat([cells, pd.DataFrame([video._asdict() for video in videos], columns=cells.columns)])
    caption = f"Parts of one sparse call; draft = pooling to lists timed as one piece. {provenance(used)}"
    frame = pd.DataFrame(found, columns=[*cells.columns, "at_sparsity", "share_of_video", "kernel_text"], dtype=object)
    return table_of("table_3_overhead", caption, frame, COLUMNS, columns_shown=9, carries=_is_judged)


def _is_judged(row):
    whole = ("draft", *MOVES, "attention", "attention_gather")
    return row["call, data"].startswith(PAPER_NAMES[PAPER_SHAPE]) and row["part"] in whole


def _pictures(cells, folder):
    """[(stem, caption)]: parts as a stack, the attention beside them; one row a call."""
    groups = [(members, stacks) for _, members in cells.groupby("call") if (stacks := _stacks(members))]
    more, groups = style.left_out(len(groups), MOST_CALLS), groups[:MOST_CALLS]
    if not groups:
        return []
    figure, axes = style.panels(len(groups), 2, 0.5 + 2.6 * len(groups), gridspec_kw={"width_ratios": [1.75, 1]})
    drawn = pd.concat([members for members, _ in groups])
    titles, handles = panel_titles(drawn), {}
    for (left, right), (members, stacks) in zip(axes, groups):
        _draw_parts(left, stacks)
        _draw_attention(right, stacks)
        left.set_title(titles[members["call"].iat[0]].replace("\n", ", "), loc="left", fontsize=9)
        right.set_title("attention beside it", loc="left", fontsize=9)
        for axis in (left, right):
            axis.set_xticks(range(len(stacks)), [percent(sparsity, 0) for sparsity, _ in stacks])
            axis.grid(axis="x", visible=False)
            handles.update(zip(*reversed(axis.get_legend_handles_labels())))
        left.set_ylabel("one call (ms)")
    for axis in axes[-1]:
        axis.set_xlabel("sparsity")
    style.legend_strip(figure, list(handles.values()), list(handles), 6)
    caption = (
        "What is added to the sparse attention of one call: the draft's parts, each timed alone (dot: all of them timed"
        " as one piece), and, hatched, moving tokens to region order and back, which only the gather path needs."
        " Percentages: of the attention in token order, without and with the moving. On the right the attention in"
        f" token order and with its gather.{more} {provenance(drawn)}"
    )
    return [(style.save(figure, folder, "overhead"), caption)]


def _stacks(cells):
    """[(sparsity, {part: cell})] of the sparsities that have a part of the draft."""
    groups = _by_sparsity(cells)
    found = [(sparsity, parts(groups[sparsity], sparsity)) for sparsity in style.thinned(list(groups), MOST_STACKS)]
    return [(sparsity, there) for sparsity, there in found if any(name in ADDED for name in there)]


def _draw_parts(axis, stacks):
    for place, (_, there) in enumerate(stacks):
        bottom, split = 0.0, 0.0
        for name, (colour, hatch) in LOOKS.items():
            if name not in there:
                continue
            height, look = (
                there[name].median_ms,
                {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.4},
            )
            axis.bar(place, height, 0.5, bottom, label=name, **look)
            bottom += height
            if name not in MOVES:
                split = bottom
        whole = there["draft"].median_ms if "draft" in there else split
        if "draft" in there:
            axis.plot(place - 0.32, whole, linestyle="none", marker="o", color=style.BLACK, label="as one piece")
        if "attention" in there:
            attention = there["attention"].median_ms
            _beside(axis, place + 0.27, split, percent(whole / attention))
            if bottom > split:
                _beside(axis, place + 0.27, bottom, percent((whole + bottom - split) / attention))
    axis.set_xlim(-0.6, len(stacks) - 0.2)
    axis.set_ylim(bottom=0, top=1.12 * axis.get_ylim()[1])


def _beside(axis, x, y, text):
    axis.annotate(text, (x, y), verticalalignment="center", fontsize=8.5)


def _draw_attention(axis, stacks):
    looks = (("attention", style.BLUE, "", "attention"), ("attention_gather", "#B0B0B0", "//", "gather"))
    for place, (_, there) in enumerate(stacks):
        for number, (name, colour, hatch, label) in enumerate(looks):
            if name not in there:
                continue
            cell, height = there[name], there[name].median_ms
            low, high = (height if edge is None else edge for edge in (cell.p10_ms, cell.p90_ms))
            x, around = place + 0.36 * (number - 0.5), [[max(0.0, height - low)], [max(0.0, high - height)]]
            axis.bar(x, height, 0.34, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=label)
            axis.errorbar(x, height, around, color=style.BLACK, linewidth=1, capsize=2)
            style.above(axis, x, max(height, high), f"{height:.3g}", 7.5)
    axis.set_ylim(bottom=0, top=1.1 * axis.get_ylim()[1])
