"""Theorem 3.5 with the steps of its proof, and the sharper bounds."""

import math
from statistics import median

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from .. import style
from ..bounds import heads_and_dumps, median_of, pools, pools_left_out, ratios, violations
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, table_of
from ..frame import having, left_out, where, with_metrics
from ..quality import POOL_NAMES

CHAIN = (  # metric, label, colour, line, marker
    ("bound_sharp_mu", r"from the dropped mass: $\sqrt{2 \sum \mu_u^2}$", style.GREEN, "-", "o"),
    ("bound_blocks", r"from each block's own $\delta_{ij}$", style.SKY, "-", "s"),
    ("bound_radii", r"from radii, no $n^2$ work", style.PURPLE, "-", "D"),
    ("bound_sharp", r"sharper eq. (10): $\sqrt{2n}$ for $2\sqrt{n}$", style.ORANGE, "--", "^"),
    ("trivial_bound", r"trivial: $\sqrt{2n}$", style.BLACK, ":", "x"),
    ("bound_3_5", r"Theorem 3.5, eq. (10), $\delta$ scaled", style.RED, "-", "v"),
    ("bound_3_5_paper_delta", r"eq. (10), $\delta$ as printed (unscaled)", style.GREY, "--", "+"),
)
BOUNDS = [name for name, *_ in CHAIN]
STEPS = (  # title, claim, flag, metric of the worst case, its meaning
    (
        "Step 1: dropped mass",
        "||P_u - P^M_u||_1 = 2 mu_u and ||P - P^M||_F <= 2 sqrt(n) max mu_u",
        "check_step_1",
        "step_1_residual",
        "largest | ||P_u - P^M_u||_1 - 2 mu_u |",
    ),
    (
        "Step 2: mass from delta",
        "mu_u <= 1 / (1 + N_K/N_D e^(-2 delta))",
        "check_step_2",
        "step_2_max_ratio",
        "largest mu_u / bound",
    ),
    ("Step 3: eq. (10)", "the two steps together", "check_3_5", "tightness_3_5", "largest left / right side"),
    ("Ours: from the dropped mass", "||P - P^M||_F <= sqrt(2 sum mu_u^2)", "check_sharp_mu", None, "-"),
    ("Ours: sharper eq. (10)", "||P - P^M||_F <= sqrt(2n) / (1 + s/(1-s) e^(-2 delta))", "check_sharp", None, "-"),
    ("Ours: block deltas", "the same from each block's own delta_ij", "check_blocks", None, "-"),
    ("Ours: radii", "the same from radii, O(n d) work", "check_radii", None, "-"),
    (
        "Ours: radii bound delta",
        "delta_ij <= rQ_i ||K~_j|| + ||Q~_i|| rK_j + rQ_i rK_j",
        "check_radii_delta",
        "radii_tightness",
        "largest delta / certificate",
    ),
    (
        "Ours: output error",
        "||O_u - O^M_u||_2 <= 2 mu_u max ||V_v||_2",
        "check_output",
        "output_bound_max_ratio",
        "largest left / right side",
    ),
)
NEEDED = ("bound_3_5", "delta_scaled", "min_kept_fraction", "probs_frobenius", "trivial_bound")
OF_STEPS = [name for _, _, flag, metric, _ in STEPS for name in (flag, metric) if name]
NAMED = tuple(dict.fromkeys((*NEEDED, "vacuity_3_5", *OF_STEPS, *BOUNDS)))
COLUMNS = {name: name for name in ("rule", "pool", "sparsity", "heads")}
COLUMNS |= {"s median": "s", "bound_3_5 / sqrt(2n) median": "vacuity", **{f"left / {name}": name for name in BOUNDS}}
STEP_COLUMNS = {name: name for name in ("step", "claim", "masks", "violations", "worst case", "value", "verdict")}
MOST_SPARSITIES = 24
VACUOUS_S = 1 - 1 / np.sqrt(2)  # 0.2929: below it no delta >= 0 makes eq. (10) better than sqrt(2n)


def judge(records, paper, plots):
    judged = with_metrics(records.judged("bounds"), *NAMED, "empty_rows")
    cells = having(judged, *NEEDED, "sparsity")
    facts = {"masks": len(cells), "left_out": left_out(judged, *NAMED)}
    if cells.empty:
        return Judged(NOT_TESTABLE, facts)
    broken = violations(judged, "check_3_5")
    vacuous = sum(
        _vacuity(*row) >= 1 for row in zip(*(cells[name] for name in ("vacuity_3_5", "bound_3_5", "trivial_bound")))
    )
    facts |= {
        "checked": sum("check_3_5" not in nothing for nothing in cells["not_applicable"]),
        "where": heads_and_dumps(cells),
        "broken": broken,
        "vacuous": vacuous / len(cells),
        "largest": max(cells["min_kept_fraction"]),
        "smallest": min(cells["delta_scaled"]),
        "empty": sum(_has_empty_rows(cells)),
    }
    caption = (
        "Theorem 3.5: measured error over each bound, by sparsity. Dots are heads and rules, lines medians; 1 is tight."
    )
    pictures = [
        (_draw_tightness(cells, plots), caption + _not_drawn(cells)),
        (_draw_plane(cells, plots), "Where eq. (10) says something, and where the measured heads lie."),
    ]
    verdict = CONTRADICTED if broken else CAVEAT if vacuous else CONFIRMED
    return Judged(verdict, facts, [_chain_table(cells), _steps_table(judged)], pictures, main_pictures=2)


def _vacuity(known, bound, trivial):
    """The bound over the trivial one."""
    return known if known is not None else bound / trivial if trivial else math.inf


def _has_empty_rows(cells):
    return [count is not None and count > 0 for count in cells["empty_rows"]]


def _chain_table(cells):
    found = [
        {
            "rule": rule,
            "pool": pool,
            "sparsity": group["sparsity"].iat[0],
            "heads": len(group),
            "s": median_of(group["min_kept_fraction"]),
            "vacuity": median_of(ratios(group, "bound_3_5", "trivial_bound")),
            **{name: median_of(ratios(group, "probs_frobenius", name)) for name in BOUNDS},
        }
        for (rule, pool, _), group in cells.groupby(["rule", "pool", "sparsity"])
    ]
    caption = "Medians over heads; left = ||P - P^M||_F. 1 = tight; bound_3_5 / sqrt(2n) at or above 1 = says nothing."
    frame = pd.DataFrame(found, dtype=object)
    return table_of("theorem_3_5", caption, frame, COLUMNS, shown=0)


def _steps_table(judged):
    """Steps of the proof; a step that needs no threshold is judged on random and oracle masks too."""
    found = []
    for title, claim, flag, metric, meaning in STEPS:
        row = {"step": title, "claim": claim, "masks": 0, "worst case": "-", "verdict": NOT_TESTABLE}
        group = having(judged, flag)
        if len(group):
            values = [value for value in group[metric] if value is not None] if metric else []
            broken = violations(group, flag)
            caveat = flag == "check_step_1" and any(_has_empty_rows(group))
            row |= {
                "masks": len(group),
                "violations": broken,
                "worst case": meaning,
                "value": max(values, default=None),
            }
            row["verdict"] = CONTRADICTED if broken else CAVEAT if caveat else CONFIRMED
        found.append(row)
    caption = (
        "Each step on its own. Step 1's caveat: the equality needs a row that keeps something, and some masks have empty"
        " rows."
    )
    frame = pd.DataFrame(found, columns=list(STEP_COLUMNS), dtype=object)
    return table_of("theorem_3_5_steps", caption, frame, STEP_COLUMNS, shown=12)


def _not_drawn(cells):
    """For captions: what of the cells has no place in the plots by sparsity."""
    count = cells["sparsity"].nunique()
    shown = f" {MOST_SPARSITIES} of {count} sparsities are drawn; the table has all." if count > MOST_SPARSITIES else ""
    return shown + pools_left_out(cells)


def _sparsities(cells):
    return style.thinned(sorted(set(cells["sparsity"])), MOST_SPARSITIES)


def _draw_tightness(cells, folder):
    """||P - P^M||_F over each bound by sparsity: a dot for every head and rule, a line through the medians."""
    names = pools(cells)
    cells = cells[cells["probs_frobenius"] > 0]
    sparsities = _sparsities(cells)
    groups = dict(list(cells.groupby(["pool", "sparsity"])))
    figure, axes = style.panels(1, len(names), 4.6, sharey=True)
    for axis, pool in zip(axes[0], names):
        for number, (name, _, colour, line, marker) in enumerate(CHAIN):
            shift = (number - (len(CHAIN) - 1) / 2) * 0.09
            middle = []
            for place, sparsity in enumerate(sparsities):
                group = groups.get((pool, sparsity))
                found = (
                    [] if group is None else style.room(ratios(group, "probs_frobenius", name), style.SMALLEST_DRAWN)
                )
                if found:
                    middle.append((place + shift, median(found)))
                    x = [place + shift] * len(found)
                    axis.scatter(x, found, color=colour, s=5, alpha=0.3, linewidths=0, rasterized=True)
            if middle:
                axis.plot(*zip(*middle), color=colour, linestyle=line, marker=marker, markersize=4.5, linewidth=1.2)
        axis.axhline(1, color=style.BLACK, linewidth=0.8, linestyle=":")
        axis.set_yscale("log")
        axis.set_xticks(range(len(sparsities)), [f"{100 * sparsity:g}%" for sparsity in sparsities])
        axis.set_xlabel("sparsity (share of blocks dropped)")
        axis.set_title(POOL_NAMES.get(pool, pool), loc="left")
        style.plain_log(axis.yaxis)
    axes[0][0].set_ylabel(r"$\Vert P - P^M\Vert_F$ / bound   (1 = tight)")
    handles = [
        plt.Line2D([], [], color=colour, linestyle=line, marker=marker, markersize=4.5, linewidth=1.2)
        for _, _, colour, line, marker in CHAIN
    ]
    style.legend_strip(figure, handles, [label for _, label, *_ in CHAIN], 2)
    return style.save(figure, folder, "theorem_3_5_tightness")


def _boundary_delta(s):
    """The largest scaled delta at which eq. (10) is below sqrt(2n); NaN where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        delta = -0.5 * np.log((np.sqrt(2) - 1) * (1 - s) / s)
    return np.where(delta >= 0, delta, np.nan)


def _draw_plane(cells, folder):
    """The (s, delta) plane: eq. (10) is below sqrt(2n) only in the shaded corner."""
    pairs = zip(cells["delta_scaled"], cells["min_kept_fraction"])
    points = where(cells, [bool(style.room([delta], style.SMALLEST_DRAWN) and style.room([s])) for delta, s in pairs])
    sparsities = _sparsities(points)
    groups = dict(list(points.groupby(["sparsity", "pool"])))
    figure, axes = style.panels(1, 1, 4.4)
    axis = axes[0][0]
    grid = np.concatenate([np.linspace(VACUOUS_S, 0.999, 400), 1 - np.logspace(-3, -6, 40)])
    lowest = min([*points["delta_scaled"], 0.5]) / 5
    highest = max([*points["delta_scaled"], 5.0]) * 2.5
    edge = np.nan_to_num(_boundary_delta(grid), nan=0.0)
    below = {"color": style.GREEN, "alpha": 0.22, "linewidth": 0, "label": r"eq. (10) is below $\sqrt{2n}$"}
    axis.fill_between(grid, lowest, np.maximum(edge, lowest), **below)
    axis.plot(grid, np.maximum(edge, lowest * 0.5), color=style.GREEN, linewidth=1.5)
    axis.axvline(VACUOUS_S, color=style.BLACK, linestyle="--", linewidth=1.1)
    axis.annotate(
        "s = 0.2929: to the left\nno delta helps",
        (VACUOUS_S, lowest),
        xytext=(-5, 6),
        textcoords="offset points",
        fontsize=8.5,
        horizontalalignment="right",
    )
    colours = style.shades(len(sparsities))
    markers = {pool: style.VARIANT_STYLES[pool][2] for pool in ("avg", "max")}
    look = {"s": 20, "alpha": 0.75, "linewidths": 0, "rasterized": True}
    for sparsity, colour in zip(sparsities, colours):
        for pool, marker in markers.items():
            group = groups.get((sparsity, pool), points.iloc[:0])
            x, y = (list(group[name]) for name in ("min_kept_fraction", "delta_scaled"))
            axis.scatter(x, y, color=colour, marker=marker, **look)
        axis.scatter([], [], color=colour, s=26, label=f"sparsity {100 * sparsity:g}%")
    for pool, marker in markers.items():
        outline = {"facecolors": "none", "edgecolors": style.BLACK}
        axis.scatter([], [], **outline, marker=marker, s=26, label=POOL_NAMES[pool])
    axis.set_yscale("log")
    axis.set_ylim(lowest, highest)
    axis.set_xlim(-0.02, 1.0)
    axis.set_xlabel("s = smallest kept share of tokens over all rows (0 = some row keeps nothing)")
    axis.set_ylabel(r"$\delta$ scaled: eq. (8) / $\sqrt{\mathrm{head\_dim}}$")
    style.plain_log(axis.yaxis)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return style.save(figure, folder, "theorem_3_5_plane")
