"""One head's draft map, true block mass and mask side by side, and what every head's attention looks like in numbers."""

import hashlib
import re

import numpy as np
from matplotlib.colors import ListedColormap, LogNorm

from lab.shared.record_format import MAPS

from . import style
from .finding import NOT_MEASURED, markdown_picture, markdown_table, table_of
from .frame import HEAD, LARGEST_DRAWN, having, rows, where, with_columns, with_metrics, with_shown

MAX_HEADS, MOST_LETTERS, MOST_FRAMES = 3, 120, 200
METRICS = [
    "attention_recall",
    "mass_same_region",
    "mass_same_frame",
    "mass_same_position",
    "mass_text",
    "effective_blocks",
]
COLUMNS = {"dump": "dump", "capture": "known_capture", "head": "known_head"}
COLUMNS |= {name: name for name in ("pool", "rule", "region", "sparsity", *METRICS)}


def section(records, plots, site=""):
    """(lines, tables)"""
    cells = records.of("maps")
    lines = ["## What heads look like", ""]
    if cells.empty:
        return lines + [NOT_MEASURED, ""], []
    table, chosen = table_of_heads(records), _chosen(cells)
    lines += markdown_table(table, site) + [""]
    if chosen and len(cells) > len(chosen):
        lines += [f"The best, the median and the worst of {len(cells)} heads by attention recall:", ""]
    elif chosen:
        lines += ["Every head:", ""]
    stems = _stems(chosen)
    for cell, stem in zip(chosen, stems):
        _draw(cell, plots, stem)
    for cell, stem in list(zip(chosen, stems))[:1]:
        lines += markdown_picture(stem, _caption(cell))
    others = [f"[{_caption(cell)[:-1]}](plots/{stem}.png)" for cell, stem in list(zip(chosen, stems))[1:]]
    return lines + ([f"The others: {'; '.join(others)}.", ""] if others else []), [table]


def table_of_heads(records):
    """A row a head whose maps were recorded; the report has those that it draws."""
    cells = records.of("maps")
    known = {f"known_{name}": [source.get(name) for source in cells["input"]] for name in ("capture", "head")}
    placed = with_columns(with_shown(cells, *METRICS), **known).sort_values([*HEAD, "region"], kind="stable")
    caption = (
        "Shares of the dense attention mass of the video rows; effective_blocks = mean of exp(entropy) of a block row."
    )
    drawn = {(cell.dump, cell.input.get("capture"), cell.input.get("head")) for cell in _chosen(cells)}
    table = table_of("heads", caption, placed, COLUMNS)
    table.carries = lambda row: (row["dump"], row["capture"], row["head"]) in drawn
    return table


def _chosen(cells):
    """The best, the median and the worst head by attention recall, of those whose record has all three maps."""
    cells = having(with_metrics(cells, "attention_recall"), "sparsity", "frames", "height", "width")
    cells = cells[cells["region"] != ""]
    cells = where(cells, [all(name in arrays for name in MAPS) and _has_scale(arrays) for arrays in cells["arrays"]])
    cells = cells.assign(place=[-(recall or 0) for recall in cells["attention_recall"]])
    found = list(rows(cells.sort_values(["place", *HEAD], kind="stable")))
    return found if len(found) <= MAX_HEADS else [found[0], found[len(found) // 2], found[-1]]


def _has_scale(arrays):
    """Whether a logarithmic scale can show the maps: some share is above 0, and none too large for a picture."""
    return all(0 < max(map(max, arrays[name])) <= LARGEST_DRAWN for name in ("draft_map", "block_mass"))


def _stems(cells):
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
    text = f"maps_{cell.dump}_{cell.capture}_head{cell.head}_{cell.pool}_{cell.rule}_{cell.region}_{cell.sparsity}"
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()


def _draw(cell, folder, stem):
    """Log colour on one scale for both maps; lines are frame boundaries."""
    draft, mass = np.array(cell.arrays["draft_map"]), np.array(cell.arrays["block_mass"])
    mask = np.array([[int(mark) for mark in row] for row in cell.arrays["mask"]])
    positive = np.concatenate([draft[draft > 0], mass[mass > 0]])
    top = positive.max()
    low = min(max(np.quantile(positive, 0.02), top * 1e-5), 0.5 * top)  # one value alone is a scale as well
    norm = LogNorm(low, top)
    recall = cell.attention_recall
    kept = f"{100 * mask.mean():.3g}% of blocks"
    titles = (
        "draft map\nA_draft, eq. (3)",
        "true block mass\nmean over the query region's tokens",
        "mask\n" + kept + (f", {100 * recall:.1f}% of the mass" if recall is not None else " kept"),
    )
    height, width = cell.config["region"]
    step = -(-cell.height // height) * -(-cell.width // width)  # regions of a frame
    figure, axes = style.panels(1, 3, 3.9, sharex=True, sharey=True)
    for axis, image, title in zip(axes[0], (draft, mass, mask), titles):
        if image is mask:
            axis.imshow(image, cmap=ListedColormap(["#FFFFFF", style.BLUE]), vmin=0, vmax=1, interpolation="nearest")
        else:
            picture = axis.imshow(np.maximum(image, low), cmap="viridis", norm=norm, interpolation="nearest")
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


def _caption(cell):
    return (
        f"{cell.dump}, {cell.capture} head {cell.head}: {cell.pool} pooling, rule {cell.rule}, region {cell.region}, "
        f"{100 * cell.sparsity:g}% sparsity."
    )
