"""Which denoising step a forward pass of a transformer belongs to. Steps are counted, not looked up by timestep:
timesteps may repeat (rounded to bfloat16, or to whole numbers), rise, or differ from all of the scheduler's.

A step is one iteration of the denoising loop: one entry of the scheduler's timesteps. A second-order scheduler (Heun)
evaluates the model twice for most of its own steps, and each evaluation is a step here."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ._checks import refuse


class Place(NamedTuple):
    """The position of one forward pass in a run."""

    step: int  # counted from 0 among the steps that run
    steps: int  # how many run: fewer than the schedule's in video-to-video
    timestep: float  # in the model's own unit; the largest if there are several
    nth: int  # counted from 0 among the step's passes


def _value_of(timestep: torch.Tensor) -> float:
    """A pass's timestep, the largest if there are several. Raises ValueError for NaN and infinities."""
    value = timestep.max().item()
    if not math.isfinite(value):
        raise refuse("timestep", "finite numbers", value)
    return value


def _follows(now: Any, before: Any) -> bool:
    """Whether `now` comes after `before` in one loop. `for t in timesteps` yields views of one tensor's memory, so
    their offsets tell."""
    both = isinstance(now, torch.Tensor) and isinstance(before, torch.Tensor)
    return (
        both
        and now.untyped_storage().data_ptr() == before.untyped_storage().data_ptr()
        and now.storage_offset() > before.storage_offset()
    )


def _first_entry(scheduler: Any, timestep: torch.Tensor, value: float) -> int:
    """The entry of the schedule at which a run begins, for a scheduler without a begin index: the entry that it will
    find for the first pass's timestep. `value` may be rounded to the model's type; 0 if it is no entry."""
    find = getattr(scheduler, "index_for_timestep", None)
    entries = (scheduler.timesteps.to(timestep.dtype) == value).nonzero()
    return int(find(scheduler.timesteps[entries[0, 0]])) if find is not None and len(entries) else 0


class PipelineSteps:
    """Counts the steps of a pipeline's run by two things that change from step to step: the scheduler's step_index, and
    the pipeline's current_timestep, which is a new object in each iteration of its loop.

    Either may be missing: current_timestep if the caller runs the denoising loop with the pipeline's scheduler;
    step_index in schedulers that do not count, and after a callback has set new timesteps during a run. Each pass looks
    the pipeline's scheduler up again, since it may be replaced."""

    def __init__(self, pipeline: Any, given: Callable[[float], float] = lambda current: current):
        """given  current_timestep -> what the pipeline gives its transformer as timestep"""
        self._pipeline, self._given, self._lock = pipeline, given, threading.Lock()
        # Both as of the last pass. A pipeline whose run failed keeps its current_timestep, so that a timestep which is
        # already there does not mean that the pipeline is running.
        self._current = self._now()
        self._schedule: Any = None
        self._index: int | None = None
        self._step, self._steps, self._nth, self._begun = 0, 0, 0, False
        self._first = 0  # the schedule's entry at which the run began, if neither index is known
        self._value: float | None = None  # the timestep of the step's first pass
        self._own_loop = False

    def _now(self) -> Any:
        return getattr(self._pipeline, "current_timestep", None)

    def find(self, timestep: torch.Tensor) -> Place:
        """The place of a pass with this timestep. Raises ValueError if the pass belongs to no run of the pipeline."""
        value = _value_of(timestep)
        with self._lock:
            before = dict(self.__dict__)
            try:
                self._advance(timestep, value)
                self._require_own(timestep, value)
            except ValueError:
                self.__dict__.update(before)  # a refused pass does not count
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
            # Nothing has moved on, but the timestep differs: refuse, or all passes would count as one step.
            if not self._own_loop and value != self._value:
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
            # `last` is None after the first step: its pass came before the scheduler had an index.
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
        """Starts counting at a run's first pass; at the current step if draft attention was applied during a run."""
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
        """Refuses the pass of another pipeline that shares the transformer; its timestep is not this pipeline's."""
        current = self._current
        if not (self._own_loop and isinstance(current, torch.Tensor) and current.numel() == 1 and timestep.dim() < 2):
            return
        wanted = self._given(current.item())
        if not abs(value - wanted) <= 2.0**-7 * abs(wanted):  # bfloat16 rounds by 2^-9
            raise refuse(
                "timestep",
                f"{wanted}, where the pipeline stands that draftattention was applied to",
                f"{value}: another pipeline's pass (remove(), or apply to that one)",
            )


class CountedSteps:
    """Counts the steps of a bare transformer by the changes of its timestep: equal ones in a row are passes of one
    step. A run ends when timesteps change direction, from falling to rising or back.

    A rise right after the first timestep is ambiguous. It is the second step of a rising run, or the first step of a
    new run after a single pass (a warm-up) or a run that failed. It counts as a new run's first step in two cases: if
    the steps that a rising run would still need do not fit into the schedule's length or above this timestep; and if it
    starts from the upper half of timesteps, where rising runs hardly ever begin. If one does, the next rise shows
    it."""

    _TOP = 999.0  # the models' timesteps are from 0 to 1000; those of whole numbers end at 999
    _MIDDLE = 500.0

    def __init__(self, steps: int):
        self._steps, self._lock = steps, threading.Lock()
        self._step = self._nth = -1
        self._last: float | None = None
        self._direction = 0  # of the run's timesteps: -1 falling, 1 rising, 0 unknown
        self._rises = 0  # 1 if the run's first step was such a rise, taken for a new run's first step

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
            step = self._rises + 1  # the step that this would be in a rising run
            no_room = step >= self._steps or value >= self._TOP and step + 1 < self._steps
            if no_room or last >= self._MIDDLE and not self._rises:
                self._step, self._rises = 0, 1
            else:
                self._step, self._direction = step, direction
        else:
            self._step, self._direction = self._step + 1, direction
