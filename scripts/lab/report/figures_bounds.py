"""Plots of Theorems 3.3 and 3.5: how tight the bounds are, and where eq. (10) says anything at all."""

from statistics import median

import matplotlib.pyplot as plt
import numpy as np

from . import style
from .quality import POOL_NAMES

CHAIN = (  # metric, label, colour, line, marker
    ("bound_sharp_mu", r"from the dropped mass: $\sqrt{2 \sum \mu_u^2}$", style.GREEN, "-", "o"),
    ("bound_blocks", r"from each block's own $\delta_{ij}$", style.SKY, "-", "s"),
    ("bound_radii", r"from radii, no $n^2$ work", style.PURPLE, "-", "D"),
    ("bound_sharp", r"sharper eq. (10): $\sqrt{2n}$ for $2\sqrt{n}$", style.ORANGE, "--", "^"),
    ("trivial_bound", r"trivial: $\sqrt{2n}$", style.BLACK, ":", "x"),
    ("bound_3_5", r"Theorem 3.5, eq. (10), $\delta$ scaled", style.RED, "-", "v"),
    ("bound_3_5_paper_delta", r"eq. (10), $\delta$ as printed (unscaled)", style.GREY, "--", "+"),
)
NAMES = [name for name, *_ in CHAIN]
MOST_POOLS, MOST_SPARSITIES = 4, 24
VACUOUS_S = 1 - 1 / np.sqrt(2)  # 0.2929: below it no delta >= 0 makes eq. (10) better than sqrt(2n)


def boundary_delta(s):
    """The largest scaled delta at which eq. (10) is below sqrt(2n); NaN where there is none."""
    s = np.asarray(s, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        delta = -0.5 * np.log((np.sqrt(2) - 1) * (1 - s) / s)
    return np.where(delta >= 0, delta, np.nan)


def draw_theorem_3_3(cells, folder):
    """One dot a head, pool and region: both sides' ratio, and how far typical deviations lie below the worst one."""
    heads = {}
    for cell in cells:  # neither side depends on the rule or the sparsity
        if style.SMALLEST_DRAWN <= cell.metrics.get("tightness_3_3", 0) <= style.LARGEST_DRAWN:
            heads[(cell.head_key, cell.pool, cell.region)] = cell.metrics
    pools = _pools(cells)
    figure, axes = style.panels(1, 2, 3.2, gridspec_kw={"width_ratios": [1, 2]})
    left, right = axes[0]
    names = (("delta_p50", "50%"), ("delta_p90", "90%"), ("delta_p99", "99%"), ("delta_p999", "99.9%"))
    for number, pool in enumerate(pools):
        colour, _, marker = style.VARIANT_STYLES.get(pool, (style.BLACK, "-", "o"))
        group = [metrics for key, metrics in sorted(heads.items()) if key[1] == pool]
        if not group:
            continue
        offsets = np.linspace(-0.25, 0.25, len(group)) if len(group) > 1 else [0.0]
        left.scatter(
            number + np.asarray(offsets),
            [metrics["tightness_3_3"] for metrics in group],
            color=colour,
            marker=marker,
            s=22,
            alpha=0.8,
        )
        middle = median(metrics["tightness_3_3"] for metrics in group)
        left.hlines(middle, number - 0.35, number + 0.35, color=style.BLACK, linewidth=1.4)
        spread = [
            style.room(
                (
                    metrics[name] / metrics["delta_logits"]
                    for metrics in group
                    if name in metrics and metrics["delta_logits"] > 0
                ),
                style.SMALLEST_DRAWN,
            )
            for name, _ in names
        ]
        if all(spread):
            positions = np.arange(len(names)) + (number - (len(pools) - 1) / 2) * 0.3
            for position, values in zip(positions, spread):
                right.scatter(
                    position + np.linspace(-0.08, 0.08, len(values)),
                    values,
                    color=colour,
                    marker=marker,
                    s=16,
                    alpha=0.7,
                )
                right.hlines(median(values), position - 0.13, position + 0.13, color=style.BLACK, linewidth=1.4)
            right.scatter([], [], color=colour, marker=marker, s=22, label=f"{POOL_NAMES.get(pool, pool)} (one head)")
    right.plot([], [], color=style.BLACK, linewidth=1.4, label="median over heads")
    left.set_yscale("log")
    left.set_ylim(top=1.25)
    left.axhline(1, color=style.BLACK, linewidth=0.8, linestyle=":")
    left.set_xticks(
        range(len(pools)), [POOL_NAMES[pool].replace(" ", "\n") if pool in POOL_NAMES else pool for pool in pools]
    )
    left.set_xlim(-0.6, len(pools) - 0.4)
    left.set_ylabel(r"$\Vert S - S_\mathrm{draft}\Vert_F \; / \; (\delta n)$   (1 = tight)")
    left.set_title("Theorem 3.3, left / right side", loc="left")
    right.set_yscale("log")
    right.set_ylim(top=1.9)
    right.axhline(1, color=style.BLACK, linewidth=0.8, linestyle=":")
    right.set_xticks(range(len(names)), [label for _, label in names])
    right.set_xlabel(r"quantile of $|S_{uv} - \tilde{S}_{ij}|$ over all token pairs")
    right.set_ylabel(r"quantile / $\delta$")
    right.set_title("Typical deviation against the worst one", loc="left")
    right.legend(loc="lower right")
    for axis in (left, right):
        style.plain_log(axis.yaxis)
    return style.save(figure, folder, "theorem_3_3_tightness")


def _pools(cells):
    """The poolings with a panel: the paper's first where there are more than fit."""
    found = sorted({cell.pool for cell in cells})
    return found if len(found) <= MOST_POOLS else sorted(found, key=lambda pool: pool not in POOL_NAMES)[:MOST_POOLS]


def pools_left_out(cells):
    return style.left_out(len({cell.pool for cell in cells}), MOST_POOLS, "poolings")


def not_drawn(cells):
    """For captions: what of the cells has no place in the plots by sparsity."""
    count = len({cell.sparsity for cell in cells})
    shown = f" {MOST_SPARSITIES} of {count} sparsities are drawn; the table has all." if count > MOST_SPARSITIES else ""
    return shown + pools_left_out(cells)


def draw_theorem_3_5(cells, folder):
    """||P - P^M||_F over each bound by sparsity: a dot for every head and rule, a line through the medians."""
    pools = _pools(cells)
    cells = [cell for cell in cells if cell.metrics.get("probs_frobenius", 0) > 0]
    sparsities = style.thinned(sorted({cell.sparsity for cell in cells}), MOST_SPARSITIES)
    groups = {}
    for cell in cells:
        groups.setdefault((cell.pool, cell.sparsity), []).append(cell.metrics)
    positions = {sparsity: number for number, sparsity in enumerate(sparsities)}
    figure, axes = style.panels(1, len(pools), 4.6, sharey=True)
    for axis, pool in zip(axes[0], pools):
        for number, (name, _, colour, line, marker) in enumerate(CHAIN):
            shift = (number - (len(CHAIN) - 1) / 2) * 0.09
            middle = []
            for sparsity in sparsities:
                ratios = style.room(
                    (
                        metrics["probs_frobenius"] / metrics[name]
                        for metrics in groups.get((pool, sparsity), ())
                        if metrics.get(name, 0) > 0
                    ),
                    style.SMALLEST_DRAWN,
                )
                if ratios:
                    middle.append((positions[sparsity] + shift, median(ratios)))
                    axis.scatter(
                        [positions[sparsity] + shift] * len(ratios),
                        ratios,
                        color=colour,
                        s=5,
                        alpha=0.3,
                        linewidths=0,
                        rasterized=True,
                    )
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


def draw_plane(cells, folder):
    """The (s, delta) plane: eq. (10) is below sqrt(2n) only in the shaded corner."""
    points = [
        cell
        for cell in cells
        if style.room([cell.metrics["delta_scaled"]], style.SMALLEST_DRAWN)
        and style.room([cell.metrics["min_kept_fraction"]])
    ]
    sparsities = style.thinned(sorted({cell.sparsity for cell in points}), MOST_SPARSITIES)
    groups = {}
    for cell in points:
        groups.setdefault((cell.sparsity, cell.pool), []).append(cell.metrics)
    figure, axes = style.panels(1, 1, 4.4)
    axis = axes[0][0]
    grid = np.concatenate([np.linspace(VACUOUS_S, 0.999, 400), 1 - np.logspace(-3, -6, 40)])
    lowest = min([cell.metrics["delta_scaled"] for cell in points] + [0.5]) / 5
    highest = max([cell.metrics["delta_scaled"] for cell in points] + [5.0]) * 2.5
    edge = np.nan_to_num(boundary_delta(grid), nan=0.0)
    axis.fill_between(
        grid,
        lowest,
        np.maximum(edge, lowest),
        color=style.GREEN,
        alpha=0.22,
        linewidth=0,
        label=r"eq. (10) is below $\sqrt{2n}$",
    )
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
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.93, max(len(sparsities), 1)))
    for sparsity, colour in zip(sparsities, colours):
        for pool in ("avg", "max"):
            group = groups.get((sparsity, pool), ())
            axis.scatter(
                [metrics["min_kept_fraction"] for metrics in group],
                [metrics["delta_scaled"] for metrics in group],
                color=colour,
                marker=style.VARIANT_STYLES[pool][2],
                s=20,
                alpha=0.75,
                linewidths=0,
                rasterized=True,
            )
        axis.scatter([], [], color=colour, s=26, label=f"sparsity {100 * sparsity:g}%")
    for pool in ("avg", "max"):
        axis.scatter(
            [],
            [],
            facecolors="none",
            edgecolors=style.BLACK,
            marker=style.VARIANT_STYLES[pool][2],
            s=26,
            label=POOL_NAMES[pool],
        )
    axis.set_yscale("log")
    axis.set_ylim(lowest, highest)
    axis.set_xlim(-0.02, 1.0)
    axis.set_xlabel("s = smallest kept share of tokens over all rows (0 = some row keeps nothing)")
    axis.set_ylabel(r"$\delta$ scaled: eq. (8) / $\sqrt{\mathrm{head\_dim}}$")
    style.plain_log(axis.yaxis)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return style.save(figure, folder, "theorem_3_5_plane")
