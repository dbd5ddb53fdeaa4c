"""The projection of a whole video's time from one attention call's, as the records hold it, taken apart again.

dense_s  = other + calls * dense_ms
sparse_s = other + calls * (d * dense_ms + (1 - d) * (sparse_ms + draft_ms)), d = the share of the steps that stay dense
"""

from .timings import median_ms


def speedup(cell):
    return cell.metrics.get("projected_speedup")


def calls(cell, dense_share):
    """Attention calls of a video; None where the record has no projection or saves nothing."""
    metrics = cell.metrics
    names = ("projected_dense_s", "projected_sparse_s", "speedup_over_dense", "draft_ms")
    if any(name not in metrics for name in names) or not median_ms(cell):
        return None
    sparse_ms = median_ms(cell)
    saved_ms = sparse_ms * metrics["speedup_over_dense"] - sparse_ms - metrics["draft_ms"]
    if saved_ms <= 0:
        return None
    return (metrics["projected_dense_s"] - metrics["projected_sparse_s"]) / ((1 - dense_share) * saved_ms * 1e-3)


def limit(cell, dense_share):
    """The speed-up that this projection would give if sparse attention and draft took no time at all."""
    count = calls(cell, dense_share)
    if count is None:
        return None
    dense_s = cell.metrics["projected_dense_s"]
    attention_s = count * median_ms(cell) * cell.metrics["speedup_over_dense"] * 1e-3
    rest_s = dense_s - (1 - dense_share) * attention_s
    return dense_s / rest_s if rest_s > 0 else None


def share(cell, milliseconds, dense_share):
    """Share of the projected end-to-end time that so many milliseconds a sparse call take."""
    count = calls(cell, dense_share)
    if count is None or not cell.metrics["projected_sparse_s"] > 0:
        return None
    return (1 - dense_share) * count * milliseconds * 1e-3 / cell.metrics["projected_sparse_s"]


def tolerance(printed):
    """Half a unit of the last printed digit."""
    return 0.5 * 10.0 ** -len(printed.partition(".")[2])
