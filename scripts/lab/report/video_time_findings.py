"""How long a whole video takes, dense and sparse, measured on the small video DiT and not projected."""

import math

from . import figures_videos
from .finding import CAVEAT, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent
from .records import drawable, having, left_out
from .timings import commit
from .videos import SHAPE, grid_of, video_tokens

NEEDED = ("attention_ms", "other_ms", "attention_share", "speedup_over_dense", "speedup_over_pytorch")


def whole_videos(records, paper, plots):
    title = "Figure 4, in videos of the small model"
    claim = f"Up to {paper.value('abstract_speedup'):g}x end to end (abstract), with the first 25% of the steps dense."
    rule = (
        "Rule, on whole videos at the paper's grids, against the dense video with the same kernel: confirmed with a"
        " caveat, since the model is a small one, if sparse videos are faster at every grid and sparsity; contradicted if"
        " one is slower."
    )
    every = [cell for cell in records.of("video_time") if cell.input.get("steps")]
    cells = having(every, NEEDED, input=SHAPE, config=["kernel", "dense_steps"], timing=["median_ms"])
    without_value = left_out(every, (*NEEDED, "sparse_call_ms", "dense_call_ms", "draft_ms"))
    sparse = [cell for cell in cells if cell.policy == "draft" and cell.sparsity is not None]
    if not sparse:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED + without_value)
    slower = [cell for cell in sparse if cell.metrics["speedup_over_dense"] <= 1]
    verdict = CONTRADICTED if slower else CAVEAT
    best = max(sparse, key=lambda cell: cell.metrics["speedup_over_dense"])
    text = (
        f"{len(sparse)} sparse configurations at {len({grid_of(cell) for cell in sparse})} grids on"
        f" {best.machine.get('gpu')}; all steps of a clip between two events. Most: {best.metrics['speedup_over_dense']:.2f}x"
        f" at {percent(best.sparsity, 0)} and {grid_of(best)} tokens, {best.metrics['speedup_over_pytorch']:.2f}x against"
        f" PyTorch's dense attention.{without_value}"
    )
    some, steps = _sparse_steps(best)
    why = [
        f"{grid_of(cell)}: attention is {percent(cell.metrics['attention_share'], 0)} of the dense video's time, so that"
        f" sparse attention in no time in {some} of {steps} steps would give"
        f" {1 / (1 - some / steps * cell.metrics['attention_share']):.2f}x."
        for cell in sorted(cells, key=grid_of)
        if cell.policy == "dense"
        and cell.config.get("kernel") != "auto"
        and some / steps * cell.metrics["attention_share"] < 1
    ]
    why += [
        f"{grid_of(cell)}: at {percent(cell.sparsity, 0)} a sparse call takes {cell.metrics['sparse_call_ms']:.2f} ms of the"
        f" dense one's {cell.metrics['dense_call_ms']:.2f} ms, {percent(cell.metrics['sparse_call_ms'] / cell.metrics['dense_call_ms'], 0)};"
        f" the draft alone {cell.metrics['draft_ms']:.2f} ms, which hardly shrinks with the grid."
        for cell in sorted(sparse, key=video_tokens)
        if cell.sparsity == best.sparsity
        and {"sparse_call_ms", "dense_call_ms", "draft_ms"} <= set(cell.metrics)
        and cell.metrics["dense_call_ms"] > 0
    ]
    rows = [
        (
            grid_of(cell),
            _words(cell),
            cell.sparsity or 0,
            _seconds(cell),
            cell.metrics["attention_ms"] / 1e3,
            cell.metrics["other_ms"] / 1e3,
            cell.metrics["attention_share"],
            cell.metrics.get("sparse_call_ms") or cell.metrics.get("dense_call_ms"),
            cell.metrics.get("draft_ms"),
            cell.metrics["speedup_over_dense"],
            cell.metrics["speedup_over_pytorch"],
            cell.machine.get("gpu"),
            commit(cell),
            cell.timing.get("median_ms", 0) / 1e3,
        )
        for cell in sorted(cells, key=lambda cell: (video_tokens(cell), cell.policy != "dense", cell.sparsity or 0))
    ]
    columns = (
        "grid",
        "attention",
        "sparsity",
        "one video (s), median [least, most]",
        "of it attention (s)",
        "everything else (s)",
        "attention's share",
        "an attention call (ms)",
        "the draft alone (ms)",
        "speed-up over dense, same kernel",
        "speed-up over PyTorch's dense",
        "GPU",
        "commit",
        "seconds",
    )
    table = Table(
        "video_times",
        f"One video of {steps} steps; the first {steps - some} of a sparse one are dense. An attention"
        " call: the median one, of a sparse video a sparse one, draft, lists and attention together; the draft"
        " alone is timed by itself, with the GPU waiting for its launches.",
        columns,
        rows,
        shown=40,
        columns_shown=11,
    )
    drawn = drawable(cells)
    headline = f"{best.metrics['speedup_over_dense']:.2f}x at {percent(best.sparsity, 0)}, measured"
    return Finding(
        title,
        claim,
        verdict,
        rule,
        text,
        why,
        [table],
        [figures_videos.draw_times(drawn, plots)] if drawn else [],
        headline,
    )


def _seconds(cell):
    samples = [one / 1e3 for one in cell.timing.get("samples_ms", [])]
    return f"{cell.timing['median_ms'] / 1e3:.3g} [{min(samples):.3g}, {max(samples):.3g}]" if samples else "-"


def _words(cell):
    kernel = cell.config.get("kernel")
    return ("PyTorch" if kernel == "auto" else kernel) + (" dense" if cell.policy == "dense" else " draft")


def _sparse_steps(cell):
    """(sparse steps, all) of a sparse video's cell, as minidit.policies has them."""
    steps = cell.input["steps"]
    return steps - math.ceil(cell.config["dense_steps"] * steps - 1e-9), steps
