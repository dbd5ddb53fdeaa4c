"""Whole pipelines at full size (experiment `pipeline`, lab.pipelines): the videos of each shape and GPU.

A video's time is its timed steps times how many of their kind it has, with text, VAE and file; or that of a complete run."""

import statistics
from dataclasses import dataclass, field

from lab.shared.video_time import PAPER_DENSE_STEPS, Parts, dense_configuration, first_sparse_step

from .calls import PAPER_SHAPES
from .frame import rows

DENSE = ("dense_own", "dense_best", "dense_ours")  # the baselines, as records name them
BASELINES = dict(zip(DENSE, ("diffusers' own", "diffusers' best backend", "our dense kernel")))
PASS = "pass"  # part of records of one pass, lab.pipelines.passes
FIGURE_SHAPES = ("hunyuan_768p", "wan_768p")  # of the paper's end-to-end figures


@dataclass
class Video:
    """One configuration of a shape."""

    name: str
    cell: object  # the newest of its turns
    step_s: float  # median over turns
    turns: int
    steps_timed: int
    parts: Parts | None  # None where its dense steps were not timed
    complete: object = None  # the cell of a complete run

    @property
    def sparsity(self):
        return self.cell.sparsity or 0.0

    @property
    def is_draft(self):
        return self.cell.policy == "draft"

    @property
    def timed_s(self):
        """From timed steps."""
        return self.parts.whole_s if self.parts else None

    @property
    def complete_s(self):
        return _number(self.complete, "whole_s") if self.complete else None

    @property
    def whole_s(self):
        """The complete run's where there is one."""
        return self.complete_s or self.timed_s


@dataclass
class Pipeline:
    """All records of one shape on one GPU."""

    shape: str
    model: str
    resolution: str
    gpu: str
    videos: dict = field(default_factory=dict)  # configuration: Video
    parts: dict = field(default_factory=dict)  # text, vae, file: cell
    profiles: list = field(default_factory=list)  # cells
    parallel: list = field(default_factory=list)  # cells of steps on config.ranks GPUs
    masks: object = None
    backends: object = None

    @property
    def name(self):
        return f"{self.model} {self.resolution}"

    def seconds(self, part):
        cell = self.parts.get(part)
        return cell.median_ms / 1e3 if cell else None

    def speedup(self, name, baseline):
        """Of a configuration's video over a baseline's, or None."""
        above, below = (self.videos.get(each) for each in (baseline, name))
        if not above or not below or not above.whole_s or not below.whole_s:
            return None
        return above.whole_s / below.whole_s

    def several_gpus(self):
        """A row for each configuration and number of GPUs that was timed on one GPU as well."""
        found, steps = [], {}
        for cell in self.parallel:
            if _number(cell, "step_ms"):
                key = cell.config.get("configuration"), cell.config.get("ranks")
                steps.setdefault(key, []).append(cell)
        for (name, ranks), cells in steps.items():
            if ranks and ranks > 1 and (name, 1) in steps:
                distance = max(cell.metrics.get("parallel_rel_l2", 0.0) for cell in cells)
                times = {"one_s": _step_s(steps[name, 1]), "all_s": _step_s(cells)}
                found.append({"pipeline": self, "name": name, "ranks": ranks, "distance": distance} | times)
        return found

    def fastest_dense(self, ending=""):
        """The baseline whose video takes least, among those with this ending, such as "_compiled"; None without any."""
        names = [name + ending for name in DENSE]
        there = [name for name in names if name in self.videos and self.videos[name].whole_s]
        return min(there, key=lambda name: self.videos[name].whole_s, default=None)


def _number(cell, name):
    value = cell.metrics.get(name)
    return value if value and value > 0 else None


def _step_s(cells):
    """The median step of cells that have one, in seconds."""
    return statistics.median(_number(cell, "step_ms") / 1e3 for cell in cells)


def pipelines(records):
    """A Pipeline for each shape and GPU, the paper's shapes first. Steps on several GPUs are no part of its videos, and
    single passes are of other models."""
    found = {}
    cells = [cell for cell in rows(records.of("pipeline")) if cell.shape and cell.model and cell.steps]
    cells = [cell for cell in cells if cell.part != PASS]
    parallel = [cell for cell in cells if cell.part == "parallel"]
    cells = [cell for cell in cells if cell.part != "parallel"]
    for cell in cells:
        key = cell.shape, cell.gpu or "no GPU"
        if key not in found:
            found[key] = Pipeline(cell.shape, cell.model, cell.resolution or "", key[1])
        _add(found[key], cell)
    for key, pipeline in found.items():
        mine, several = (
            [cell for cell in some if (cell.shape, cell.gpu or "no GPU") == key] for some in (cells, parallel)
        )
        pipeline.videos, pipeline.parallel = _videos(pipeline, mine), several
    known = [*reversed(PAPER_SHAPES)]
    place = lambda key: (known.index(key[0]) if key[0] in known else len(known), *key)
    return [found[key] for key in sorted(found, key=place)]


@dataclass
class Passes:
    """One pass of a model, by configuration, on one GPU."""

    cell: object  # the newest
    ms: dict = field(default_factory=dict)  # configuration: milliseconds
    left_out: dict = field(default_factory=dict)  # configuration: why

    def speedup(self, over):
        """Of draft attention over a baseline, or None."""
        above, below = self.ms.get(over), self.ms.get(plain_name(0.9))
        return above / below if above and below else None


def passes(records):
    """The Passes of each model and GPU, in the order of the records."""
    found = {}
    cells = [*rows(records.of("pipeline")), *rows(records.of("pipeline", status="skipped"))]
    for cell in (cell for cell in cells if cell.part == PASS):
        mine = found.setdefault((cell.shape, cell.gpu or "no GPU"), Passes(cell))
        name = cell.config.get("configuration")
        if ms := _number(cell, "transformer_ms"):
            mine.cell, mine.ms[name] = cell, ms
        elif cell.reason:
            mine.left_out[name] = cell.reason
    return list(found.values())


def _add(pipeline, cell):
    if cell.part in ("text", "vae", "file") and cell.median_ms:
        pipeline.parts[cell.part] = cell
    elif cell.part == "profile":
        pipeline.profiles.append(cell)
    elif cell.part in ("masks", "backends"):
        setattr(pipeline, cell.part, cell)


def _videos(pipeline, cells):
    """{configuration: Video} of the steps' turns."""
    turns, complete = {}, {}
    for cell in cells:
        name = cell.config.get("configuration")
        if cell.part == "steps" and name and _number(cell, "step_ms"):
            turns.setdefault(name, []).append(cell)
        elif cell.part == "complete" and name:
            complete[name] = cell
    steps_s = {name: _step_s(group) for name, group in turns.items()}
    found = {}
    for name, group in turns.items():
        newest = max(group, key=lambda cell: cell.time)
        timed = sum(cell.metrics.get("steps_timed") or 1 for cell in group)
        parts = _parts(pipeline, newest, steps_s[name], steps_s.get(_dense_of(newest, name)))
        found[name] = Video(name, newest, steps_s[name], len(group), timed, parts, complete.get(name))
    return found


def _dense_of(cell, name):
    """The configuration that takes a video's dense steps, as lab.pipelines has it."""
    config = cell.config
    compiled = config.get("compiled") == "blocks"
    return dense_configuration(config.get("linear") == "fp8", compiled) if cell.policy == "draft" else name


def _parts(pipeline, cell, step_s, dense_s):
    if dense_s is None:
        return None
    steps = cell.steps
    share = PAPER_DENSE_STEPS if cell.dense_steps is None else cell.dense_steps
    count = first_sparse_step(share, steps) if cell.policy == "draft" else steps
    seconds = {f"{part}_s": pipeline.seconds(part) for part in ("text", "vae", "file")}
    return Parts(dense_s, step_s, count, steps, **seconds)


def plain_name(sparsity):
    """The configuration of draft attention as the paper has it."""
    return f"draft_{round(100 * sparsity)}"
