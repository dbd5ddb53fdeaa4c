"""The parts of a sparse attention call that were timed one by one."""

from .timings import choose, main_order, median_ms, one

DRAFT_PARTS = ("pool_q", "pool_k", "map", "softmax", "select", "lists")
MOVES = ("reorder", "restore")
PARTS = DRAFT_PARTS + ("draft",) + MOVES + ("attention", "attention_gather")


def parts(cells, sparsity):
    """{part: cell} at one sparsity; a part that does not depend on it may be recorded without one."""
    found = {}
    for name in PARTS:
        of_part = [cell for cell in choose(cells, part=name) if median_ms(cell)]
        of_part = [cell for cell in of_part if (cell.config.get("order") or "") == main_order(of_part)]
        cell = one(of_part, sparsity=sparsity) or next((cell for cell in of_part if cell.sparsity is None), None)
        if cell:
            found[name] = cell
    return found


def by_sparsity(cells):
    """{sparsity: the cells of parts that can be taken at it}: a part that does not depend on it stands under all."""
    always = [cell for cell in cells if cell.sparsity is None]
    found = {}
    for cell in cells:
        if cell.sparsity:
            found.setdefault(cell.sparsity, []).append(cell)
    return {sparsity: members + always for sparsity, members in sorted(found.items())}
