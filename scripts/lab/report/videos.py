"""Videos of the small video DiT: every clip of a configuration against the dense clip of the same prompt and seed."""

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from statistics import mean

import numpy as np
from scipy.stats import bootstrap

from .records import LARGEST_DRAWN, having, left_out

SHAPE = ("grid", "steps", "layers", "heads", "clips")  # what every record of videos has to name
SIDES = ("frames", "height", "width")
WASHED = ("contrast", "psnr", "psnr_matched")
METRICS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS"}
PAPER_REGION, PAPER_STEPS = "8x16", 0.25
LEVEL, RESAMPLES = 0.95, 10_000


@dataclass(frozen=True)
class Choice:
    """A configuration: what chose the blocks."""

    policy: str
    sparsity: float = 0.0
    pool: str = ""
    rule: str = ""
    region: str = PAPER_REGION
    dense_steps: float = PAPER_STEPS
    heads: str = "all"  # which are sparse: all, the diffuse ones alone, or the others alone

    @property
    def label(self):
        """Of its kind, without the sparsity: "draft avg", "random", "draft avg, 16x16"."""
        words = self.policy + (f" {self.pool}" if self.pool else "")
        more = [self.rule] if self.rule not in ("", "softmax") else []
        more += [self.region] if self.region != PAPER_REGION and self.policy != "dense" else []
        if self.dense_steps != PAPER_STEPS and self.policy != "dense":
            more.append(f"{100 * self.dense_steps:g}% of steps dense")
        if self.heads != "all":
            more.append("in the diffuse heads alone" if self.heads == "diffuse" else "in the other heads alone")
        return ", ".join([words, *more])


DENSE = Choice("dense", dense_steps=0.0)  # by a kernel of this project: what rounding alone does


def draft(sparsity, **changes):
    return Choice("draft", sparsity, **{"pool": "avg", "rule": "softmax", **changes})


def choice_of(cell):
    drafted = cell.policy == "draft"
    return Choice(
        cell.policy,
        cell.sparsity or 0.0,
        cell.pool if drafted else "",
        cell.rule if drafted else "",
        cell.region,
        cell.config.get("dense_steps", PAPER_STEPS),
        cell.config.get("heads", "all"),
    )


def grid_of(cell):
    """ "21x32x48": frames, height and width in tokens."""
    return "x".join(str(cell.grid.get(side)) for side in SIDES)


def video_tokens(cell):
    return cell.grid["frames"] * cell.grid["height"] * cell.grid["width"]


def interval(values):
    """(mean, low, high): the 95% bootstrap interval (BCa) of the mean, from a fixed seed."""
    return _interval(tuple(values))


@cache  # several tables and figures ask for the same ones
def _interval(values):
    values = np.asarray(values, dtype=float)
    if not np.abs(values).max() <= LARGEST_DRAWN:  # their squares are no numbers
        return mean(values.tolist()), math.nan, math.nan
    middle = float(values.mean())
    if not np.ptp(values) > 0:  # nothing to resample, or NaN
        return middle, middle, middle
    found = bootstrap(
        (values,), np.mean, confidence_level=LEVEL, n_resamples=RESAMPLES, random_state=np.random.default_rng(1)
    ).confidence_interval
    return middle, float(found.low), float(found.high)


class Videos:
    """The `video`, `video_heads` and `video_contrast` records of one set of clips: the largest one, if there are several."""

    def __init__(self, records):
        groups = defaultdict(list)
        for cell in having(records.of("video"), input=SHAPE, config=["region"]):
            groups[_set_of(cell)].append(cell)
        chosen = max(groups, key=lambda key: (len(groups[key]), key), default=None)
        self.sets = len(groups)
        self.cells = groups.get(chosen, [])
        sparse = [cell for cell in having(self.cells, ["psnr"]) if cell.arrays.get("psnr")]
        self.rounding = next((cell for cell in sparse if cell.policy == "dense"), None)
        self.reference = next((cell for cell in self.cells if "repeat_max_abs" in cell.metrics), None)
        self._cells = {choice_of(cell): cell for cell in sparse if cell.policy != "dense"}
        self.heads = defaultdict(list)
        for cell in records.of("video_heads"):
            if _set_of(cell) == chosen and cell.region:
                self.heads[choice_of(cell)].append(cell)
        self.washed = {
            choice_of(cell): cell
            for cell in records.of("video_contrast")
            if _set_of(cell) == chosen and all(cell.arrays.get(name) for name in WASHED)
        }

    def __bool__(self):
        return bool(self._cells)

    def choices(self):
        return list(self._cells)

    def get(self, choice):
        return self.rounding if choice == DENSE else self._cells.get(choice)

    def over_heads(self, choice, name):
        """(mean, low, high) over all heads of what each kept, or None."""
        values = [cell.metrics[name] for cell in self.heads.get(choice, ()) if cell.metrics.get(name) is not None]
        return interval(values) if values else None

    def values(self, choice, metric):
        """One number a clip, in the clips' order; None if the configuration or the metric is not there."""
        cell = self.get(choice)
        return cell.arrays.get(metric) if cell else None

    def summary(self, choice, metric):
        """(mean, low, high) over clips, or None."""
        values = self.values(choice, metric)
        return interval(values) if values else None

    def difference(self, first, second, metric):
        """(mean, low, high) of first - second, paired by clip, or None."""
        a, b = self.values(first, metric), self.values(second, metric)
        return interval([x - y for x, y in zip(a, b)]) if a and b and len(a) == len(b) else None

    def left_out(self, *metrics):
        """What is to be said of these metrics where they are relative to nothing, or ""."""
        return left_out(self.cells + [cell for cells in self.heads.values() for cell in cells], metrics)

    def wins(self, first, second, metric):
        """Clips in which `first` is better."""
        sign = -1 if metric == "lpips" else 1
        return sum(sign * x > sign * y for x, y in zip(self.values(first, metric), self.values(second, metric)))

    def sparsities(self, policy="draft"):
        return sorted({choice.sparsity for choice in self._cells if choice.policy == policy})

    def spread(self):
        """{(layer, head): blocks that a region's attention spreads over} of the dense clips, or {}."""
        values = (self.reference.arrays if self.reference else {}).get("effective_blocks") or []
        layers, heads = self.cells[0].input["layers"], self.cells[0].input["heads"]
        if layers * heads != len(values):
            return {}
        return dict(zip([(layer, head) for layer in range(layers) for head in range(heads)], values))

    def empty_row(self):
        """What a block row that keeps nothing computes."""
        text = self.cells[0].input.get("text_tokens")
        return "attends to the text alone" if text else "outputs 0"

    def metrics(self):
        return [name for name in METRICS if any(cell.arrays.get(name) for cell in self._cells.values())]

    def looked_at(self):
        """ "the first 2 clips": those whose attention and states were looked at."""
        found = [cell.input.get("probe_clips") for cells in self.heads.values() for cell in cells]
        count = min(found[0] or 0, self.cells[0].input["clips"]) if found else 0
        return f"the first {count} clips" if count != 1 else "the first clip"

    def where(self, cells=None):
        """Device, commits of the cells (default: all) and clips, for captions."""
        if not self.cells:
            return "not measured"
        cell = self.cells[0]
        source = cell.input
        device = cell.machine.get("gpu") or cell.machine.get("cpu")
        commits = sorted({str(each.build.get("commit"))[:12] for each in cells or self.cells})
        return (
            f"{source['clips']} clips of minidit, {grid_of(cell)} tokens, {source['steps']} steps, each a held-out prompt with"
            f" its own seed; {device}, commit {', '.join(commits)}"
        )

    def without_lpips(self):
        """Why there is no LPIPS column, or ""."""
        notes = {cell.notes.get("lpips") for cell in self._cells.values()}
        return next((note for note in sorted(filter(None, notes))), "")


def _set_of(cell):
    """What must be equal for clips to be compared: not the place of a head."""
    source = {key: value for key, value in cell.input.items() if key not in ("layer", "head", "probe_clips")}
    return json.dumps([source, cell.machine.get("gpu")], sort_keys=True)


def text_of(found, digits=2):
    """ "24.10 [23.52, 24.66]"."""
    return "-" if found is None else f"{found[0]:.{digits}f} [{found[1]:.{digits}f}, {found[2]:.{digits}f}]"


def mean_of(values):
    return mean(values) if values else None
