"""Plots of what a mask keeps and what that does to the output: by sparsity, rule, region and head."""

import math

import matplotlib.pyplot as plt

from . import style
from .quality import variant_name

METRICS = {  # name: (axis label, file stem part)
    "attention_recall": ("attention recall\n(share of true mass kept)", "recall"),
    "output_rel_l2": ("output error\n(relative L2, sparse against dense)", "output_error"),
}
MAX_PANELS = 12
MOST_LINES, MOST_REGIONS = 400, 40


def groups(quality):
    """[(title, heads)]: one group a capture, or one a dump where there are too many captures for panels."""
    if len(quality.captures) <= MAX_PANELS:
        several = len(quality.dumps) > 1
        found = [(f"{key[0]}\n{key[2]}" if several else key[2], key) for key in quality.captures]
    else:
        found = [(dump[0], dump) for dump in quality.dumps]
    members = {key: set() for _, key in found[:MAX_PANELS]}
    for head in quality.heads:
        for key in (head[:3], head[:2]):
            if key in members:
                members[key].add(head)
    return [
        (f"{label}, {len(members[key])} head{'s' * (len(members[key]) != 1)}", members[key])
        for label, key in found[:MAX_PANELS]
    ]


def panels_left_out(quality):
    """For captions: says that not every dump has a panel."""
    return style.left_out(len(quality.dumps), MAX_PANELS, "dumps") if len(quality.captures) > MAX_PANELS else ""


def _curve(axis, points, look, label, band):
    """Mean over heads; with `band` also the range from worst to best. points: [(x, values of the heads)]."""
    colour, line, marker = look
    points = [(x, drawn) for x, values in points if (drawn := style.room(values))]
    if not points:
        return
    x = [place for place, _ in points]
    if band:
        low, high = [min(values) for _, values in points], [max(values) for _, values in points]
        axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    means = [sum(values) / len(values) for _, values in points]
    axis.plot(x, means, color=colour, linestyle=line, marker=marker, label=label)


def _by_sparsity(quality, heads, variant, metric):
    return [
        (sparsity, quality.values(variant, quality.region, sparsity, metric, heads))
        for sparsity in quality.sparsities(quality.region, variant)
    ]


def _finish(figure, axes, used, quality, metric, columns):
    for axis in axes.flat[used:]:
        axis.set_visible(False)
    for number, axis in enumerate(axes.flat[:used]):
        style.percent_axis(axis.xaxis, style.spaced(quality.sparsities(quality.region), 0.07))
        axis.set_ylim(bottom=0)
        if metric == "attention_recall":
            axis.set_ylim(top=1)
        if number + axes.shape[1] >= used:
            axis.set_xlabel("sparsity (share of blocks dropped)")
            axis.tick_params(labelbottom=True)
        if number % axes.shape[1] == 0:
            axis.set_ylabel(METRICS[metric][0])
    style.legend_strip(figure, *axes.flat[0].get_legend_handles_labels(), columns)


def _grid(count):
    columns = min(3, count)
    rows = math.ceil(count / columns)
    return style.panels(rows, columns, 1.0 + 2.4 * rows, sharex=True, sharey=True)


def draw_by_sparsity(quality, metric, folder):
    """Average and max pooling, oracle and random, one panel a capture."""
    panels = groups(quality)
    figure, axes = _grid(len(panels))
    variants = [
        variant
        for variant in (quality.draft("avg"), quality.draft("max"), ("oracle",), ("random",))
        if quality.has(variant, quality.region)
    ]
    for axis, (label, heads) in zip(axes.flat, panels):
        for variant in variants:
            points = _by_sparsity(quality, heads, variant, metric)
            _curve(axis, points, style.variant_style(variant), variant_name(variant), variant == quality.draft("avg"))
        axis.set_title(label, loc="left", fontsize=9)
    _finish(figure, axes, len(panels), quality, metric, 2)
    return style.save(figure, folder, f"{METRICS[metric][1]}_by_sparsity")


def draw_by_rule(quality, metric, folder):
    """The four selection rules on the average-pooled map, one panel a capture."""
    panels = groups(quality)
    figure, axes = _grid(len(panels))
    for axis, (label, heads) in zip(axes.flat, panels):
        for rule in quality.rules("avg"):
            points = _by_sparsity(quality, heads, ("draft", "avg", rule), metric)
            _curve(axis, points, style.RULE_STYLES[rule], f"rule {rule}", rule == quality.rule)
        points = _by_sparsity(quality, heads, ("random",), metric)
        _curve(axis, points, style.VARIANT_STYLES["random"], "random blocks", False)
        axis.set_title(label, loc="left", fontsize=9)
    _finish(figure, axes, len(panels), quality, metric, 5)
    return style.save(figure, folder, f"{METRICS[metric][1]}_by_rule")


def region_sparsities(quality):
    """Up to three sparsities that were measured for several regions."""
    found = [sparsity for sparsity in quality.sparsities() if len(quality.regions(sparsity)) > 1]
    return [sparsity for sparsity in (0.5, 0.75, 0.9) if sparsity in found] or found[-3:]


def draw_by_region(quality, folder):
    """Recall and output error against region size at fixed sparsities; mean over heads, average pooling with a band."""
    regions = quality.regions()
    sparsities = region_sparsities(quality)
    positions = {region: number for number, region in enumerate(regions)}
    several = {variant for variant, region in quality.measured_at() if region != quality.region}
    variants = [
        variant
        for variant in (quality.draft("avg"), quality.draft("max"), ("oracle",), ("random",))
        if variant in several
    ]
    figure, axes = style.panels(2, len(sparsities), 5.6, sharex=True, sharey="row")
    for row, metric in enumerate(METRICS):
        for column, sparsity in enumerate(sparsities):
            axis = axes[row][column]
            shown, heads = quality.regions_and_heads(sparsity)
            for variant in variants:
                points = [
                    (positions[region], values)
                    for region in shown
                    if (values := quality.values(variant, region, sparsity, metric, heads))
                ]
                band = variant == quality.draft("avg")
                _curve(axis, points, style.variant_style(variant), variant_name(variant), band)
            if row == 0:
                axis.set_title(f"{100 * sparsity:g}% sparsity", loc="left")
            else:
                ticks = style.thinned(list(range(len(regions))), MOST_REGIONS)
                labels = [regions[tick] for tick in ticks]
                axis.set_xticks(ticks, labels, rotation=40, horizontalalignment="right")
                axis.set_xlabel("region (tokens high x wide)")
        axes[row][0].set_ylabel(METRICS[metric][0])
        axes[row][0].set_ylim(bottom=0, top=1 if row == 0 else None)
    style.legend_strip(figure, *axes[0][0].get_legend_handles_labels(), 2)
    return style.save(figure, folder, "regions")


def scatter_sparsities(quality):
    """The three that the paper uses where they were measured, else the largest ones."""
    found = quality.sparsities(quality.region, quality.draft("avg"))
    wanted = [sparsity for sparsity in (0.6, 0.8, 0.9) if sparsity in found]
    return wanted or found[-3:]


def _with_room(first, second):
    """Both lists without the points that an axis has no room for."""
    found = [pair for pair in zip(first, second) if len(style.room(pair)) == 2]
    return [x for x, _ in found], [y for _, y in found]


def draw_recall_against_error(quality, folder):
    """One dot a head and choice of blocks: heads far from the common line are where the two measures disagree."""
    sparsities = scatter_sparsities(quality)
    variants = [
        variant
        for variant in (quality.draft("avg"), quality.draft("max"), ("oracle",), ("random",))
        if quality.has(variant, quality.region)
    ]
    figure, axes = style.panels(1, len(sparsities), 3.7, sharex=True, sharey=True)
    for axis, sparsity in zip(axes[0], sparsities):
        ends = [(variant, quality.region, sparsity) for variant in (quality.draft("avg"), ("random",))]
        recalls = {head: pair for head, *pair in quality.pairs(*ends, "attention_recall")}
        errors = {head: pair for head, *pair in quality.pairs(*ends, "output_rel_l2") if head in recalls}
        drawn = [head for head in errors if len(style.room((*recalls[head], *errors[head]))) == 4]
        for head in style.thinned(drawn, MOST_LINES):
            axis.plot(recalls[head], errors[head], color="#C8C8C8", linewidth=0.7, zorder=1)
        for variant in variants:
            colour, _, marker = style.variant_style(variant)
            axis.scatter(
                *_with_room(*quality.both(variant, quality.region, sparsity)),
                color=colour,
                marker=marker,
                s=24,
                alpha=0.8,
                linewidths=0,
                label=variant_name(variant),
                zorder=2,
            )
        axis.set_title(f"{100 * sparsity:g}% sparsity", loc="left")
        axis.set_xlabel("attention recall")
    axes[0][0].set_xlim(0, 1)
    axes[0][0].set_ylim(bottom=0)
    axes[0][0].set_ylabel(METRICS["output_rel_l2"][0])
    handles, labels = axes[0][0].get_legend_handles_labels()
    handles.append(plt.Line2D([], [], color="#C8C8C8", linewidth=0.9))
    style.legend_strip(figure, handles, labels + ["one head: average pooling to random"], 2)
    return style.save(figure, folder, "recall_against_output_error")
