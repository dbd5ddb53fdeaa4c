"""Paper, abstract: DraftAttention outperforms existing sparse attention. Every policy of `draftbench policies` on one scale."""

import textwrap
from dataclasses import replace
from statistics import mean

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap

from lab.shared.record_format import is_number

from .. import style
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, PAPER_SPARSITY, Judged, table_of
from ..frame import HEAD, rows, where, with_columns, with_metrics
from ..quality import over_prompts
from ..videos import PAPER_REGION, PAPER_STEPS, Videos, choice_of

METRICS = ("attention_recall", "output_rel_l2", "kept_blocks", "total_blocks")
OTHERS = ("attention_recall_p05", "attention_recall_min", "empty_rows", "choosing_flops_share", "remainder_flops_share")
OTHERS += ("kept_area",)  # the share that is computed, where blocks are of many sizes
DRAFT = "draft"
ENDS = ("oracle", "random")
REMAINDER = " + remainder"
OWN_REMAINDER = f"sol_attn{REMAINDER}"  # as it was published
CHEAP = 0.01  # of dense attention's FLOPs: what choosing may cost and still not matter beside 10% of the blocks
COLUMNS = {
    "policy": "variant",
    "heads": "heads",
    "output error": "error",
    "recall": "recall",
    "recall, 5th percentile of rows": "p05",
    "recall, worst row": "least",
    "empty rows": "empty",
    "choosing, of dense FLOPs": "choosing",
    "error less the draft's": "gain",
    "95% over prompts": "interval",
    "better than the draft by both": "wins",
    "least error at": "best_at",
    "video, PSNR to dense (dB)": "psnr",
    "as released: blocks kept": "released_kept",
    "as released: output error": "released_error",
}
NAMED, MOST_MASKS = 9, 36  # lines with a colour of their own; masks in the picture
MOST_COST = 0.6  # drawn, of dense attention's FLOPs


def judge(records, paper, plots):
    cells = _cells(records)
    sparsities = sorted(set(cells["sparsity"].dropna()))
    if not sparsities or not (cells["variant"] == DRAFT).any():
        return Judged(NOT_TESTABLE, {"heads": 0})
    sparsity = min(sparsities, key=lambda one: (abs(one - PAPER_SPARSITY), one))
    at = {
        one: {name: group.set_index(HEAD) for name, group in cells[cells["sparsity"] == one].groupby("variant")}
        for one in sparsities
    }
    if DRAFT not in at[sparsity]:
        return Judged(NOT_TESTABLE, {"heads": 0})
    best = {one: _best(found) for one, found in at.items()}
    released = {name: group for name, group in cells[cells["sparsity"].isna()].groupby("variant")}
    videos = records.once(Videos)
    found = [
        _row(name, own, at[sparsity][DRAFT], best, released.get(name), videos) for name, own in at[sparsity].items()
    ]
    board = pd.DataFrame(found, dtype=object).sort_values(["error", "variant"], kind="stable")
    table = table_of(
        "policies",
        f"At {100 * sparsity:g}% sparsity, means over heads, sorted by output error (relative L2). Released: by the policy's own"
        " threshold. Compared with the draft over the heads that both have. Least error: the budgets at which the policy has it,"
        " ends (oracle, random) left out.",
        board,
        COLUMNS,
        shown=12,
        columns_shown=12 if board["psnr"].isna().all() else 13,
    )
    rivals = board[[_is_rival(name) for name in board["variant"]]]
    own = board[board["variant"] == DRAFT].iloc[0]
    less_error, more_recall = rivals["gain"].astype(float) < 0, rivals["recall_gain"].astype(float) > 0
    ahead = rivals[less_error & more_recall]
    sure = ahead[ahead["surely"].astype(bool)]
    facts = {
        "heads": int(own["heads"]),
        "prompts": at[sparsity][DRAFT]["prompt"].nunique(),
        "sparsity": sparsity,
        "rivals": len(rivals),
        "ahead": list(ahead["variant"]),
        "cheap": [row.variant for row in rows(ahead) if row.choosing <= CHEAP],
        "behind": int((~(less_error | more_recall)).sum()),
        "draft": own.to_dict(),
        "own_best": min(rows(board[board["variant"].str.startswith(DRAFT)]), key=lambda row: row.error),
        "leader": min(rows(board[~board["variant"].str.startswith(ENDS)]), key=lambda row: row.gain or 0.0),
        "oracle": next((row for row in rows(board) if row.variant == "oracle"), None),
        "remainder": _remainder(at[sparsity]),
    }
    named = {DRAFT, *ENDS, *facts["ahead"]}
    table.carries = lambda row: row["policy"] in named
    verdict = CONFIRMED if facts["behind"] == len(rivals) else CONTRADICTED if len(sure) else CAVEAT
    pictures = [_draw_costs(at, board, plots)]
    if masks := _masks(cells, sparsity):
        pictures.append(
            (
                _draw_masks(masks, plots),
                f"Every policy's mask of one head ({masks[0].dump}, {masks[0].capture}, head {masks[0].head}) at"
                f" {100 * sparsity:g}% sparsity, and the share of the attention mass that it keeps. Block rows run downwards; policies"
                " with an order of tokens of their own have other blocks.",
            )
        )
    return Judged(verdict, facts, [table], pictures)


def _is_rival(variant):
    """Neither the draft's own, nor an end of the scale, nor with a remainder that its authors do not have."""
    return not variant.startswith((DRAFT, *ENDS)) and (REMAINDER not in variant or variant == OWN_REMAINDER)


def variant_of(cell):
    """What the table calls a policy: rule and pooling of the draft where they are not the paper's, and the remainder."""
    words = [cell.policy]
    if cell.policy == DRAFT:
        words += [f"{cell.pool} pooling"] if cell.pool not in ("", "avg") else []
        words += [f"rule {cell.rule}"] if cell.rule not in ("", "softmax") else []
    words += ["budget of the call"] if cell.config.get("budget") == "call" else []
    return ", ".join(words) + (REMAINDER if cell.config.get("remainder") else "")


def _cells(records):
    """A row a head, variant and budget; `sparsity` is None for released masks. The newest where seeds differ."""
    cells = with_metrics(records.of("policies"), *METRICS, *OTHERS)
    cells = where(cells, [all(map(is_number, row)) for row in cells[list(METRICS)].itertuples(index=False)])
    cells = with_columns(cells, variant=[variant_of(cell) for cell in rows(cells)])
    cells = cells.sort_values("time", kind="stable").drop_duplicates([*HEAD, "variant", "sparsity"], keep="last")
    numbers = {name: pd.to_numeric(cells[name], errors="coerce") for name in (*METRICS, *OTHERS)}
    kept = numbers["kept_area"].fillna(numbers["kept_blocks"] / numbers["total_blocks"])
    return cells.assign(**numbers, kept=kept, prompt=cells["prompt"].fillna(""))


def _best(found):
    """The variant with the least mean error over the heads that all have; None below two variants."""
    names = [name for name in found if not name.startswith(ENDS)]
    if len(names) < 2:
        return None
    most = max(len(found[name]) for name in names)
    names = [name for name in names if len(found[name]) == most]
    return min(names, key=lambda name: (found[name]["output_rel_l2"].mean(), name))


def _row(name, own, draft, best, released, videos):
    both = draft[["prompt"]].assign(sha=draft.index.get_level_values("sha"))
    pairs = both.assign(first=own["output_rel_l2"], second=draft["output_rel_l2"]).dropna(subset=["first", "second"])
    over = None if name == DRAFT or pairs.empty else over_prompts(pairs)
    more_recall = own["attention_recall"] - draft["attention_recall"].reindex(own.index)
    better = (own["output_rel_l2"] < draft["output_rel_l2"].reindex(own.index)) & (more_recall > 0)
    gain = None if name == DRAFT or pairs.empty else mean(pairs["first"] - pairs["second"])
    return {
        "variant": name,
        "heads": len(own),
        "error": mean(own["output_rel_l2"]),
        "recall": mean(own["attention_recall"]),
        "p05": _mean(own["attention_recall_p05"]),
        "least": _least(own["attention_recall_min"]),
        "empty": _mean(own["empty_rows"]),
        "choosing": _mean(own["choosing_flops_share"]) or 0.0,
        "gain": gain,
        "recall_gain": None if gain is None else more_recall.mean(),
        "interval": f"{over['low']:.3g} to {over['high']:.3g}" if over else None,
        "surely": over is not None and over["high"] < 0,
        "wins": None if name == DRAFT else f"{int(better.sum())} of {len(pairs)}",
        "best_at": ", ".join(f"{100 * one:g}%" for one, who in best.items() if who == name) or None,
        "psnr": _filmed(videos, next(rows(own))),
        "released_kept": None if released is None else mean(released["kept"]),
        "released_error": None if released is None else mean(released["output_rel_l2"]),
    }


def _filmed(videos, cell):
    """Mean PSNR to dense of the videos under the cell's mask with the paper's dense first steps, or None."""
    if not videos:
        return None
    found = videos.summary(replace(choice_of(cell), region=PAPER_REGION, dense_steps=PAPER_STEPS), "psnr")
    return found and found[0]


def _mean(values):
    return None if values.isna().all() else float(values.mean())


def _least(values):
    return None if values.isna().all() else float(values.min())


def _remainder(found):
    """What the remainder does to the draft's error, of the heads that have both: means, and over the most diffuse third,
    the heads in which the draft keeps the least mass. None without."""
    plain, pooled = found.get(DRAFT), found.get(f"{DRAFT}{REMAINDER}")
    if plain is None or pooled is None:
        return None
    both = pd.DataFrame(
        {"plain": plain["output_rel_l2"], "pooled": pooled["output_rel_l2"], "recall": plain["attention_recall"]}
    ).dropna()
    if both.empty:
        return None
    worst = both.nsmallest(max(1, len(both) // 3), "recall")
    cost = pooled["remainder_flops_share"]
    return {
        "heads": len(both),
        "plain": both["plain"].mean(),
        "pooled": both["pooled"].mean(),
        "better": int((both["pooled"] < both["plain"]).sum()),
        "diffuse": len(worst),
        "diffuse_plain": worst["plain"].mean(),
        "diffuse_pooled": worst["pooled"].mean(),
        "cost": _mean(cost),
    }


def _at_most_budgets(at):
    """`at` of the heads that the draft was measured on at the most budgets: a line is of the same heads throughout."""
    budgets = pd.concat([pd.Series(1, index=found[DRAFT].index) for found in at.values() if DRAFT in found])
    budgets = budgets.groupby(level=list(range(budgets.index.nlevels)), dropna=False).sum()
    heads = budgets.index[budgets == budgets.max()]
    return len(heads), {
        sparsity: {name: own for name, group in found.items() if len(own := group[group.index.isin(heads)])}
        for sparsity, found in at.items()
    }


def _draw_costs(at, board, folder):
    """(stem, caption)"""
    beyond = []
    heads, at = _at_most_budgets(at)
    figure, axes = style.panels(1, 1, 4.6)
    axis = axes[0][0]
    drawn = {name for found in at.values() for name in found}
    named = [name for name in board["variant"] if name in drawn and not name.startswith((DRAFT, *ENDS))][:NAMED]
    colours = dict(zip(named, style.shades(len(named))))
    looks = {DRAFT: (style.BLUE, "-", "o"), "oracle": (style.GREEN, "--", "^"), "random": (style.GREY, ":", "D")}
    looks |= {f"{DRAFT}{REMAINDER}": (style.ORANGE, "-", "s"), f"{DRAFT}, rule row{REMAINDER}": (style.RED, "-", "P")}
    for name in board["variant"]:
        points = []
        for _, found in sorted(at.items()):
            if name not in found:
                continue
            own = found[name]
            cost = own["kept"] + own["remainder_flops_share"].fillna(0)
            if not name.startswith(ENDS):  # the oracle is no policy but what could be: its masks cost nothing
                cost += own["choosing_flops_share"].fillna(0)
            points.append((cost.mean(), own["output_rel_l2"].mean()))
        points = [point for point in points if point[1] > style.SMALLEST_DRAWN and point[0] <= MOST_COST]
        if not points:
            beyond += [name] if name in drawn else []
            continue
        known = name in looks or name in colours
        colour, line, marker = looks.get(name, (colours.get(name, "#D0D0D0"), "-", "."))
        axis.plot(
            *zip(*points),
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=5 if name in looks else 4,
            linewidth=1.7 if known else 0.8,
            label=name if known else None,
            zorder=3 if name in looks else 2 if known else 1,
        )
    axis.set_xlabel("blocks kept, choice and remainder, of dense attention's FLOPs")
    axis.set_ylabel("output error (relative L2)")
    axis.set_yscale("log")
    axis.set_xlim(0, MOST_COST)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7.5)
    caption = (
        "Output error against what a call computes: the blocks kept and the choice (but the oracle's), as shares of dense"
        f" attention's FLOPs, means over the {heads} heads with the most budgets. Lower and further left is better. Grey: all"
        " other policies."
    )
    if beyond:
        caption += f" Beyond {100 * MOST_COST:g}%, not drawn: {', '.join(beyond)}."
    return style.save(figure, folder, "policies"), caption


def _masks(cells, sparsity):
    """The cells with a mask of one head at this sparsity: the head that has most of them."""
    cells = cells[cells["sparsity"] == sparsity]
    cells = where(cells, [bool(arrays.get("mask")) for arrays in cells["arrays"]])
    cells = cells[~cells["variant"].str.endswith("remainder")]
    if cells.empty:
        return []
    most = max((group for _, group in cells.groupby(HEAD, dropna=False)), key=len)
    return list(rows(most.sort_values("attention_recall", ascending=False, kind="stable")))[:MOST_MASKS]


def _draw_masks(cells, folder):
    columns = 6
    lines = -(-len(cells) // columns)
    figure, axes = style.panels(lines, columns, 1.62 * lines)
    for axis, cell in zip(axes.flat, cells):
        mask = np.array([[int(mark) for mark in row] for row in cell.arrays["mask"]])
        axis.imshow(mask, cmap=ListedColormap(["#FFFFFF", style.BLUE]), vmin=0, vmax=1, interpolation="nearest")
        title = textwrap.fill(cell.variant, 22)
        axis.set_title(f"{title}\n{100 * cell.attention_recall:.0f}%", fontsize=7, loc="left")
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(False)
    for axis in axes.flat[len(cells) :]:
        axis.set_axis_off()
    return style.save(figure, folder, "policy_masks")
