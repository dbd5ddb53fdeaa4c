"""A whole video, which may take several sittings: what is kept between them, the times of its parts, and its file."""

import os
import statistics
import tempfile
from dataclasses import asdict, dataclass

import numpy as np
import torch

from lab.shared.video_file import write_mp4

from .running import Run
from .stopwatch import Clock, Step
from .text import Embeddings

FRAMES_A_SECOND = {"hunyuan": 24, "wan": 16}


@dataclass
class Video:
    """A video on its way."""

    of: str  # shape and configuration
    embeddings: Embeddings
    text_s: float | None  # None: random embeddings
    run: Run | None = None
    sittings: int = 0
    peak_gb: float = 0.0

    @property
    def done(self):
        """Steps."""
        return len(self.run.steps) if self.run else 0

    def save(self, path):
        """Whole, or not at all."""
        state = {"of": self.of, "given": self.embeddings.given, "valid": self.embeddings.valid, "text_s": self.text_s}
        state |= {"sittings": self.sittings, "peak_gb": self.peak_gb}
        state["run"] = vars(self.run) | {"steps": [asdict(step) for step in self.run.steps]}
        torch.save(state, f"{path}.new")
        os.replace(f"{path}.new", path)

    @classmethod
    def load(cls, path, of, device):
        """The video that an earlier sitting left, or None. Raises ValueError for another one's file."""
        if not os.path.exists(path):
            return None
        state = torch.load(path, map_location=device, weights_only=True)
        if state["of"] != of:
            raise ValueError(f"{path}: wanted the video of {of}, found that of {state['of']}")
        run = Run(**state["run"] | {"steps": [Step(**step) for step in state["run"]["steps"]]})
        embeddings = Embeddings(state["given"], state["valid"])
        return cls(of, embeddings, state["text_s"], run, state["sittings"], state["peak_gb"])


def complete_metrics(video, dense_steps, vae_s, file_s):
    """A record's metrics of a whole video: seconds of its parts, and their sum. dense_steps: how many are dense."""
    seconds = [step.whole_ms / 1e3 for step in video.run.steps]
    parts = {"text_s": video.text_s, "steps_s": sum(seconds), "vae_s": vae_s, "file_s": file_s}
    found = {name: value for name, value in parts.items() if value is not None}
    found |= {
        "whole_s": sum(found.values()),
        "scheduler_ms": statistics.median(step.scheduler_ms for step in video.run.steps),
        "steps_timed": len(seconds),
        "dense_step_count": dense_steps,
        "prediction_rms": video.run.prediction_rms,
    }
    for name, some in (("dense_step_ms", seconds[:dense_steps]), ("sparse_step_ms", seconds[dense_steps:])):
        if some:
            found[name] = 1e3 * statistics.median(some)
    return found | ({"peak_memory_gb": video.peak_gb} if video.peak_gb else {})


def write_video(frames, frames_a_second):
    """(seconds, bytes) of an MP4 of frames [frames, height, width, 3] in [0, 1], which is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "video.mp4")
        pixels = lambda: (np.nan_to_num(frames) * 255).round().astype(np.uint8)
        _, seconds = Clock("cpu").wall_s(lambda: write_mp4(path, pixels(), frames_a_second))
        return seconds, os.path.getsize(path)
