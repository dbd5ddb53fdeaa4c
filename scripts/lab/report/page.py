"""Puts the report together: verdicts, what was measured, one section a part; a part judges and draws, its template
words/NAME.md.j2 has the words.

A part is a module of parts/ with judge(records, paper, plots) -> Judged. Its template has the blocks title, claim (what the
paper says), rule (how the verdict follows from the numbers), measured, why and headline (the number of the summary
table); one that is left out is empty. Lines of a block are joined; an empty line in `why` ends a sentence that stands by
itself.
"""

import os
import re
import shutil
import tempfile
from urllib.parse import quote

import jinja2

from . import maps, measured
from .finding import NOT_MEASURED, Finding, markdown_finding, percent, short, write_csv
from .foreign import markdown
from .frame import describe, rows
from .parts import PARTS

BLOCKS = ("title", "claim", "rule", "measured", "why", "headline")
LINE_END = re.compile(r"[ \t]*\n\s*")  # text out of records has no ends of lines


def _environment():
    folder = os.path.join(os.path.dirname(__file__), "words")
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {"percent": percent, "short": short, "general": "{:g}".format}
    found.globals |= {"NOT_MEASURED": NOT_MEASURED}
    return found


TEMPLATES = _environment()


def name_of(part):
    """The part's own: of its template and of its place on the site."""
    return part.__name__.rpartition(".")[2]


def section(part, records, paper, plots):
    """The Finding of one part."""
    judged = part.judge(records, paper, plots)
    name = name_of(part)
    try:
        template = TEMPLATES.get_template(f"{name}.md.j2")
    except jinja2.TemplateNotFound:
        raise FileNotFoundError(
            f"report: wanted words/{name}.md.j2, the template of parts/{name}.py, found none"
        ) from None
    words = template.new_context({**judged.facts, "paper": paper, "part": part, "verdict": judged.verdict})
    texts = {block: "".join(template.blocks[block](words)) if block in template.blocks else "" for block in BLOCKS}
    why = [LINE_END.sub(" ", text.strip()) for text in re.split(r"\n[ \t]*\n", texts.pop("why")) if text.strip()]
    texts = {block: LINE_END.sub(" ", text.strip()) for block, text in texts.items()}
    return Finding(
        name,
        texts["title"],
        texts["claim"],
        judged.verdict,
        texts["rule"],
        texts["measured"],
        why,
        judged.tables,
        judged.pictures,
        texts["headline"],
        judged.main_pictures,
    )


PAGE_OF_VERDICTS = "index.html"  # of the site
TITLE = "# DraftAttention, measured"


class Foreign(ValueError):
    """A folder that holds something which is no report's: one line."""


def require_own(out):
    """Raises Foreign where a report would replace what no report wrote: a report.md of other words, or tables and plots
    that stand there without one."""
    path = os.path.join(out, "report.md")
    if os.path.lexists(path):
        if not os.path.isfile(path):
            raise Foreign(f"{path}: wanted a report, found no regular file")
        with open(path, "rb") as stream:
            begin = stream.read(len(TITLE) + 2)
        if begin.splitlines()[:1] != [TITLE.encode()]:
            raise Foreign(f"{path}: wanted a report, which begins with '{TITLE}', found another file; it is kept")
        return
    for folder in ("plots", "tables"):
        place = os.path.join(out, folder)
        if os.path.lexists(place) and not (os.path.isdir(place) and not os.listdir(place)):
            raise Foreign(f"{place}: wanted a report.md beside it or an empty folder, found other files; they are kept")


def write(records, paper, out, site=None):
    """Makes out/report.md, out/tables/*.csv and out/plots/*; returns the findings. With the folder of a site the report
    links to its page of verdicts. All of it is made beside its place
    and moved there at the end, the report last: what breaks off leaves `out` as it was. Raises Foreign, with nothing written,
    where something else stands there, OSError."""
    require_own(out)
    os.makedirs(out, exist_ok=True)
    unfinished = tempfile.mkdtemp(prefix=".unfinished-", dir=out)
    try:
        sections = _make(records, paper, unfinished, out, site)
        for folder in ("plots", "tables"):
            os.makedirs(os.path.join(out, folder), exist_ok=True)
            for name in sorted(os.listdir(os.path.join(unfinished, folder))):
                os.replace(os.path.join(unfinished, folder, name), os.path.join(out, folder, name))
        os.replace(os.path.join(unfinished, "report.md"), os.path.join(out, "report.md"))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return sections


def _make(records, paper, folder, out, site):
    """The report, tables and plots in `folder`; `out` is where they will stand."""
    link = (
        "" if site is None else quote(os.path.relpath(os.path.join(site, PAGE_OF_VERDICTS), out).replace(os.sep, "/"))
    )
    plots, tables = os.path.join(folder, "plots"), os.path.join(folder, "tables")
    os.makedirs(plots)
    os.makedirs(tables)
    sections = [section(part, records, paper, plots) for part in PARTS]
    of_maps, tables_of_maps = maps.section(records, plots, link)
    dumps, runs = measured.dumps_table(records), measured.gpu_runs_table(records)
    for table in [dumps, runs, measured.all_measurements(records), *tables_of_maps] + [
        table for each in sections for table in each.tables
    ]:
        write_csv(table, tables)
    lines = [
        TITLE,
        "",
        (
            "Made by `python3 -m lab.report` from records and `data/paper/*.csv` alone. Every number under Measured comes"
            " from the records."
        ),
        "",
    ]
    if link:
        lines += [
            f"What is longer than here is on [the site]({link}), which `python3 -m lab.site` makes of the same records.",
            "",
        ]
    lines += _problems(records)
    lines += ["## Verdicts", "", "| part of the paper | verdict | in short |", "| --- | --- | --- |"]
    lines += [
        f"| [{each.title}](#{_anchor(each.title)}) | {each.verdict} | {each.headline or _in_short(each)} |"
        for each in sections
    ]
    lines += ["", *measured.section(records, dumps, runs, link)]
    for each in sections:
        lines += markdown_finding(each, link)
    lines += of_maps + clips_section(out)
    with open(os.path.join(folder, "report.md"), "w", encoding="utf-8") as stream:
        stream.write(markdown("\n".join(lines).rstrip() + "\n"))
    return sections


def _in_short(section):
    return NOT_MEASURED if section.measured == NOT_MEASURED else "-"


def _anchor(title):
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _problems(records):
    """Failed records and unreadable lines stand before everything else."""
    failed = list(rows(records.of(status="failed")))
    if not failed and not records.incomplete:
        return []
    lines = [
        f"**WARNING: {len(failed)} failed records, {len(records.incomplete)} unreadable lines.** A failed"
        " record is in no table or plot, except that a violated bound counts under its theorem.",
        "",
    ]
    lines += [f"- FAILED {describe(cell)}: {cell.reason or 'no reason given'} ({cell.source})" for cell in failed]
    return lines + [f"- UNREADABLE {text}" for text in records.incomplete] + [""]


CLIPS = (  # in the folder that lab.videos writes its pictures to
    ("figure_5_clips.png", "True clips, dense, draft, and the two ends of the scale; four frames of two clips each."),
    ("figure_6_clips.png", "Average against max pooling."),
    ("rules_clips.png", "Three rules at 90%: top entries of the softmaxed map, a budget for each row, top logits."),
    ("dense_steps_clips.png", "With and without dense first steps."),
    ("dense_beside_draft.gif", "Dense on the left, draft at 90% in the middle, random blocks at 90% on the right."),
)
MAIN_CLIPS = ("figure_5_clips.png", "dense_beside_draft.gif")  # the others are linked


def clips_section(out):
    """Pictures of generated clips, where they stand beside the report."""
    there = [(name, text) for name, text in CLIPS if os.path.exists(os.path.join(out, "video", "pictures", name))]
    if not there:
        return []
    lines = ["## What the videos look like", ""]
    for name, text in there:
        if name in MAIN_CLIPS:
            lines += [f"![{text}](video/pictures/{name})\\", f"*{text}*", ""]
    others = [f"[{text.rstrip('.')}](video/pictures/{name})" for name, text in there if name not in MAIN_CLIPS]
    return lines + ([f"More: {'; '.join(others)}.", ""] if others else [])
