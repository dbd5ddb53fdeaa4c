"""Two ways to choose blocks, compared over paired heads at equal budget."""

from statistics import mean

from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Table, percent, short

PAPER_SPARSITY = 0.9

RULE_BETTER = (
    "Rule, at attention level: confirmed if the first has the higher mean recall, the lower mean output error, and is"
    " better in more than half of the heads by both; contradicted if both means go the other way; else confirmed with a"
    " caveat."
)


def compare(quality, first, second, dump=None):
    """Paired over heads: how often and by how much `first` is better. Arguments are (variant, region, sparsity)."""
    recall = quality.pairs(first, second, "attention_recall", dump)
    error = quality.pairs(first, second, "output_rel_l2", dump)
    if not recall or not error:
        return None
    return {
        "heads": len(recall),
        "error_heads": len(error),  # fewer where the error of a head is relative to nothing
        "recall_wins": sum(a > b for _, a, b in recall),
        "error_wins": sum(a < b for _, a, b in error),
        "recall_first": mean(a for _, a, _ in recall),
        "recall_second": mean(b for _, _, b in recall),
        "error_first": mean(a for _, a, _ in error),
        "error_second": mean(b for _, _, b in error),
    }


def verdict_better(result):
    if result is None:
        return NOT_TESTABLE
    recall_gain = result["recall_first"] - result["recall_second"]
    error_gain = result["error_second"] - result["error_first"]
    most = result["recall_wins"] > result["heads"] / 2 and result["error_wins"] > result["error_heads"] / 2
    if recall_gain > 0 and error_gain > 0 and most:
        return CONFIRMED
    return CONTRADICTED if recall_gain < 0 and error_gain < 0 else CAVEAT


COMPARE_COLUMNS = (
    "dump",
    "sparsity",
    "heads",
    "mean recall, first",
    "mean recall, second",
    "heads where first has more recall",
    "mean output error (rel. L2), first",
    "mean output error, second",
    "heads where first has less error",
)


def compare_table(name, caption, quality, pairs):
    rows = []
    cells = [(dump, place, pair) for place, pair in enumerate(pairs) for dump in quality.dumps_with(pair[0])]
    for dump, _, (first, second) in sorted(cells, key=lambda cell: cell[:2]):
        result = compare(quality, first, second, dump)
        if result:
            rows.append(
                (
                    dump[0],
                    first[2],
                    result["heads"],
                    result["recall_first"],
                    result["recall_second"],
                    result["recall_wins"],
                    result["error_first"],
                    result["error_second"],
                    result["error_wins"],
                )
            )
    return Table(name, caption, COMPARE_COLUMNS, rows)


def sentence(result, first, second):
    return (
        f"{first} against {second}: mean recall {percent(result['recall_first'])} against"
        f" {percent(result['recall_second'])}, better in {result['recall_wins']} of {result['heads']} heads; mean"
        f" output error {short(result['error_first'])} against {short(result['error_second'])}, better in"
        f" {result['error_wins']} of {result['error_heads']} heads."
    )


def headline(result):
    """How many heads are better, for the summary table."""
    recall, error = result["recall_wins"], result["error_wins"]
    if result["heads"] == result["error_heads"]:
        return f"better in {recall} (recall) and {error} (error) of {result['heads']} heads"
    return f"better in {recall} of {result['heads']} heads (recall) and {error} of {result['error_heads']} (error)"


def printed_psnr(paper, name, key):
    rows = {row[key]: row for row in paper.table(name)}
    first, second = list(rows)[:2]
    return f"{first}: PSNR {rows[first]['psnr_db']} dB; {second}: PSNR {rows[second]['psnr_db']} dB"


def dumps_of(quality):
    return ", ".join(f"{name} ({quality.heads_of[name, sha]} heads)" for name, sha in quality.dumps)
