"""Table 4: average against max pooling, and both against the oracle and chance."""

from statistics import mean

import pandas as pd

from .. import mask_plots, style
from ..finding import NOT_TESTABLE, PAPER_SPARSITY, Judged, table_of
from ..quality import RANDOM, Quality, better, compare_table, compared, printed_psnr, spearman, variant_name

METRICS = ("attention_recall", "output_rel_l2")
BY_SPARSITY = {
    "blocks chosen by": "variant",
    "sparsity": "sparsity",
    "heads": "heads",
    "mean recall": "recall",
    "lowest recall of a head": "lowest",
    "highest recall of a head": "highest",
    "mean output error (rel. L2)": "error",
    "worst output error of a head": "worst",
    "mean output cosine": "cosine",
    "mean empty block rows": "empty",
}
AGREEMENT = {"blocks chosen by": "variant", "sparsity": "sparsity", "heads": "heads", "rank correlation": "rank"}


def judge(records, paper, plots):
    quality = records.once(Quality)
    facts = {"quality": quality, "printed": printed_psnr(paper, "table4", "pool"), "result": None, "left_out": ""}
    average, largest = quality.draft("avg"), quality.draft("max")
    sparsity = quality.nearest_sparsity(PAPER_SPARSITY, quality.region, largest)
    if sparsity is None or not quality.has(average, quality.region):
        return Judged(NOT_TESTABLE, facts)
    first = (average, quality.region, sparsity)
    result = compared(quality, first, (largest, quality.region, sparsity))
    if result is None:
        return Judged(NOT_TESTABLE, facts | {"left_out": quality.left_out("output_rel_l2")})
    masks = [(quality.region, each) for each in quality.sparsities(quality.region, largest)]
    table = compare_table(
        "table_4_pooling",
        "First = average pooling, second = max pooling; the same head, region and number of blocks.",
        quality,
        [((average, *mask), (largest, *mask)) for mask in masks],
    )
    facts |= {"result": result, "sparsity": sparsity, "random": compared(quality, first, (RANDOM, *first[1:]))}
    facts["left_out"] = quality.left_out("output_rel_l2", "output_cosine", "empty_rows")
    return Judged(
        better(result),
        facts,
        [table, _by_sparsity(quality), _agreement(quality)],
        _pictures(quality, plots),
        main_pictures=2,
    )


def _by_sparsity(quality):
    found = []
    for variant in quality.paper_variants():
        for sparsity in quality.sparsities(quality.region, variant):
            mask = (variant, quality.region, sparsity)
            recall = quality.values(mask, "attention_recall")
            found.append(
                {
                    "variant": variant_name(variant),
                    "sparsity": sparsity,
                    **quality.summary(mask),
                    "lowest": min(recall),
                    "highest": max(recall),
                    "worst": quality.over_heads(max, mask, "output_rel_l2"),
                    "cosine": quality.over_heads(mean, mask, "output_cosine"),
                    "empty": quality.over_heads(mean, mask, "empty_rows"),
                }
            )
    caption = f"Region {quality.region}, rule {quality.rule}."
    return table_of("quality_by_sparsity", caption, _frame(found, BY_SPARSITY), BY_SPARSITY, shown=0)


def _agreement(quality):
    """Do recall and output error order the heads in the same way?"""
    found = []
    for sparsity in mask_plots.scatter_sparsities(quality):
        for variant in (quality.draft("avg"), RANDOM):
            both = quality.pairs_of_metrics((variant, quality.region, sparsity), *METRICS)
            if len(both):
                rank = spearman(list(both["first"]), list(both["second"]))
                found.append({"variant": variant_name(variant), "sparsity": sparsity, "heads": len(both), "rank": rank})
    caption = "Rank correlation of recall and output error over heads; -1 = they order the heads alike."
    return table_of("recall_and_error_agreement", caption, _frame(found, AGREEMENT), AGREEMENT, shown=0)


def _frame(found, columns):
    return pd.DataFrame(found, columns=list(columns.values()), dtype=object)


def _pictures(quality, plots):
    average = quality.draft("avg")
    lines = [
        (variant, style.variant_style(variant), variant_name(variant), variant == average)
        for variant in quality.paper_variants()
        if quality.has(variant, quality.region)
    ]
    found = [
        (
            mask_plots.draw_by_sparsity(quality, metric, lines, 2, plots, "by_sparsity"),
            f"{words} by sparsity, one panel a capture; where a capture has several heads, lines are their means and the"
            f" band is average pooling from its worst to its best head.{mask_plots.panels_left_out(quality)}",
        )
        for metric, (_, _, words) in mask_plots.METRICS.items()
    ]
    return found + [
        (
            mask_plots.draw_recall_against_error(quality, plots),
            "Recall against output error, one dot a head. Heads on which less recall goes with less error are where the"
            " two disagree.",
        )
    ]
