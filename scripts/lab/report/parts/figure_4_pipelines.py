"""Figure 4 in whole pipelines at full size: end-to-end times, their parts, a step by class of kernel, and what the
projection from single calls was worth."""

import pandas as pd

from .. import pipelines_plots
from ..calls import PAPER_NAMES
from ..finding import CAVEAT, CONTRADICTED, NOT_TESTABLE, Judged, percent, table_of
from ..pipelines import BASELINES, DENSE, FIGURE_SHAPES, passes, pipelines, plain_name
from ..projection import lowest, printed_labels, projected, tolerance

GPUS = ("H100", "A100")  # of the figure
LABELS = {
    "model": "model",
    "sparsity": "sparsity",
    "printed for": "printed_for",
    "printed (x)": "printed",
    "measured over the fastest dense (x)": "speedup",
    "which is": "baseline",
    "reached": "answer",
    "measured over our dense kernel (x)": "over_ours",
    "projected (x)": "projected",
    "projected by measured, less 1": "error",
    "measured on": "gpu",
    "commit": "commit",
}
VIDEOS = {
    "model": "model",
    "configuration": "name",
    "attention": "kernel",
    "sparsity": "sparsity",
    "a step (s)": "step_s",
    "steps timed": "steps_timed",
    "video from timed steps (s)": "timed_s",
    "video in one run (s)": "complete_s",
    "over diffusers' own (x)": "over_dense_own",
    "over diffusers' best backend (x)": "over_dense_best",
    "over our dense kernel (x)": "over_dense_ours",
    "over it with compiled blocks (x)": "over_dense_ours_compiled",
    "peak memory (GB)": "peak_memory_gb",
    "linear layers": "linear",
    "turns": "turns",
    "transformer in a step (ms)": "transformer_ms",
    "scheduler in a step (ms)": "scheduler_ms",
    "passes in a step": "passes",
    "left out": "left_out",
    "GPU": "gpu",
    "commit": "commit",
}
PARTS = {
    "model": "model",
    "text (s)": "text",
    "a dense step (s)": "dense_step_s",
    "a step at 90% (s)": "sparse_step_s",
    "VAE (s)": "vae",
    "pixels (s)": "pixels",
    "file (s)": "file",
    "best backend": "best",
    "blocks of a row, mean": "row_mean",
    "blocks of a row, most": "row_max",
    "empty rows": "empty_rows",
    "GPU": "gpu",
    "commit": "commit",
}
PASSES = {
    "model": "model",
    "video": "resolution",
    "tokens": "tokens",
    "diffusers' own (ms)": "dense_own",
    "our dense kernel (ms)": "dense_ours",
    "draft at 90% (ms)": "draft_90",
    "over diffusers' own (x)": "over_own",
    "over our dense kernel (x)": "over_ours",
    "peak memory (GB)": "peak_memory_gb",
    "left out": "left_out",
    "GPU": "gpu",
    "commit": "commit",
}
KINDS = {
    "attention": "attention",
    "draft": "draft",
    "matrix products": "matmul",
    "norms, modulation, RoPE": "elementwise",
    "copies": "copies",
    "other": "other",
}
PROFILE = {
    "model": "model",
    "configuration": "name",
    "kernels (ms)": "kernels",
    **{f"{words} (ms)": name for words, name in KINDS.items()},
    "first to last (ms)": "span",
    "one attention call (ms)": "call",
    "of it copies (ms)": "call_copies",
    "its kernels": "call_names",
    "GPU": "gpu",
    "commit": "commit",
}


def judge(records, paper, plots):
    every = records.once(pipelines)
    videos = [(pipeline, video) for pipeline in every for video in pipeline.videos.values()]
    facts = {"count": len(videos), "compared": [], "profiles": [], "complete": [], "several": [], "backends": []}
    if not videos:
        return Judged(NOT_TESTABLE, facts)
    compared = _compared(every, records, paper)
    further = passes(records)
    tables = [_videos_table(videos), _parts_table(every), _profile_table(every)]
    tables += [_passes_table(further)] if further else []
    pictures = pipelines_plots.pictures(every, plots)
    facts |= {
        "gpus": ", ".join(sorted({pipeline.gpu for pipeline in every})),
        "compared": compared,
        "errors": [row for row in compared if row["error"] is not None],
        "profiles": [_shares(pipeline, cell) for pipeline in every for cell in pipeline.profiles],
        "complete": [(pipeline, video) for pipeline, video in videos if video.complete_s and video.timed_s],
        "several": [row for pipeline in every for row in pipeline.several_gpus()],
        "further": further,
        "backends": [pipeline for pipeline in every if pipeline.backends],
        "baselines": BASELINES,
        "absent": sorted(
            {f"{row['model']} at {percent(row['sparsity'], 0)}" for row in compared if row["speedup"] is None}
        ),
    }
    measured = [row for row in compared if row["speedup"] is not None]
    if not measured:
        return Judged(NOT_TESTABLE, facts, tables, pictures)
    facts |= {"compared": measured, "top": max(measured, key=lambda row: row["speedup"])}
    tables[0].shown = 0  # the labels carry the claim
    tables = [tables[0], _labels_table(compared), *tables[1:]]
    by_gpu = [[row["reached"] for row in measured if row["printed_for"] == gpu] for gpu in GPUS]
    reached = any(flags and all(flags) for flags in by_gpu)
    return Judged(CAVEAT if reached else CONTRADICTED, facts, tables, pictures)


def _compared(every, records, paper):
    """A row a printed label and GPU that its shape was measured on; the figure's shapes alone."""
    found, cells = [], projected(records)
    for shape in FIGURE_SHAPES:
        mine = [pipeline for pipeline in every if pipeline.shape == shape] or [None]
        for pipeline in mine:
            for sparsity, gpus in sorted(printed_labels(paper, shape).items()):
                found += [
                    _row(shape, pipeline, sparsity, *label, cells) for label in sorted(gpus.items(), reverse=True)
                ]
    return found


def _row(shape, pipeline, sparsity, gpu, label, cells):
    text = label[0]
    row = {"model": PAPER_NAMES[shape], "sparsity": sparsity, "printed_for": gpu, "printed": text}
    row |= dict.fromkeys(("speedup", "over_ours", "projected", "error", "baseline", "gpu", "commit"))
    row |= {"reached": False, "answer": "not measured"}
    name, baseline = plain_name(sparsity), pipeline and pipeline.fastest_dense()
    if not baseline or (speedup := pipeline.speedup(name, baseline)) is None:
        return row
    over_ours, cell = pipeline.speedup(name, "dense_ours"), lowest(cells, shape, sparsity)
    reached = speedup >= float(text) - tolerance(text)
    row |= {
        "speedup": speedup,
        "baseline": BASELINES[baseline],
        "reached": reached,
        "answer": "yes" if reached else "no",
        "over_ours": over_ours,
        "gpu": pipeline.gpu,
        "commit": pipeline.videos[name].cell.commit,
    }
    if cell is not None and over_ours:
        row |= {"projected": cell.projected_speedup, "error": cell.projected_speedup / over_ours - 1}
    return row


def _labels_table(compared):
    caption = (
        "Printed end-to-end speed-ups beside measured ones of whole pipelines, and beside the projection, whose dense"
        " video is that of our dense kernel."
    )
    frame = pd.DataFrame(compared, columns=list(LABELS.values()), dtype=object)
    return table_of("figure_4_pipelines", caption, frame, LABELS, shown=12, columns_shown=10)


def _videos_table(videos):
    found = []
    for pipeline, video in videos:
        metrics, config = video.cell.metrics, video.cell.config
        row = {"model": pipeline.name, "name": video.name, "kernel": video.cell.kernel, "sparsity": video.sparsity}
        row |= {name: getattr(video, name) for name in ("step_s", "steps_timed", "timed_s", "complete_s", "turns")}
        row |= {f"over_{name}": pipeline.speedup(video.name, name) for name in (*DENSE, "dense_ours_compiled")}
        row |= {name: metrics.get(name) for name in ("peak_memory_gb", "transformer_ms", "scheduler_ms", "passes")}
        missing = ", ".join(video.parts.missing) if video.parts else "dense steps"
        row |= {"linear": config.get("linear"), "left_out": missing or "nothing", "gpu": pipeline.gpu}
        found.append(row | {"commit": video.cell.commit, "order": -video.step_s, "pipeline": pipeline.name})
    ranks = {name: place for place, name in enumerate(dict.fromkeys(row["pipeline"] for row in found))}
    found.sort(key=lambda row: (ranks[row["pipeline"]], row["gpu"], row["order"]))
    frame = pd.DataFrame(found, columns=list(VIDEOS.values()), dtype=object)
    caption = (
        "Whole videos of diffusers' pipelines at full size, random weights. From timed steps: a step's median time, times"
        " how many of its kind a video has (of a sparse one the first 25% dense, by our dense kernel), with text, VAE and"
        " file; in one run: all of that measured, nothing extrapolated. A speed-up is of the run where there is one."
    )
    return table_of("pipelines", caption, frame, VIDEOS, columns_shown=13)


def _parts_table(every):
    found = []
    for pipeline in every:
        row = {"model": pipeline.name, **{part: pipeline.seconds(part) for part in ("text", "vae", "file")}}
        for column, name in (("dense_step_s", "dense_ours"), ("sparse_step_s", plain_name(0.9))):
            row[column] = pipeline.videos[name].step_s if name in pipeline.videos else None
        vae, masks = pipeline.parts.get("vae"), pipeline.masks
        pixels = vae.metrics.get("postprocess_ms") if vae else None
        row["pixels"] = None if pixels is None else pixels / 1e3
        for column, name in (
            ("row_mean", "row_blocks_mean"),
            ("row_max", "row_blocks_max"),
            ("empty_rows", "empty_rows"),
        ):
            row[column] = masks.metrics.get(name) if masks else None
        row["best"] = pipeline.backends.notes.get("best") if pipeline.backends else None
        commits = {cell.commit for cell in pipeline.parts.values()}
        found.append(row | {"gpu": pipeline.gpu, "commit": ", ".join(sorted(commits))})
    caption = (
        "Parts of a video. The dense step is our kernel's. Block rows are those of the draft mask of one call at 90%, of"
        " random weights: a trained model's are less even."
    )
    return table_of("pipelines_parts", caption, pd.DataFrame(found, dtype=object), PARTS, shown=0, columns_shown=11)


def _profile_table(every):
    found = []
    for pipeline in every:
        for cell in pipeline.profiles:
            metrics = cell.metrics
            row = {"model": pipeline.name, "name": cell.config.get("configuration"), "gpu": pipeline.gpu}
            row |= {name: metrics.get(f"profile_{name}_ms") for name in ("kernels", "span", *KINDS.values())}
            row |= {"call": metrics.get("call_kernels_ms"), "call_copies": metrics.get("call_copies_ms")}
            names = [f"{one['kernel']} ({one['class']})" for one in _one_call(cell)]
            found.append(row | {"call_names": "; ".join(names), "commit": cell.commit})
    columns = list(PROFILE.values())
    caption = (
        "One step by class of kernel. One attention call: what the drop-in launches for one block, draft and copies of"
        " layout included; the file names its kernels."
    )
    frame = pd.DataFrame(found, columns=columns, dtype=object)
    return table_of("pipelines_profile", caption, frame, PROFILE, shown=0, columns_shown=12)


def _passes_table(further):
    found = []
    for one in further:
        cell = one.cell
        row = {"model": cell.model, "resolution": cell.resolution, "gpu": cell.gpu, "commit": cell.commit}
        row |= {"tokens": int(cell.frames * cell.height * cell.width + (cell.text_tokens or 0))}
        row |= {name: one.ms.get(name) for name in ("dense_own", "dense_ours", "draft_90")}
        row |= {"over_own": one.speedup("dense_own"), "over_ours": one.speedup("dense_ours")}
        row |= {"peak_memory_gb": cell.metrics.get("peak_memory_gb")}
        row |= {"left_out": "; ".join(f"{name}: {why}" for name, why in one.left_out.items()) or "nothing"}
        found.append(row)
    caption = (
        "One pass of further models at their released sizes, random weights. Where a side of the grid is no multiple of the"
        " region's, blocks are cut; up to commit 6c580dd those of dense calls too, so that diffusers' own may be the faster."
    )
    frame = pd.DataFrame(found, columns=list(PASSES.values()), dtype=object)
    return table_of("pipelines_passes", caption, frame, PASSES, columns_shown=8)


def _one_call(cell):
    """The kernels of one attention call, as the record's notes have them."""
    found = cell.notes.get("one_call") or []
    return [one for one in found if isinstance(one, dict) and {"kernel", "class"} <= set(one)]


def _shares(pipeline, cell):
    """A profile in shares, for the words."""
    whole = cell.metrics.get("profile_kernels_ms") or 0.0
    shares = {words: cell.metrics.get(f"profile_{name}_ms", 0.0) / whole for words, name in KINDS.items() if whole > 0}
    call = _one_call(cell)
    name, metrics = cell.config.get("configuration"), cell.metrics
    times = {"call_ms": metrics.get("call_kernels_ms"), "copies_ms": metrics.get("call_copies_ms")}
    return {"pipeline": pipeline, "name": name, "shares": shares, "kernels": len(call)} | times
