"""Loads JSON Lines records. The newest record of a cell wins; failed and broken ones are kept apart, never dropped."""

import json
import math
from dataclasses import dataclass, field

TIMED = ("latency", "latency_sustained", "overhead", "peers")  # attention calls: their numbers are times of one GPU
VIDEOS = ("video", "video_heads", "video_contrast", "video_time")  # of the small video model, on one device


@dataclass(frozen=True)
class Cell:
    """One record, with short names for what tables and plots group by."""

    experiment: str
    input: dict
    config: dict
    metrics: dict
    status: str
    reason: str
    time: str
    machine: dict
    build: dict
    notes: dict
    arrays: dict
    timing: dict
    source: str  # "file:line"

    @property
    def dump(self):
        return self.input.get("dump") or ""

    @property
    def sha(self):
        return (self.input.get("sha256") or "")[:8]

    @property
    def capture_key(self):
        return (self.dump, self.sha, self.input.get("capture", ""))

    @property
    def head_key(self):
        return self.capture_key + (self.input.get("head", 0),)

    @property
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

    @property
    def variant(self):
        """What chose the blocks: ("draft", pool, rule), ("oracle",) or ("random",)."""
        if self.policy == "draft":
            return ("draft", self.pool, self.rule)
        return (self.policy,)

    def describe(self):
        """One line that says which cell this is."""
        where = " ".join(str(part) for part in (self.dump, self.input.get("capture", "")) if part)
        if self.input.get("head") is not None:
            where += f" head {self.input['head']}"
        if not where:
            where = " ".join(str(value) for value in self.input.values())
        what = ", ".join(f"{key} {value}" for key, value in self.config.items())
        return f"{self.experiment}: {where.strip()} ({what})"


@dataclass
class Records:
    """What a set of record files holds."""

    cells: list = field(default_factory=list)  # status ok, newest of each cell
    failed: list = field(default_factory=list)  # status failed, or a metric that is not finite
    skipped: list = field(default_factory=list)  # status skipped
    broken: list = field(default_factory=list)  # "file:line: why" for lines that are no record
    superseded: int = 0  # older records of a cell measured again
    files: list = field(default_factory=list)

    def of(self, *experiments):
        return [cell for cell in self.cells if cell.experiment in experiments]

    def judged(self, experiment):
        """Cells that say whether the theorems hold: a violated bound makes its record a failed one."""
        violated = [cell for cell in self.failed if any(name.startswith("check_") for name in cell.metrics)]
        return self.of(experiment) + [cell for cell in violated if cell.experiment == experiment]


def cell_identity(record):
    """Records with the same identity measure the same thing. A dump is known by its content, not its name; a time
    belongs to a GPU."""
    source = record.get("input") or {}
    if source.get("sha256"):
        source = {key: source.get(key) for key in ("sha256", "capture", "head", "heads")}
    place = [(record.get("machine") or {}).get("gpu")] if record.get("experiment") in TIMED + VIDEOS else []
    return json.dumps([record.get("experiment"), source, record.get("config", {}), *place], sort_keys=True)


def load(paths):
    """Reads every file in order; of two records of one cell with the same time the later line wins."""
    records = Records(files=[str(path) for path in paths])
    newest = {}
    for path in paths:
        with open(path, encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                source = f"{_file_name(path)}:{number}"
                try:
                    record = json.loads(line)
                    if not isinstance(record, dict) or "experiment" not in record:
                        raise ValueError("not an object with an experiment")
                except ValueError as error:
                    records.broken.append(f"{source}: {error}")
                    continue
                identity = cell_identity(record)
                if identity in newest:
                    records.superseded += 1
                    if newest[identity][0].get("time", "") > record.get("time", ""):
                        continue
                newest[identity] = (record, source)
    for identity in sorted(newest):
        _sort_in(records, *newest[identity])
    return records


def _file_name(path):
    return str(path).replace("\\", "/").rsplit("/", 1)[-1]


def _sort_in(records, record, source):
    metrics = record.get("metrics", {}) or {}
    status, reason = record.get("status", "ok"), str(record.get("reason", ""))
    bad = [name for name, value in metrics.items() if not _finite(value)]
    if status == "ok" and bad:
        status, reason = "failed", "not a finite number: " + ", ".join(sorted(bad))
    notes = record.get("notes", {}) or {}
    cell = Cell(
        record["experiment"],
        record.get("input", {}) or {},
        record.get("config", {}) or {},
        {name: value for name, value in metrics.items() if name not in bad},
        status,
        reason,
        record.get("time", ""),
        record.get("machine", {}) or {},
        record.get("build", {}) or {},
        notes if isinstance(notes, dict) else {"note": notes},
        record.get("arrays", {}) or {},
        record.get("timing", {}) or {},
        source,
    )
    target = {"ok": records.cells, "skipped": records.skipped}.get(status, records.failed)
    target.append(cell)


def _finite(value):
    return isinstance(value, (int, float)) and math.isfinite(value)
