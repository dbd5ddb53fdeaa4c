"""Plots of what masks keep and what that does to the output: by sparsity, region and head."""

import math

import matplotlib.pyplot as plt

from lab.shared import metrics

from . import style
from .frame import CAPTURE, DUMP, where
from .quality import RANDOM, variant_name


def _axis_label(name):
    return metrics.label(name).replace(" (", "\n(")


METRICS = {  # name: (axis label, file stem part, words)
    "attention_recall": (_axis_label("attention_recall"), "recall", "Attention recall"),
    "output_rel_l2": (_axis_label("output_rel_l2"), "output_error", "Output error"),
}
MAX_PANELS = 12
MOST_LINES, MOST_REGIONS = 400, 40


def groups(quality):
    """[(title, places of the heads)]: one group a capture, or one a dump where there are too many captures for panels."""
    heads = quality.heads.drop_duplicates("place")
    if len(quality.captures) <= MAX_PANELS:
        keys, several = CAPTURE, len(quality.dumps) > 1
    else:
        keys, several = DUMP, None
    found = []
    for key, members in list(heads.groupby(keys))[:MAX_PANELS]:
        label = key[0] if several is None else f"{key[0]}\n{key[2]}" if several else key[2]
        found.append((f"{label}, {len(members)} head{'s' * (len(members) != 1)}", set(members["place"])))
    return found


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


def draw_by_sparsity(quality, metric, lines, columns, folder, stem):
    """One panel a capture; lines: [(variant, look, label, whether it has a band from its worst to its best head)]."""
    panels = groups(quality)
    across = min(3, len(panels))
    figure, axes = style.panels(
        math.ceil(len(panels) / across), across, 1.0 + 2.4 * math.ceil(len(panels) / across), sharex=True, sharey=True
    )
    for axis, (title, heads) in zip(axes.flat, panels):
        for variant, look, label, band in lines:
            masks = [(variant, quality.region, each) for each in quality.sparsities(quality.region, variant)]
            points = [(mask[2], quality.values(mask, metric, heads)) for mask in masks]
            _curve(axis, points, look, label, band)
        axis.set_title(title, loc="left", fontsize=9)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for number, axis in enumerate(axes.flat[: len(panels)]):
        style.percent_axis(axis.xaxis, style.spaced(quality.sparsities(quality.region), 0.07))
        axis.set_ylim(bottom=0)
        if metric == "attention_recall":
            axis.set_ylim(top=1)
        if number + across >= len(panels):
            axis.set_xlabel("sparsity (share of blocks dropped)")
            axis.tick_params(labelbottom=True)
        if number % across == 0:
            axis.set_ylabel(METRICS[metric][0])
    handles = {}  # of all panels: not every capture has every line
    for axis in axes.flat[: len(panels)]:
        style.collect(handles, axis)
    labels = [label for _, _, label, _ in lines if label in handles]
    style.legend_strip(figure, [handles[label] for label in labels], labels, columns)
    return style.save(figure, folder, f"{METRICS[metric][1]}_{stem}")


def draw_by_region(quality, folder):
    """Recall and output error against region size at up to three sparsities; mean over heads, average pooling with a band."""
    regions = quality.regions()
    several = [each for each in quality.sparsities() if len(quality.regions(each)) > 1]
    sparsities = [each for each in (0.5, 0.75, 0.9) if each in several] or several[-3:]
    positions = {region: number for number, region in enumerate(regions)}
    elsewhere = {variant for variant, region, _ in quality.masks if region != quality.region}
    figure, axes = style.panels(2, len(sparsities), 5.6, sharex=True, sharey="row")
    for row, metric in enumerate(METRICS):
        for column, sparsity in enumerate(sparsities):
            axis = axes[row][column]
            shown, heads = quality.regions_and_heads(sparsity)
            for variant in quality.paper_variants():
                points = [
                    (positions[region], values)
                    for region in shown
                    if variant in elsewhere and (values := quality.values((variant, region, sparsity), metric, heads))
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


def draw_recall_against_error(quality, folder):
    """One dot a head and choice of blocks: heads far from the common line are where the two measures disagree."""
    sparsities = scatter_sparsities(quality)
    variants = [variant for variant in quality.paper_variants() if quality.has(variant, quality.region)]
    figure, axes = style.panels(1, len(sparsities), 3.7, sharex=True, sharey=True)
    for axis, sparsity in zip(axes[0], sparsities):
        ends = [(variant, quality.region, sparsity) for variant in (quality.draft("avg"), RANDOM)]
        recall, error = (quality.pairs(*ends, metric)[["first", "second"]] for metric in METRICS)
        lines = error.join(recall, how="inner", lsuffix="_error")
        lines = [pair for pair in lines.itertuples(index=False) if len(style.room(pair)) == 4]
        for line in style.thinned(lines, MOST_LINES):
            x, y = (line.first, line.second), (line.first_error, line.second_error)
            axis.plot(x, y, color="#C8C8C8", linewidth=0.7, zorder=1, rasterized=True)
        for variant in variants:
            colour, _, marker = style.variant_style(variant)
            mask = (variant, quality.region, sparsity)
            dots = quality.pairs_of_metrics(mask, *METRICS)
            dots = where(dots, [len(style.room(pair)) == 2 for pair in zip(dots["first"], dots["second"])])
            axis.scatter(
                list(dots["first"]),
                list(dots["second"]),
                color=colour,
                marker=marker,
                s=24,
                alpha=0.8,
                linewidths=0,
                rasterized=True,
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
