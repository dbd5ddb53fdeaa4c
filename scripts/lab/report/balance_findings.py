"""Not in the paper: whether a kept block costs the same wherever it stands, so that uneven rows cost nothing."""

from . import figures_kernels
from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent
from .records import drawable, having, left_out
from .timings import (
    POLICIES,
    by_call,
    choose,
    commit,
    kernel,
    main_kernel,
    main_order,
    median_ms,
    order,
    paper_masks,
    policy,
    provenance,
)

SPARSITY = 0.9
LEAST_SHARE = 0.9  # of the dense rate
MEANING = {
    "draft": "the draft mask of the call's own Q and K",
    "random": "every block by chance",
    "uneven": "rows of 0 to 3 times the average length",
    "worst": "full rows and empty ones",
}


def load_balance(records, plots):
    title = "Not in the paper: load balance"
    claim = (
        "Nothing is said of it. FLOP counts, and with them Table 1's column, take it that a kept block costs the same"
        " wherever it stands in the mask."
    )
    rule = (
        f"Rule, at {percent(SPARSITY, 0)} for this project's main kernel: confirmed if it keeps at least"
        f" {percent(LEAST_SHARE, 0)} of its own dense rate with every kind of mask; confirmed with a caveat if not with"
        " full rows beside empty ones (worst); contradicted if with another kind."
    )
    cells = [cell for cell in paper_masks(records.of("latency")) if policy(cell) in POLICIES]
    of_kind = [cell for cell in cells if cell.sparsity == SPARSITY]
    cells = having(of_kind, ["rate_over_dense"])
    if cells:
        cells = choose(cells, order=main_order(cells))
    kinds = {policy(cell) for cell in cells}
    if len(kinds) < 2:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED + left_out(of_kind, ("rate_over_dense",)))
    own = choose(cells, kernel=main_kernel(cells))
    lowest = {}
    for cell in own:
        share = cell.metrics["rate_over_dense"]
        lowest[policy(cell)] = min(share, lowest.get(policy(cell), share))
    slow = {name for name, share in lowest.items() if share < LEAST_SHARE}
    verdict = CONTRADICTED if slow - {"worst"} else CAVEAT if slow or len(lowest) < len(POLICIES) else CONFIRMED
    each = "; ".join(f"{name} {percent(lowest[name])}" for name in POLICIES if name in lowest)
    absent = [name for name in POLICIES if name not in lowest]
    text = (
        f"Kernel {kernel(own[0])}, {order(own[0])} order, {len(own)} calls. Lowest share of the dense rate by kind of"
        f" mask: {each}." + (f" Not measured: {', '.join(absent)}, which leaves a caveat." if absent else "")
    )
    text += left_out(of_kind, ("rate_over_dense",))
    why = [f"{name}: {MEANING[name]}." for name in POLICIES if name in lowest]
    why.append("A counter hands out works longest first, so that no multiprocessor waits for another's long row.")
    drawn = drawable(cells)
    pictures = [figures_kernels.draw_balance(drawn, plots)] if drawn else []
    worst = min(lowest, key=lowest.get)
    headline = f"lowest {percent(lowest[worst])} of the dense rate ({worst})"
    return Finding(title, claim, verdict, rule, text, why, [_table(cells)], pictures, headline)


def _table(cells):
    rows = [
        (
            call.label,
            kernel(cell),
            policy(cell),
            cell.metrics.get("row_blocks_mean"),
            cell.metrics.get("row_blocks_max"),
            cell.metrics.get("empty_rows"),
            median_ms(cell),
            cell.timing.get("tflops_kept"),
            cell.metrics["rate_over_dense"],
            call.gpu,
            commit(cell),
        )
        for call, members in by_call(cells)
        for cell in sorted(members, key=lambda cell: (kernel(cell), POLICIES.index(policy(cell))))
    ]
    columns = (
        "call, data",
        "kernel",
        "mask",
        "blocks a row, mean",
        "blocks a row, most",
        "empty rows",
        "median (ms)",
        "TFLOP/s, kept blocks",
        "of its dense rate",
        "GPU",
        "commit",
    )
    caption = f"The same number of blocks at {percent(SPARSITY, 0)} sparsity, placed in four ways. {provenance(cells)}"
    return Table("load_balance", caption, columns, rows, shown=40, columns_shown=9)
