"""A whole video: the times of its parts, and its file."""

import os
import statistics
import tempfile

import numpy as np

from lab.shared.video_file import write_mp4

from .stopwatch import Clock

FRAMES_A_SECOND = {"hunyuan": 24, "wan": 16}


def complete_metrics(run, dense_steps, is_draft):
    """Seconds of a whole video's parts; wall_s of the run is their sum and what lies between them."""
    seconds = [step.whole_ms / 1e3 for step in run.steps]
    first = dense_steps if is_draft else len(seconds)
    found = {
        "steps_s": sum(seconds),
        "vae_s": run.decode_s + run.postprocess_s,
        "scheduler_ms": statistics.median(step.scheduler_ms for step in run.steps),
        "steps_timed": len(seconds),
        "dense_step_count": first,
        "prediction_rms": run.prediction_rms,
    }
    for name, some in (("dense_step_ms", seconds[:first]), ("sparse_step_ms", seconds[first:])):
        if some:
            found[name] = 1e3 * statistics.median(some)
    return found


def write_video(frames, frames_a_second):
    """(seconds, bytes) of an MP4 of frames [frames, height, width, 3] in [0, 1], which is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "video.mp4")
        pixels = lambda: (np.nan_to_num(frames) * 255).round().astype(np.uint8)
        _, seconds = Clock("cpu").wall_s(lambda: write_mp4(path, pixels(), frames_a_second))
        return seconds, os.path.getsize(path)
