"""The time of each denoising step and of its parts."""

import statistics
import time
from dataclasses import dataclass

import torch


class Clock:
    """Moments on the current stream of a GPU, by events; on a CPU the clock's."""

    def __init__(self, device):
        self.cuda = torch.device(device).type == "cuda"

    def mark(self):
        """A moment: that of the work queued so far."""
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def ms(self, begin, end):
        """Milliseconds between two moments, once the device is past both."""
        if not self.cuda:
            return 1e3 * (end - begin)
        end.synchronize()
        return begin.elapsed_time(end)

    def wait(self):
        """Until the device has done all that it was given."""
        if self.cuda:
            torch.cuda.synchronize()

    def wall_s(self, work):
        """(work's result, its seconds by the host's clock, from an idle device to an idle one)."""
        self.wait()
        begin = time.perf_counter()
        result = work()
        self.wait()
        return result, time.perf_counter() - begin

    def sample_ms(self, work):
        """Milliseconds of work on the device, after one call that is not timed."""
        work()
        begin = self.mark()
        work()
        return self.ms(begin, self.mark())


@dataclass(frozen=True)
class Step:
    """Milliseconds of one denoising step."""

    whole_ms: float  # from the first pass, or from the step before, to its end
    transformer_ms: float  # all passes
    scheduler_ms: float
    passes: int


class StepWatch:
    """Marks the moments of a pipeline's loop: a context manager around its call; end() belongs at each step's end. state:
    of the scheduler, for its first step, where an earlier run was stopped."""

    def __init__(self, pipeline, clock, state=None):
        self._pipeline, self._clock, self._state = pipeline, clock, state
        self._passes, self._scheduled, self._ends = [[]], [], []
        self.prediction = None  # the last pass's output

    def __enter__(self):
        transformer, scheduler = self._pipeline.transformer, self._pipeline.scheduler
        self._hooks = [
            transformer.register_forward_pre_hook(lambda *_: self._passes[-1].append([self._clock.mark()])),
            transformer.register_forward_hook(self._leave),
        ]
        self._step = scheduler.step
        scheduler.step = self._schedule  # an attribute of this scheduler: the class stays as it is
        return self

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()
        del self._pipeline.scheduler.step

    def _leave(self, _module, _arguments, output):
        self._passes[-1][-1].append(self._clock.mark())
        self.prediction = output[0]

    def _schedule(self, *arguments, **more):
        if self._state is not None:
            vars(self._pipeline.scheduler).update(self._state)
            self._state = None
        begin = self._clock.mark()
        found = self._step(*arguments, **more)
        self._scheduled.append((begin, self._clock.mark()))
        return found

    def end(self):
        self._ends.append(self._clock.mark())
        self._passes.append([])

    def steps(self):
        """A Step for each that ended."""
        found, ms = [], self._clock.ms
        for number, (passes, scheduled, end) in enumerate(zip(self._passes, self._scheduled, self._ends)):
            begin = self._ends[number - 1] if number else passes[0][0]
            inside = sum(ms(*each) for each in passes)
            found.append(Step(ms(begin, end), inside, ms(*scheduled), len(passes)))
        return found


def medians(steps):
    """A record's metrics of some steps."""
    return {
        "step_ms": statistics.median(step.whole_ms for step in steps),
        "transformer_ms": statistics.median(step.transformer_ms for step in steps),
        "scheduler_ms": statistics.median(step.scheduler_ms for step in steps),
        "passes": steps[0].passes,
        "steps_timed": len(steps),
    }
