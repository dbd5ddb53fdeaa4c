"""The projection of a whole video's time from one attention call's, as the records hold it (experiments/timing/projection.hpp):

dense_s  = other_s + calls * dense_ms
sparse_s = other_s + calls * ((1 - share) * dense_ms + share * (sparse_ms + draft_ms)), share = of the calls that are sparse
"""

from .calls import PAPER_SHAPES, calls, of_main_kernel, paper_masks
from .frame import having, rows, with_metrics

PARTS = ("projected_dense_s", "projected_sparse_s", "projected_other_s", "projected_calls", "projected_sparse_share")


def projected(records):
    """Sparse draft calls of the paper's shapes by this project's main kernel, in token order or through a gather; their
    projected_speedup, projected_dense_s and projected_sparse_s."""
    cells = with_metrics(paper_masks(calls(records, "latency")), "projected_speedup", *PARTS[:2])
    cells = having(cells[(cells["mask"] == "draft") & cells["order"].isin(("token", "gather"))], "projected_speedup")
    return of_main_kernel(cells)


def printed_labels(paper, shape):
    """{sparsity: {gpu: (speed-up as printed, certainty)}} of one of the paper's shapes."""
    labels = {}
    for row in paper.table("figure4"):
        if (row["model"], row["resolution"]) == PAPER_SHAPES[shape] and row["speedup_x"]:
            if float(row["sparsity_percent"]) > 0:
                found = labels.setdefault(float(row["sparsity_percent"]) / 100, {})
                found[row["gpu"]] = (row["speedup_x"], row["certainty"])
    return labels


def lowest(cells, shape, sparsity):
    """The smallest projection of a shape in token order: of captured and random data, and of several GPUs; or None."""
    found = cells[(cells["order"] == "token") & (cells["sparsity"] == sparsity) & (cells["shape"] == shape)]
    return min(rows(found), key=lambda cell: cell.projected_speedup, default=None)


def _projection(cell):
    parts = [cell.metrics.get(name) for name in PARTS]
    return None if None in parts else parts


def limit(cell):
    """The speed-up that the projection of a whole video (experiments/timing/projection.hpp) would give if sparse attention
    and draft took no time at all; None where the record lacks a part of it."""
    if (parts := _projection(cell)) is None:
        return None
    dense_s, _, other_s, _, sparse_share = parts
    rest_s = other_s + (1 - sparse_share) * (dense_s - other_s)
    return dense_s / rest_s if rest_s > 0 else None


def share_of_video(cell, milliseconds):
    """Share of the projected end-to-end time that so many milliseconds a sparse call take."""
    if (parts := _projection(cell)) is None or not parts[1] > 0:
        return None
    _, sparse_s, _, count, sparse_share = parts
    return sparse_share * count * milliseconds * 1e-3 / sparse_s


def tolerance(printed):
    """Half a unit of the last printed digit."""
    return 0.5 * 10.0 ** -len(printed.partition(".")[2])
