"""The report's findings for pages: words as HTML, tables whose rows link to the records behind them, pictures."""

from collections import Counter
from dataclasses import dataclass, field

from markdown_it import MarkdownIt

from lab.report import page
from lab.report.finding import NOT_MEASURED, VERDICTS, short
from lab.report.foreign import markdown, plain
from lab.report.parts import PARTS

from .store import as_text, records_link

MARKDOWN = MarkdownIt("commonmark", {"html": False})
MARKS = {"confirmed": "yes", "confirmed with a caveat": "but", "contradicted": "no", "not testable here": "open"}
# Columns of the report's tables: columns of records that may hold the same values, the first that does.
NAMED = {
    "dump": ("dump",),
    "capture": ("capture",),
    "head": ("head",),
    "layer": ("layer",),
    "step": ("step",),
    "policy": ("variant", "policy"),
    "pool": ("pool",),
    "rule": ("rule",),
    "region": ("region",),
    "sparsity": ("sparsity",),
    "kernel": ("kernel",),
    "order": ("order",),
    "part": ("part",),
    "GPU": ("gpu",),
    "commit": ("commit",),
    "experiment": ("experiment",),
    "call, data": ("call",),
    "blocks chosen by": ("choice",),
}
OF_REPORT = {"report": "yes"}
MOST_ROWS = 60  # of a table on the page; the file has all


@dataclass
class Cell:
    text: str
    number: bool


@dataclass
class Row:
    cells: list
    link: str = ""
    records: int = 0


@dataclass
class Shown:
    """A section as its template has it; texts are HTML."""

    anchor: str
    title: str
    verdict: str
    mark: str
    claim: str
    rule: str
    measured: str
    why: list
    headline: str
    tables: list = field(default_factory=list)
    pictures: list = field(default_factory=list)
    link: str = ""  # to every record that was read for it
    records: int = 0


def html(text):
    """Words of the report, Markdown with stand-ins, as HTML."""
    return MARKDOWN.renderInline(markdown(text))


def findings(records, index, paper):
    """[Shown], in the report's order. records: sources.Traced; index: store.index_of at least these."""
    found = []
    for part in PARTS:
        records.asked = set()
        section = page.section(part, records, paper, None)
        asked = index[index["shard"].isin(records.asked).to_numpy()]
        found.append(_shown(section, part.__name__.rpartition(".")[2], asked))
    return found


def counts(shown):
    """[(verdict, its mark, how many)]"""
    found = Counter(section.verdict for section in shown)
    return [(verdict, MARKS[verdict], found[verdict]) for verdict in VERDICTS]


def _shown(section, name, index):
    in_short = NOT_MEASURED if section.measured == NOT_MEASURED else "–"
    return Shown(
        anchor=name,
        title=plain(section.title),
        verdict=section.verdict,
        mark=MARKS[section.verdict],
        claim=html(section.claim),
        rule=html(section.rule.removeprefix("Rule: ")),
        measured=html(section.measured),
        why=[html(text) for text in section.why],
        headline=html(section.headline or in_short),
        tables=[_table(table, index) for table in section.tables],
        pictures=[(stem, html(caption), plain(caption)) for stem, caption in section.pictures],
        link=records_link(index, OF_REPORT),
        records=len(index),
    )


def _table(table, index):
    columns = table.columns[: table.columns_shown]
    rows = []
    for row in table.rows[:MOST_ROWS]:
        here, chosen = behind(dict(zip(table.columns, row)), index)
        rows.append(
            Row(
                [_cell(value, table.digits) for value in row[: table.columns_shown]],
                records_link(here, chosen | OF_REPORT),
                len(here),
            )
        )
    return {
        "name": table.name,
        "caption": html(table.caption),
        "columns": [plain(name) for name in columns],
        "numeric": [
            all(row.cells[place].number for row in rows if row.cells[place].text != "-")
            for place in range(len(columns))
        ],
        "rows": rows,
        "more": len(table.rows) - len(rows),
    }


def _cell(value, digits):
    return Cell(plain(short(value, digits)), isinstance(value, (int, float)) and not isinstance(value, bool))


def behind(row, index):
    """The records that a table's row is made of, as far as it names them: (rows of the index, {column: text}). A column
    that would leave none, since its values are the table's own, is left out."""
    chosen = {}
    for name, value in row.items():
        for column in NAMED.get(name, ()) if value is not None else ():
            text = as_text(value)
            left = index[(index[column] == text).to_numpy()]
            if len(left):
                index, chosen[column] = left, text
                break
    return index, chosen
