"""The projection of a whole video's time from one attention call's, as the records hold it (experiments/timing/projection.hpp):

dense_s  = other_s + calls * dense_ms
sparse_s = other_s + calls * ((1 - share) * dense_ms + share * (sparse_ms + draft_ms)), share = of the calls that are sparse
"""

PARTS = ("projected_dense_s", "projected_sparse_s", "projected_other_s", "projected_calls", "projected_sparse_share")


def speedup(cell):
    return cell.metrics.get("projected_speedup")


def _parts(cell):
    """The projection's numbers; None where the record lacks one."""
    parts = [cell.metrics.get(name) for name in PARTS]
    return None if any(part is None for part in parts) else parts


def limit(cell):
    """The speed-up that this projection would give if sparse attention and draft took no time at all."""
    if (parts := _parts(cell)) is None:
        return None
    dense_s, _, other_s, _, sparse_share = parts
    rest_s = other_s + (1 - sparse_share) * (dense_s - other_s)
    return dense_s / rest_s if rest_s > 0 else None


def share(cell, milliseconds):
    """Share of the projected end-to-end time that so many milliseconds a sparse call take."""
    if (parts := _parts(cell)) is None or not parts[1] > 0:
        return None
    _, sparse_s, _, calls, sparse_share = parts
    return sparse_share * calls * milliseconds * 1e-3 / sparse_s


def tolerance(printed):
    """Half a unit of the last printed digit."""
    return 0.5 * 10.0 ** -len(printed.partition(".")[2])
