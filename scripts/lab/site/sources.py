"""The records of a folder of results: those of the report, and the others, with the columns that pages ask for."""

from dataclasses import dataclass, field

import pandas as pd

from lab.report import frame
from lab.report.calls import timed
from lab.report.frame import TIMED, VIDEOS, Records, rows, with_columns
from lab.report.parts.policies import variant_of
from lab.report.videos import choice_of
from lab.shared.files import OF_REPORT
from lab.shared.record_file import Malformed, files_in

MASKS = "masks.jsonl.gz"  # of the explorer of heads: cells of the report once more, with their masks


def shard_of(experiment, still):
    """The file of the site that has a report's records of an experiment: those on one frame have their own."""
    return f"{experiment}_stills" if still else experiment


@dataclass
class Traced(Records):
    """Records that say which files of the site were asked for. What several parts share is asked by each."""

    asked: set = field(default_factory=set)

    def of(self, *experiments, status="ok", stills=False):
        self.asked |= {shard_of(name, stills) for name in experiments}
        return super().of(*experiments, status=status, stills=stills)

    def once(self, make):
        if make not in self.made:
            before, self.asked = self.asked, set()
            self.made[make] = make(self), self.asked
            self.asked = before
        value, asked = self.made[make]
        self.asked |= asked
        return value


@dataclass
class Sources:
    """Frames as lab.report has them, with columns `shard` (the file of the site that has the record), `file`, `line`,
    `configuration` (of a pipeline), `report` ("yes" of those that the report is made of), `call`, `choice` and `variant` (what tables of the report call a timed call, a choice in videos, a policy)."""

    reported: Traced  # what the report is made of
    every: Records  # these and all others but the masks
    masks: Records


def files_of(results):
    """({path: name below results} of the report, of the others, of the masks). Raises Malformed without any of the report."""
    found = files_in(results)
    of_report = {found[name]: name for name in OF_REPORT if name in found}
    if not of_report:
        raise Malformed(f"{results}: wanted files of records such as {OF_REPORT[0]}, found none")
    masks = {found[MASKS]: MASKS} if MASKS in found else {}
    others = {path: name for name, path in found.items() if path not in of_report and path not in masks}
    return of_report, others, masks


def load(results):
    """The Sources of a folder. Raises Malformed where a line is no record, OSError."""
    reported, others, masks = (_load(files) for files in files_of(results))
    traced = Traced(reported.frame, reported.broken, reported.incomplete, reported.superseded)
    every = Records(
        pd.concat([reported.frame, others.frame], ignore_index=True), incomplete=reported.incomplete + others.incomplete
    )
    every.frame = _named(every, reported=len(reported.frame))
    masks.frame = _named(masks, "_masks")
    traced.frame = every.frame.iloc[: len(traced.frame)]
    return Sources(traced, every, masks)


def _load(files):
    found = frame.load(files)
    if found.broken:
        raise Malformed(found.broken[0])
    names = {path.name: name for path, name in files.items()}
    if len(names) != len(files):
        raise Malformed(f"wanted files of records with names of their own, found {', '.join(sorted(files.values()))}")
    places = [source.rpartition(":") for source in found.frame["source"]]
    found.frame = with_columns(
        found.frame, file=[names[name] for name, _, _ in places], line=[int(line) for _, _, line in places]
    )
    return found


def _named(records, suffix="", reported=0):
    """The frame with the columns of Sources, with `suffix` behind the names of shards; the first `reported` cells are the
    report's."""
    cells = records.frame
    is_timed, filmed = cells["experiment"].isin(TIMED), cells["experiment"].isin(VIDEOS)
    labels = dict(timed(records)["label"])
    choices = {index: choice_of(cell).label for index, cell in zip(cells.index[filmed], rows(cells[filmed]))}
    compared = cells["experiment"] == "policies"
    variants = {index: variant_of(cell) for index, cell in zip(cells.index[compared], rows(cells[compared]))}
    return with_columns(
        cells,
        shard=[shard_of(name, frames == 1) + suffix for name, frames in zip(cells["experiment"], cells["frames"])],
        configuration=[config.get("configuration") for config in cells["config"]],
        report=["yes"] * reported + [None] * (len(cells) - reported),
        call=[labels.get(index) if here else None for index, here in zip(cells.index, is_timed)],
        choice=[choices.get(index) for index in cells.index],
        variant=[variants.get(index) for index in cells.index],
    )
