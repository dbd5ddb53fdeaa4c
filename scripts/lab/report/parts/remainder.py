"""Not in the paper: dropped blocks as one key each. What it does to errors, whether its bounds hold, what it costs."""

import pandas as pd

from ..bounds import median_of, ratios, violations
from ..calls import calls
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, at_paper, table_of
from ..frame import HEAD, having, left_out, with_metrics
from ..videos import Videos, draft

CHECKS = {  # flag: (what the table calls the bound, metric of its tightness, what its right side is)
    "check_remainder": ("from each block's largest logit", "tightness_remainder"),
    "check_remainder_radii": ("from radii", "tightness_remainder_radii"),
    "check_remainder_gap": ("from the weights' sum", "tightness_remainder_gap"),
    "check_recall": ("recall, from radii", "tightness_recall"),
}
OF_BOUNDS = (*CHECKS, *(metric for _, metric in CHECKS.values()), "output_rel_l2", "bound_remainder", "bound_sharp_mu")
PAIRED = ["policy", "pool", "rule", "region", "sparsity"]
COLUMNS = {
    "sparsity": "sparsity",
    "blocks chosen by": "chosen",
    "heads": "heads",
    "error without": "without",
    "error with": "with",
}
COLUMNS |= {"better in": "better", "bound / that of the mask alone, median": "share"}
COLUMNS |= {f"left / right, {name}": flag for flag, (name, _) in CHECKS.items()}
OF_CALLS = ("time_over_plain", "time_with_pooling_over_plain", "pooled_rows_ms")
CALL_COLUMNS = {"call": "label", "GPU": "gpu", "kernel": "kernel", "sparsity": "sparsity", "time": "median_ms"}
CALL_COLUMNS |= {"pooled rows (ms)": "pooled_rows_ms", "over the call without": "time_over_plain"}
CALL_COLUMNS |= {"the same with pooling": "time_with_pooling_over_plain"}
VIDEO_COLUMNS = {
    name: name for name in ("sparsity", "rule", "PSNR without", "PSNR with", "difference", "95%", "better in")
}
MOST = 1.10  # of the plain call's time


def judge(records, paper, plots):
    cells = with_metrics(records.judged("bounds", remainder="pooled"), *OF_BOUNDS)
    cells = having(cells, "sparsity")
    timed = with_metrics(calls(records, "latency", remainder="pooled"), *OF_CALLS)
    timed = having(timed[timed["status"] == "ok"], "time_over_plain", "sparsity")
    filmed = _filmed(records.once(Videos))
    if cells.empty:
        return Judged(NOT_TESTABLE, {"masks": 0})
    plain = with_metrics(records.judged("bounds"), "output_rel_l2").drop_duplicates([*HEAD, *PAIRED], keep="last")
    plain = plain.set_index([*HEAD, *PAIRED])["output_rel_l2"].rename("without")
    cells = cells.drop_duplicates([*HEAD, *PAIRED], keep="last").join(plain, on=[*HEAD, *PAIRED])
    broken = {flag: violations(cells, flag) for flag in CHECKS}
    both = having(cells[cells["policy"] == "draft"], "without", "output_rel_l2")
    wins = sum(both["output_rel_l2"] <= both["without"])
    facts = {
        "masks": len(cells),
        "heads": len(cells.drop_duplicates(HEAD)),
        "broken": sum(broken.values()),
        "tightness": {flag: median_of(cells[metric]) for flag, (_, metric) in CHECKS.items()},
        "share": median_of(ratios(cells, "bound_remainder", "bound_sharp_mu")),
        "compared": len(both),
        "wins": wins,
        "error_without": both["without"].astype(float).mean() if len(both) else None,
        "error_with": both["output_rel_l2"].astype(float).mean() if len(both) else None,
        "slowest": max(timed["time_with_pooling_over_plain"], default=None),
        "calls": len(timed),
        "filmed": filmed,
        "left_out": left_out(cells, *OF_BOUNDS),
    }
    tables = [_table(cells)]
    if len(timed):
        tables.append(
            table_of(
                "remainder_calls",
                "Attention calls with a pooled remainder over the same calls without, of one run.",
                timed.sort_values(["label", "kernel", "sparsity"], kind="stable"),
                CALL_COLUMNS,
                shown=0,
            )
        )
    if filmed:
        caption = "PSNR to the dense clips (dB), first 25% of the steps dense, paired by prompt; bootstrap intervals."
        tables.append(table_of("remainder_videos", caption, pd.DataFrame(filmed, dtype=object), VIDEO_COLUMNS, shown=0))
    better = len(both) > 0 and facts["error_with"] < facts["error_without"]
    quick = facts["slowest"] is None or facts["slowest"] <= MOST
    verdict = CONTRADICTED if facts["broken"] else CONFIRMED if better and quick else CAVEAT
    return Judged(verdict, facts, tables)


def _table(cells):
    found = []
    for (sparsity, policy, rule), group in cells.groupby(["sparsity", "policy", "rule"], sort=True):
        both = having(group, "without", "output_rel_l2")
        found.append(
            {
                "sparsity": sparsity,
                "chosen": f"{policy}, rule {rule}" if rule else policy,
                "heads": len(group),
                "without": both["without"].astype(float).mean() if len(both) else None,
                "with": both["output_rel_l2"].astype(float).mean() if len(both) else None,
                "better": f"{sum(both['output_rel_l2'] <= both['without'])} of {len(both)}",
                "share": median_of(ratios(group, "bound_remainder", "bound_sharp_mu")),
                **{flag: median_of(group[metric]) for flag, (_, metric) in CHECKS.items()},
            }
        )
    caption = "Output errors: means over heads, relative L2. Left / right: medians, at most 1 where a bound holds."
    return table_of("remainder", caption, pd.DataFrame(found, dtype=object), COLUMNS, carries=at_paper)


def _filmed(videos):
    """A row a sparsity and rule with videos of the draft with and without the remainder."""
    found = []
    for sparsity in videos.sparsities() if videos else []:
        for rule in ("softmax", "row"):
            first, second = draft(sparsity, rule=rule, remainder="pooled"), draft(sparsity, rule=rule)
            if not (difference := videos.difference(first, second, "psnr")):
                continue
            found.append(
                {
                    "sparsity": sparsity,
                    "rule": rule,
                    "PSNR without": videos.summary(second, "psnr")[0],
                    "PSNR with": videos.summary(first, "psnr")[0],
                    "difference": difference[0],
                    "95%": f"{difference[1]:.2f} to {difference[2]:.2f}",
                    "better in": f"{videos.wins(first, second, 'psnr')} of {len(videos.values(first, 'psnr'))}",
                }
            )
    return found
