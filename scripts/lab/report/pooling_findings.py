"""Table 4: average against max pooling, and both against the oracle and chance."""

from functools import partial
from statistics import mean

from . import figures_quality as figures
from .comparison import (
    PAPER_SPARSITY,
    RULE_BETTER,
    compare,
    compare_table,
    dumps_of,
    headline,
    printed_psnr,
    sentence,
    verdict_better,
)
from .finding import NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent
from .quality import spearman, variant_name


def table_4(quality, paper, plots):
    title = "Table 4: average against max pooling"
    claim = (
        "Average pooling gives better videos than max pooling (HunyuanVideo 768p, 90% sparsity, region 8x16). "
        f"Printed: {printed_psnr(paper, 'table4', 'pool')}."
    )
    sparsity = quality.nearest_sparsity(PAPER_SPARSITY, quality.region, quality.draft("max"))
    if sparsity is None or not quality.has(quality.draft("avg"), quality.region):
        return Finding(title, claim, NOT_TESTABLE, RULE_BETTER, NOT_MEASURED)
    first, second = (quality.draft("avg"), quality.region, sparsity), (quality.draft("max"), quality.region, sparsity)
    result = compare(quality, first, second)
    if result is None:
        return Finding(title, claim, NOT_TESTABLE, RULE_BETTER, NOT_MEASURED + quality.left_out("output_rel_l2"))
    pairs = [
        ((first[0], first[1], each), (second[0], second[1], each))
        for each in quality.sparsities(quality.region, second[0])
    ]
    table = compare_table(
        "table_4_pooling",
        "First = average pooling, second = max pooling; the same head, region and number of blocks.",
        quality,
        pairs,
    )
    random = compare(quality, first, (("random",), quality.region, sparsity))
    why = ["The paper judges generated videos; here the judge is attention itself, head by head."]
    if random:
        losers = random["error_heads"] - random["error_wins"]
        why.append(sentence(random, "Average pooling", "random blocks"))
        why.append(
            f"On {losers} of {random['error_heads']} heads the draft mask's output error is not below that of random blocks."
        )
    pictures = [
        (
            figures.draw_by_sparsity(quality, metric, plots),
            f"{words} by sparsity, one panel a capture; where a capture has several heads, lines are their means and the band is average pooling from its worst to its best head."
            + figures.panels_left_out(quality),
        )
        for metric, words in (("attention_recall", "Attention recall"), ("output_rel_l2", "Output error"))
    ]
    pictures.append(
        (
            figures.draw_recall_against_error(quality, plots),
            (
                "Recall against output error, one dot a head. Heads on "
                "which less recall goes with less error are where the two disagree."
            ),
        )
    )
    return Finding(
        title,
        claim,
        verdict_better(result),
        RULE_BETTER,
        f"At {percent(sparsity, 0)} sparsity, region {quality.region}, rule {quality.rule}, on {dumps_of(quality)}. "
        + sentence(result, "Average", "max")
        + quality.left_out("output_rel_l2", "output_cosine", "empty_rows"),
        why,
        [table, _quality_table(quality), _agreement_table(quality)],
        pictures,
        headline(result),
    )


def _quality_table(quality):
    variants = [quality.draft("avg"), quality.draft("max"), ("oracle",), ("random",)]
    columns = (
        "blocks chosen by",
        "sparsity",
        "heads",
        "mean recall",
        "lowest recall of a head",
        "highest recall of a head",
        "mean output error (rel. L2)",
        "worst output error of a head",
        "mean output cosine",
        "mean empty block rows",
    )
    rows = []
    for variant in variants:
        for sparsity in quality.sparsities(quality.region, variant):
            over = partial(quality.over_heads, variant=variant, region=quality.region, sparsity=sparsity)
            recall = quality.values(variant, quality.region, sparsity, "attention_recall")
            rows.append(
                (
                    variant_name(variant),
                    sparsity,
                    len(recall),
                    mean(recall),
                    min(recall),
                    max(recall),
                    over(mean, metric="output_rel_l2"),
                    over(max, metric="output_rel_l2"),
                    over(mean, metric="output_cosine"),
                    over(mean, metric="empty_rows"),
                )
            )
    return Table("quality_by_sparsity", f"Region {quality.region}, rule {quality.rule}.", columns, rows, shown=28)


def _agreement_table(quality):
    """Do recall and output error order the heads in the same way?"""
    rows = []
    for sparsity in figures.scatter_sparsities(quality):
        for variant in (quality.draft("avg"), ("random",)):
            recall, error = quality.both(variant, quality.region, sparsity)
            if recall:
                rows.append((variant_name(variant), sparsity, len(recall), spearman(recall, error)))
    return Table(
        "recall_and_error_agreement",
        "Rank correlation of recall and output error over heads; -1 = they order the heads alike.",
        ("blocks chosen by", "sparsity", "heads", "rank correlation"),
        rows,
    )
