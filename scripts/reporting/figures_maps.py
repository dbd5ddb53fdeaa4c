"""One head's draft map, true block mass and mask side by side."""

import re

import numpy as np
from matplotlib.colors import ListedColormap, LogNorm

from . import style

MAX_HEADS = 3


def chosen(cells):
    """The best, the median and the worst head by attention recall, of those whose record has all three maps."""
    cells = [cell for cell in cells if {"draft_map", "block_mass", "mask"} <= set(cell.arrays)]
    cells.sort(key=lambda cell: (-cell.metrics.get("attention_recall", 0), cell.head_key))
    if len(cells) <= MAX_HEADS:
        return cells
    return [cells[0], cells[len(cells) // 2], cells[-1]]


def stem(cell):
    text = (
        f"maps_{cell.dump}_{cell.input.get('capture', '')}_head{cell.input.get('head', 0)}_{cell.pool}_{cell.rule}_"
        f"{cell.region}_{cell.sparsity}"
    )
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()


def regions_per_frame(cell):
    grid, (height, width) = cell.input["grid"], cell.config["region"]
    return -(-grid["height"] // height) * -(-grid["width"] // width)


def draw(cell, folder):
    """Log colour on one scale for both maps; lines are frame boundaries."""
    draft, mass = np.array(cell.arrays["draft_map"]), np.array(cell.arrays["block_mass"])
    mask = np.array([[int(mark) for mark in row] for row in cell.arrays["mask"]])
    positive = np.concatenate([draft[draft > 0], mass[mass > 0]])
    top = positive.max()
    low = max(np.quantile(positive, 0.02), top * 1e-5)
    norm = LogNorm(low, top)
    recall = cell.metrics.get("attention_recall")
    kept = f"{100 * mask.mean():.3g}% of blocks"
    titles = (
        "draft map\nA_draft, eq. (3)",
        "true block mass\nmean over the query region's tokens",
        "mask\n" + kept + (f", {100 * recall:.1f}% of the mass" if recall is not None else " kept"),
    )
    figure, axes = style.panels(1, 3, 3.9, sharex=True, sharey=True)
    for axis, image, title in zip(axes[0], (draft, mass, mask), titles):
        if image is mask:
            axis.imshow(image, cmap=ListedColormap(["#FFFFFF", style.BLUE]), vmin=0, vmax=1, interpolation="nearest")
        else:
            picture = axis.imshow(np.maximum(image, low), cmap="viridis", norm=norm, interpolation="nearest")
        step = regions_per_frame(cell)
        for boundary in range(step, len(draft), step):
            colour = "#FFFFFF" if image is not mask else "#888888"
            axis.axhline(boundary - 0.5, color=colour, linewidth=0.5, alpha=0.75)
            axis.axvline(boundary - 0.5, color=colour, linewidth=0.5, alpha=0.75)
        axis.grid(False)
        for side in ("top", "right"):
            axis.spines[side].set_visible(True)
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_xlabel("key region")
    axes[0][0].set_ylabel("query region")
    bar = figure.colorbar(picture, ax=axes[0], location="bottom", shrink=0.6, aspect=45)
    bar.set_label("share of a query region's attention (log scale); lines separate frames")
    return style.save(figure, folder, stem(cell))


def caption(cell):
    head = f"{cell.input.get('capture', '')} head {cell.input.get('head', 0)}"
    return (
        f"{cell.dump}, {head}: {cell.pool} pooling, rule {cell.rule}, region {cell.region}, "
        f"{100 * cell.sparsity:g}% sparsity."
    )
