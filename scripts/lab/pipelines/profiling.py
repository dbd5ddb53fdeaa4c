"""Where the time of a step goes, by class of kernel: a trace of PyTorch's profiler, read kernel by kernel."""

import json
import os
import re
import tempfile
from dataclasses import dataclass

LABEL = "draft_attention"  # under which draftattention.diffusers has each sparse call
# The first pattern that a kernel's name has decides. Names are those of the GPU's kernels, or of PyTorch's operators
# where there is no GPU.
CLASSES = (
    ("copies", r"reorder_kernel"),  # this project's, into region order
    (
        "attention",
        r"draft::gpu::.*(attend|quantise|repeat_kernel|sample_kernel|weights_kernel|divide_kernel|block_kernel)",
    ),
    ("draft", r"draft::gpu::"),
    ("attention", r"(?i)fmha|flash|sdpa|attention|attn|qk_int8|sage"),
    ("matmul", r"(?i)gemm|gemv|nvjet|cutlass|cublas|splitk|xmma|wgrad|dgrad|conv(?!ert)|scaled_mm"),
    ("matmul", r"aten::(mm|addmm|bmm|baddbmm|matmul|linear)\b"),
    ("copies", r"(?i)copy|memcpy|memset|catarray|fillfunctor|transpose|aten::(cat|clone|contiguous|zero_|fill_)\b"),
    ("elementwise", r"(?i)norm|elementwise|reduce|rowwisemoments|triton|softmax|index|gather|scatter|quantiz"),
    (
        "elementwise",
        r"aten::(mul|add|sub|div|neg|pow|mean|sum|rsqrt|sqrt|silu|gelu|tanh|sigmoid|exp|sin|cos|where)_?\b",
    ),
)
NAMES = ("attention", "draft", "matmul", "elementwise", "copies", "other")
_RULES = [(name, re.compile(pattern)) for name, pattern in CLASSES]
ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")
LAUNCHES = ("cuda_runtime", "cuda_driver")


def class_of(kernel):
    return next((name for name, rule in _RULES if rule.search(kernel)), "other")


@dataclass(frozen=True)
class Kernel:
    name: str
    begin_us: float
    ms: float
    launched_us: float  # when the host asked for it

    @property
    def kind(self):
        return class_of(self.name)


@dataclass(frozen=True)
class Profile:
    kernels: list  # of Kernel, in the order of their begin
    labels: list  # (begin, end) of each labelled call on the host, in microseconds
    on_gpu: bool = True  # else operators stand for kernels

    def by_class(self):
        """{class: milliseconds}, all classes."""
        found = dict.fromkeys(NAMES, 0.0)
        for kernel in self.kernels:
            found[kernel.kind] += kernel.ms
        return found

    def span_ms(self):
        """From the first kernel's begin to the last one's end: more than their sum where the device waits."""
        if not self.kernels:
            return 0.0
        return max(each.begin_us + 1e3 * each.ms for each in self.kernels) / 1e3 - self.kernels[0].begin_us / 1e3

    def slowest(self, most=24):
        """The names that take most time, as rows for notes."""
        rows = {}
        for kernel in self.kernels:
            row = rows.setdefault(kernel.name, {"class": kernel.kind, "count": 0, "ms": 0.0})
            row["count"] += 1
            row["ms"] += kernel.ms
        ordered = sorted(rows.items(), key=lambda item: -item[1]["ms"])[:most]
        return [{"kernel": shortened(name)} | row for name, row in ordered]

    def one_call(self):
        """The kernels of the middle one of the labelled calls; none without a label."""
        if not self.labels:
            return []
        begin, end = self.labels[len(self.labels) // 2]
        return [kernel for kernel in self.kernels if begin <= kernel.launched_us <= end]


def shortened(name, most=160):
    name = name.removeprefix("void ").replace("(anonymous namespace)::", "")
    return name if len(name) <= most else name[: most - 3] + "..."


def read_trace(trace):
    """The Profile of a trace in Chrome's format, as PyTorch exports it."""
    events = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    launches = {
        event["args"]["correlation"]: float(event["ts"])
        for event in events
        if event.get("cat") in LAUNCHES and "correlation" in event.get("args", {})
    }
    kernels = [
        Kernel(
            event["name"],
            float(event["ts"]),
            float(event["dur"]) / 1e3,
            launches.get(event.get("args", {}).get("correlation"), float(event["ts"])),
        )
        for event in events
        if event.get("cat") in ON_GPU
    ]
    labels = [
        (float(event["ts"]), float(event["ts"]) + float(event["dur"]))
        for event in events
        if event["name"] == LABEL and event.get("cat") == "user_annotation"
    ]
    on_gpu = bool(kernels)
    kernels = kernels or _operators(events)
    return Profile(sorted(kernels, key=lambda kernel: kernel.begin_us), sorted(labels), on_gpu)


def _operators(events):
    """Without a GPU: operators, each with its time outside of those that it calls, in place of kernels."""
    found = []
    for thread in {event.get("tid") for event in events if event.get("cat") == "cpu_op"}:
        mine = [event for event in events if event.get("cat") == "cpu_op" and event.get("tid") == thread]
        mine.sort(key=lambda event: (float(event["ts"]), -float(event["dur"])))
        own, callers = [float(event["dur"]) for event in mine], []  # callers: places of those that are not over
        for place, event in enumerate(mine):
            begin = float(event["ts"])
            while callers and begin >= float(mine[callers[-1]]["ts"]) + float(mine[callers[-1]]["dur"]):
                callers.pop()
            if callers:
                own[callers[-1]] -= float(event["dur"])
            callers.append(place)
        found += [
            Kernel(event["name"], float(event["ts"]), max(us, 0.0) / 1e3, float(event["ts"]))
            for event, us in zip(mine, own)
        ]
    return found


def profiled(work):
    """The Profile of work()."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    chosen = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with profile(activities=chosen) as found:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        found.export_chrome_trace(path)
        with open(path, encoding="utf-8") as file:
            return read_trace(json.load(file))
