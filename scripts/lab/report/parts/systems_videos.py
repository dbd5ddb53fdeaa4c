"""Table 1's "Ours against SVG", in videos of the small model, and the other systems beside them."""

import pandas as pd

from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, table_of
from ..quality import spearman
from ..videos import Choice, Videos, difference_words, draft, judged, quality_table

SYSTEMS = {"svg": {}, "svg2": {}, "adaspa": {}, "xattention": {}, "sol_attn": {"remainder": "pooled"}}
OWN = ({}, {"remainder": "pooled"}, {"rule": "row"}, {"rule": "row", "remainder": "pooled"})
COLUMNS = {name: name for name in ("sparsity", "system", "PSNR (dB)", "draft's less its", "95%", "draft better in")}
FEWEST = 4  # systems that a rank correlation is of


def judge(records, paper, plots):
    videos = records.once(Videos)
    there = {
        sparsity: found
        for sparsity in (videos.sparsities() if videos else [])
        if videos.get(draft(sparsity)) and (found := _systems(videos, sparsity))
    }
    against = [sparsity for sparsity in there if Choice("svg", sparsity) in there[sparsity]]
    facts = {"against": against, "printed": _paper_gains(paper)}
    if not against:
        return Judged(NOT_TESTABLE, facts)
    verdicts = [judged(videos, draft(each), Choice("svg", each)) for each in against]
    last = max(against)
    facts |= {
        "where": videos.where(),
        "gains": {each: videos.difference(draft(each), Choice("svg", each), "psnr") for each in against},
        "last": last,
        "words": difference_words(videos, draft(last), Choice("svg", last), ("draft", "Sparse VideoGen")),
        "better": _beyond(videos, there[last], last, lambda found: found[2] < 0),
        "worse": _beyond(videos, there[last], last, lambda found: found[1] > 0),
        "ranks": [rank for each in there if (rank := _ranks(videos, there[each], each))],
    }
    choices = [choice for each in there for choice in _own(videos, each) + there[each]]
    tables = [
        table_of("systems_paired", "Paired by prompt; bootstrap intervals.", _paired(videos, there), COLUMNS),
        quality_table(videos, "systems_videos", "Videos against the dense ones.", choices, shown=0),
    ]
    verdict = CONTRADICTED if CONTRADICTED in verdicts else CONFIRMED if set(verdicts) == {CONFIRMED} else CAVEAT
    return Judged(verdict, facts, tables)


def _systems(videos, sparsity):
    """The other systems' choices with videos at this sparsity."""
    found = [Choice(name, sparsity, **changes) for name, changes in SYSTEMS.items()]
    return [choice for choice in found if videos.get(choice)]


def _own(videos, sparsity):
    return [choice for changes in OWN if videos.get(choice := draft(sparsity, **changes))]


def _paper_gains(paper):
    """{sparsity: PSNR of the paper's method less Sparse VideoGen's} of HunyuanVideo, Table 1."""
    rows = [row for row in paper.table("table1") if row["model"] == "HunyuanVideo" and row["psnr_db"]]
    psnr = {(row["method"], int(row["sparsity_percent"])): float(row["psnr_db"]) for row in rows}
    return {percent: psnr["Ours", percent] - value for (method, percent), value in psnr.items() if method == "SVG"}


def _beyond(videos, systems, sparsity, is_beyond):
    """The systems whose paired difference to the draft is beyond 0 with its whole interval."""
    found = {one.label: videos.difference(draft(sparsity), one, "psnr") for one in systems}
    return [name for name, difference in found.items() if difference and is_beyond(difference)]


def _paired(videos, there):
    found = []
    for sparsity, systems in there.items():
        for one in systems + _own(videos, sparsity)[1:]:
            difference = videos.difference(draft(sparsity), one, "psnr")
            if difference is None:
                continue
            wins, clips = videos.wins(draft(sparsity), one, "psnr"), len(videos.values(one, "psnr"))
            found.append(
                {
                    "sparsity": sparsity,
                    "system": one.label,
                    "PSNR (dB)": videos.summary(one, "psnr")[0],
                    "draft's less its": difference[0],
                    "95%": f"{difference[1]:.2f} to {difference[2]:.2f}",
                    "draft better in": f"{wins} of {clips}",
                }
            )
    return pd.DataFrame(found, columns=list(COLUMNS), dtype=object)


def _ranks(videos, systems, sparsity):
    """{"sparsity", "recall", "error", "systems"}: rank correlations over systems and the draft's own forms of the PSNR with
    the heads' recall and with minus their output error; None where too few have them."""
    found = []
    for one in systems + _own(videos, sparsity):
        recall, error = (videos.over_heads(one, name) for name in ("attention_recall", "output_rel_l2"))
        if recall and error:
            found.append((recall[0], -error[0], videos.summary(one, "psnr")[0]))
    if len(found) < FEWEST:
        return None
    recall, error, psnr = zip(*found)
    ranks = {"recall": spearman(recall, psnr), "error": spearman(error, psnr)}
    return None if None in ranks.values() else {"sparsity": sparsity, "systems": len(found)} | ranks
