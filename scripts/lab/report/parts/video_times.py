"""How long a whole video takes, dense and sparse, measured on the small video DiT and not projected."""

import math

from .. import style
from ..finding import CAVEAT, CONTRADICTED, NOT_TESTABLE, Judged, at_paper, table_of
from ..frame import drawable, filled, having, left_out, rows, where, with_columns, with_metrics
from ..videos import SHAPE, with_grid

NEEDED = ("attention_ms", "other_ms", "attention_share", "speedup_over_dense", "speedup_over_pytorch")
CALLS = ("sparse_call_ms", "dense_call_ms", "draft_ms")
COLUMNS = {
    "grid": "grid_text",
    "attention": "words",
    "sparsity": "known_sparsity",
    "one video (s), median [least, most]": "video",
    "of it attention (s)": "attention_s",
    "everything else (s)": "other_s",
    "attention's share": "attention_share",
    "an attention call (ms)": "call_ms",
    "the draft alone (ms)": "draft_ms",
    "speed-up over dense, same kernel": "speedup_over_dense",
    "speed-up over PyTorch's dense": "speedup_over_pytorch",
    "GPU": "gpu",
    "commit": "commit",
    "seconds": "median_s",
}
MOST_GRIDS, MOST_BARS = 4, 12


def judge(records, paper, plots):
    every = records.of("video_time")
    every = where(every, [bool(steps) for steps in every["steps"]])
    cells = having(with_metrics(every, *NEEDED, *CALLS), *NEEDED, *SHAPE, "kernel", "dense_steps", "median_ms")
    cells = _named(with_grid(cells))
    sparse = having(cells[cells["policy"] == "draft"], "sparsity")
    facts = {"count": len(sparse), "left_out": left_out(every, *NEEDED, *CALLS)}
    if sparse.empty:
        return Judged(NOT_TESTABLE, facts)
    best = max(rows(sparse), key=lambda cell: cell.speedup_over_dense)
    steps = best.steps
    some = steps - math.ceil(best.dense_steps * steps - 1e-9)  # sparse ones, as lab.model.policies has them
    dense = cells[(cells["policy"] == "dense") & (cells["kernel"] != "auto")].sort_values("grid_text", kind="stable")
    there = having(sparse[sparse["sparsity"] == best.sparsity], *CALLS).sort_values("video_tokens", kind="stable")
    facts |= {"grids": sparse["grid_text"].nunique(), "best": best, "steps": steps, "some": some}
    facts["limits"] = [cell for cell in rows(dense) if some / steps * cell.attention_share < 1]
    facts["calls"] = [cell for cell in rows(there) if cell.dense_call_ms > 0]
    placed = cells.sort_values(["video_tokens", "is_sparse", "known_sparsity"], kind="stable")
    table = table_of(
        "video_times",
        f"One video of {steps} steps; the first {steps - some} of a sparse one are dense. An attention"
        " call: the median one, of a sparse video a sparse one, draft, lists and attention together; the draft"
        " alone is timed by itself, with the GPU waiting for its launches.",
        placed,
        COLUMNS,
        columns_shown=11,
        carries=at_paper,
    )
    drawn = drawable(cells)
    slower = (sparse["speedup_over_dense"] <= 1).any()
    pictures = [] if drawn.empty else [_draw(drawn, plots)]
    return Judged(CONTRADICTED if slower else CAVEAT, facts, [table], pictures)


def _named(cells):
    kernels = ["PyTorch" if kernel == "auto" else kernel for kernel in cells["kernel"]]
    kinds = ["dense" if policy == "dense" else "draft" for policy in cells["policy"]]
    return with_columns(
        cells,
        is_sparse=[policy != "dense" for policy in cells["policy"]],
        known_sparsity=filled(cells["sparsity"], 0),
        words=[f"{kernel} {kind}" for kernel, kind in zip(kernels, kinds)],
        video=[_seconds(*times) for times in zip(cells["median_ms"], cells["samples_ms"])],
        call_ms=[sparse or dense for sparse, dense in zip(cells["sparse_call_ms"], cells["dense_call_ms"])],
        **{f"{name}_s": [time / 1e3 for time in cells[f"{name}_ms"]] for name in ("attention", "other", "median")},
    )


def _seconds(median_ms, samples_ms):
    samples = [one / 1e3 for one in samples_ms or ()]
    return f"{median_ms / 1e3:.3g} [{min(samples):.3g}, {max(samples):.3g}]" if samples else "-"


def _draw(cells, folder):
    """Stacked bars: attention and everything else, one panel a grid. (stem, caption)."""
    grids = list(dict.fromkeys(cells.sort_values("video_tokens", kind="stable")["grid_text"]))
    more, grids = style.left_out(len(grids), MOST_GRIDS, "grids"), grids[:MOST_GRIDS]
    figure, axes = style.panels(1, len(grids), 3.4)
    for axis, grid in zip(axes[0], grids):
        members = style.thinned(list(rows(cells[cells["grid_text"] == grid])), MOST_BARS)
        members.sort(key=lambda cell: (cell.is_sparse, cell.kernel != "auto", cell.known_sparsity))
        for place, cell in enumerate(members):
            axis.bar(place, cell.other_s, 0.7, color="#B0B0B0", label="everything else")
            axis.bar(
                place, cell.attention_s, 0.7, bottom=cell.other_s, color=style.BLUE, label="attention, with the draft"
            )
            style.above(axis, place, cell.other_s + cell.attention_s, f"{cell.speedup_over_pytorch:.2f}x", 8)
        axis.set_xticks(range(len(members)), [_tick(cell) for cell in members], fontsize=8)
        axis.grid(axis="x", visible=False)
        axis.set_title(f"{grid} tokens", loc="left", fontsize=9)
        axis.set_ylim(0, 1.12 * axis.get_ylim()[1])
    axes[0][0].set_ylabel("one video (s)")
    handles = dict(zip(*reversed(axes[0][0].get_legend_handles_labels())))
    style.legend_strip(figure, list(handles.values()), list(handles), 4)
    caption = (
        "Time of one video of 30 steps on the small video DiT, the first 25% of a sparse one's steps dense; above the"
        f" bars the speed-up over PyTorch's dense attention. On {cells['gpu'].iat[0]}.{more}"
    )
    return style.save(figure, folder, "video_times"), caption


def _tick(cell):
    if cell.kernel == "auto":
        return "PyTorch\ndense"
    return f"{100 * cell.known_sparsity:g}%" if cell.is_sparse else "dense"
