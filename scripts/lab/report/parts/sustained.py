"""Not in the paper: whether attention calls in a row, under the power limit, keep the rate of a single call."""

import pandas as pd

from ..calls import calls, main_order, newest, of_main_kernel, provenance
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, short, table_of
from ..frame import having, left_out, rows, where, with_metrics, with_shown

LEAST_SHARE, LEAST_WITH_CAVEAT = 0.9, 0.8  # of the dense rate of the same run
SAME = [
    "call",
    "sparsity",
    "mask",
    "region",
    "kernel",
    "order",
    "pool",
    "rule",
]  # what calls in a row share with one alone
COLUMNS = {
    "call, data": "label",
    "sparsity": "sparsity",
    "median of a call (ms)": "median_ms",
    "TFLOP/s, in a row": "tflops_kept",
    "TFLOP/s, alone": "alone",
    "in a row / alone": "slower",
    "of its dense rate, in a row": "share",
    "of its dense rate, alone": "share_alone",
    "SM clock after (MHz)": "clock",
    "power after (W)": "power",
    "calls a sample": "count",
    "GPU": "gpu",
    "commit": "commit",
}


def judge(records, paper, plots):
    cells = calls(records, "latency_sustained")
    cells = of_main_kernel(where(cells, [bool(rate) for rate in cells["tflops_kept"]]))
    cells = with_metrics(cells[cells["order"] == main_order(cells)], "rate_over_dense")
    judged = having(cells[cells["mask"] != "dense"], "rate_over_dense")
    facts = {"judged": len(judged), "left_out": left_out(cells, "rate_over_dense")}
    if judged.empty:
        return Judged(NOT_TESTABLE, facts)
    share = min(judged["rate_over_dense"])
    found = _beside_single_calls(cells, calls(records, "latency"))
    facts |= {"kernel": judged["kernel"].iat[0], "share": share}
    facts["slower"] = sorted(row["slower"] for row in found if row["slower"] is not None)
    lasting = ", ".join(sorted({short(config.get("sustain_ms")) for config in cells["config"]}))
    caption = f"Samples of at least {lasting} ms of calls in a row beside samples of one call. {provenance(cells)}"
    frame = pd.DataFrame(found, dtype=object)
    verdict = CONFIRMED if share >= LEAST_SHARE else CAVEAT if share >= LEAST_WITH_CAVEAT else CONTRADICTED
    return Judged(verdict, facts, [table_of("sustained", caption, frame, COLUMNS, columns_shown=11)])


def _beside_single_calls(cells, single):
    """A row a cell, with the newest single call of the same kind."""
    single = with_shown(newest(single, *SAME), "rate_over_dense")
    alone = {tuple(getattr(cell, name) for name in SAME): cell for cell in rows(single)}
    found = []
    for cell in rows(with_shown(cells, "rate_over_dense").sort_values(["call", "sparsity"], kind="stable")):
        other = alone.get(tuple(getattr(cell, name) for name in SAME))
        rate, sparse = other and other.tflops_kept, cell.mask != "dense"
        found.append(
            {
                **{
                    name: getattr(cell, name)
                    for name in ("label", "sparsity", "median_ms", "tflops_kept", "gpu", "commit")
                },
                "alone": rate,
                "slower": cell.tflops_kept / rate if rate else None,
                "share": cell.rate_over_dense if sparse else None,
                "share_alone": other.rate_over_dense if sparse and other else None,
                "clock": cell.machine.get("sm_clock_after_mhz"),
                "power": cell.machine.get("power_after_w"),
                "count": cell.timing.get("calls_per_sample", 1),
            }
        )
    return found
