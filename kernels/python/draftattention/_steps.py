"""Where in a run a forward pass of a transformer stands. Steps are counted: no step is found by the value of its
timestep, as timesteps may repeat (rounded to bfloat16, or to whole numbers), rise, or be none of the scheduler's.

A step is one turn of the denoising loop: one entry of the scheduler's timesteps. A second-order scheduler (Heun)
evaluates the model twice for most of its own steps, and each evaluation is a step here."""

from __future__ import annotations

import math
import threading
from typing import Any, NamedTuple

import torch

from ._checks import refuse


class Place(NamedTuple):
    """Of one forward pass."""

    step: int  # of the steps that run, from 0
    steps: int  # that run: fewer than the schedule's where a video is the start
    timestep: float  # in the model's own unit; of several, the largest
    nth: int  # of the step's passes, from 0


def _value_of(timestep: torch.Tensor) -> float:
    """A pass's timestep, of several the largest. Raises ValueError for NaN and infinities, which no step has."""
    value = timestep.max().item()
    if not math.isfinite(value):
        raise refuse("timestep", "finite numbers", value)
    return value


def _follows(now: Any, before: Any) -> bool:
    """Whether two timesteps are of one loop, in this order: `for t in timesteps` gives views of one memory."""
    both = isinstance(now, torch.Tensor) and isinstance(before, torch.Tensor)
    return (
        both
        and now.untyped_storage().data_ptr() == before.untyped_storage().data_ptr()
        and now.storage_offset() > before.storage_offset()
    )


def _first_entry(scheduler: Any, timestep: torch.Tensor, value: float) -> int:
    """Where in its timesteps a scheduler without a begin index will say that a run begins whose first pass has this
    timestep, which may be rounded; 0 for one that is none of them."""
    find = getattr(scheduler, "index_for_timestep", None)
    entries = (scheduler.timesteps.to(timestep.dtype) == value).nonzero()
    return int(find(scheduler.timesteps[entries[0, 0]])) if find is not None and len(entries) else 0


class PipelineSteps:
    """Steps of a pipeline's run, by what moves on from step to step: the scheduler's step_index, and the pipeline's
    current_timestep, which is another object in each turn of its loop.

    Each may lack: the second where someone else runs the denoising loop with the pipeline's scheduler, the first in
    schedulers that do not count, and if a callback sets new timesteps in the middle of a run. The pipeline's scheduler
    is looked up anew in each pass, as it may be replaced."""

    def __init__(self, pipeline: Any):
        self._pipeline, self._lock = pipeline, threading.Lock()
        # What they were in the last pass. A pipeline that broke down keeps its timestep: it is not running.
        self._current = self._now()
        self._schedule: Any = None
        self._index: int | None = None
        self._step, self._steps, self._nth, self._begun = 0, 0, 0, False
        self._first = 0  # the run's first entry of the schedule, where no index says it
        self._value: float | None = None  # the timestep of the step's first pass
        self._own_loop = False

    def _now(self) -> Any:
        return getattr(self._pipeline, "current_timestep", None)

    def find(self, timestep: torch.Tensor) -> Place:
        """Where a pass with this timestep stands. Raises ValueError for one that is of no run of the pipeline."""
        value = _value_of(timestep)
        with self._lock:
            before = dict(self.__dict__)
            try:
                self._advance(timestep, value)
                self._require_own(timestep, value)
            except ValueError:
                self.__dict__.update(before)  # a pass that is refused is no part of the run
                raise
            return Place(self._step, self._steps, value, self._nth)

    def _advance(self, timestep: torch.Tensor, value: float) -> None:
        scheduler = getattr(self._pipeline, "scheduler", None)
        if scheduler is None:
            raise refuse("pipeline", "one with a scheduler", "none by now")
        schedule, index = scheduler.timesteps, getattr(scheduler, "step_index", None)
        current = self._now()
        turned = current is not self._current
        if self._begun and not turned and schedule is self._schedule and index == self._index:
            if not self._own_loop and value != self._value:  # or all passes would be of the one step
                wanted = (
                    f"step() of its {type(scheduler).__name__} before a pass with another timestep (in a loop "
                    "without it, apply to the transformer, with steps)"
                )
                raise refuse("pipeline", wanted, f"{value} after {self._value} at one step")
            self._nth += 1
            return
        begin = getattr(scheduler, "begin_index", None)
        last, self._nth = self._index, 0
        goes_on = (
            self._begun
            and index is not None
            and (last is None or index > last)
            and not (schedule is not self._schedule and index == begin)
        )
        if goes_on and index is not None:
            # The first step's pass was made before the scheduler had an index.
            self._step += index - last if last is not None else 1 if begin is None or self._step else index - begin
        elif self._begun and _follows(current, self._current):
            self._step += 1
        else:
            self._begin(scheduler, index, begin, turned and current is not None)
            nothing_says = index is None and begin is None and not self._own_loop
            self._first = _first_entry(scheduler, timestep, value) if nothing_says else 0
        if not self._own_loop:
            first = begin if begin is not None else self._first if index is None else index - self._step
            self._steps = len(schedule) - first
        self._begun, self._current, self._schedule, self._index = True, current, schedule, index
        self._value = value
        if self._step >= self._steps:
            raise refuse("pipeline", f"the {self._steps} steps of its run", "a pass of its transformer after them")

    def _begin(self, scheduler: Any, index: int | None, begin: int | None, own_loop: bool) -> None:
        """A run's first pass. Draft attention that was applied during a run begins where that stands."""
        count = getattr(self._pipeline, "num_timesteps", None)
        self._own_loop = own_loop and isinstance(count, int)
        lacks = "" if hasattr(scheduler, "step_index") else "no step_index"
        if getattr(scheduler, "num_inference_steps", None) is None:
            lacks = "no timesteps set"
        if not own_loop and lacks:
            wanted = "a run of the pipeline, or a loop over the timesteps of its scheduler, which counts its steps"
            raise refuse(
                "pipeline",
                wanted,
                f"a pass of its transformer outside of its loop, and {type(scheduler).__name__} with {lacks}",
            )
        if self._own_loop and isinstance(count, int):
            self._steps = count
            begin = len(scheduler.timesteps) - count if begin is None else begin
        self._step = max(0, index - begin) if index is not None and begin is not None else 0

    def _require_own(self, timestep: torch.Tensor, value: float) -> None:
        """A check alone: another pipeline's pass, through a transformer that both have, differs in its timestep."""
        current = self._current
        if not (self._own_loop and isinstance(current, torch.Tensor) and current.numel() == 1 and timestep.dim() < 2):
            return
        wanted = current.item()
        if not abs(value - wanted) <= 2.0**-7 * abs(wanted):  # bfloat16 rounds by 2^-9
            raise refuse(
                "timestep",
                f"{wanted}, where the pipeline stands that draftattention was applied to",
                f"{value}: another pipeline's pass (remove(), or apply to that one)",
            )


class CountedSteps:
    """Steps of a bare transformer, by the changes of its timestep: equal ones in a row are passes of one step. A run
    ends where timesteps turn, from falling to rising or back.

    A rise after one timestep alone is the second step of a rising run, or the first step of a run behind a pass on its
    own (to warm up) or a run that broke down. It is a run's first step where the schedule's length, or what is left
    above this timestep, has no room for a rising run's steps, and where it comes from the upper half of timesteps, in
    which rising runs hardly begin: if they do, the next rise tells."""

    _TOP = 999.0  # the models' timesteps go from 0 to 1000; schedules of whole numbers to 999
    _MIDDLE = 500.0

    def __init__(self, steps: int):
        self._steps, self._lock = steps, threading.Lock()
        self._step = self._nth = -1
        self._last: float | None = None
        self._direction = 0  # of the run's timesteps: -1 falling, 1 rising, 0 not known yet
        self._rises = 0  # before the run's first step, which was taken for that and not for a rising run's second one

    def find(self, timestep: torch.Tensor) -> Place:
        value = _value_of(timestep)
        with self._lock:
            if value == self._last:
                self._nth += 1
            else:
                self._change(value)
            if self._step >= self._steps:
                raise refuse(
                    "steps", "the length of the schedule", f"{self._steps} and timestep {self._step + 1}, {value}"
                )
            return Place(self._step, self._steps, value, self._nth)

    def _change(self, value: float) -> None:
        last, self._last, self._nth = self._last, value, 0
        direction = 0 if last is None else 1 if value > last else -1
        if last is None or self._direction not in (0, direction):
            self._step = self._direction = self._rises = 0
        elif self._direction == 0 and direction > 0:
            step = self._rises + 1  # of a rising run
            no_room = step >= self._steps or value >= self._TOP and step + 1 < self._steps
            if no_room or last >= self._MIDDLE and not self._rises:
                self._step, self._rises = 0, 1
            else:
                self._step, self._direction = step, direction
        else:
            self._step, self._direction = self._step + 1, direction
