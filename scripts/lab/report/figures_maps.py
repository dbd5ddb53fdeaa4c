"""One head's draft map, true block mass and mask side by side."""

import hashlib
import re

import numpy as np
from matplotlib.colors import ListedColormap, LogNorm

from lab.shared.record_format import MAPS

from . import style
from .records import LARGEST_DRAWN, having

MAX_HEADS, MOST_LETTERS, MOST_FRAMES = 3, 120, 200


def chosen(cells):
    """The best, the median and the worst head by attention recall, of those whose record has all three maps."""
    cells = [
        cell for cell in having(cells, arrays=MAPS, config=["region", "sparsity"]) if cell.grid and _has_scale(cell)
    ]
    cells.sort(key=lambda cell: (-cell.metrics.get("attention_recall", 0), cell.head_key))
    if len(cells) <= MAX_HEADS:
        return cells
    return [cells[0], cells[len(cells) // 2], cells[-1]]


def _has_scale(cell):
    """Whether a logarithmic scale can show the maps: some share is above 0, and none too large for a picture."""
    return all(0 < max(map(max, cell.arrays[name])) <= LARGEST_DRAWN for name in ("draft_map", "block_mass"))


def stems(cells):
    """A file name for each cell: of letters and digits, short enough for every file system, each another."""
    found = []
    for cell in cells:
        name = _stem(cell)
        if len(name) > MOST_LETTERS:
            name = f"{name[:MOST_LETTERS]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        number = 2
        while name in found:
            name, number = f"{name.removesuffix(f'_{number - 1}')}_{number}", number + 1
        found.append(name)
    return found


def _stem(cell):
    text = (
        f"maps_{cell.dump}_{cell.input.get('capture', '')}_head{cell.input.get('head', 0)}_{cell.pool}_{cell.rule}_"
        f"{cell.region}_{cell.sparsity}"
    )
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()


def regions_per_frame(cell):
    grid, (height, width) = cell.grid, cell.config["region"]
    return -(-grid["height"] // height) * -(-grid["width"] // width)


def draw(cell, folder, stem):
    """Log colour on one scale for both maps; lines are frame boundaries."""
    draft, mass = np.array(cell.arrays["draft_map"]), np.array(cell.arrays["block_mass"])
    mask = np.array([[int(mark) for mark in row] for row in cell.arrays["mask"]])
    positive = np.concatenate([draft[draft > 0], mass[mass > 0]])
    top = positive.max()
    low = min(max(np.quantile(positive, 0.02), top * 1e-5), 0.5 * top)  # one value alone is a scale as well
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
        for boundary in range(step, len(draft), step) if len(draft) <= MOST_FRAMES * step else ():
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
    return style.save(figure, folder, stem)


def caption(cell):
    head = f"{cell.input.get('capture', '')} head {cell.input.get('head', 0)}"
    return (
        f"{cell.dump}, {head}: {cell.pool} pooling, rule {cell.rule}, region {cell.region}, "
        f"{100 * cell.sparsity:g}% sparsity."
    )
