"""The report's findings for pages: words as HTML, tables whose rows link to the records behind them, pictures."""

import re
from collections import Counter
from dataclasses import dataclass, field

from markdown_it import MarkdownIt

from lab.report import maps, measured, page
from lab.report.finding import NOT_MEASURED, VERDICTS, short, table_anchor
from lab.report.foreign import markdown, plain
from lab.report.parts import PARTS

from .store import as_text, records_link

MARKDOWN = MarkdownIt("commonmark", {"html": False})
MARKS = {"confirmed": "yes", "confirmed with a caveat": "but", "contradicted": "no", "not testable here": "open"}
# Columns of the report's tables: columns of records that may hold the same values, the first that does.
NAMED = {
    "dump": ("dump",),
    "sha256 (first 8)": ("sha",),
    "network": ("model",),
    "model": ("model",),
    "resolution": ("resolution",),
    "configuration": ("configuration",),
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
    "call": ("call",),
    "what": ("call",),
    "mask": ("policy",),
    "blocks by": ("policy",),
    "blocks chosen by": ("choice",),
    "system": ("choice",),
    "video length (s)": ("seconds",),
}
GROUP = re.compile(r"(layer|step) (\d+)")  # of heads
OF_REPORT = {"report": "yes"}


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


@dataclass
class Measured:
    """What was measured, and on what: after the verdicts."""

    facts: list  # (what, HTML)
    tables: list


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
        found.append(_shown(section, asked))
    return found


def measured_of(records, index):
    """Measured, of all that the report is made of."""
    index = index.loc[records.frame.index]
    tables = [measured.dumps_table(records), measured.gpu_runs_table(records)]
    if not records.of("maps").empty:
        tables.append(maps.table_of_heads(records))
    facts = [(plain(what), html(text)) for what, text in measured.facts(records)]
    return Measured(facts, [_table(table, index) for table in tables if table.rows])


def counts(shown):
    """[(verdict, its mark, how many)]"""
    found = Counter(section.verdict for section in shown)
    return [(verdict, MARKS[verdict], found[verdict]) for verdict in VERDICTS]


def _shown(section, index):
    in_short = NOT_MEASURED if section.measured == NOT_MEASURED else "–"
    return Shown(
        anchor=section.name,
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
    """Every row and column: the report shows some of them."""
    rows = []
    for row in table.rows:
        here, chosen = behind(dict(zip(table.columns, row)), index)
        rows.append(
            Row([_cell(value, table.digits) for value in row], records_link(here, chosen | OF_REPORT), len(here))
        )
    return {
        "name": table.name,
        "anchor": table_anchor(table.name),
        "caption": html(table.caption),
        "columns": [plain(name) for name in table.columns],
        "numeric": [
            all(row.cells[place].number for row in rows if row.cells[place].text != "-")
            for place in range(len(table.columns))
        ],
        "rows": rows,
    }


def _cell(value, digits):
    return Cell(plain(short(value, digits)), isinstance(value, (int, float)) and not isinstance(value, bool))


def behind(row, index):
    """The records that a table's row is made of, as far as it names them: (rows of the index, {column: text}). A column
    that would leave none, since its values are the table's own, is left out."""
    chosen = {}
    for name, value in row.items():
        columns, text = NAMED.get(name, ()), "" if value is None else as_text(value)
        if group := GROUP.fullmatch(text):
            columns, text = group.groups()[:1], group[2]
        for column in columns if text else ():
            left = index[(index[column] == text).to_numpy()]
            if len(left):
                index, chosen[column] = left, text
                break
    return index, chosen
