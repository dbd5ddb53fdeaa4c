"""Table 5: the size of the regions."""

import pandas as pd

from .. import mask_plots
from ..finding import NOT_TESTABLE, PAPER_SPARSITY, Judged, table_of
from ..quality import ORACLE, RANDOM, Quality, better, compare_table, compared, printed_psnr, variant_name

SIZES = {
    "region": "region",
    "sparsity": "sparsity",
    "blocks chosen by": "variant",
    "heads": "heads",
    "mean recall": "recall",
    "mean output error (rel. L2)": "error",
}


def judge(records, paper, plots):
    quality = records.once(Quality)
    facts = {"quality": quality, "printed": printed_psnr(paper, "table5", "region"), "result": None, "left_out": ""}
    variant = quality.draft("avg")
    both = sorted({*quality.sparsities("8x16", variant)} & {*quality.sparsities("16x16", variant)})
    if not both:
        return Judged(NOT_TESTABLE, facts)
    facts["left_out"] = quality.left_out("output_rel_l2")
    pairs = {each: ((variant, "8x16", each), (variant, "16x16", each)) for each in both}
    sparsity = min(both, key=lambda each: abs(each - PAPER_SPARSITY))
    result = compared(quality, *pairs[sparsity])
    if result is None:
        return Judged(NOT_TESTABLE, facts)
    table = compare_table(
        "table_5_regions",
        "First = 8x16, second = 16x16; average pooling, the same head and the same share of tokens kept.",
        quality,
        pairs.values(),
    )
    picture = (
        mask_plots.draw_by_region(quality, plots),
        "Recall and output error by region size: means over heads; the band is average pooling from its worst to its"
        " best head.",
    )
    facts |= {"result": result, "sparsity": sparsity}
    return Judged(better(result), facts, [table, _sizes(quality, sparsity)], [picture])


def _sizes(quality, sparsity):
    regions, heads = quality.regions_and_heads(sparsity)
    found = [
        {"region": region, "sparsity": sparsity, "variant": variant_name(variant), **summary}
        for region in regions
        for variant in (quality.draft("avg"), ORACLE, RANDOM)
        if (summary := quality.summary((variant, region, sparsity), heads))
    ]
    frame = pd.DataFrame(found, columns=list(SIZES.values()), dtype=object)
    return table_of("regions", "Every region measured, over the heads that have all of them.", frame, SIZES, shown=0)
