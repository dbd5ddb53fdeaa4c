"""Section 3.1's selection rule against Theorem 3.5's and the released code's."""

from statistics import mean

import pandas as pd

from lab.shared.record_format import is_number

from .. import mask_plots, style
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, PAPER_SPARSITY, Judged, table_of
from ..quality import RANDOM, Quality, compared

SAME_RECALL = 0.01  # two rules are alike if no head's recall differs by more
SAME_COUNT = 0.001  # two budgets are alike if they differ by one block, or at most this share of all
RULES = {
    "rule": "rule",
    "sparsity": "sparsity",
    "heads": "heads",
    "kept blocks": "kept_blocks",
    "empty block rows": "empty_rows",
    "recall": "recall",
    "output error (rel. L2)": "output_rel_l2",
}


def judge(records, paper, plots):
    quality = records.once(Quality)
    rules = quality.rules("avg")
    facts = {"quality": quality, "rules": rules, "measured": {"logits", "softmax"} <= set(rules)}
    if not facts["measured"]:
        return Judged(NOT_TESTABLE, facts)
    gaps, extra, found = [], [], []
    for sparsity in quality.sparsities(quality.region, _variant("softmax")):
        softmax, logits, released = (
            (_variant(rule), quality.region, sparsity) for rule in ("softmax", "logits", "released")
        )
        recall = quality.pairs(softmax, logits, "attention_recall")
        gaps += [abs(a - b) for a, b in zip(recall["first"], recall["second"])]
        kept = quality.pairs(softmax, released, "kept_blocks")
        totals = quality.at(*softmax)["total_blocks"]
        extra += [
            (more - own, total if is_number(total := totals[place]) else 0)
            for place, own, more in zip(kept.index, kept["first"], kept["second"])
        ]
        found += [_row(quality, (_variant(rule), quality.region, sparsity)) for rule in rules]
    gap = max(gaps) if gaps else 0.0
    far = [more for more, total in extra if abs(more) > max(1, SAME_COUNT * total)]
    verdict = CONTRADICTED if gap > SAME_RECALL or far else CAVEAT if any(more for more, _ in extra) else CONFIRMED
    frame = pd.DataFrame([row for row in found if row], columns=list(RULES.values()), dtype=object)
    table = table_of(
        "section_3_1_rules",
        f"Average pooling, region {quality.region}; means over heads. softmax = section 3.1, logits = "
        "Theorem 3.5, released = the released code, row = the same number in each block row.",
        frame,
        RULES,
    )
    facts |= {"gap": gap, "extra": sorted(more for more, _ in extra), "random": _against_random(quality, rules)}
    facts["random_sparsity"] = quality.nearest_sparsity(PAPER_SPARSITY, quality.region, RANDOM)
    facts["left_out"] = quality.left_out("output_rel_l2", "kept_blocks", "empty_rows")
    return Judged(verdict, facts, [table], _pictures(quality, rules, plots))


def _variant(rule):
    return ("draft", "avg", rule)


def _row(quality, mask):
    recall = quality.values(mask, "attention_recall")
    if not recall:
        return None
    names = ("kept_blocks", "empty_rows", "output_rel_l2")
    means = {name: quality.over_heads(mean, mask, name) for name in names}
    return {"rule": mask[0][2], "sparsity": mask[2], "heads": len(recall), "recall": mean(recall), **means}


def _against_random(quality, rules):
    """[(rule, compare's result)] beside random blocks."""
    sparsity = quality.nearest_sparsity(PAPER_SPARSITY, quality.region, RANDOM)
    masks = [(_variant(rule), quality.region, sparsity) for rule in rules]
    results = [(mask[0][2], compared(quality, mask, (RANDOM, *mask[1:]))) for mask in masks]
    return [(rule, result) for rule, result in results if result]


def _pictures(quality, rules, plots):
    lines = [(_variant(rule), style.RULE_STYLES[rule], f"rule {rule}", rule == quality.rule) for rule in rules]
    lines.append((RANDOM, style.VARIANT_STYLES["random"], "random blocks", False))
    return [
        (
            mask_plots.draw_by_sparsity(quality, metric, lines, 5, plots, "by_rule"),
            f"{words} by selection rule (average pooling), one panel a capture; where a capture has several heads, lines"
            f" are their means and the band is one rule, {quality.rule}, from its worst to its best"
            f" head.{mask_plots.panels_left_out(quality)}",
        )
        for metric, (_, _, words) in mask_plots.METRICS.items()
    ]
