"""The time of a whole video, put together from its parts. Standard library only."""

import math
from dataclasses import dataclass

PAPER_DENSE_STEPS = 0.25  # the share of a sparse video's steps, its first ones, that are dense (section 4.1)


def dense_configuration(fp8, compiled):
    """The configuration of lab.pipelines that takes the dense steps of a sparse video: our dense kernel, as fast as dense
    steps get, with the same linear layers, and compiled if the sparse steps are."""
    return "dense_ours" + "_fp8" * fp8 + "_compiled" * compiled


def first_sparse_step(dense_share, steps):
    """The number of first steps that stay dense, in a run of `steps`: a step that begins within the share is dense."""
    return math.ceil(dense_share * steps - 1e-9)


@dataclass(frozen=True)
class Parts:
    """Seconds of one video's parts; `steps` of them, the first `dense_steps` dense. A part that was not measured is None
    and counts as nothing: `missing` names it."""

    dense_step_s: float
    sparse_step_s: float  # the same as dense_step_s for a dense video
    dense_steps: int
    steps: int
    text_s: float | None = None
    vae_s: float | None = None
    file_s: float | None = None

    @property
    def steps_s(self) -> float:
        """Of the denoising loop: a step's time, times how many of its kind there are."""
        return self.dense_steps * self.dense_step_s + (self.steps - self.dense_steps) * self.sparse_step_s

    @property
    def whole_s(self) -> float:
        return self.steps_s + sum(each for each in (self.text_s, self.vae_s, self.file_s) if each is not None)

    @property
    def missing(self) -> list[str]:
        parts = {"text": self.text_s, "VAE": self.vae_s, "file": self.file_s}
        return [name for name, seconds in parts.items() if seconds is None]
