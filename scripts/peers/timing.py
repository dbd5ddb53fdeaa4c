"""Samples in shuffled rounds, their quantiles, and the state of the GPU around them."""

import ctypes
import math
import random

import torch

WARM_UPS = 1
PAUSE_CYCLES = 2_000_000  # about 1 ms: longer than Python takes to launch one call

# NVML's documented clock event reasons; idling is none that slows a kernel down.
THROTTLE_BITS = {0x2: "applications_clocks_setting", 0x4: "sw_power_cap", 0x8: "hw_slowdown", 0x10: "sync_boost",
                 0x20: "sw_thermal_slowdown", 0x40: "hw_thermal_slowdown", 0x80: "hw_power_brake_slowdown",
                 0x100: "display_clock_setting"}


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
    return {"samples_ms": samples, "median_ms": quantile(samples, 0.5), "p10_ms": quantile(samples, 0.1),
            "p90_ms": quantile(samples, 0.9)}


def shuffled_rounds(jobs, rounds, seed):
    """Every job once a round, each round in its own order: drift of clocks and temperature hits all alike."""
    generator = random.Random(seed)
    for _ in range(rounds):
        order = list(jobs)
        generator.shuffle(order)
        yield from order


def throttle_names(bits):
    """Names of the reasons in NVML's bit mask."""
    return [name for bit, name in THROTTLE_BITS.items() if bits & bit]


class Nvml:
    """What the driver's library knows of one GPU; nothing where it is not there."""

    def __init__(self, uuid):
        self._device = ctypes.c_void_p()
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            self._library = None
        self._found = (self._call("nvmlInit_v2") and
                       self._call("nvmlDeviceGetHandleByUUID", f"GPU-{uuid}".encode(), ctypes.byref(self._device)))

    def _call(self, name, *arguments):
        """Whether the function is there and succeeded."""
        function = getattr(self._library, name, None) if self._library else None
        return function is not None and function(*arguments) == 0

    def driver(self):
        """The driver's version, or None."""
        text = ctypes.create_string_buffer(96)
        return text.value.decode() if self._found and self._call("nvmlSystemGetDriverVersion", text, 96) else None

    def state(self):
        """{"sm_clock_mhz", "power_w", "throttle_reasons"} of now, as far as they can be had."""
        state = {}
        if not self._found:
            return state
        value, bits = ctypes.c_uint(), ctypes.c_ulonglong()
        if self._call("nvmlDeviceGetClockInfo", self._device, 1, ctypes.byref(value)):  # 1: the SM clock
            state["sm_clock_mhz"] = value.value
        if self._call("nvmlDeviceGetPowerUsage", self._device, ctypes.byref(value)):  # in mW
            state["power_w"] = round(value.value / 1000, 1)
        if self._call("nvmlDeviceGetCurrentClocksThrottleReasons", self._device, ctypes.byref(bits)):
            state["throttle_reasons"] = throttle_names(bits.value)
        return state


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
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]

    def wait(self):
        """Until the GPU has done all that it was given; raises what went wrong there."""
        torch.cuda.synchronize()

    def state(self):
        """The GPU's clocks and power now: Nvml.state()."""
        return self.nvml.state()

    def sample(self, work):
        """Milliseconds of `work()`."""
        begin, end = self._events
        self._flushed.zero_()
        torch.cuda._sleep(PAUSE_CYCLES)
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)
