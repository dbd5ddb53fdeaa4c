"""What the report says about one theorem, table or figure of the paper, and how it is written down."""

import csv
import os
from dataclasses import dataclass, field
from statistics import mean

from .foreign import cell as csv_cell

CONFIRMED = "confirmed"
CAVEAT = "confirmed with a caveat"
CONTRADICTED = "contradicted"
NOT_TESTABLE = "not testable here"
VERDICTS = (CONFIRMED, CAVEAT, CONTRADICTED, NOT_TESTABLE)
NOT_MEASURED = "Not measured in these records."


@dataclass
class Table:
    """Rows of cells; numbers are shown short in the report and in full in the CSV file."""

    name: str  # file stem under tables/
    caption: str
    columns: list  # with units
    rows: list
    shown: int = 24  # rows shown in the report; the CSV file has all
    digits: int = 3  # significant digits shown
    columns_shown: int = None  # the first so many columns are in the report; the CSV file has all


def table_of(name, caption, frame, columns, **more):
    """The table of a frame's rows; columns: {what the table calls a column: what the frame calls it}."""
    found = (frame[column].astype(object).where(frame[column].notna(), None) for column in columns.values())
    return Table(name, caption, list(columns), list(zip(*found)), **more)


@dataclass
class Finding:
    title: str
    claim: str  # what the paper says
    verdict: str
    rule: str  # how the verdict follows from the numbers
    measured: str  # what was measured, on which dump
    why: list = field(default_factory=list)  # short sentences
    tables: list = field(default_factory=list)
    pictures: list = field(default_factory=list)  # (file stem under plots/, caption)
    headline: str = ""  # the number for the summary table

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"unknown verdict: {self.verdict}")


@dataclass
class Judged:
    """What a part makes of the records; page.section adds the words of its template."""

    verdict: str
    facts: dict = field(default_factory=dict)  # what the template says
    tables: list = field(default_factory=list)
    pictures: list = field(default_factory=list)  # (file stem under plots/, caption)


def short(value, digits=3):
    """A number as a person would write it: so many significant digits, whole parts in full."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or (abs(value) < 1e15 and value == int(value) and abs(value) >= 10**digits):
        return f"{int(value):,}"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 10**digits:
        return f"{value:.{digits}g}"
    if 10**digits <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.{digits - 1}e}"


def percent(share, digits=1):
    return "-" if share is None else f"{100 * share:.{digits}f}%"


def average(values):
    """The mean, or None of no values."""
    return mean(values) if values else None


def markdown_table(table):
    columns = table.columns[: table.columns_shown]
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in table.rows[: table.shown]:
        cells = (short(cell, table.digits).replace("|", "\\|") for cell in row[: table.columns_shown])
        lines.append("| " + " | ".join(cells) + " |")
    more = len(table.rows) - table.shown
    tail = f" {more} more rows in the file." if more > 0 else ""
    if len(columns) < len(table.columns):
        tail += " More columns in the file: " + ", ".join(table.columns[len(columns) :]) + "."
    lines += ["", f"*{table.caption}* All digits: [tables/{table.name}.csv](tables/{table.name}.csv).{tail}"]
    return lines


def write_csv(table, folder):
    with open(os.path.join(folder, table.name + ".csv"), "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        for row in (table.columns, *table.rows):
            writer.writerow(["" if cell is None else csv_cell(cell) if isinstance(cell, str) else cell for cell in row])


def markdown_finding(finding):
    lines = [
        f"## {finding.title}",
        "",
        f"**Paper.** {finding.claim}",
        "",
        f"**Verdict: {finding.verdict}.** {finding.rule}",
        "",
        f"**Measured.** {finding.measured}",
        "",
    ]
    for table in finding.tables:
        lines += markdown_table(table) + [""]
    if finding.why:
        lines += ["**Why.** " + " ".join(finding.why), ""]
    for stem, caption in finding.pictures:
        lines += [f"![{caption}](plots/{stem}.png)", "", f"*{caption}* [SVG](plots/{stem}.svg)", ""]
    return lines
