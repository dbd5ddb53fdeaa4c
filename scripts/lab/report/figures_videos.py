"""Plots of the small video DiT's videos: quality by sparsity, recall against PSNR, and where a video's time goes."""

from . import style
from .records import LARGEST_DRAWN
from .videos import METRICS, PAPER_STEPS, Choice, draft, grid_of, interval, video_tokens

MOST_GRIDS, MOST_BARS, MOST_DOTS, MOST_SPARSITIES = 4, 12, 400, 12
PANELS = {
    "attention_recall": "attention recall",
    "output_rel_l2": "heads' output error (rel. L2)",
    "one_step_rel_l2": "one step's error (rel. L2)",
}
LOOKS = (  # policy of one sparsity, label, style of the paper's variants
    (lambda sparsity: draft(sparsity), "draft, average", ("draft", "avg")),
    (lambda sparsity: draft(sparsity, pool="max"), "draft, max", ("draft", "max")),
    (lambda sparsity: Choice("oracle", sparsity), "oracle", ("oracle",)),
    (lambda sparsity: Choice("random", sparsity), "random", ("random",)),
)


def draw_quality(videos, folder):
    """PSNR and SSIM by sparsity with 95% intervals. Returns (stem, caption)."""
    metrics = videos.metrics()
    figure, axes = style.panels(1, len(metrics), 3.4)
    sparsities = sorted({one.sparsity for one in videos.choices()})
    for axis, metric in zip(axes[0], metrics):
        for make, label, variant in LOOKS:
            points = [(each, interval(values)) for each in sparsities if (values := videos.values(make(each), metric))]
            points = [point for point in points if all(abs(value) < LARGEST_DRAWN for value in point[1])]
            if not points:
                continue
            colour, line, marker = style.variant_style(variant)
            around = [[found[0] - found[1] for _, found in points], [found[2] - found[0] for _, found in points]]
            axis.errorbar(
                [each for each, _ in points],
                [found[0] for _, found in points],
                around,
                color=colour,
                linestyle=line,
                marker=marker,
                capsize=2,
                label=label,
            )
        axis.set_ylabel(METRICS[metric])
        axis.set_xlabel("sparsity")
        style.percent_axis(axis.xaxis, style.spaced(sparsities, 0.06))
    handles, labels = axes[0][0].get_legend_handles_labels()
    style.legend_strip(figure, handles, labels, 4)
    caption = f"Videos against the dense ones, mean over clips and 95% bootstrap interval. {videos.where()}."
    return style.save(figure, folder, "videos_by_sparsity"), caption


def draw_recall_against_psnr(videos, folder):
    """One dot a configuration with the paper's dense steps, one colour a sparsity. Returns (stem, caption)."""
    names = {
        name: words
        for name, words in PANELS.items()
        if any(name in videos.get(one).metrics for one in videos.choices())
    }
    figure, axes = style.panels(1, len(names), 3.6, sharey=True)
    colours = (style.BLUE, style.SKY, style.GREEN, style.ORANGE, style.RED, style.PURPLE)
    markers = {"draft": "o", "random": "D", "oracle": "^"}
    chosen = [one for one in videos.choices() if one.dense_steps == PAPER_STEPS and one.heads == "all"]
    chosen = style.thinned([one for one in chosen if videos.get(one).drawable], MOST_DOTS)
    sparsities = sorted({one.sparsity for one in chosen})
    colour_of = {sparsity: colours[place % len(colours)] for place, sparsity in enumerate(sparsities)}
    for axis, (name, words) in zip(axes[0], names.items()):
        for one in chosen:
            metrics = videos.get(one).metrics
            if name in metrics:
                axis.plot(
                    metrics[name],
                    metrics["psnr"],
                    linestyle="none",
                    marker=markers.get(one.policy, "x"),
                    color=colour_of[one.sparsity],
                    markersize=5,
                )
        axis.set_xlabel(words)
    axes[0][0].set_ylabel("PSNR (dB)")
    style.percent_axis(axes[0][0].xaxis)
    handles = [
        axes[0][0].plot([], [], linestyle="none", marker="s", color=colours[i % len(colours)])[0]
        for i in range(min(len(sparsities), MOST_SPARSITIES))
    ]
    labels = [f"{100 * each:g}% sparsity" for each in sparsities[:MOST_SPARSITIES]]
    handles += [
        axes[0][0].plot([], [], linestyle="none", marker=marker, color=style.BLACK)[0] for marker in markers.values()
    ]
    style.legend_strip(figure, handles, [*labels, *markers], 4)
    caption = f"Attention-level numbers against videos, one dot a configuration. {videos.where()}."
    return style.save(figure, folder, "recall_against_psnr"), caption


def draw_distance(videos, sparsity, folder):
    """Distance from the dense clips after each step, one line a way to choose blocks. Returns (stem, caption)."""
    figure, axes = style.panels(1, 1, 3.6)
    looks = [
        *((make(sparsity), label, variant) for make, label, variant in LOOKS),
        (draft(sparsity, rule="row"), "draft, rule row", None),
        (draft(sparsity, rule="logits"), "draft, rule logits", None),
    ]
    extra = iter(((style.PURPLE, "-.", "v"), (style.BLACK, "--", "x")))
    for choice, label, variant in looks:
        values = videos.values(choice, "distance")
        if not values:
            continue
        colour, line, marker = style.variant_style(variant) if variant else next(extra)
        steps = [(step, value) for step, value in enumerate(values, 1) if LARGEST_DRAWN > value > 1e-6]
        if not steps:
            continue
        axes[0][0].plot(*zip(*steps), color=colour, linestyle=line, marker=marker, markersize=4, label=label)
    axes[0][0].set_yscale("log")
    axes[0][0].set_xlabel("denoising step")
    axes[0][0].set_ylabel("distance from dense (rel. L2)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    style.legend_strip(figure, handles, labels, 3)
    caption = (
        f"How far the states are from the dense clips' after each step, at {100 * sparsity:g}%: {videos.looked_at()}."
        f" {videos.where()}."
    )
    return style.save(figure, folder, "distance_by_step"), caption


def draw_times(cells, folder):
    """Stacked bars: attention and everything else, one panel a grid. Returns (stem, caption)."""
    grids = list(dict.fromkeys(grid_of(cell) for cell in sorted(cells, key=video_tokens)))
    more, grids = style.left_out(len(grids), MOST_GRIDS, "grids"), grids[:MOST_GRIDS]
    figure, axes = style.panels(1, len(grids), 3.4)
    for axis, grid in zip(axes[0], grids):
        members = [cell for cell in cells if grid_of(cell) == grid]
        members = style.thinned(members, MOST_BARS)
        members.sort(key=lambda cell: (cell.policy != "dense", cell.config.get("kernel") != "auto", cell.sparsity or 0))
        for place, cell in enumerate(members):
            other, attention = cell.metrics["other_ms"] / 1e3, cell.metrics["attention_ms"] / 1e3
            axis.bar(place, other, 0.7, color="#B0B0B0", label="everything else")
            axis.bar(place, attention, 0.7, bottom=other, color=style.BLUE, label="attention, with the draft")
            style.above(axis, place, other + attention, f"{cell.metrics['speedup_over_pytorch']:.2f}x", 8)
        names = [
            "PyTorch\ndense"
            if cell.config.get("kernel") == "auto"
            else "dense"
            if cell.policy == "dense"
            else f"{100 * (cell.sparsity or 0):g}%"
            for cell in members
        ]
        axis.set_xticks(range(len(members)), names, fontsize=8)
        axis.grid(axis="x", visible=False)
        axis.set_title(f"{grid} tokens", loc="left", fontsize=9)
        axis.set_ylim(0, 1.12 * axis.get_ylim()[1])
    axes[0][0].set_ylabel("one video (s)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    style.legend_strip(figure, list(unique.values()), list(unique), 4)
    device = cells[0].machine.get("gpu")
    caption = (
        "Time of one video of 30 steps on the small video DiT, the first 25% of a sparse one's steps dense; above the"
        f" bars the speed-up over PyTorch's dense attention. On {device}.{more}"
    )
    return style.save(figure, folder, "video_times"), caption
