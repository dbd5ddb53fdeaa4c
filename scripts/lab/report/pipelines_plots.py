"""The picture of whole pipelines at full size."""

from . import style

MOST_PANELS, MOST_BARS = 3, 16


def pictures(every, folder):
    """Stacked bars of each video's parts, a panel a shape of the paper."""
    chosen = [pipeline for pipeline in every if any(video.parts for video in pipeline.videos.values())]
    more, chosen = style.left_out(len(chosen), MOST_PANELS, "models"), chosen[:MOST_PANELS]
    if not chosen or not all(video.cell.drawable for pipeline in chosen for video in pipeline.videos.values()):
        return []
    figure, axes = style.panels(1, len(chosen), 4.4)
    handles = {}
    for axis, pipeline in zip(axes[0], chosen):
        videos = sorted((video for video in pipeline.videos.values() if video.parts), key=lambda video: -video.timed_s)
        videos = style.thinned(videos, MOST_BARS)
        for place, video in enumerate(videos):
            parts = video.parts
            sparse_s = (parts.steps - parts.dense_steps) * parts.sparse_step_s
            stack = (
                ("dense steps", parts.steps_s - sparse_s, "#B0B0B0"),
                ("sparse steps", sparse_s, style.BLUE),
                ("text, VAE, file", parts.whole_s - parts.steps_s, style.ORANGE),
            )
            bottom = 0.0
            for label, seconds, colour in stack:
                axis.barh(place, seconds, 0.7, left=bottom, color=colour, label=label)
                bottom += seconds
            axis.annotate(
                f"{bottom:.0f}",
                (bottom, place),
                textcoords="offset points",
                xytext=(3, 0),
                verticalalignment="center",
                fontsize=7,
            )
        axis.set_yticks(range(len(videos)), [_tick(video) for video in videos], fontsize=7)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_title(pipeline.name, loc="left", fontsize=9)
        axis.set_xlim(0, 1.12 * axis.get_xlim()[1])
        axis.set_xlabel("one video (s)")
        style.collect(handles, axis)
    style.legend_strip(figure, list(handles.values()), list(handles), 3)
    caption = (
        "A whole video by its parts, from timed steps, at full size with random weights; the first 25% of a sparse one's"
        f" steps are dense, by our kernel. On {', '.join(sorted({pipeline.gpu for pipeline in chosen}))}.{more}"
    )
    return [(style.save(figure, folder, "pipelines"), caption)]


def _tick(video):
    return video.name.replace("dense_", "dense, ").replace("draft_", "draft ").replace("_", " ")
