"""Section 3.1's selection rule against Theorem 3.5's and the released code's."""

from statistics import mean

from lab.shared.record_format import is_number

from . import figures_quality as figures
from .comparison import PAPER_SPARSITY, compare, dumps_of
from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent, short

SAME_RECALL = 0.01  # two rules are alike if no head's recall differs by more

SAME_COUNT = 0.001  # two budgets are alike if they differ by one block, or at most this share of all


def section_3_1(quality, plots):
    title = "Section 3.1: the selection rule, and the released code"
    claim = (
        "Section 3.1 keeps the top entries of A_draft (after the softmax); Theorem 3.5 keeps S~ >= t (before it). The"
        " paper treats them as one rule. The released code is to do the same."
    )
    rule = (
        f"Rule: contradicted if the recall of the two rules differs by more than {SAME_RECALL} on any head; else"
        " confirmed with a caveat if the released code keeps another number of blocks; contradicted if by more than"
        f" one block and {percent(SAME_COUNT)} of all; else confirmed."
    )
    rules = quality.rules("avg")
    if not {"logits", "softmax"} <= set(rules):
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    gaps, counts, rows = [], [], []
    for sparsity in quality.sparsities(quality.region, ("draft", "avg", "softmax")):
        base = (("draft", "avg", "softmax"), quality.region, sparsity)
        gaps += [
            abs(a - b)
            for _, a, b in quality.pairs(
                base, (("draft", "avg", "logits"), quality.region, sparsity), "attention_recall"
            )
        ]
        for head, kept, released in quality.pairs(
            base, (("draft", "avg", "released"), quality.region, sparsity), "kept_blocks"
        ):
            total = quality.get(head, *base, "total_blocks")
            counts.append((released - kept, total if is_number(total) else 0))
        for each in rules:
            variant = ("draft", "avg", each)
            recall = quality.values(variant, quality.region, sparsity, "attention_recall")
            if recall:
                error, kept, empty = (
                    quality.over_heads(mean, variant, quality.region, sparsity, name)
                    for name in ("output_rel_l2", "kept_blocks", "empty_rows")
                )
                rows.append((each, sparsity, len(recall), kept, empty, mean(recall), error))
    gap = max(gaps) if gaps else 0.0
    far = [extra for extra, total in counts if abs(extra) > max(1, SAME_COUNT * total)]
    verdict = CONTRADICTED if gap > SAME_RECALL or far else CAVEAT if any(extra for extra, _ in counts) else CONFIRMED
    why = [
        (
            "A threshold on A_draft is a threshold on S~ of its own in every block row (t_i = log t + log Z_i), so rows"
            " whose scores are all high or all low are treated otherwise. Theorem 3.5's proof covers both, and top-k"
            " per row."
        ),
        (
            "The released code keeps every entry that is at least the largest one to be dropped: one block more, and"
            " all ties."
        ),
    ]
    if counts:
        fewest, most = (short(bound(extra for extra, _ in counts)) for bound in (min, max))
        span = fewest if fewest == most else f"{fewest} to {most}"
        why.append(f"Measured: {span} more kept blocks than by the rule of section 3.1.")
    why += _against_random(quality, rules)
    table = Table(
        "section_3_1_rules",
        f"Average pooling, region {quality.region}; means over heads. softmax = section 3.1, logits = "
        "Theorem 3.5, released = the released code, row = the same number in each block row.",
        ("rule", "sparsity", "heads", "kept blocks", "empty block rows", "recall", "output error (rel. L2)"),
        rows,
        shown=28,
    )
    pictures = [
        (
            figures.draw_by_rule(quality, metric, plots),
            (
                f"{words} by selection rule (average pooling), one panel a capture; where a capture has several heads, lines are their means and the band is one rule, {quality.rule},"
                " from its worst to its best head." + figures.panels_left_out(quality)
            ),
        )
        for metric, words in (("attention_recall", "Attention recall"), ("output_rel_l2", "Output error"))
    ]
    return Finding(
        title,
        claim,
        verdict,
        rule,
        f"The rules {', '.join(rules)} at equal sparsity on {dumps_of(quality)}. "
        f"Largest difference of a head's recall between softmax and logits: {short(gap)}."
        + quality.left_out("output_rel_l2", "kept_blocks", "empty_rows"),
        why,
        [table],
        pictures,
        f"recall differs by up to {short(gap)}",
    )


def _against_random(quality, rules):
    """On how many heads each rule's output error is not below that of random blocks."""
    sparsity = quality.nearest_sparsity(PAPER_SPARSITY, quality.region, ("random",))
    counts = []
    for rule in rules:
        result = compare(
            quality, (("draft", "avg", rule), quality.region, sparsity), (("random",), quality.region, sparsity)
        )
        if result:
            counts.append(f"{rule} {result['error_heads'] - result['error_wins']} of {result['error_heads']}")
    if not counts:
        return []
    return [
        f"Heads at {percent(sparsity, 0)} sparsity whose output error is not below that of random blocks:"
        f" {', '.join(counts)}. A threshold over the whole head may leave rows with few blocks or none; row never does."
    ]
