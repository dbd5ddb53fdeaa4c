"""Records that Python makes: what they say of the machine and the build, where a run goes through PyTorch, and the file
that they are appended to. Keys and names are those of the C++ records (harness/record/record.cpp, provenance.cpp)."""

import datetime
import math
import os
import platform
import secrets
import subprocess

from lab.shared import record_file
from lab.shared.files import ROOT
from lab.shared.one_line_parser import Refused
from lab.shared.record_format import SCHEMA

RUN = f"{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"  # this process


def machine_info(nvml):
    """CPU, memory, GPU and driver. nvml: an nvml.Nvml."""
    import torch

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
    import torch

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
        "schema": SCHEMA,
        "experiment": experiment,
        "run": RUN,
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


def open_records(path):
    """The file, open for appending whole lines. Refuses one that ends within a line or holds anything but records, and
    what is no regular file."""
    if record_file.is_compressed(path):
        raise Refused(f"{path}: nothing is appended to what is compressed: gunzip it first")
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise Refused(f"{path}: wanted a file of records, found no regular file")
        file = open(path, "a+b")
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                raise Refused(f"{path}: its last line is not whole")
        record_file.read_all(path)
    except record_file.Malformed as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    return file
