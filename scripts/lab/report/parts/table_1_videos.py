"""Table 1, judged by videos of the small video DiT."""

from .. import style
from ..finding import CAVEAT, CONTRADICTED, NOT_TESTABLE, Judged
from ..frame import LARGEST_DRAWN
from ..videos import DENSE, HEADS, LOOKS, METRICS, Choice, Videos, draft, interval, quality_table, text_of


def judge(records, paper, plots):
    videos = records.once(Videos)
    sparsities = [each for each in videos.sparsities() if videos.get(draft(each))]
    gains = {each: videos.difference(draft(each), Choice("random", each), "psnr") for each in sparsities}
    gains = {each: gain for each, gain in gains.items() if gain}
    facts = {"both": len(gains), "videos": videos}
    if not gains:
        return Judged(NOT_TESTABLE, facts)
    lost = sum(gain[2] < 0 for gain in gains.values())
    steps = [videos.difference(draft(low), draft(high), "psnr") for low, high in zip(sparsities, sparsities[1:])]
    choices = [DENSE, *(draft(each) for each in sparsities)]
    choices += [Choice(name, each) for name in ("random", "oracle") for each in videos.sparsities(name)]
    facts |= {
        "psnr": {each: text_of(videos.summary(draft(each), "psnr")) for each in sparsities},
        "won": sum(gain[1] > 0 for gain in gains.values()),
        "lost": lost,
        "falls": all(found and found[1] > 0 for found in steps),
        "rounding": min(videos.rounding.arrays["psnr"]) if videos.rounding is not None else None,
        "left_out": videos.left_out(*HEADS, "kept_share", "flops_share"),
    }
    table = quality_table(videos, "table_1_videos", "Videos against the dense ones.", choices)
    return Judged(CONTRADICTED if lost else CAVEAT, facts, [table], [_draw(videos, plots)])


def _draw(videos, folder):
    """PSNR, SSIM and LPIPS by sparsity with 95% intervals. (stem, caption)."""
    metrics = videos.metrics()
    figure, axes = style.panels(1, len(metrics), 3.4)
    sparsities = sorted({one.sparsity for one in videos.choices()})
    for axis, metric in zip(axes[0], metrics):
        for make, label, variant in LOOKS:
            points = [(each, interval(values)) for each in sparsities if (values := videos.values(make(each), metric))]
            points = [point for point in points if all(abs(value) < LARGEST_DRAWN for value in point[1])]
            if not points:
                continue
            x, middle = [each for each, _ in points], [found[0] for _, found in points]
            around = [[found[0] - found[1] for _, found in points], [found[2] - found[0] for _, found in points]]
            colour, line, marker = style.variant_style(variant)
            axis.errorbar(x, middle, around, color=colour, linestyle=line, marker=marker, capsize=2, label=label)
        axis.set_ylabel(METRICS[metric])
        axis.set_xlabel("sparsity")
        style.percent_axis(axis.xaxis, style.spaced(sparsities, 0.06))
    handles, labels = axes[0][0].get_legend_handles_labels()
    style.legend_strip(figure, handles, labels, 4)
    caption = f"Videos against the dense ones, mean over clips and 95% bootstrap interval. {videos.where()}."
    return style.save(figure, folder, "videos_by_sparsity"), caption
