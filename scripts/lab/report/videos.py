"""Videos of the small video DiT: every clip of a configuration against the dense clip of the same prompt and seed."""

import json
import math
from dataclasses import dataclass
from functools import cache
from statistics import mean

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from lab.shared.metrics import direction, is_better, label

from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, PAPER_SPARSITY, Table, at_paper
from .frame import LARGEST_DRAWN, NOTHING, having, left_out, rows, where, with_columns

SIDES = ("frames", "height", "width")
SHAPE = (*SIDES, "steps", "layers", "heads", "clips")  # what every record of videos has to name
WASHED = ("contrast", "psnr", "psnr_matched")
METRICS = {name: label(name) for name in ("psnr", "ssim", "lpips")}
PAPER_REGION, PAPER_STEPS = "8x16", 0.25
LEVEL, RESAMPLES = 0.95, 10_000
RULES = ("logits", "softmax", "released", "row")
HEADS = {
    "attention_recall": "attention recall",
    "output_rel_l2": "heads' output error (rel. L2)",
    "empty_rows_share": "empty rows",
}


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
    remainder: str = ""  # how dropped blocks take part: not at all, or pooled

    @property
    def label(self):
        """Of its kind, without the sparsity: "draft avg", "random", "draft avg, 16x16"."""
        words = self.policy + (f" {self.pool}" if self.pool else "")
        more = [self.rule] if self.rule not in ("", "softmax") else []
        more += ["with the rest pooled"] if self.remainder and self.policy != "sol_attn" else []
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
        cell.rule,
        cell.region,
        PAPER_STEPS if cell.dense_steps is None else cell.dense_steps,
        cell.config.get("heads", "all"),
        cell.config.get("remainder", ""),
    )


def with_grid(cells):
    """Columns grid_text, "21x32x48", and tokens of the video alone."""
    grids = list(zip(*(cells[side] for side in SIDES)))
    texts = ["x".join(map(str, grid)) for grid in grids]
    return cells.assign(grid_text=texts, video_tokens=[math.prod(grid) if None not in grid else 0 for grid in grids])


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


LOOKS = (  # policy of one sparsity, label, variant as style has it
    (lambda sparsity: draft(sparsity), "draft, average", ("draft", "avg")),
    (lambda sparsity: draft(sparsity, pool="max"), "draft, max", ("draft", "max")),
    (lambda sparsity: Choice("oracle", sparsity), "oracle", ("oracle",)),
    (lambda sparsity: Choice("random", sparsity), "random", ("random",)),
)


def _every(records):
    """(all cells of videos, those of `video` that name their shape, the sets of clips): the set with most clips first, of
    equal ones the newest, of these the one with most configurations."""
    every = records.of("video", "video_heads", "video_contrast", "video_feedback")
    every = with_columns(
        every, clip_set=[set_of(cell) for cell in rows(every)], choice=[choice_of(cell) for cell in rows(every)]
    )
    cells = having(every[(every["experiment"] == "video") & (every["region"] != "")], *SHAPE)
    found = [(max(group["clips"]), max(group["time"]), len(group), name) for name, group in cells.groupby("clip_set")]
    return every, cells, [name for *_, name in sorted(found, reverse=True)]


def every_set(records):
    """[Videos] of every set of clips, in the order of `_every`."""
    return [Videos(records, number) for number in range(len(records.once(_every)[2]))]


class Videos:
    """The records of one set of clips: the one with most clips, of equal ones the newest, unless its number is given."""

    def __init__(self, records, number=0):
        every, cells, names = records.once(_every)
        self.sets = len(names)
        chosen = every[every["clip_set"] == (names[number] if names else None)]
        self.cells = with_grid(cells[cells.index.isin(chosen.index)])
        found = list(rows(self.cells))
        sparse = [cell for cell in found if "psnr" in cell.metrics and cell.arrays.get("psnr")]
        self.rounding = next((cell for cell in sparse if cell.policy == "dense"), None)
        self.reference = next((cell for cell in found if "repeat_max_abs" in cell.metrics), None)
        self._cells = {cell.choice: cell for cell in sparse if cell.policy != "dense"}
        self.of_heads = chosen[(chosen["experiment"] == "video_heads") & (chosen["region"] != "")]
        self.heads = {choice: group for choice, group in self.of_heads.groupby("choice", sort=False)}
        washed = chosen[chosen["experiment"] == "video_contrast"]
        washed = where(washed, [all(arrays.get(name) for name in WASHED) for arrays in washed["arrays"]])
        self.washed = {cell.choice: cell for cell in rows(washed)}
        self.disturbed = list(rows(chosen[chosen["experiment"] == "video_feedback"]))

    def __bool__(self):
        return bool(self._cells)

    def choices(self):
        return list(self._cells)

    def get(self, choice):
        return self.rounding if choice == DENSE else self._cells.get(choice)

    def over_heads(self, choice, name):
        """(mean, low, high) over all heads of what each kept, or None."""
        if choice not in self.heads:
            return None
        values = [metrics[name] for metrics in self.heads[choice]["metrics"] if name in metrics]
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

    def washed_difference(self, first, second, name):
        """The same of `video_contrast` records, or None."""
        cells = [self.washed.get(each) for each in (first, second)]
        if None in cells or any(len(cells[0].arrays[each]) != len(cells[1].arrays[each]) for each in WASHED):
            return None
        return interval([x - y for x, y in zip(*(cell.arrays[name] for cell in cells))])

    def fed_back(self, choice):
        """(steps' errors added up, distance at the end) where their ratio says what feedback does, or None."""
        added, distance = (self.get(choice).metrics.get(name) for name in ("added_up_rel_l2", "distance_rel_l2"))
        return (added, distance) if (added or 0) > 0 and distance is not None else None

    def left_out(self, *metrics):
        """What is to be said of these metrics where they are relative to nothing, or ""."""
        return left_out(pd.concat([self.cells, self.of_heads]), *metrics)

    def wins(self, first, second, metric):
        """Clips in which `first` is better."""
        pairs = zip(self.values(first, metric), self.values(second, metric))
        return sum(is_better(metric, x, y) for x, y in pairs)

    def sparsities(self, policy="draft"):
        return sorted({choice.sparsity for choice in self._cells if choice.policy == policy})

    def spread(self):
        """{(layer, head): blocks that a region's attention spreads over} of the dense clips, or {}."""
        values = (self.reference.arrays if self.reference else {}).get("effective_blocks") or []
        layers, heads = self.cells["layers"].iat[0], self.cells["heads"].iat[0]
        if layers * heads != len(values):
            return {}
        return dict(zip([(layer, head) for layer in range(layers) for head in range(heads)], values))

    def empty_row(self):
        """What a block row that keeps nothing computes."""
        return "attends to the text alone" if self.cells["text_tokens"].iat[0] else "outputs 0"

    def metrics(self):
        return [name for name in METRICS if any(cell.arrays.get(name) for cell in self._cells.values())]

    def looked_at(self):
        """ "the first 2 clips": those whose attention and states were looked at."""
        found = [source.get("probe_clips") for source in self.of_heads["input"].head(1)]
        count = min(found[0] or 0, self.cells["clips"].iat[0]) if found else 0
        return f"the first {count} clips" if count != 1 else "the first clip"

    def where(self, cells=None):
        """Device, commits of the cells (default: all) and clips, for captions."""
        if self.cells.empty:
            return "not measured"
        cell = next(rows(self.cells))
        builds = self.cells["build"] if cells is None else [each.build for each in cells]
        commits = sorted({str(build.get("commit"))[:12] for build in builds})
        return (
            f"{cell.clips} clips of {cell.model or 'a model without a name'}, {cell.grid_text} tokens, {cell.steps} steps, each a held-out prompt with"
            f" its own seed; {cell.gpu or cell.cpu}, commit {', '.join(commits)}"
        )

    def without_lpips(self):
        """Why there is no LPIPS column, or ""."""
        notes = {cell.notes.get("lpips") for cell in self._cells.values()}
        return next((note for note in sorted(filter(None, notes))), "")


def set_of(cell):
    """What must be equal for clips to be compared: not the place of a head."""
    source = {key: value for key, value in cell.input.items() if key not in ("layer", "head", "probe_clips")}
    return json.dumps([source, cell.gpu], sort_keys=True)


def text_of(found, digits=2):
    """ "24.10 [23.52, 24.66]"."""
    return "-" if found is None else f"{found[0]:.{digits}f} [{found[1]:.{digits}f}, {found[2]:.{digits}f}]"


def judged(videos, first, second):
    """CONFIRMED if first is better by every metric with the whole interval, CONTRADICTED likewise, else CAVEAT."""
    signs = []
    for metric in videos.metrics():
        found, better = videos.difference(first, second, metric), direction(metric)
        signs.append(0 if found is None else better if found[1] > 0 else -better if found[2] < 0 else 0)
    return CONFIRMED if min(signs) > 0 else CONTRADICTED if max(signs) < 0 else CAVEAT


def difference_words(videos, first, second, names):
    parts = []
    for metric in videos.metrics():
        found, digits = videos.difference(first, second, metric), 2 if metric == "psnr" else 4
        if found is None:
            continue
        wins, count = videos.wins(first, second, metric), len(videos.values(first, metric))
        parts.append(f"{METRICS[metric]} {text_of(found, digits)} (better in {wins} of {count} clips)")
    return f"{names[0]} minus {names[1]}: " + "; ".join(parts) + "."


def quality_table(videos, name, caption, choices, **more):
    """One row a configuration: metrics with intervals, kept blocks and FLOPs, attention-level numbers."""
    metrics = videos.metrics()
    found = []
    for choice in choices:
        cell = videos.get(choice)
        if cell is None:
            continue
        intervals = {metric: videos.summary(choice, metric) for metric in metrics}
        texts = [text_of(each, 2 if metric == "psnr" else 4) for metric, each in intervals.items()]
        of_heads = [videos.over_heads(choice, metric) for metric in HEADS]
        texts += [text_of(each, 3) for each in of_heads]
        label = choice.label if choice != DENSE else f"dense, {cell.kernel}"
        kept, flops, clips = (shown_of(cell, metric) for metric in ("kept_share", "flops_share", "clips"))
        numbers = [value for each in (*intervals.values(), *of_heads) for value in each or (None, None, None)]
        found.append((label, choice.sparsity, kept, flops, *texts, steps_text(cell), clips, *numbers))
    columns = ["blocks chosen by", "sparsity", "blocks kept, all steps", "FLOPs, of dense"]
    columns += [f"{words} [95%]" for words in (*(METRICS[metric] for metric in metrics), *HEADS.values())]
    columns += ["one step's error (rel. L2) [least, most]", "clips"]
    numbers_of = [f"{metric} {part}" for metric in (*metrics, *HEADS) for part in ("mean", "low", "high")]
    caption = (
        f"{caption} Means and their 95% intervals, over clips; of recall, heads' error and empty rows over"
        f" the heads, at two steps of {videos.looked_at()}. One step's error: of the model's output, all the row's"
        f" masks in place, at the dense clips' states, over the sparse steps. {videos.where()}."
    )
    return Table(name, caption, columns + numbers_of, found, columns_shown=len(columns), **more)


def shown_of(cell, name):
    return NOTHING if name in cell.not_applicable else cell.metrics.get(name)


def steps_text(cell):
    """ "0.172 [0.150, 0.201]": mean, least and most error of a sparse step."""
    values = cell.arrays.get("one_step")
    return f"{sum(values) / len(values):.3f} [{min(values):.3f}, {max(values):.3f}]" if values else "-"


def pairs_of(videos, **changes):
    """[(the paper's draft, the same with these changes)] at every sparsity that has both."""
    both = [(draft(each), draft(each, **changes)) for each in videos.sparsities()]
    return [pair for pair in both if videos.difference(*pair, "psnr")]


def paired(videos, pairs, names, table):
    """(verdict, facts, tables) on `pairs` of configurations (first, second), judged at the sparsity nearest the paper's;
    names: of first and second; table: (name, caption, order, what else the configurations may differ in)."""
    if not pairs:
        return NOT_TESTABLE, {"pairs": pairs, "names": names}, []
    first, second = min(pairs, key=lambda pair: abs(pair[0].sparsity - PAPER_SPARSITY))
    facts = {"pairs": pairs, "names": names, "sparsity": first.sparsity, "where": videos.where()}
    facts["words"] = difference_words(videos, first, second, names)
    facts["gain"] = videos.difference(first, second, "psnr")
    name, caption, order, *free = table
    wanted = {one.sparsity for one, _ in pairs}
    choices = [
        one
        for one in videos.choices()
        if one.sparsity in wanted and one == draft(one.sparsity, **{field: getattr(one, field) for field in free})
    ]
    choices.sort(key=lambda one: (one.sparsity, order(one)))
    return judged(videos, first, second), facts, [quality_table(videos, name, caption, choices, carries=at_paper)]
