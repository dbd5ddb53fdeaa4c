"""Theorem 3.3: how far the pooled logits are from the true ones."""

from statistics import median

import numpy as np
import pandas as pd

from .. import style
from ..bounds import heads_and_dumps, median_of, pools, pools_left_out, ratios, violations
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, table_of
from ..frame import HEAD, having, left_out, where, with_metrics
from ..quality import POOL_NAMES

TIGHT = 0.5  # a bound within a factor of two of what it bounds counts as tight
NEEDED = ("bound_3_3", "delta_logits", "delta_scaled")
SHARES = {"delta_p50": "50%", "delta_p90": "90%", "delta_p99": "99%", "delta_p999": "99.9%"}
NAMED = ("check_3_3", *NEEDED, "tightness_3_3", "delta_p50", "delta_p999", "delta_half_block_share", "radii_tightness")
COLUMNS = {
    "pool": "pool",
    "region": "region",
    "heads": "heads",
    "delta_scaled median": "median",
    "delta_scaled min": "least",
    "delta_scaled max": "most",
    "left / right median": "tightness",
    "99.9% quantile / delta median": "p999",
    "blocks with own delta >= delta/2, median": "half",
    "delta / radii certificate median": "radii",
}


def judge(records, paper, plots):
    judged = with_metrics(records.judged("bounds"), *NAMED, *SHARES)
    cells = having(judged, *NEEDED)
    facts = {"measured": len(cells), "left_out": left_out(judged, *NAMED)}
    if cells.empty:
        return Judged(NOT_TESTABLE, facts)
    heads = cells.drop_duplicates([*HEAD, "pool", "region"], keep="last")
    averaged = heads[heads["pool"] == "avg"]  # the theorem pools by the mean; max pooling stands beside it
    averaged = heads if averaged.empty else averaged
    broken, middle = violations(judged, "check_3_3"), median_of(averaged["tightness_3_3"])
    verdict = CONTRADICTED if broken else CAVEAT if middle is not None and middle < TIGHT else CONFIRMED
    facts |= {
        "cases": len(heads),
        "where": heads_and_dumps(cells),
        "broken": broken,
        "checked": sum("check_3_3" not in nothing for nothing in cells["not_applicable"]),
        "middle": middle,
        "deltas": sorted(averaged["delta_scaled"]),
        "delta": median(averaged["delta_scaled"]),
        "typical": median_of(ratios(averaged, "delta_p50", "delta_logits")),
    }
    caption = "Theorem 3.3: ratio of the two sides by head, and the distribution of deviations below delta."
    picture = (_draw(heads, plots), caption + pools_left_out(heads))
    return Judged(verdict, facts, [_table(heads)], [picture])


def _table(heads):
    found = [
        {
            "pool": pool,
            "region": region,
            "heads": len(group),
            "median": median(group["delta_scaled"]),
            "least": min(group["delta_scaled"]),
            "most": max(group["delta_scaled"]),
            "tightness": median_of(group["tightness_3_3"]),
            "p999": median_of(ratios(group, "delta_p999", "delta_logits")),
            "half": median_of(group["delta_half_block_share"]),
            "radii": median_of(group["radii_tightness"]),
        }
        for (pool, region), group in heads.groupby(["pool", "region"])
    ]
    caption = (
        "One row a pooling and region. delta_scaled = eq. (8) / sqrt(head_dim), the exponent's unit; ratio 1 = tight."
    )
    return table_of("theorem_3_3", caption, pd.DataFrame(found, dtype=object), COLUMNS)


def _draw(heads, folder):
    """One dot a head, pool and region: both sides' ratio, and how far typical deviations lie below the worst one."""
    names = pools(heads)  # neither side depends on the rule or the sparsity
    drawn = [style.SMALLEST_DRAWN <= (value or 0) <= style.LARGEST_DRAWN for value in heads["tightness_3_3"]]
    heads = where(heads, drawn).sort_values([*HEAD, "region"], kind="stable")
    figure, axes = style.panels(1, 2, 3.2, gridspec_kw={"width_ratios": [1, 2]})
    left, right = axes[0]
    for number, pool in enumerate(names):
        colour, _, marker = style.VARIANT_STYLES.get(pool, (style.BLACK, "-", "o"))
        group = heads[heads["pool"] == pool]
        if group.empty:
            continue
        tightness = list(group["tightness_3_3"])
        offsets = np.linspace(-0.25, 0.25, len(group)) if len(group) > 1 else [0.0]
        left.scatter(
            number + np.asarray(offsets), tightness, color=colour, marker=marker, s=22, alpha=0.8, rasterized=True
        )
        left.hlines(median(tightness), number - 0.35, number + 0.35, color=style.BLACK, linewidth=1.4)
        spread = [style.room(ratios(group, name, "delta_logits"), style.SMALLEST_DRAWN) for name in SHARES]
        if all(spread):
            positions = np.arange(len(SHARES)) + (number - (len(names) - 1) / 2) * 0.3
            for position, values in zip(positions, spread):
                x = position + np.linspace(-0.08, 0.08, len(values))
                right.scatter(x, values, color=colour, marker=marker, s=16, alpha=0.7, rasterized=True)
                right.hlines(median(values), position - 0.13, position + 0.13, color=style.BLACK, linewidth=1.4)
            right.scatter([], [], color=colour, marker=marker, s=22, label=f"{POOL_NAMES.get(pool, pool)} (one head)")
    right.plot([], [], color=style.BLACK, linewidth=1.4, label="median over heads")
    for axis, top in ((left, 1.25), (right, 1.9)):
        axis.set_yscale("log")
        axis.set_ylim(top=top)
        axis.axhline(1, color=style.BLACK, linewidth=0.8, linestyle=":")
    left.set_xticks(
        range(len(names)), [POOL_NAMES[pool].replace(" ", "\n") if pool in POOL_NAMES else pool for pool in names]
    )
    left.set_xlim(-0.6, len(names) - 0.4)
    left.set_ylabel(r"$\Vert S - S_\mathrm{draft}\Vert_F \; / \; (\delta n)$   (1 = tight)")
    left.set_title("Theorem 3.3, left / right side", loc="left")
    right.set_xticks(range(len(SHARES)), list(SHARES.values()))
    right.set_xlabel(r"quantile of $|S_{uv} - \tilde{S}_{ij}|$ over all token pairs")
    right.set_ylabel(r"quantile / $\delta$")
    right.set_title("Typical deviation against the worst one", loc="left")
    right.legend(loc="lower right")
    for axis in (left, right):
        style.plain_log(axis.yaxis)
    return style.save(figure, folder, "theorem_3_3_tightness")
