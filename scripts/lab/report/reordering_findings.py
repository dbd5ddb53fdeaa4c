"""Section 3.3: whether tokens have to be moved so that the regions of sparse attention are contiguous."""

from . import figures_overhead
from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent
from .records import drawable
from .timings import (
    by_call,
    commit,
    kernel,
    kernels,
    main_kernel,
    median_ms,
    one,
    paper_masks,
    policy,
    provenance,
    ratio,
    same_run,
)


def triples(cells):
    """[(call, kernel, sparsity, {order: cell})] where token order and another were timed in one run."""
    found = []
    for call, members in by_call(cells):
        groups = {}
        for cell in members:
            groups.setdefault((kernel(cell), cell.sparsity or 0), []).append(cell)
        for name in kernels(members):
            for sparsity in sorted(sparsity for of, sparsity in groups if of == name):
                same = groups[name, sparsity]
                token = one(same, order="token")
                if token is None or not median_ms(token):
                    continue
                orders = {"token": token}
                for order in ("region", "gather"):
                    cell = one(same, order=order)
                    if cell and median_ms(cell) and same_run(token, cell):
                        orders[order] = cell
                if len(orders) > 1:
                    found.append((call, name, sparsity, orders))
    ranks = {name: rank for rank, name in enumerate(kernels(cells))}
    return sorted(found, key=lambda row: ranks[row[1]])


def section_3_3(records, plots):
    title = "Section 3.3: what moving tokens costs"
    claim = (
        "Tokens are reordered so that each region is contiguous in memory, and the output is restored: Figure 3 calls"
        " it necessary, and section 3.3 critical for kernels that rely on contiguous blocks."
    )
    rule = (
        "Rule, for this project's main kernel and sparse calls timed in one run: contradicted if attention straight"
        " from token order takes less time (medians) than moving tokens, attention in region order and moving back, in"
        " every case; confirmed if it does in none; else confirmed with a caveat."
    )
    cells = [cell for cell in paper_masks(records.of("latency")) if policy(cell) in ("dense", "draft")]
    found = triples(cells)
    own = main_kernel([orders["token"] for _, _, _, orders in found])
    judged = [orders for _, name, sparsity, orders in found if name == own and sparsity and "gather" in orders]
    if not judged:
        text = NOT_MEASURED
        return Finding(title, claim, NOT_TESTABLE, rule, text, tables=[_table(found)] if found else [])
    wins = sum(median_ms(orders["token"]) < median_ms(orders["gather"]) for orders in judged)
    verdict = CONTRADICTED if wins == len(judged) else CAVEAT if wins else CONFIRMED
    saved = [ratio(orders["gather"], orders["token"])[0] - 1 for orders in judged]
    against = [ratio(orders["token"], orders["region"])[0] - 1 for orders in judged if "region" in orders]
    text = (
        f"Kernel {own}: token order is faster than the gather in {wins} of {len(judged)} sparse cases; the gather takes"
        f" {percent(min(saved))} to {percent(max(saved))} more time."
    )
    if against:
        text += (
            " Against tokens that happen to be in region order already, token order takes"
            f" {percent(min(against))} to {percent(max(against))} more."
        )
    why = [
        "A region of h x w tokens of one frame is a box in the tensor: a kernel that loads boxes needs no other order.",
        "What moving costs does not depend on the sparsity, so that its share grows as attention gets sparser.",
    ]
    shown = [cell for orders in judged for cell in orders.values()]
    dense = [orders for _, name, sparsity, orders in found if name == own and not sparsity]
    drawn = shown + [cell for orders in dense for cell in orders.values()]
    headline = f"the gather takes up to {percent(max(saved))} more time; slower in {wins} of {len(judged)} cases"
    drawn = drawable(drawn)
    pictures = [figures_overhead.draw_orders(drawn, plots)] if drawn else []
    return Finding(title, claim, verdict, rule, text, why, [_table(found)], pictures, headline)


def _table(found):
    rows = []
    for call, name, sparsity, orders in found:
        token, region, gather = (orders.get(order) for order in ("token", "region", "gather"))
        against = ratio(gather, token) if gather else None
        rows.append(
            (
                call.label,
                name,
                sparsity,
                median_ms(token),
                median_ms(region) if region else None,
                median_ms(gather) if gather else None,
                median_ms(gather) - median_ms(token) if gather else None,
                against and against[0] - 1,
                against and against[1] - 1,
                against and against[2] - 1,
                ratio(region, token)[0] - 1 if region else None,
                call.gpu,
                commit(token),
            )
        )
    columns = (
        "call, data",
        "kernel",
        "sparsity",
        "token order (ms)",
        "region order (ms)",
        "gather (ms)",
        "gather - token (ms)",
        "gather / token - 1",
        "its 10%",
        "its 90%",
        "region / token - 1",
        "GPU",
        "commit",
    )
    cells = [cell for _, _, _, orders in found for cell in orders.values()]
    return Table(
        "section_3_3_orders",
        "One attention call by order of tokens, each row from one run; 10% and 90% of the ratio over all pairs of"
        f" samples. {provenance(cells)}",
        columns,
        rows,
        shown=24,
        columns_shown=11,
    )
