"""The plan of a sitting: which grid and batch a step uses, and the learning rate, by the share of the time that is spent.

A plan is text such as `0.5@8x16x24*32,0.5@8x32x48*8+8x16x24*32`: half of the time on 32 clips of a grid of 8 x 16 x 24
tokens, then steps that take turns between two grids. The time is given and not the number of steps: a sitting ends when
it must, with its learning rate at the end.
"""

import itertools
import math
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
    """Stages of a sitting, in order."""

    def __init__(self, text):
        self.text = text
        self.stages = []
        for stage in text.split(","):
            match = re.fullmatch(r"(\d*\.?\d+)@(.+)", stage)
            turns = [turn.split("*") for turn in match[2].split("+")] if match else []
            if not turns or any(len(turn) != 2 or not turn[1].isdigit() or int(turn[1]) < 1 for turn in turns):
                raise ValueError(f"plan: wanted SHARE@GRID*CLIPS[+GRID*CLIPS...], found {stage!r}")
            self.stages.append((float(match[1]), [Batch(parse_grid(grid), int(clips)) for grid, clips in turns]))
        total = sum(share for share, _ in self.stages)
        if not math.isclose(total, 1):
            raise ValueError(f"plan: wanted shares that add up to 1, found {total:g}")

    def batch(self, step, spent):
        """The grid and the number of clips of a step. spent: share of the time, from 0 to 1."""
        ends = itertools.accumulate(share for share, _ in self.stages)
        stage = sum(spent >= end for end in itertools.islice(ends, len(self.stages) - 1))
        turns = self.stages[stage][1]
        return turns[step % len(turns)]


def learning_rate(step, spent, warmup=100, flat=0.5, last=0.01):
    """Of the peak: a linear warm-up over steps, flat up to a share of the time, then linear to `last` at its end."""
    return min((step + 1) / warmup, 1.0, max(last, 1 - (1 - last) * (spent - flat) / (1 - flat)))
