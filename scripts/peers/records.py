"""Records of experiment `peers`: keys and names as the C++ records have them (harness/record.cpp, provenance.cpp)."""

import datetime
import math
import os
import platform
import subprocess

import torch

from .inputs import BLOCK, REGION
from .timing import WARM_UPS, quantile, summary

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def machine_info(nvml):
    """CPU, memory, GPU and driver. nvml: a timing.Nvml."""
    info = {"cpu": _cpu_model(), "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1), "gpu": None}
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        info |= {"gpu": device.name, "gpu_memory_gb": round(device.total_memory / 1e9, 1),
                 "compute_capability": f"{device.major}.{device.minor}"}
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
    return {"commit": commit, "dirty": dirty, "type": "python", "compiler": f"Python {platform.python_version()}",
            "flags": "", "cuda": torch.version.cuda, "torch": torch.__version__, "cudnn": cudnn}


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


def config_of(contender, case):
    """A record's `config`."""
    config = {"device": "cuda", "kernel": contender.name, "element": "bfloat16", "order": contender.order,
              "policy": "draft" if case.sparsity else "dense", "region": list(REGION), "sparsity": case.sparsity}
    return config | ({"pool": case.pool, "rule": case.rule} if case.sparsity else {})


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


def timing_of(call, blocks, samples, l2_flush):
    """A record's `timing`; FLOPs count 128 x 128 tokens for each of the `blocks` that are computed, cut ones too."""
    timing = summary(samples)
    flops = 4 * BLOCK * BLOCK * call.head_dim * blocks
    return timing | {"tflops_kept": flops / timing["median_ms"] / 1e9, "warmup": WARM_UPS, "l2_flush": l2_flush}


def compared(metrics, timing, dense, matmul_tflops):
    """`metrics` with the ratios; dense: the same kernel's and order's dense `timing` in this run, or None."""
    metrics = metrics | {"matmul_tflops": matmul_tflops, "share_of_matmul": timing["tflops_kept"] / matmul_tflops}
    if dense is not None:
        metrics |= {"speedup_over_dense": dense["median_ms"] / timing["median_ms"],
                    "rate_over_dense": timing["tflops_kept"] / dense["tflops_kept"]}
    return metrics


def make_record(call, config, metrics, machine, build, status="ok", reason="", timing=None, notes=None):
    """One record. A metric that is not finite leaves the metrics and makes the record `failed`."""
    wrong = [f"metric {name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
    record = {"schema": 1, "experiment": "peers", "input": call.input, "config": config,
              "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)}}
    if timing is not None:
        record["timing"] = timing
    record["status"] = "failed" if wrong else status
    if reason or wrong:
        record["reason"] = reason or "; ".join(wrong)
    if notes:
        record["notes"] = notes
    now = datetime.datetime.now(datetime.timezone.utc)
    return record | {"machine": machine, "build": build, "time": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
