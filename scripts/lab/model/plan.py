"""The training plan: which grid and batch every step uses, and the learning rate.

A plan is text such as `4000@8x16x24*32,5000@8x32x48*8+16x32x48*4`: 4,000 steps of 32 clips on a grid of 8 x 16 x 24
tokens, then 5,000 steps that take turns between two grids.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Batch:
    grid: tuple  # (frames, height, width) in tokens
    clips: int


def parse_grid(text):
    """'8x32x48' -> (8, 32, 48). Raises ValueError."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", text):
        raise ValueError(f"grid: wanted FRAMESxHEIGHTxWIDTH in tokens, such as 8x32x48, found {text!r}")
    return tuple(int(n) for n in text.split("x"))


class Plan:
    """Stages of a training run, in order."""

    def __init__(self, text):
        self.text = text
        self.stages = []
        for stage in text.split(","):
            match = re.fullmatch(r"(\d+)@(.+)", stage)
            turns = [turn.split("*") for turn in match[2].split("+")] if match else []
            if not turns or any(len(turn) != 2 or not turn[1].isdigit() or int(turn[1]) < 1 for turn in turns):
                raise ValueError(f"plan: wanted STEPS@GRID*CLIPS[+GRID*CLIPS...], found {stage!r}")
            self.stages.append((int(match[1]), [Batch(parse_grid(grid), int(clips)) for grid, clips in turns]))
        self.steps = sum(steps for steps, _ in self.stages)

    def batch(self, step):
        """The grid and the number of clips of a step, 0 <= step < steps."""
        for steps, turns in self.stages:
            if step < steps:
                return turns[step % len(turns)]
            step -= steps
        raise ValueError(f"plan: wanted a step below {self.steps}")

    def learning_rate(self, step, peak, warmup=300, decay=0.35):
        """Linear warm-up, flat, then linear to a twentieth of the peak over the last `decay` of the plan."""
        left = (self.steps - step) / (decay * self.steps)
        return peak * min((step + 1) / warmup, 1.0, max(left, 0.05))
