"""Records as one pandas frame: a row a cell, with named columns; the newest record of a cell wins.

Columns are objects: text, numbers as the record has them, None where it has none. `metrics` holds a record's numbers, and
`not_applicable` the names of those that are relative to nothing; `with_metrics` makes columns of them. The rows stand in
the order of their cells' identities, which tables keep where they sort by nothing else.
"""

import json
from dataclasses import dataclass, field

import pandas as pd

from lab.shared import record_file
from lab.shared.record_format import NOT_APPLICABLE, identity

from .foreign import inert, inert_value

LARGEST_DRAWN = 1e30
NOTHING = "n/a"  # how tables show a metric that is relative to nothing
DUMP, CAPTURE, HEAD = ["dump", "sha"], ["dump", "sha", "capture"], ["dump", "sha", "capture", "head"]
TIMED = ("latency", "latency_sustained", "overhead", "peers")  # attention calls: their numbers are times of one GPU
# Of the small video model, on one device.
VIDEOS = ("video", "video_heads", "video_contrast", "video_feedback", "video_eight_bits", "video_time")
OF_INPUT = ("model", "layer", "step", "steps", "layers", "heads", "head_dim", "text_tokens", "tokens", "clips")
OF_INPUT += ("resolution", "shape", "data", "prompt", "timestep")
OF_CONFIG = ("kernel", "order", "part", "element", "seed", "sparsity", "seconds", "method", "counting", "dense_steps")
OF_CONFIG += ("operands", "quantising")
OF_TIMING = ("median_ms", "p10_ms", "p90_ms", "tflops_kept", "samples_ms")
COLUMNS = ["experiment", "status", "reason", "time", "run", "source", "not_applicable", "drawable", "dump", "sha"]
COLUMNS += ["input", "config", "machine", "build", "notes", "arrays", "timing", "metrics"]
COLUMNS += ["capture", "head", *OF_INPUT, "frames", "height", "width", *OF_CONFIG, "policy", "pool", "rule", "region"]
COLUMNS += ["remainder"]
COLUMNS += ["gpu", "cpu", "driver", "commit", *OF_TIMING]


@dataclass
class Records:
    """What a set of record files holds."""

    frame: pd.DataFrame  # the newest of each cell, whatever its status
    broken: list = field(default_factory=list)  # "file:line: field: wanted ..., found ..." for lines that are no record
    incomplete: list = field(default_factory=list)  # "file:line: why" for last lines that a stopped run left
    superseded: int = 0  # older records of a cell measured again
    made: dict = field(default_factory=dict)

    def once(self, make):
        """make(self), which several parts share."""
        if make not in self.made:
            self.made[make] = make(self)
        return self.made[make]

    def of(self, *experiments, status="ok", stills=False):
        """The cells of these experiments (of all, without any). Those on one frame, a picture or a text, are of no video and
        apart from the others: `stills`."""
        chosen = self.frame["status"] == status
        if experiments:
            chosen &= self.frame["experiment"].isin(experiments) & ((self.frame["frames"] == 1) == stills)
        return self.frame[chosen]

    def judged(self, experiment, remainder="", stills=False):
        """Cells that say whether the theorems hold: a violated bound makes its record a failed one. With this remainder
        alone; the paper has none."""
        failed = self.of(experiment, status="failed", stills=stills)
        violated = [any(name.startswith("check_") for name in metrics) for metrics in failed["metrics"]]
        cells = pd.concat([self.of(experiment, stills=stills), where(failed, violated)])
        return with_remainder(cells, remainder)


def load(paths):
    """Reads every file in order; of two records of one cell with the same time the later line wins. Lines that are no
    records are in `broken` and `incomplete`. Raises record_file.Malformed where a path is no file, OSError."""
    broken, incomplete, newest, superseded = [], [], {}, 0
    for path in paths:
        name = inert(str(path).replace("\\", "/").rsplit("/", 1)[-1])
        for number, record, problem in record_file.read(path):
            source = f"{name}:{number}"
            if problem:
                (incomplete if problem == record_file.INCOMPLETE else broken).append(f"{source}: {problem}")
                continue
            cell = _cell_of(record)
            if cell in newest:
                superseded += 1
                if (newest[cell][0].get("time") or "") > (record.get("time") or ""):
                    continue
            newest[cell] = (record, source)
    known = {}
    rows_of_frame = [_row(*newest.pop(cell), known) for cell in sorted(newest)]
    return Records(_frame(rows_of_frame), broken, incomplete, superseded)


def _cell_of(record):
    """What a later record stands in place of. Kernels beside others are compared within one run: each run's stay."""
    run = record.get("run") or "" if record.get("experiment") == "peers" else ""
    return identity(record) + run


def _inert_part(record, name, known):
    """An object of the record without what is null, its text inert. `known`: those of earlier records, which are shared."""
    text = repr(record.get(name))
    if text not in known:
        known[text] = inert_value(_present(record, name))
    return known[text]


def _row(record, source, known):
    """The columns of one record, its text inert, without what is null."""
    metrics, notes = record.get("metrics") or {}, record.get("notes") or {}
    row = {name: inert(record.get(name) or "") for name in ("experiment", "status", "reason", "time", "run")}
    row |= {name: _inert_part(record, name, known) for name in ("input", "config", "machine", "build")}
    row |= {name: _measured(_present(record, name)) for name in ("arrays", "timing")}
    row |= {
        "source": source,
        "metrics": {inert(name): _measured(value) for name, value in metrics.items() if value != NOT_APPLICABLE},
        "not_applicable": frozenset(inert(name) for name, value in metrics.items() if value == NOT_APPLICABLE),
        "notes": inert_value(notes if isinstance(notes, dict) else {"note": notes}),
    }
    return row | _named(row)


def _present(record, name):
    """An object of the record without what is null."""
    return {key: value for key, value in (record.get(name) or {}).items() if value is not None}


def _measured(value):
    """Numbers as a double holds them: NumPy makes no numbers of whole ones that its own types cannot hold."""
    if type(value) is int:
        return value if abs(value) <= 2**53 else float(value)
    if type(value) is dict:
        return {key: _measured(each) for key, each in value.items()}
    if type(value) is list:
        return [_measured(each) for each in value]
    return value


def describe(cell):
    """One line that says which cell this is."""
    where = " ".join(str(part) for part in (cell.dump, cell.capture or cell.shape) if part)
    if cell.input.get("head") is not None:
        where += f" head {cell.input['head']}"
    if not where:
        where = " ".join(_words(value) for value in cell.input.values())
    what = ", ".join(f"{key} {_words(value)}" for key, value in cell.config.items())
    return f"{cell.experiment}: {where.strip()} ({what})"


def _words(value):
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def _frame(rows):
    return pd.DataFrame({name: _objects([row.get(name) for row in rows]) for name in COLUMNS})


def _objects(values, index=None):
    return pd.Series(values, index=index, dtype=object)


def _named(row):
    """The columns that stand for entries of input, config, machine, build and timing."""
    source, config, machine, timing = row["input"], row["config"], row["machine"], row["timing"]
    grid, head, region = source.get("grid") or {}, source.get("head"), config.get("region")
    numbers = (*row["metrics"].values(), *(value for value in timing.values() if isinstance(value, (int, float))))
    return {
        **{name: source.get(name) for name in OF_INPUT},
        **{name: grid.get(name) for name in ("frames", "height", "width")},
        **{name: config.get(name) for name in OF_CONFIG},
        **{name: timing.get(name) for name in OF_TIMING},
        "dump": source.get("dump") or "",
        "sha": (source.get("sha256") or "")[:8],
        "capture": source.get("capture") or "",
        "head": head[0] if isinstance(head, list) and head else head or 0,
        "policy": config.get("policy", "draft"),
        "pool": config.get("pool", ""),
        "rule": config.get("rule", ""),
        "remainder": config.get("remainder", ""),
        "region": f"{region[0]}x{region[1]}" if region else "",
        "gpu": machine.get("gpu"),
        "cpu": machine.get("cpu"),
        "driver": machine.get("driver"),
        "commit": short_commit(row["build"]),
        "drawable": all(-LARGEST_DRAWN <= number <= LARGEST_DRAWN for number in numbers),
    }


def short_commit(build):
    """Its first letters; "+" marks a build with uncommitted changes."""
    return str(build.get("commit") or "")[:12] + ("+" if build.get("dirty") else "")


def with_columns(frame, **columns):
    """The frame with these lists as columns of objects: whole numbers stay whole beside None."""
    return frame.assign(**{name: _objects(values, frame.index) for name, values in columns.items()})


def with_metrics(frame, *names):
    """The frame with these metrics as columns; None where a record has no number of that name."""
    values = frame["metrics"]
    return with_columns(frame, **{name: [each.get(name) for each in values] for name in names})


def _shown(frame, names):
    """{metric: its numbers for tables, "n/a" where it is relative to nothing, None where there is none}."""
    values = list(frame["metrics"])
    relative = [(place, nothing) for place, nothing in enumerate(frame["not_applicable"]) if nothing]
    found = {}
    for name in names:
        column = [each.get(name) for each in values]
        for place, nothing in relative:
            if name in nothing:
                column[place] = NOTHING
        found[name] = column
    return found


def shown(frame, name):
    """A metric for tables: its number, "n/a" where it is relative to nothing, None where there is none."""
    return _objects(_shown(frame, [name])[name], frame.index)


def with_shown(frame, *names):
    return with_columns(frame, **_shown(frame, names))


def with_remainder(frame, remainder=""):
    """The cells in which this stands for dropped blocks; "": nothing, as in the paper."""
    return frame[frame["remainder"] == remainder]


def having(frame, *columns):
    """The cells that have all these."""
    return frame.dropna(subset=list(columns))


def filled(values, other):
    """A column with `other` in the place of None, "" and 0."""
    return _objects([value or other for value in values], values.index)


def where(frame, flags):
    """The cells whose flag is set: a list of one a cell, which may be empty."""
    return frame[pd.Series(flags, index=frame.index, dtype=bool)]


def rows(frame):
    """The cells one by one, columns as attributes."""
    return frame.itertuples(index=False)


def drawable(frame):
    """The cells that plots have room for: every number is of a size that an axis can show."""
    return where(frame, list(frame["drawable"]))


def left_out(frame, *names, first=" "):
    """A sentence on the cells in which some of the metrics are relative to nothing, `first` before it; "" without any."""
    counts = {name: sum(name in nothing for nothing in frame["not_applicable"]) for name in names}
    words = ", ".join(f"{name} in {count} of {len(frame)} records" for name, count in counts.items() if count)
    if not words:
        return ""
    return f"{first}Relative to nothing, so neither passed nor failed and in no mean, interval or plot: {words}."
