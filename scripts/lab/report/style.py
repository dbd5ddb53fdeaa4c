"""One look for all plots: colours that colour-blind readers can tell apart, one width, reproducible bytes."""

import os
from functools import cache

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.legend  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import matplotlib.text  # noqa: E402
import matplotlib.ticker  # noqa: E402
from matplotlib import font_manager  # noqa: E402

from .foreign import math_free, spelled  # noqa: E402
from .frame import LARGEST_DRAWN  # noqa: E402

SMALLEST_DRAWN = 1 / LARGEST_DRAWN  # on a logarithmic axis

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#7F7F7F",
    "#000000",
)  # Okabe and Ito
MOST_OF_A_TITLE, MOST_OF_A_LEGEND = {1: 110, 2: 60}, {1: 100, 2: 57}  # letters, by columns
MOST_OF_A_TICK, MOST_OF_A_LINE = 30, 100
WIDTH = 8.0  # inches; at 150 dots an inch 1200 pixels, readable when shown at 800

VARIANT_STYLES = {  # colour, line, marker
    "avg": (BLUE, "-", "o"),
    "max": (RED, "-", "s"),
    "oracle": (GREEN, "--", "^"),
    "random": (GREY, ":", "D"),
}
RULE_STYLES = {
    "logits": (PURPLE, "-", "o"),
    "softmax": (BLUE, "-", "s"),
    "released": (ORANGE, "--", "x"),
    "row": (GREEN, "-.", "^"),
}

KERNEL_STYLES = {
    "wgmma": (BLUE, "-", "o"),
    "mma": (SKY, "-", "s"),
    "wgmma_8bit": ("#004C7A", "-", "h"),
    "blas": (GREY, "-", "^"),
    "cudnn": (GREEN, "-", "D"),
    "flash_attention_2": (ORANGE, "-", "v"),
    "flash_attention_3": (RED, "-", "P"),
    "flash_attention_4": (PURPLE, "-", "X"),
    "flex_attention": ("#F0E442", "-", "<"),
    "block_sparse_attention": ("#5A5A5A", "-", ">"),
}

plt.rcParams.update(
    {
        "font.size": 9.5,
        "axes.titlesize": 10,
        "axes.labelsize": 9.5,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#E3E3E3",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "lines.linewidth": 1.7,
        "lines.markersize": 5,
        "figure.dpi": 150,
        "savefig.dpi": 150,
        "svg.hashsalt": "draft",
        "svg.fonttype": "path",
        "figure.constrained_layout.use": True,
    }
)


def shades(count):
    """`count` colours in an order that the eye can follow."""
    return plt.get_cmap("viridis")(np.linspace(0, 0.93, count))


def variant_style(variant):
    """Style of ("draft", pool, rule), ("oracle",) or ("random",)."""
    return VARIANT_STYLES.get(variant[1] if variant[0] == "draft" else variant[0], (BLACK, "-", "v"))


def kernel_style(kernel):
    """Style of a kernel by its name in the records."""
    return KERNEL_STYLES.get(kernel, (BLACK, "-", "*"))


def kernel_colours(names):
    """{name: colour}; those without a style of their own get different ones."""
    others = [name for name in names if name not in KERNEL_STYLES]
    colours = dict(zip(others, plt.get_cmap("tab20b")(np.linspace(0, 1, max(len(others), 1)))))
    return {name: colours.get(name, kernel_style(name)[0]) for name in names}


BEHIND_TEXT = {"boxstyle": "square,pad=0.05", "facecolor": "#FFFFFF", "edgecolor": "none", "alpha": 0.85}


def above(axis, x, y, text, size=8, rotation=0):
    """A number above a bar or its whisker, turned by `rotation` degrees; lines that cross it stay behind it."""
    axis.annotate(
        text,
        (x, y),
        textcoords="offset points",
        xytext=(0, 3),
        horizontalalignment="center",
        fontsize=size,
        rotation=rotation,
        bbox=BEHIND_TEXT,
        zorder=4,
    )


@cache
def _has_glyph(letter):
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    return letter == "\n" or font.get_char_index(ord(letter)) != 0


def clipped(text, most):
    """Both ends of a text that is too long."""
    tail = most // 3
    return text if len(text) <= most else f"{text[: most - 3 - tail]}...{text[-tail:]}"


def _drawn(text, most):
    """Text as it is drawn: nothing out of a record is a formula, what the font lacks is spelled out, lines end."""
    text = "\n".join(clipped(line, most) for line in text.split("\n"))
    return "".join(letter if _has_glyph(letter) else spelled(letter) for letter in math_free(text))


def make_drawable(figure):
    """The texts of a figure hold names out of records, of any length and in any letters."""
    for axes in figure.axes:
        place = getattr(axes, "get_subplotspec", lambda: None)()  # a colour bar has none
        columns = place.get_gridspec().ncols if place else 1
        for title in (axes.title, axes._left_title):
            title.set_text(_drawn(title.get_text(), MOST_OF_A_TITLE.get(columns, 45)))
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_locator(), matplotlib.ticker.FixedLocator):
                labels = [label.get_text() for label in axis.get_ticklabels()]
                drawn = [_drawn(label, MOST_OF_A_TICK) for label in labels]
                if drawn != labels:
                    axis.set_ticklabels(drawn)
    for legend in figure.findobj(matplotlib.legend.Legend):
        columns = 3 if legend.parent is not figure else min(legend._ncols, len(legend.texts))
        for text in legend.texts:
            text.set_text(_drawn(text.get_text(), MOST_OF_A_LEGEND.get(columns, 42)))
    for text in figure.findobj(matplotlib.text.Text):
        text.set_text(_drawn(text.get_text(), MOST_OF_A_LINE))


def room(values, least=-LARGEST_DRAWN):
    """The values that an axis has room for."""
    return [value for value in values if least <= value <= LARGEST_DRAWN]


def save(figure, folder, stem):
    """Writes stem.png and stem.svg; the same figure gives the same bytes. Without a folder (None) nothing: for readers of
    findings whose pictures are there already."""
    if folder is None:
        plt.close(figure)
        return stem
    make_drawable(figure)
    # The layout's solver differs in its last digits from run to run, and an SVG names things by hashes of them.
    figure.draw_without_rendering()
    with matplotlib.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)  # "none" would leave a placeholder, for which each format draws once more
    for axis in figure.axes:
        axis.set_position([round(value, 6) for value in axis.get_position(original=True).bounds])
    for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        figure.savefig(os.path.join(folder, f"{stem}.{ending}"), metadata=metadata)
    plt.close(figure)
    return stem


def left_out(count, most, what="calls"):
    """For captions: says that not every call has a panel."""
    return f" The first {most} of {count} {what}; the table has all." if count > most else ""


def thinned(items, most):
    """At most so many of the items, the first and the last among them, evenly spread."""
    if len(items) <= most:
        return items
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def collect(handles, axis):
    """Adds a panel's handles of a legend, by label; the first of a label stays."""
    for handle, label in zip(*axis.get_legend_handles_labels()):
        handles.setdefault(label, handle)


def legend_strip(figure, handles, labels, columns):
    """Keeps a strip under the panels for a legend, where it covers no data."""
    lines = -(-len(labels) // columns)
    share = (0.12 + 0.22 * lines) / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, share, 1, 1 - share))
    figure.legend(handles, labels, loc="lower center", ncol=columns, bbox_to_anchor=(0.5, 0.0), borderaxespad=0.2)


def panels(rows, columns, height, **keywords):
    """A grid of panels of the common width; always a two-dimensional array."""
    return plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **keywords)


def percent_axis(axis, sparsities=None):
    """Labels shares as percent; ticks at the measured ones if given."""
    axis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
    if sparsities is not None:
        axis.set_major_locator(matplotlib.ticker.FixedLocator(list(sparsities)))


def spaced(ticks, gap, first=0.9):
    """Drops ticks whose labels would overprint others'; `first` stays, then larger ones before smaller ones."""
    kept = []
    for tick in sorted(ticks, key=lambda tick: (tick != first, -tick)):
        if all(abs(tick - other) >= gap - 1e-9 for other in kept):
            kept.append(tick)
    return sorted(kept)


def plain_log(axis):
    """Log axis labelled with plain numbers; with 2 and 5 between where it spans less than two decades."""
    low, high = axis.get_view_interval()
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    if high < 100 * low:
        axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
