"""What the report says about one theorem, table or figure of the paper, and how it is written down."""

import csv
import os
from dataclasses import dataclass, field
from statistics import mean

from lab.shared.record_format import is_number

from .foreign import cell as csv_cell

PAPER_SPARSITY = 0.9  # that most of the paper's tables have
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
    shown: int = 8  # so many rows are in the report at most; the site and the CSV file have all
    digits: int = 3  # significant digits shown
    columns_shown: int = None  # the first so many columns are in the report; the site and the CSV file have all
    carries: object = (
        None  # of {column: value}, whether the row carries the claim: then the report has such rows first of all
    )

    def of_report(self):
        """The rows that carry the claim; of those that are too many the ones nearest the paper's sparsity."""
        if self.shown == 0:
            return []
        named = [dict(zip(self.columns, row)) for row in self.rows]
        chosen = [place for place, row in enumerate(named) if not self.carries or self.carries(row)]
        chosen = chosen or list(range(len(named)))
        if len(chosen) > self.shown and all(is_number(named[place].get("sparsity")) for place in chosen):
            away = {place: abs(named[place]["sparsity"] - PAPER_SPARSITY) for place in chosen}
            chosen = [place for place in chosen if away[place] == min(away.values())]
        return [self.rows[place] for place in chosen[: self.shown]]


def at_paper(row):
    """Of Table.carries: the paper's sparsity."""
    return row["sparsity"] == PAPER_SPARSITY


def table_of(name, caption, frame, columns, **more):
    """The table of a frame's rows; columns: {what the table calls a column: what the frame calls it}."""
    found = (frame[column].astype(object).where(frame[column].notna(), None) for column in columns.values())
    return Table(name, caption, list(columns), list(zip(*found)), **more)


@dataclass
class Finding:
    name: str  # of the part, and of its place on the site
    title: str
    claim: str  # what the paper says
    verdict: str
    rule: str  # how the verdict follows from the numbers
    measured: str  # what was measured, on which dump
    why: list = field(default_factory=list)  # short sentences
    tables: list = field(default_factory=list)
    pictures: list = field(default_factory=list)  # (file stem under plots/, caption)
    headline: str = ""  # the number for the summary table
    main_pictures: int = 1  # the first so many are in the report, the others linked

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
    main_pictures: int = 1  # the first so many are in the report, the others linked


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


def table_anchor(name):
    """The table's place on the site's page."""
    return f"table_{name}"


def markdown_table(table, site=""):
    """The table's rows for the report; what it leaves out is on the page `site`, or without one in the file."""
    columns, rows = table.columns[: table.columns_shown], table.of_report()
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in rows:
        cells = (short(cell, table.digits).replace("|", "\\|") for cell in row[: table.columns_shown])
        lines.append("| " + " | ".join(cells) + " |")
    left = [(len(table.rows) - len(rows), "row"), (len(table.columns) - len(columns), "column")]
    left = [f"{count} more {what}{'s' if count > 1 else ''}" for count, what in left if count]
    file = f"[tables/{table.name}.csv](tables/{table.name}.csv)"
    tail = f" {' and '.join(left)} there" if left else ""
    if left and site:
        tail += f" and [on the site]({site}#{table_anchor(table.name)})"
    lines += ["", f"*{table.caption}* All digits: {file}{';' if left else '.'}{tail}{'.' if left else ''}"]
    return lines


def links_to_more(finding, site=""):
    """One line of links: to the part on the page `site`, and to tables and pictures that are not in the report; "" of none."""
    measured = finding.tables or finding.verdict != NOT_TESTABLE
    parts = [f"[the site]({site}#{finding.name}) has all of it and the records behind it"] if site and measured else []
    tables = [table for table in finding.tables if not table.of_report()]
    if tables:
        place = f"{site}#{table_anchor('{}')}" if site else "tables/{}.csv"
        parts.append(
            ("tables " if len(tables) > 1 else "table ")
            + ", ".join(f"[{each.name}]({place.format(each.name)})" for each in tables)
        )
    if pictures := finding.pictures[finding.main_pictures :]:
        words = "pictures " if len(pictures) > 1 else "picture "
        parts.append(words + ", ".join(f"[{stem}](plots/{stem}.png)" for stem, _ in pictures))
    return f"- **More:** {'; '.join(parts)}." if parts else ""


def markdown_picture(stem, caption):
    return [f"![{caption}](plots/{stem}.png)\\", f"*{caption}* [SVG](plots/{stem}.svg)", ""]  # of one paragraph


def write_csv(table, folder):
    with open(os.path.join(folder, table.name + ".csv"), "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        for row in (table.columns, *table.rows):
            writer.writerow(["" if cell is None else csv_cell(cell) if isinstance(cell, str) else cell for cell in row])


def markdown_finding(finding, site=""):
    """A section of the report. site: the page that has all of it, as the report links it, or ""."""
    lines = [
        f"## {finding.title}",
        "",
        f"- **Paper.** {finding.claim}",
        f"- **Verdict: {finding.verdict}.** {finding.rule}",
        f"- **Measured.** {finding.measured}",
    ]
    if finding.why:
        lines.append("- **Why.** " + " ".join(finding.why))
    if more := links_to_more(finding, site):
        lines.append(more)
    lines.append("")
    for table in finding.tables:
        if table.of_report():
            lines += markdown_table(table, site) + [""]
    for stem, caption in finding.pictures[: finding.main_pictures]:
        lines += markdown_picture(stem, caption)
    return lines
