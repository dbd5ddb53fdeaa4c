"""Table 5: the size of the regions."""

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
from .quality import variant_name


def table_5(quality, paper, plots):
    title = "Table 5: region 8x16 against 16x16"
    claim = (
        "8x16 gives better videos than 16x16 (HunyuanVideo 768p, 90% sparsity). Printed:"
        f" {printed_psnr(paper, 'table5', 'region')}."
    )
    variant = quality.draft("avg")
    both = sorted(set(quality.sparsities("8x16", variant)) & set(quality.sparsities("16x16", variant)))
    if not both:
        return Finding(title, claim, NOT_TESTABLE, RULE_BETTER, NOT_MEASURED)
    sparsity = min(both, key=lambda each: abs(each - PAPER_SPARSITY))
    result = compare(quality, (variant, "8x16", sparsity), (variant, "16x16", sparsity))
    if result is None:
        return Finding(title, claim, NOT_TESTABLE, RULE_BETTER, NOT_MEASURED + quality.left_out("output_rel_l2"))
    pairs = [((variant, "8x16", each), (variant, "16x16", each)) for each in both]
    table = compare_table(
        "table_5_regions",
        "First = 8x16, second = 16x16; average pooling, the same head and the same share of tokens kept.",
        quality,
        pairs,
    )
    regions, heads = quality.regions_and_heads(sparsity)
    rows = [
        (
            region,
            sparsity,
            variant_name(chosen),
            len(values),
            mean(values),
            quality.over_heads(mean, chosen, region, sparsity, "output_rel_l2", heads),
        )
        for region in regions
        for chosen in (variant, ("oracle",), ("random",))
        if (values := quality.values(chosen, region, sparsity, "attention_recall", heads))
    ]
    sizes = Table(
        "regions",
        "Every region measured, over the heads that have all of them.",
        ("region", "sparsity", "blocks chosen by", "heads", "mean recall", "mean output error (rel. L2)"),
        rows,
    )
    why = [
        (
            "Smaller regions can follow the attention more closely at the same budget, and cost a larger draft map and"
            " smaller blocks for the kernel. Latency is not part of this comparison."
        ),
        "16x16 regions are 256 tokens, twice the 128-token block of the released kernel.",
    ]
    return Finding(
        title,
        claim,
        verdict_better(result),
        RULE_BETTER,
        f"At {percent(sparsity, 0)} sparsity, rule {quality.rule}, on {dumps_of(quality)}. "
        + sentence(result, "8x16", "16x16")
        + quality.left_out("output_rel_l2"),
        why,
        [table, sizes],
        [
            (
                figures.draw_by_region(quality, plots),
                (
                    "Recall and output error by region size: means over heads; the band is average pooling from its"
                    " worst to its best head."
                ),
            )
        ],
        headline(result),
    )
