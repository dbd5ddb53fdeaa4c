"""Table 2: FP8 weights, of which there are no records."""

from ..finding import NOT_TESTABLE, Judged


def judge(records, paper, plots):
    printed = {row["method"]: row["psnr_db"] for row in paper.table("table2") if row["sparsity_percent"] == "90"}
    return Judged(NOT_TESTABLE, {"printed": printed})
