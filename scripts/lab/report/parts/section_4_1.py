"""Section 4.1: the dense first steps, judged by videos of the small video DiT."""

from ..finding import Judged, percent
from ..videos import PAPER_STEPS, Videos, paired, pairs_of


def judge(records, paper, plots):
    videos = records.once(Videos)
    caption = "By the share of the steps, the first, that stay dense."
    table = ("dense_steps_videos", caption, lambda one: one.dense_steps, "dense_steps")
    names = (f"{percent(PAPER_STEPS, 0)} of the steps dense", "none")
    return Judged(*paired(videos, pairs_of(videos, dense_steps=0.0), names, table))
