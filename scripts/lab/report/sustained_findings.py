"""Not in the paper: whether attention calls in a row, under the power limit, keep the rate of a single call."""

from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent, short
from .records import left_out
from .timings import (
    by_call,
    choose,
    commit,
    is_dense,
    kernel,
    main_kernel,
    main_order,
    median_ms,
    one,
    policy,
    provenance,
)

LEAST_SHARE, LEAST_WITH_CAVEAT = 0.9, 0.8  # of the dense rate of the same run


def sustained_rate(records):
    title = "Not in the paper: calls in a row"
    claim = (
        "Nothing is said of it. Latencies of single calls, and projections made of them, take it that a call among"
        " others runs as fast as one alone; a GPU at its power limit lowers its clock instead."
    )
    rule = (
        "Rule, for this project's main kernel on draft masks, in samples of many calls in a row: confirmed if it keeps"
        f" at least {percent(LEAST_SHARE, 0)} of its own dense rate, taken in the same way in the same run, at every"
        f" sparsity; confirmed with a caveat from {percent(LEAST_WITH_CAVEAT, 0)} on; else contradicted."
    )
    cells = [cell for cell in records.of("latency_sustained") if cell.timing.get("tflops_kept")]
    if cells:
        cells = choose(cells, kernel=main_kernel(cells), order=main_order(cells))
    judged = [cell for cell in cells if not is_dense(cell) and "rate_over_dense" in cell.metrics]
    without_value = left_out(cells, ("rate_over_dense",))
    if not judged:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED + without_value)
    lowest = min(judged, key=lambda cell: cell.metrics["rate_over_dense"])
    share = lowest.metrics["rate_over_dense"]
    verdict = CONFIRMED if share >= LEAST_SHARE else CAVEAT if share >= LEAST_WITH_CAVEAT else CONTRADICTED
    rows = _rows(cells, records.of("latency"))
    slower = [row[5] for row in rows if row[5] is not None]
    text = (
        f"Kernel {kernel(lowest)}, {len(judged)} sparse cells: at least {percent(share)} of the sustained dense rate."
        + (f" Against single calls, {percent(min(slower))} to {percent(max(slower))} of the rate." if slower else "")
        + without_value
    )
    why = [
        "A single call after a pause finds a cool chip and starts at its highest clock; within a few hundred"
        " milliseconds the power limit takes that away. Kept blocks that no other multiprocessor reads at the same time"
        " cost more energy a FLOP than dense ones, which come to two at once."
    ]
    headline = f"lowest {percent(share)} of the dense rate, both sustained"
    return Finding(title, claim, verdict, rule, text, why, [_table(cells, rows)], headline=headline)


def _rows(cells, single):
    rows = []
    beside = {call: found for call, found in by_call(single)}
    for call, members in by_call(cells):
        alone = {}
        for cell in beside.get(call, ()):
            alone.setdefault(_key(cell, policy(cell)), []).append(cell)
        for cell in sorted(members, key=lambda cell: cell.sparsity or 0):
            other = one(alone.get(_key(cell, cell.config.get("policy")), ()))
            rate, alone_rate = cell.timing["tflops_kept"], other and other.timing.get("tflops_kept")
            rows.append(
                (
                    call.label,
                    cell.sparsity or 0,
                    median_ms(cell),
                    rate,
                    alone_rate,
                    rate / alone_rate if alone_rate else None,
                    None if is_dense(cell) else cell.shown("rate_over_dense"),
                    None if is_dense(cell) or other is None else other.shown("rate_over_dense"),
                    cell.machine.get("sm_clock_after_mhz"),
                    cell.machine.get("power_after_w"),
                    cell.timing.get("calls_per_sample", 1),
                    call.gpu,
                    commit(cell),
                )
            )
    return rows


def _key(cell, policy):
    """What a single call and calls in a row of it share."""
    return (
        cell.sparsity or 0,
        policy,
        cell.region,
        *(cell.config.get(name) for name in ("kernel", "order", "pool", "rule")),
    )


def _table(cells, rows):
    columns = (
        "call, data",
        "sparsity",
        "median of a call (ms)",
        "TFLOP/s, in a row",
        "TFLOP/s, alone",
        "in a row / alone",
        "of its dense rate, in a row",
        "of its dense rate, alone",
        "SM clock after (MHz)",
        "power after (W)",
        "calls a sample",
        "GPU",
        "commit",
    )
    lasting = ", ".join(sorted({short(cell.config.get("sustain_ms")) for cell in cells}))
    caption = f"Samples of at least {lasting} ms of calls in a row beside samples of one call. {provenance(cells)}"
    return Table("sustained", caption, columns, rows, shown=40, columns_shown=11)
