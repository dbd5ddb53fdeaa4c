"""Plots of what stands around the attention: parts of the draft, moving tokens, and the three orders of tokens."""

from . import overhead_parts as overhead
from . import style
from .finding import percent
from .timings import ORDERS, by_call, choose, kernel, median_ms, panel_titles, provenance, sparsities

LOOKS = {  # part: colour, hatch
    "pool_q": (style.BLUE, ""),
    "pool_k": (style.SKY, ""),
    "map": (style.GREEN, ""),
    "softmax": (style.PURPLE, ""),
    "select": (style.ORANGE, ""),
    "lists": (style.RED, ""),
    "reorder": ("#B0B0B0", "//"),
    "restore": ("#DADADA", "\\\\"),
}
ORDER_LOOKS = {
    "token": (style.BLUE, "o", "token order, read in place"),
    "region": (style.GREEN, "s", "region order, tokens moved beforehand"),
    "gather": (style.RED, "D", "gather: moved, attended to, moved back"),
}
MOST_CALLS, MOST_PANELS, MOST_STACKS = 4, 6, 12


def overhead_pictures(cells, folder):
    """[(stem, caption)]: parts as a stack, the attention beside them; one row a call."""
    calls = [(call, members) for call, members in by_call(cells) if _stacks(members)]
    more, calls = style.left_out(len(calls), MOST_CALLS), calls[:MOST_CALLS]
    if not calls:
        return []
    figure, axes = style.panels(len(calls), 2, 0.5 + 2.6 * len(calls), gridspec_kw={"width_ratios": [1.75, 1]})
    titles, handles = panel_titles([call for call, _ in calls]), {}
    for (left, right), (call, members) in zip(axes, calls):
        stacks = _stacks(members)
        _draw_parts(left, stacks)
        _draw_attention(right, stacks)
        left.set_title(titles[call].replace("\n", ", "), loc="left", fontsize=9)
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
        f" token order and with its gather.{more}"
        f" {provenance([cell for _, members in calls for cell in members])}"
    )
    return [(style.save(figure, folder, "overhead"), caption)]


def _stacks(cells):
    """[(sparsity, {part: cell})] of the sparsities that have a part of the draft."""
    groups = overhead.by_sparsity(cells)
    shown = style.thinned(list(groups), MOST_STACKS)
    found = [(sparsity, overhead.parts(groups[sparsity], sparsity)) for sparsity in shown]
    return [(sparsity, parts) for sparsity, parts in found if any(name in LOOKS or name == "draft" for name in parts)]


def _draw_parts(axis, stacks):
    for place, (_, parts) in enumerate(stacks):
        bottom, split = 0.0, 0.0
        for name, (colour, hatch) in LOOKS.items():
            if name not in parts:
                continue
            height = median_ms(parts[name])
            axis.bar(
                place, height, 0.5, bottom, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=name
            )
            bottom += height
            if name not in overhead.MOVES:
                split = bottom
        whole = median_ms(parts["draft"]) if "draft" in parts else split
        if "draft" in parts:
            axis.plot(place - 0.32, whole, linestyle="none", marker="o", color=style.BLACK, label="as one piece")
        if "attention" in parts:
            attention = median_ms(parts["attention"])
            _beside(axis, place + 0.27, split, percent(whole / attention))
            if bottom > split:
                _beside(axis, place + 0.27, bottom, percent((whole + bottom - split) / attention))
    axis.set_xlim(-0.6, len(stacks) - 0.2)
    axis.set_ylim(bottom=0, top=1.12 * axis.get_ylim()[1])


def _beside(axis, x, y, text):
    axis.annotate(text, (x, y), verticalalignment="center", fontsize=8.5)


def _draw_attention(axis, stacks):
    looks = (("attention", style.BLUE, "", "attention"), ("attention_gather", "#B0B0B0", "//", "gather"))
    for place, (_, parts) in enumerate(stacks):
        for number, (name, colour, hatch, label) in enumerate(looks):
            if name not in parts:
                continue
            cell, height = parts[name], median_ms(parts[name])
            around = [[height - cell.timing.get("p10_ms", height)], [cell.timing.get("p90_ms", height) - height]]
            x = place + 0.36 * (number - 0.5)
            axis.bar(x, height, 0.34, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=label)
            around = [[max(0.0, value) for value in side] for side in around]
            axis.errorbar(x, height, around, color=style.BLACK, linewidth=1, capsize=2)
            style.above(axis, x, height, f"{height:.3g}", 7.5)
    axis.set_ylim(bottom=0, top=1.1 * axis.get_ylim()[1])


def draw_orders(cells, folder):
    """Region order and gather against token order, in percent; one panel a call. Returns (stem, caption)."""
    calls = by_call(cells)
    more, calls = style.left_out(len(calls), MOST_PANELS), calls[:MOST_PANELS]
    columns = min(3, len(calls))
    rows = -(-len(calls) // columns)
    figure, axes = style.panels(rows, columns, 0.6 + 2.6 * rows, sharey=True, sharex=True)
    titles = panel_titles([call for call, _ in calls])
    for axis in axes.flat[len(calls) :]:
        axis.set_visible(False)
    handles = {}
    for number, (axis, (call, members)) in enumerate(zip(axes.flat, calls)):
        token = {cell.sparsity or 0: median_ms(cell) for cell in choose(members, order="token")}
        for name in ORDERS:
            colour, marker, label = ORDER_LOOKS[name]
            points = sorted(
                (sparsity, median_ms(cell) / token[sparsity] - 1, median_ms(cell) - token[sparsity])
                for cell in choose(members, order=name)
                if (sparsity := cell.sparsity or 0) in token
            )
            if not points:
                continue
            axis.plot(*list(zip(*points))[:2], color=colour, marker=marker, label=label)
            if name == "gather":
                for sparsity, share, gap in (points[0], points[-1]) if len(points) > 1 else points:
                    first = sparsity == points[0][0]
                    beside = 7 if share >= 0 else -14  # away from the line of token order
                    axis.annotate(
                        f"{gap:+.2f} ms",
                        (sparsity, share),
                        textcoords="offset points",
                        xytext=(0 if first else -6, beside if first else -2),
                        fontsize=8,
                        color=colour,
                        horizontalalignment="left" if first else "right",
                    )
        axis.set_title(titles[call], loc="left", fontsize=9)
        style.percent_axis(axis.xaxis, style.spaced(sparsities(cells), 0.2))
        style.percent_axis(axis.yaxis)
        if number + columns >= len(calls):
            axis.set_xlabel("sparsity")
            axis.tick_params(labelbottom=True)
        if number % columns == 0:
            axis.set_ylabel("time against token order")
        handles.update(zip(*reversed(axis.get_legend_handles_labels())))
    style.legend_strip(figure, list(handles.values()), list(handles), 3)
    caption = (
        "Attention with tokens in region order, and with moving q, k, v there and the output back, against reading"
        f" regions straight from token order; medians, kernel {kernel(cells[0])}, one run a call.{more}"
        f" {provenance(cells)}"
    )
    return style.save(figure, folder, "token_orders"), caption
