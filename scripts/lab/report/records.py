"""Loads JSON Lines records. The newest record of a cell wins; failed and broken ones are kept apart, never dropped."""

import json
from dataclasses import dataclass, field
from functools import cached_property

from lab.shared import record_file
from lab.shared.record_format import NOT_APPLICABLE, identity

from .foreign import inert, inert_value

TIMED = ("latency", "latency_sustained", "overhead", "peers")  # attention calls: their numbers are times of one GPU
VIDEOS = ("video", "video_heads", "video_contrast", "video_time")  # of the small video model, on one device
LARGEST_DRAWN = 1e30
NOTHING = "n/a"  # how tables show a metric that is relative to nothing


@dataclass(frozen=True)
class Cell:
    """One record, its text inert, with short names for what tables and plots group by. A field that is null is not there."""

    experiment: str
    input: dict
    config: dict
    metrics: dict  # the numbers; what is relative to nothing is in not_applicable instead
    not_applicable: frozenset
    status: str
    reason: str
    time: str
    machine: dict
    build: dict
    notes: dict
    arrays: dict
    timing: dict
    source: str  # "file:line"
    run: str = ""  # of the process that measured; "" where nobody knows

    @cached_property
    def grid(self):
        """{"frames", "height", "width"} in tokens, as far as the record says."""
        return self.input.get("grid") or {}

    @cached_property
    def dump(self):
        return self.input.get("dump") or ""

    @cached_property
    def sha(self):
        return (self.input.get("sha256") or "")[:8]

    @cached_property
    def capture_key(self):
        return (self.dump, self.sha, self.input.get("capture", ""))

    @cached_property
    def head_key(self):
        return self.capture_key + (self.input.get("head", 0),)

    @cached_property
    def region(self):
        region = self.config.get("region")
        return f"{region[0]}x{region[1]}" if region else ""

    @property
    def sparsity(self):
        return self.config.get("sparsity")

    @property
    def policy(self):
        return self.config.get("policy", "draft")

    @property
    def pool(self):
        return self.config.get("pool", "")

    @property
    def rule(self):
        return self.config.get("rule", "")

    @cached_property
    def variant(self):
        """What chose the blocks: ("draft", pool, rule), ("oracle",) or ("random",)."""
        if self.policy == "draft":
            return ("draft", self.pool, self.rule)
        return (self.policy,)

    @cached_property
    def drawable(self):
        """Whether every number is of a size that a plot has room for."""
        times = (value for value in self.timing.values() if isinstance(value, (int, float)))
        return all(-LARGEST_DRAWN <= value <= LARGEST_DRAWN for value in (*self.metrics.values(), *times))

    def shown(self, name):
        """The metric for a table: its value, "n/a" where it is relative to nothing, None where there is none."""
        return NOTHING if name in self.not_applicable else self.metrics.get(name)

    def describe(self):
        """One line that says which cell this is."""
        where = " ".join(
            str(part) for part in (self.dump, self.input.get("capture") or self.input.get("shape")) if part
        )
        if self.input.get("head") is not None:
            where += f" head {self.input['head']}"
        if not where:
            where = " ".join(_words(value) for value in self.input.values())
        what = ", ".join(f"{key} {_words(value)}" for key, value in self.config.items())
        return f"{self.experiment}: {where.strip()} ({what})"


def _words(value):
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


@dataclass
class Records:
    """What a set of record files holds."""

    cells: list = field(default_factory=list)  # status ok, newest of each cell
    failed: list = field(default_factory=list)  # status failed
    skipped: list = field(default_factory=list)  # status skipped
    broken: list = field(default_factory=list)  # "file:line: field: wanted ..., found ..." for lines that are no record
    incomplete: list = field(default_factory=list)  # "file:line: why" for last lines that a stopped run left
    superseded: int = 0  # older records of a cell measured again
    files: list = field(default_factory=list)
    _kinds: dict = field(default_factory=dict)  # {experiment: its cells}

    def __bool__(self):
        return bool(self.cells or self.failed or self.skipped)

    def of(self, *experiments):
        if not self._kinds:
            for cell in self.cells:
                self._kinds.setdefault(cell.experiment, []).append(cell)
        if len(experiments) == 1:
            return list(self._kinds.get(experiments[0], ()))
        return [cell for cell in self.cells if cell.experiment in experiments]

    def judged(self, experiment):
        """Cells that say whether the theorems hold: a violated bound makes its record a failed one."""
        violated = [cell for cell in self.failed if any(name.startswith("check_") for name in cell.metrics)]
        return self.of(experiment) + [cell for cell in violated if cell.experiment == experiment]


def having(cells, metrics=(), **parts):
    """The cells that have all these metrics as numbers, and in other parts all these names: having(cells, ["psnr"],
    config=["seconds"])."""
    return [
        cell
        for cell in cells
        if all(name in cell.metrics for name in metrics)
        and all(name in getattr(cell, part) for part, names in parts.items() for name in names)
    ]


def drawable(cells):
    """The cells that plots have room for."""
    return [cell for cell in cells if cell.drawable]


def left_out(cells, names, first=" "):
    """A sentence on the cells in which some of the metrics are relative to nothing, `first` before it; "" without any."""
    counts = [(name, sum(name in cell.not_applicable for cell in cells)) for name in dict.fromkeys(names)]
    words = ", ".join(f"{name} in {count} of {len(cells)} records" for name, count in counts if count)
    if not words:
        return ""
    return f"{first}Relative to nothing, so neither passed nor failed and in no mean, interval or plot: {words}."


def load(paths):
    """Reads every file in order; of two records of one cell with the same time the later line wins. Lines that are no
    records are in `broken` and `incomplete`. Raises record_file.Malformed where a path is no file, OSError."""
    records = Records(files=[str(path) for path in paths])
    newest = {}
    for path in paths:
        name = inert(_file_name(path))
        for number, record, problem in record_file.read(path):
            source = f"{name}:{number}"
            if problem:
                (records.incomplete if problem == record_file.INCOMPLETE else records.broken).append(
                    f"{source}: {problem}"
                )
                continue
            cell = identity(record)
            if cell in newest:
                records.superseded += 1
                if (newest[cell][0].get("time") or "") > (record.get("time") or ""):
                    continue
            newest[cell] = (record, source)
    targets = {"ok": records.cells, "skipped": records.skipped, "failed": records.failed}
    for cell in sorted(newest):  # the order that tables have
        record, source = newest.pop(cell)  # a cell has its own copy
        targets[record["status"]].append(_cell(record, source))
    return records


def _file_name(path):
    return str(path).replace("\\", "/").rsplit("/", 1)[-1]


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


def _part(record, name):
    """The same, with its text inert."""
    return inert_value(_present(record, name))


def _cell(record, source):
    metrics = record.get("metrics") or {}
    notes = record.get("notes") or {}
    return Cell(
        inert(record["experiment"]),
        _part(record, "input"),
        _part(record, "config"),
        {inert(name): _measured(value) for name, value in metrics.items() if value != NOT_APPLICABLE},
        frozenset(inert(name) for name, value in metrics.items() if value == NOT_APPLICABLE),
        record["status"],
        inert(record.get("reason") or ""),
        inert(record.get("time") or ""),
        _part(record, "machine"),
        _part(record, "build"),
        inert_value(notes if isinstance(notes, dict) else {"note": notes}),
        _measured(_present(record, "arrays")),
        _measured(_present(record, "timing")),
        source,
        inert(record.get("run") or ""),
    )
