"""Table 1's videos need the paper's models: attention-level numbers at its sparsities stand in for them."""

import pandas as pd

from ..finding import NOT_TESTABLE, Judged, table_of
from ..quality import ORACLE, RANDOM, Quality

SPARSITIES = (0.55, 0.6, 0.75, 0.8, 0.9)
COLUMNS = {
    "sparsity": "sparsity",
    "blocks chosen by": "variant",
    "heads": "heads",
    "mean recall": "recall",
    "mean output error (rel. L2)": "error",
}


def judge(records, paper, plots):
    quality = records.once(Quality)
    printed = {
        (row["model"], row["resolution"], row["method"], row["sparsity_percent"]): row for row in paper.table("table1")
    }
    facts = {"quality": quality}
    facts |= {method: printed["HunyuanVideo", "768p", method, "90"]["psnr_db"] for method in ("Ours", "SVG")}
    variants = {"average pooling": quality.draft("avg"), "oracle": ORACLE, "random": RANDOM}
    found = [
        {"sparsity": sparsity, "variant": name, **summary}
        for sparsity in SPARSITIES
        for name, variant in variants.items()
        if (summary := quality.summary((variant, quality.region, sparsity)))
    ]
    frame = pd.DataFrame(found, columns=list(COLUMNS.values()), dtype=object)
    caption = "At the paper's sparsities, as far as they were measured."
    return Judged(NOT_TESTABLE, facts, [table_of("table_1_proxy", caption, frame, COLUMNS, shown=0)] if found else [])
