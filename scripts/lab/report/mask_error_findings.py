"""Theorem 3.5 with the steps of its proof, and the sharper bounds."""

import math

from . import figures_bounds
from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent, short
from .pooling_error_findings import heads_and_dumps, median_of, median_ratio, violations
from .records import left_out

CLAIM_3_5 = (
    "For a mask that keeps the blocks with S~_ij >= t, ||P - P^M||_F <= 2 sqrt(n) / (1 + s/(1-s) e^(-2 delta)) "
    "(eq. 10). Remark 3.6 adds that the bound is informative when regions are coherent and s is not small."
)

RULE_3_5 = (
    "Rule: contradicted if the bound fails on any mask; confirmed with a caveat if it holds everywhere but is at or"
    " above the trivial bound sqrt(2n) on at least one mask; else confirmed."
)

STEPS = (  # title, claim, flag, what bounds what, metric of the worst case, its meaning
    (
        "Step 1: dropped mass",
        "||P_u - P^M_u||_1 = 2 mu_u and ||P - P^M||_F <= 2 sqrt(n) max mu_u",
        "check_step_1",
        "step_1_residual",
        "largest | ||P_u - P^M_u||_1 - 2 mu_u |",
    ),
    (
        "Step 2: mass from delta",
        "mu_u <= 1 / (1 + N_K/N_D e^(-2 delta))",
        "check_step_2",
        "step_2_max_ratio",
        "largest mu_u / bound",
    ),
    ("Step 3: eq. (10)", "the two steps together", "check_3_5", "tightness_3_5", "largest left / right side"),
    ("Ours: from the dropped mass", "||P - P^M||_F <= sqrt(2 sum mu_u^2)", "check_sharp_mu", None, ""),
    ("Ours: sharper eq. (10)", "||P - P^M||_F <= sqrt(2n) / (1 + s/(1-s) e^(-2 delta))", "check_sharp", None, ""),
    ("Ours: block deltas", "the same from each block's own delta_ij", "check_blocks", None, ""),
    ("Ours: radii", "the same from radii, O(n d) work", "check_radii", None, ""),
    (
        "Ours: radii bound delta",
        "delta_ij <= rQ_i ||K~_j|| + ||Q~_i|| rK_j + rQ_i rK_j",
        "check_radii_delta",
        "radii_tightness",
        "largest delta / certificate",
    ),
    (
        "Ours: output error",
        "||O_u - O^M_u||_2 <= 2 mu_u max ||V_v||_2",
        "check_output",
        "output_bound_max_ratio",
        "largest left / right side",
    ),
)


NEEDED = {"bound_3_5", "trivial_bound", "probs_frobenius", "min_kept_fraction", "delta_scaled"}
USED = tuple(
    dict.fromkeys(
        name
        for name in (
            *sorted(NEEDED),
            "vacuity_3_5",
            *(part for step in STEPS for part in step[2:4]),
            *figures_bounds.NAMES,
        )
        if name
    )
)


def theorem_3_5(records, plots):
    judged = records.judged("bounds")
    cells = [cell for cell in judged if set(cell.metrics) >= NEEDED and cell.sparsity is not None]
    if not cells:
        text = NOT_MEASURED + left_out(judged, USED)
        return Finding("Theorem 3.5: mask error", CLAIM_3_5, NOT_TESTABLE, RULE_3_5, text)
    broken = violations(judged, "check_3_5")
    checked = [cell for cell in cells if "check_3_5" not in cell.not_applicable]
    vacuous = [cell for cell in cells if _vacuity(cell) >= 1]
    empty = [cell for cell in cells if cell.metrics.get("empty_rows", 0) > 0]
    verdict = CONTRADICTED if broken else CAVEAT if vacuous else CONFIRMED
    share = len(vacuous) / len(cells)
    largest = max(cell.metrics["min_kept_fraction"] for cell in cells)
    smallest = min(cell.metrics["delta_scaled"] for cell in cells)
    why = [
        (
            f"Eq. (10) is at or above sqrt(2n), the most that two softmax matrices can differ, on {percent(share)} of"
            " the masks."
        ),
        (
            "It can be below only if s > 0.2929 and e^(-2 delta) > 0.414 (1 - s)/s. Measured: s is at most"
            f" {short(largest)}, the scaled delta at least {short(smallest)}."
        ),
        "At more than about 70.7% sparsity it is weaker than the trivial bound whatever the data.",
        (
            f"{len(empty)} of {len(cells)} masks leave at least one block row empty. There s = 0 and the softmax of eq."
            " (5) is undefined; rows are counted with output 0."
        ),
        "The paper takes delta from eq. (8), without 1/sqrt(d); the proof needs only the scaled one. Both are drawn.",
    ]
    return Finding(
        "Theorem 3.5: mask error",
        CLAIM_3_5,
        verdict,
        RULE_3_5,
        f"Both sides on {len(checked)} draft masks of {heads_and_dumps(cells)}. The bound fails on {len(broken)}."
        + left_out(judged, USED),
        why,
        [_chain_table(cells), _steps_table(judged)],
        [
            (
                figures_bounds.draw_theorem_3_5(cells, plots),
                (
                    "Theorem 3.5: measured error over each bound, by sparsity. "
                    "Dots are heads and rules, lines medians; 1 is tight."
                )
                + figures_bounds.not_drawn(cells),
            ),
            (
                figures_bounds.draw_plane(cells, plots),
                "Where eq. (10) says something, and where the measured heads lie.",
            ),
        ],
        f"{len(broken)} violations; vacuous on {percent(share)} of masks",
    )


def _vacuity(cell):
    """The bound over the trivial one."""
    trivial = cell.metrics["trivial_bound"]
    return cell.metrics.get("vacuity_3_5", cell.metrics["bound_3_5"] / trivial if trivial else math.inf)


def _chain_table(cells):
    names = [name for name, *_ in figures_bounds.CHAIN]
    columns = ["rule", "pool", "sparsity", "heads", "s median", "bound_3_5 / sqrt(2n) median"] + [
        f"left / {name}" for name in names
    ]
    rows = []
    groups = {}
    for cell in cells:
        groups.setdefault((cell.rule, cell.pool, cell.sparsity), []).append(cell.metrics)
    for key, group in sorted(groups.items(), key=lambda item: item[0]):
        rows.append(
            [*key, len(group), median_of(group, "min_kept_fraction"), median_ratio(group, "bound_3_5", "trivial_bound")]
            + [median_ratio(group, "probs_frobenius", name) for name in names]
        )
    return Table(
        "theorem_3_5",
        "Medians over heads; left = ||P - P^M||_F. 1 = tight; bound_3_5 / sqrt(2n) at or above 1 = says nothing.",
        columns,
        rows,
        shown=2 * len({cell.sparsity for cell in cells}),
    )


def _steps_table(cells):
    """Steps of the proof; a step that needs no threshold is judged on random and oracle masks too."""
    rows = []
    for title, claim, flag, metric, meaning in STEPS:
        group = [cell for cell in cells if flag in cell.metrics]
        if not group:
            rows.append((title, claim, 0, None, "-", None, NOT_TESTABLE))
            continue
        broken = len(violations(group, flag))
        values = [cell.metrics[metric] for cell in group if metric in cell.metrics]
        empty = any(cell.metrics.get("empty_rows", 0) > 0 for cell in group)
        verdict = CONTRADICTED if broken else CAVEAT if empty and flag == "check_step_1" else CONFIRMED
        rows.append((title, claim, len(group), broken, meaning or "-", max(values) if values else None, verdict))
    return Table(
        "theorem_3_5_steps",
        "Each step on its own. Step 1's caveat: the equality needs a row that keeps something, and "
        "some masks have empty rows.",
        ("step", "claim", "masks", "violations", "worst case", "value", "verdict"),
        rows,
    )
