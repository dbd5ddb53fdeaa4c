"""Samples in shuffled rounds, their quantiles, and the state of the GPU around them."""

import math
import random

import torch

from lab.shared.nvml import Nvml

WARM_UPS = 1
PAUSE_CYCLES = 2_000_000  # about 1 ms: longer than Python takes to launch one call


def quantile(samples, share):
    """The `share`-quantile by linear interpolation between the two nearest samples; NaN if one of them is."""
    if any(math.isnan(sample) for sample in samples):
        return math.nan
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summary(samples):
    """The first part of a record's `timing`; samples in milliseconds, at least one."""
    return {
        "samples_ms": samples,
        "median_ms": quantile(samples, 0.5),
        "p10_ms": quantile(samples, 0.1),
        "p90_ms": quantile(samples, 0.9),
    }


def machine_of(machine, states):
    """The run's machine with the clocks around one cell's samples: medians over its (before, after) states, and the
    throttle reasons that any of them named."""
    around = {}
    for when, side in enumerate(("before", "after")):
        for key, unit in (("sm_clock", "mhz"), ("power", "w")):
            values = [state[when][f"{key}_{unit}"] for state in states if f"{key}_{unit}" in state[when]]
            if values:
                around[f"{key}_{side}_{unit}"] = quantile(values, 0.5)
    reasons = [state["throttle_reasons"] for pair in states for state in pair if "throttle_reasons" in state]
    if reasons:
        around["throttle_reasons"] = sorted({name for names in reasons for name in names})
    return machine | around


def shuffled_rounds(jobs, rounds, seed):
    """Every job once a round, each round in its own order: drift of clocks and temperature hits all alike."""
    generator = random.Random(seed)
    for _ in range(rounds):
        order = list(jobs)
        generator.shuffle(order)
        yield from order


class Span:
    """What is queued on the current stream inside a with-block, between two CUDA events."""

    def __enter__(self):
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._begin.record()
        return self

    def __exit__(self, error, *more):
        if error is None:
            self._end.record()

    def ms(self):
        """Milliseconds, once the GPU has done it."""
        self._end.synchronize()
        return self._begin.elapsed_time(self._end)


class GpuTimer:
    """Times work on the current stream by CUDA events.

    Before each sample, outside the timed region: twice the L2 cache is overwritten, so that it holds nothing of the
    sample before; then the GPU waits about a millisecond, in which the host queues the whole call, so that the time to
    launch from Python is nobody's.
    """

    def __init__(self):
        device = torch.cuda.get_device_properties(0)
        self._flushed = torch.empty(2 * device.L2_cache_size, dtype=torch.uint8, device="cuda")
        self.l2_flush = self._flushed.numel()
        self.nvml = Nvml(device.uuid)

    def wait(self):
        """Until the GPU has done all that it was given; raises what went wrong there."""
        torch.cuda.synchronize()

    def state(self):
        """The GPU's clocks and power now: Nvml.state()."""
        return self.nvml.state()

    def sample(self, work):
        """Milliseconds of `work()`."""
        self._flushed.zero_()
        torch.cuda._sleep(PAUSE_CYCLES)
        with Span() as span:
            work()
        return span.ms()
