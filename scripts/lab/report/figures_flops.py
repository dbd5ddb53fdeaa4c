"""Plots of FLOPs: where they go by video length (Figure 1), and Table 1's column against two models."""

import numpy as np

from . import style

MOST_BARS, MOST_MODELS = 16, 4
PARTS = (  # metric, label, colour, hatch
    ("pflops_attention", r"attention ($QK^T$ and $PV$)", style.BLUE, ""),
    ("pflops_projections", "Q, K, V, O projections", style.ORANGE, ""),
    ("pflops_mlp", "MLP", style.GREEN, ""),
    ("pflops_cross_attention", "cross-attention", style.PURPLE, ""),
    ("pflops_other", "modulation, embeddings", style.GREY, ""),
)


def draw_breakdown(cells, folder):
    """Shares by video length; the dashed line is the paper's 80%."""
    cells = style.thinned(sorted(cells, key=lambda cell: cell.config["seconds"]), MOST_BARS)
    figure, axes = style.panels(1, 1, 3.7)
    axis = axes[0][0]
    x = range(len(cells))
    bottom = [0.0] * len(cells)
    for name, label, colour, hatch in PARTS:
        shares = [cell.metrics.get(name, 0) / cell.metrics["pflops_total"] for cell in cells]
        if max(shares) < 1e-3:
            continue
        axis.bar(x, shares, bottom=bottom, color=colour, width=0.72, label=label, hatch=hatch)
        bottom = [low + share for low, share in zip(bottom, shares)]
    for position, cell in zip(x, cells):
        axis.annotate(
            f"{100 * cell.metrics['attention_share']:.0f}%",
            (position, cell.metrics["attention_share"] / 2),
            horizontalalignment="center",
            color="#FFFFFF",
            fontsize=9,
        )
    axis.axhline(0.8, color=style.BLACK, linestyle="--", linewidth=1, label="the paper's 80%")
    axis.set_xticks(list(x), [f"{cell.config['seconds']:g} s\n{cell.input['tokens'] / 1000:,.0f}k" for cell in cells])
    axis.set_xlabel("video length at 24 frames a second, and tokens of self-attention")
    axis.set_ylabel("share of FLOPs")
    axis.set_ylim(0, 1)
    style.percent_axis(axis.yaxis)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return style.save(figure, folder, "figure_1_flops")


LINES = (
    ("pflops_printed", "printed in Table 1", style.BLACK, "", "o"),
    ("pflops_quadratic", r"fit: base + $A\,(1 - \mathrm{sparsity})^2$", style.RED, ":", ""),
    ("pflops_reconstructed", "from the architecture, counted as printed", style.PURPLE, "--", ""),
    ("pflops_linear_as_printed", "the same, saving in proportion to sparsity", style.SKY, "-", ""),
    ("pflops_linear", "counted in full, in proportion, first 25% of steps dense", style.BLUE, "-", ""),
)


QUADRATIC = ("pflops_quadratic", "pflops_reconstructed")  # straight lines over (1 - sparsity)^2


def _between(points, power):
    """Joins points by a curve that is straight over (1 - sparsity) ** power."""
    known = sorted(((1 - sparsity) ** power, value) for sparsity, value in points)
    x = np.linspace(min(points)[0], max(points)[0], 100)
    return x, np.interp((1 - x) ** power, *zip(*known))


def draw_table_1(cells, folder):
    """Printed PFLOPs against the quadratic fit and the linear models, one panel a model and resolution. Returns
    (stem, caption)."""
    models = sorted({(cell.input["model"], cell.input["resolution"]) for cell in cells})
    caption = "Printed PFLOPs, the quadratic and the linear model." + style.left_out(len(models), MOST_MODELS, "models")
    models = models[:MOST_MODELS]
    figure, axes = style.panels(1, len(models), 3.9)
    for axis, model in zip(axes[0], models):
        rows = {
            cell.config["sparsity"]: cell.metrics
            for cell in cells
            if (cell.input["model"], cell.input["resolution"]) == model
        }
        x = sorted(rows)
        for name, label, colour, line, marker in LINES:
            points = [(sparsity, rows[sparsity][name]) for sparsity in x if name in rows[sparsity]]
            if points and not line:
                axis.plot(*zip(*points), color=colour, linestyle="none", marker=marker, label=label, zorder=3)
            elif points:
                axis.plot(*_between(points, 2 if name in QUADRATIC else 1), color=colour, linestyle=line, label=label)
        axis.set_title(f"{model[0]}\n{model[1]}", loc="left", fontsize=9)
        axis.set_ylim(bottom=0)
        style.percent_axis(axis.xaxis, style.spaced(x, 0.15))
        axis.set_xlabel("sparsity")
    axes[0][0].set_ylabel("PFLOPs a video")
    style.legend_strip(figure, *axes[0][0].get_legend_handles_labels(), 2)
    return style.save(figure, folder, "table_1_flops"), caption
