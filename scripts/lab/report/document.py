"""Puts the report together: verdicts, what was measured, one section a theorem, table and figure."""

import os
import shutil
import tempfile

from . import (
    balance_findings,
    figures_maps,
    flops_findings,
    latency_findings,
    mask_error_findings,
    measured,
    overhead_findings,
    peer_findings,
    pooling_error_findings,
    pooling_findings,
    region_findings,
    reordering_findings,
    rule_findings,
    sustained_findings,
    untested_findings,
    video_findings,
    video_heads_findings,
    video_time_findings,
)
from .finding import NOT_MEASURED, Table, markdown_finding, markdown_table, write_csv
from .foreign import markdown
from .quality import Quality
from .videos import Videos


def findings(records, quality, paper, plots):
    """Every section about the paper, in the paper's order; then what it does not look at."""
    quality_section, fp8_section, *pictures = untested_findings.video_quality(quality, paper)
    videos = Videos(records)
    return [
        pooling_error_findings.theorem_3_3(records, plots),
        mask_error_findings.theorem_3_5(records, plots),
        rule_findings.section_3_1(quality, plots),
        reordering_findings.section_3_3(records, plots),
        quality_section,
        video_findings.table_1(videos, paper, plots),
        video_findings.dense_steps(videos, plots),
        flops_findings.table_1_flops(records, paper, plots),
        fp8_section,
        overhead_findings.table_3(records, paper, plots),
        pooling_findings.table_4(quality, paper, plots),
        video_findings.table_4(videos, paper, plots),
        region_findings.table_5(quality, paper, plots),
        video_findings.table_5(videos, paper, plots),
        flops_findings.figure_1(records, paper, plots),
        latency_findings.figure_4(records, paper, plots),
        latency_findings.over_2x(records, paper),
        video_time_findings.whole_videos(records, paper, plots),
        *pictures,
        video_heads_findings.rules(videos, plots),
        video_heads_findings.diffuse_heads(videos, plots),
        video_heads_findings.recall_and_psnr(videos, plots),
        balance_findings.load_balance(records, plots),
        sustained_findings.sustained_rate(records),
        peer_findings.peers(records, plots),
    ]


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


def write(records, paper, out):
    """Makes out/report.md, out/tables/*.csv and out/plots/*; returns the findings. All of it is made beside its place
    and moved there at the end, the report last: what breaks off leaves `out` as it was. Raises Foreign, with nothing written,
    where something else stands there, OSError."""
    require_own(out)
    os.makedirs(out, exist_ok=True)
    unfinished = tempfile.mkdtemp(prefix=".unfinished-", dir=out)
    try:
        sections = _make(records, paper, unfinished, out)
        for folder in ("plots", "tables"):
            os.makedirs(os.path.join(out, folder), exist_ok=True)
            for name in sorted(os.listdir(os.path.join(unfinished, folder))):
                os.replace(os.path.join(unfinished, folder, name), os.path.join(out, folder, name))
        os.replace(os.path.join(unfinished, "report.md"), os.path.join(out, "report.md"))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return sections


def _make(records, paper, folder, out):
    """The report, tables and plots in `folder`; `out` is where they will stand."""
    plots, tables = os.path.join(folder, "plots"), os.path.join(folder, "tables")
    os.makedirs(plots)
    os.makedirs(tables)
    quality = Quality(records)
    sections = findings(records, quality, paper, plots)
    maps = maps_section(records, plots)
    captures, runs = measured.captures_table(records), measured.gpu_runs_table(records)
    for table in [captures, runs, measured.all_measurements(records), *maps["tables"]] + [
        table for section in sections for table in section.tables
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
    lines += _problems(records)
    lines += ["## Verdicts", "", "| part of the paper | verdict | in short |", "| --- | --- | --- |"]
    lines += [
        f"| [{section.title}](#{_anchor(section.title)}) | {section.verdict} |"
        f" {section.headline or _in_short(section)} |"
        for section in sections
    ]
    lines += ["", *measured.section(records, captures, runs)]
    for section in sections:
        lines += markdown_finding(section)
    lines += maps["lines"] + clips_section(out)
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
    lines = []
    if records.failed or records.incomplete:
        lines += [
            (
                f"**WARNING: {len(records.failed)} failed records, {len(records.incomplete)} unreadable lines.** A failed"
                " record is in no table or plot, except that a violated bound counts under its theorem."
            ),
            "",
        ]
        lines += [
            f"- FAILED {cell.describe()}: {cell.reason or 'no reason given'} ({cell.source})" for cell in records.failed
        ]
        lines += [f"- UNREADABLE {text}" for text in records.incomplete]
        lines.append("")
    return lines


def maps_section(records, plots):
    cells = records.of("maps")
    lines = ["## What heads look like", ""]
    if not cells:
        return {"lines": lines + [NOT_MEASURED, ""], "tables": []}
    names = (
        "attention_recall",
        "mass_same_region",
        "mass_same_frame",
        "mass_same_position",
        "mass_text",
        "effective_blocks",
    )
    rows = [
        (cell.dump, cell.input.get("capture"), cell.input.get("head"), cell.pool, cell.rule, cell.region, cell.sparsity)
        + tuple(cell.shown(name) for name in names)
        for cell in sorted(cells, key=lambda cell: (cell.head_key, cell.region))
    ]
    table = Table(
        "heads",
        "Shares of the dense attention mass of the video rows; effective_blocks = mean of exp(entropy) of a block row.",
        ("dump", "capture", "head", "pool", "rule", "region", "sparsity") + names,
        rows,
        shown=40,
    )
    lines += markdown_table(table) + [""]
    chosen = figures_maps.chosen(cells)
    if chosen:
        lines += [
            (
                f"The best, the median and the worst of {len(cells)} heads by attention recall:"
                if len(cells) > len(chosen)
                else "Every head:"
            ),
            "",
        ]
    for cell, stem in zip(chosen, figures_maps.stems(chosen)):
        text = figures_maps.caption(cell)
        figures_maps.draw(cell, plots, stem)
        lines += [f"![{text}](plots/{stem}.png)", "", f"*{text}* [SVG](plots/{stem}.svg)", ""]
    return {"lines": lines, "tables": [table]}


CLIPS = (  # in the folder that scripts/end_to_end.py writes its pictures to
    ("figure_5_clips.png", "Dense, draft, and the two ends of the scale; four frames of two clips each."),
    ("figure_6_clips.png", "Average against max pooling."),
    ("rules_clips.png", "Three rules at 90%: top entries of the softmaxed map, a budget for each row, top logits."),
    ("dense_steps_clips.png", "With and without dense first steps."),
    ("dense_beside_draft.gif", "Dense on the left, draft at 90% on the right."),
)


def clips_section(out):
    """Pictures of generated clips, where they stand beside the report."""
    there = [(name, text) for name, text in CLIPS if os.path.exists(os.path.join(out, "video", "pictures", name))]
    if not there:
        return []
    lines = ["## What the videos look like", ""]
    for name, text in there:
        lines += [f"![{text}](video/pictures/{name})", "", f"*{text}*", ""]
    return lines
