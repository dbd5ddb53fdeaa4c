"""Not in the paper: this project's kernels beside others', on the same tensors and masks in one run."""

from . import figures_kernels
from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent, short
from .records import drawable, left_out
from .timings import (
    OWN_KERNELS,
    by_call,
    call_of,
    commit,
    kernel,
    kernels,
    main_kernel,
    median_ms,
    one,
    order,
    paper_masks,
    provenance,
    ratio,
    same_run,
)


def ratios(cells):
    """[(their cell, our cell, (median, 10%, 90%) of their time / ours)] for cells of one run with one mask."""
    found = []
    for _, members in by_call(cells):
        own = main_kernel([cell for cell in members if kernel(cell) in OWN_KERNELS])
        groups = {}
        for cell in members:
            groups.setdefault(cell.sparsity or 0, []).append(cell)
        for _, same in sorted(groups.items()):
            ours = one(same, kernel=own) if own else None
            for cell in same:
                if ours and kernel(cell) not in OWN_KERNELS and same_run(ours, cell):
                    found.append((cell, ours, ratio(cell, ours)))
    return found


def skipped(records):
    """[(kernel, reason)] of the contenders that a run left out."""
    cells = [cell for cell in records.skipped if cell.experiment == "peers"]
    return sorted({(kernel(cell), cell.reason or "no reason given") for cell in cells})


def peers(records, plots):
    title = "Not in the paper: other kernels"
    claim = (
        "The paper compares videos and not kernels; its released code runs Block Sparse Attention. The claim judged"
        " here is this project's: its kernel is at least as fast as every other one that ran, dense and sparse."
    )
    rule = (
        "Rule, over kernels timed in turn in one run on the same tensors and masks: confirmed if no kernel's median"
        " time is below this project's at any sparsity that both ran; contradicted if the 90% quantile of some kernel's"
        " time over this project's is below 1 at every sparsity that it ran; else confirmed with a caveat."
    )
    cells = [cell for cell in paper_masks(records.of("peers")) if median_ms(cell)]
    gone = skipped(records)
    absent = f" Left out: {'; '.join(f'{name} ({reason})' for name, reason in gone)}." if gone else ""
    found = ratios(cells)
    if not cells:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED + absent)
    table = peer_table(cells, found)
    drawn = drawable(cells)
    pictures = [figures_kernels.draw_peers(drawn, plots, absent)] if drawn else []
    count = f"{len(cells)} records of {len(kernels(cells))} kernels."
    absent += left_out(cells, ("share_of_matmul", "output_rel_l2"))
    if not found:
        text = f"{count} None of them is of one run with this project's kernel.{absent}"
        return Finding(title, claim, NOT_TESTABLE, rule, text, [], [table], pictures)
    by_peer = {}
    for cell, _, spread in found:
        by_peer.setdefault(kernel(cell), []).append(spread)
    faster = [name for name, spreads in by_peer.items() if all(high < 1 for _, _, high in spreads)]
    slower_everywhere = all(middle >= 1 for spreads in by_peer.values() for middle, _, _ in spreads)
    verdict = CONTRADICTED if faster else CONFIRMED if slower_everywhere else CAVEAT
    each = "; ".join(
        f"{name} {short(min(middle for middle, _, _ in spreads))} to {short(max(middle for middle, _, _ in spreads))}"
        for name, spreads in sorted(by_peer.items())
    )
    text = f"{count} Their time over that of {kernel(found[0][1])}, over calls and sparsities: {each}.{absent}"
    closest, _, spread = min(found, key=lambda row: row[2][0])
    headline = f"closest: {kernel(closest)} takes {short(spread[0])} times our time"
    headline += f" ({'dense' if not closest.sparsity else percent(closest.sparsity, 0)}, {call_of(closest).name})"
    return Finding(title, claim, verdict, rule, text, _why(cells), [table], pictures, headline)


def _why(cells):
    why = [
        "Absolute times hold for one machine and one run; ratios compare kernels that took turns in the same run.",
        "Kernels that know only dense attention have no sparse row.",
    ]
    moved = sorted({kernel(cell) for cell in cells if kernel(cell) not in OWN_KERNELS and order(cell) == "region"})
    if moved:
        why.append(
            f"{', '.join(moved)}: tensors were in region order before the clock started; moving them there is not in"
            " their time, while this project's kernels read token order."
        )
    notes = {
        f"{kernel(cell)}: {note}" if name == "kernel" else f"{name}: {note}"
        for cell in cells
        for name, note in cell.notes.items()
        if note
    }
    return why + [note.rstrip(".") + "." for note in sorted(notes)]


def peer_table(cells, found):
    spreads = {id(cell): spread for cell, _, spread in found}
    rows = []
    for call, members in by_call(cells):
        ranks = {name: rank for rank, name in enumerate(kernels(members))}
        for cell in sorted(members, key=lambda cell: (cell.sparsity or 0, ranks[kernel(cell)])):
            middle, low, high = spreads.get(id(cell), (None, None, None))
            rows.append(
                (
                    call.label,
                    cell.sparsity or 0,
                    kernel(cell),
                    order(cell),
                    median_ms(cell),
                    cell.timing.get("p10_ms"),
                    cell.timing.get("p90_ms"),
                    cell.timing.get("tflops_kept"),
                    cell.shown("share_of_matmul"),
                    middle,
                    low,
                    high,
                    cell.shown("output_rel_l2"),
                    len(cell.timing.get("samples_ms") or ()),
                    call.gpu,
                    commit(cell),
                )
            )
    columns = (
        "call, data",
        "sparsity",
        "kernel",
        "order",
        "median (ms)",
        "10% (ms)",
        "90% (ms)",
        "TFLOP/s, kept blocks",
        "of the matrix product",
        "their time / ours",
        "its 10%",
        "its 90%",
        "output against ours (rel. L2)",
        "samples",
        "GPU",
        "commit",
    )
    caption = (
        "Kernels that took turns in one run; the ratio's 10% and 90% are over all pairs of samples. Ours ="
        f" {main_kernel([cell for cell in cells if kernel(cell) in OWN_KERNELS]) or 'none'}. {provenance(cells)}"
    )
    return Table("peers", caption, columns, rows, shown=80, columns_shown=13)
