"""Theorem 3.3: how far the pooled logits are from the true ones."""

from statistics import median

from . import figures_bounds
from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, short
from .records import left_out

TIGHT = 0.5  # a bound within a factor of two of what it bounds counts as tight

CLAIM_3_3 = (
    "If delta is the largest |S_uv - S~_ij| (eq. 8, logits without 1/sqrt(d)), then ||S - S_draft||_F <= delta n "
    "(eq. 9). Remark 3.4 adds that delta is modest on real videos."
)

RULE_3_3 = (
    "Rule: contradicted if the bound fails on any head; confirmed with a caveat if it holds everywhere but the median "
    f"ratio of the two sides under average pooling, the theorem's, is below {TIGHT}; else confirmed."
)


NEEDED = {"bound_3_3", "delta_scaled", "delta_logits"}
USED = (*sorted(NEEDED), "tightness_3_3", "delta_p50", "delta_p999", "delta_half_block_share", "radii_tightness")


def theorem_3_3(records, plots):
    judged = records.judged("bounds")
    cells = [cell for cell in judged if set(cell.metrics) >= NEEDED]
    if not cells:
        text = NOT_MEASURED + left_out(judged, ("check_3_3", *USED))
        return Finding("Theorem 3.3: pooling error", CLAIM_3_3, NOT_TESTABLE, RULE_3_3, text)
    heads = {}
    for cell in cells:
        heads[(cell.head_key, cell.pool, cell.region)] = cell
    broken = violations(judged, "check_3_3")
    checked = [cell for cell in cells if "check_3_3" not in cell.not_applicable]
    # The theorem pools by the mean; max pooling stands beside it in the table and the picture.
    averaged = [cell.metrics for cell in heads.values() if cell.pool == "avg"] or [c.metrics for c in heads.values()]
    middle = median_of(averaged, "tightness_3_3")
    verdict = CONTRADICTED if broken else CAVEAT if middle is not None and middle < TIGHT else CONFIRMED
    columns = (
        "pool",
        "region",
        "heads",
        "delta_scaled median",
        "delta_scaled min",
        "delta_scaled max",
        "left / right median",
        "99.9% quantile / delta median",
        "blocks with own delta >= delta/2, median",
        "delta / radii certificate median",
    )
    rows, groups = [], {}
    for key, cell in heads.items():
        groups.setdefault(key[1:], []).append(cell.metrics)
    for (pool, region), group in sorted(groups.items(), key=lambda item: item[0]):
        deltas = [metrics["delta_scaled"] for metrics in group]
        rows.append(
            (
                pool,
                region,
                len(group),
                median(deltas),
                min(deltas),
                max(deltas),
                median_of(group, "tightness_3_3"),
                median_ratio(group, "delta_p999", "delta_logits"),
                median_of(group, "delta_half_block_share"),
                median_of(group, "radii_tightness"),
            )
        )
    table = Table(
        "theorem_3_3",
        "One row a pooling and region. delta_scaled = eq. (8) / sqrt(head_dim), the exponent's unit; ratio 1 = tight.",
        columns,
        rows,
    )
    deltas = [metrics["delta_scaled"] for metrics in averaged]
    typical = median_ratio(averaged, "delta_p50", "delta_logits")
    why = [
        (
            "The bound holds by the definition of delta: each of the n^2 terms is at most delta^2. So the useful"
            " numbers are how large delta is and how tight the bound is."
        ),
        (
            f"Under average pooling the scaled delta is {short(min(deltas))} to {short(max(deltas))}, median {short(median(deltas))}: a token"
            " pair's softmax weight may differ from its block's pooled one by up to a factor of e^delta."
        ),
        f"Half of the token pairs deviate by less than {short(typical)} of delta (median head, right panel).",
    ]
    return Finding(
        "Theorem 3.3: pooling error",
        CLAIM_3_3,
        verdict,
        RULE_3_3,
        f"Both sides for {len(heads)} (head, pooling, region) cases on {heads_and_dumps(cells)}. "
        f"The bound fails on {len(broken)} of {len(checked)} records." + left_out(judged, ("check_3_3", *USED)),
        why,
        [table],
        [
            (
                figures_bounds.draw_theorem_3_3(list(heads.values()), plots),
                "Theorem 3.3: ratio of the two sides by head, and the distribution of deviations below delta."
                + figures_bounds.pools_left_out(heads.values()),
            )
        ],
        f"{len(broken)} violations; median left/right {short(middle)}",
    )


def heads_and_dumps(cells):
    heads = sorted({cell.head_key for cell in cells})
    dumps = sorted({cell.dump for cell in cells})
    return f"{len(heads)} heads of {', '.join(dumps)}"


def violations(cells, flag):
    return [cell for cell in cells if cell.metrics.get(flag) == 0]


def median_of(group, name):
    values = [metrics[name] for metrics in group if name in metrics]
    return median(values) if values else None


def median_ratio(group, top, bottom):
    values = [metrics[top] / metrics[bottom] for metrics in group if metrics.get(bottom, 0) > 0 and top in metrics]
    return median(values) if values else None
