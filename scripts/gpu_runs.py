"""What every GPU run's record says of the machine and the build, for the scripts that measure through PyTorch: keys and
names as the C++ records have them (harness/record/record.cpp, provenance.cpp)."""

import ctypes
import datetime
import math
import os
import platform
import subprocess

import torch

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# NVML's documented clock event reasons; idling is none that slows a kernel down.
THROTTLE_BITS = {
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}


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
        self._found = self._call("nvmlInit_v2") and self._call(
            "nvmlDeviceGetHandleByUUID", f"GPU-{uuid}".encode(), ctypes.byref(self._device)
        )

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


def machine_info(nvml):
    """CPU, memory, GPU and driver. nvml: a timing.Nvml."""
    info = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "gpu": None,
    }
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        info |= {
            "gpu": device.name,
            "gpu_memory_gb": round(device.total_memory / 1e9, 1),
            "compute_capability": f"{device.major}.{device.minor}",
        }
        if nvml.driver():
            info["driver"] = nvml.driver()
        info |= {key: value for key, value in nvml.state().items() if key != "throttle_reasons"}
    return info


def build_info(commit=None):
    """What ran: the checkout's commit, or `commit` for a tree without git, where nobody knows whether it is dirty."""
    dirty = None
    if commit is None:
        commit = _git("rev-parse", "HEAD") or "unknown"
        # results/ is what a run writes: a run's own output does not make the tree dirty.
        changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
        dirty = None if changes is None else changes != ""
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    return {
        "commit": commit,
        "dirty": dirty,
        "type": "python",
        "compiler": f"Python {platform.python_version()}",
        "flags": "",
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "cudnn": cudnn,
    }


def _git(*arguments):
    """Its output, or None if it failed."""
    try:
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model():
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line.split(": ", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        return "unknown"


def make_record(
    experiment, source, config, metrics, machine, build, status="ok", reason="", timing=None, notes=None, arrays=None
):
    """One record; source: its `input`. A metric that is not finite leaves the metrics and makes the record `failed`."""
    wrong = [f"metric {name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
    record = {
        "schema": 1,
        "experiment": experiment,
        "input": source,
        "config": config,
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
    }
    for key, value in (("timing", timing), ("arrays", arrays)):
        if value is not None:
            record[key] = value
    record["status"] = "failed" if wrong else status
    if reason or wrong:
        record["reason"] = reason or "; ".join(wrong)
    if notes:
        record["notes"] = notes
    now = datetime.datetime.now(datetime.timezone.utc)
    return record | {"machine": machine, "build": build, "time": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
