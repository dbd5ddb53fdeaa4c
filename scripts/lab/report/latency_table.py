"""Every timed attention call as one row."""

from .finding import Table
from .timings import ORDERS, by_call, call_of, commit, is_dense, kernel, kernels, median_ms, order, policy, provenance


def latency_table(cells):
    """One row a timed call."""
    columns = (
        "call, data",
        "kernel",
        "order",
        "blocks by",
        "sparsity",
        "kept share",
        "median (ms)",
        "10% (ms)",
        "90% (ms)",
        "TFLOP/s, kept blocks",
        "of the matrix product",
        "of its dense rate",
        "speed-up",
        "ideal (1 / kept share)",
        "projected end to end (x)",
        "draft (ms)",
        "pool",
        "rule",
        "region",
        "element",
        "SM clock before (MHz)",
        "SM clock after (MHz)",
        "power before (W)",
        "power after (W)",
        "throttled by",
        "data",
        "GPU",
        "commit",
    )
    names = kernels(cells)
    placed = [(call, cell) for call, members in by_call(cells) for cell in members]
    ranks = {name: rank for rank, name in enumerate(names)}
    placed.sort(key=lambda pair: _importance(pair[1], ranks))
    rows = [_latency_row(call, cell) for call, cell in placed]
    return Table("latency", f"One attention call. {provenance(cells)}", columns, rows, shown=32, columns_shown=15)


def _importance(cell, ranks):
    """Draft masks in token order first, by kernel; calls stay in their order, and sparsities rise within each."""
    place = (*_places(order(cell), ORDERS), *_places(policy(cell), ("dense", "draft")))
    usual = order(cell) in ("token", "") and policy(cell) in ("dense", "draft")
    return (not usual, ranks[kernel(cell)], *([] if usual else place), call_of(cell), cell.sparsity or 0)


def _places(value, known):
    return (known.index(value) if value in known else len(known), value)


def _latency_row(call, cell):
    metric, machine, kept = cell.shown, cell.machine, cell.metrics.get("kept_share")
    return (
        call.label,
        kernel(cell),
        order(cell),
        policy(cell),
        cell.sparsity or 0,
        metric("kept_share"),
        median_ms(cell),
        cell.timing.get("p10_ms"),
        cell.timing.get("p90_ms"),
        cell.timing.get("tflops_kept"),
        metric("share_of_matmul"),
        metric("rate_over_dense"),
        None if is_dense(cell) else metric("speedup_over_dense"),
        None if is_dense(cell) or not kept else 1 / kept,
        None if is_dense(cell) else metric("projected_speedup"),
        metric("draft_ms"),
        cell.pool,
        cell.rule,
        cell.region,
        call.element,
        machine.get("sm_clock_before_mhz"),
        machine.get("sm_clock_after_mhz"),
        machine.get("power_before_w"),
        machine.get("power_after_w"),
        ", ".join(machine.get("throttle_reasons") or ()),
        call.data,
        call.gpu,
        commit(cell),
    )
