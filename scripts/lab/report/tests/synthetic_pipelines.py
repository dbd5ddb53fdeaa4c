"""Invented records of whole pipelines at full size with plausible numbers, as lab.pipelines writes them."""

from .synthetic_gpu import CLOCKS, GPU
from .synthetic_records import record

STEPS_S = {  # seconds of a step
    "hunyuan_768p": {
        "dense_own": 34.4,
        "dense_best": 22.3,
        "dense_ours": 21.4,
        "draft_60": 12.2,
        "draft_80": 8.6,
        "draft_90": 6.83,
        "draft_90_pooled": 7.3,
        "draft_90_8bit": 6.1,
        "dense_ours_fp8": 19.9,
        "draft_90_fp8": 5.6,
        "dense_ours_compiled": 19.8,
        "draft_90_compiled": 5.2,
    },
    "wan_768p": {
        "dense_own": 25.8,
        "dense_best": 24.9,
        "dense_ours": 23.6,
        "draft_55": 16.2,
        "draft_75": 13.1,
        "draft_90": 10.7,
    },
}
SHAPES = {  # model, resolution, heads, frames, height, width, text tokens, layers, passes, backend
    "hunyuan_768p": ("HunyuanVideo 13B", "768p", 24, 33, 48, 80, 74, 60, 1, "_native_cudnn"),
    "wan_768p": ("Wan2.1 14B", "768p", 40, 21, 48, 80, 0, 40, 2, "_native_cudnn"),
}
PARTS_S = {"text": 0.21, "vae": 29.4, "file": 4.5}
PROFILE = {"attention": 1570.0, "draft": 45.0, "matmul": 2320.0, "elementwise": 1360.0, "copies": 950.0, "other": 60.0}
ONE_CALL = [
    {"kernel": "draft::gpu::pool_kernel", "class": "draft", "ms": 0.22},
    {"kernel": "at::native::direct_copy_kernel_cuda", "class": "copies", "ms": 0.8},
    {"kernel": "draft::gpu::attend_wgmma_kernel", "class": "attention", "ms": 26.0},
]
KERNELS = {"dense_own": "diffusers", "dense_best": "_native_cudnn", "draft_90_8bit": "wgmma_8bit"}


def source(shape):
    model, resolution, heads, frames, height, width, text, layers, _, _ = SHAPES[shape]
    return {
        "model": model,
        "shape": shape,
        "resolution": resolution,
        "grid": {"frames": frames, "height": height, "width": width},
        "text_tokens": text,
        "heads": heads,
        "head_dim": 128,
        "layers": layers,
        "steps": 50,
        "clips": 1,
        "data": "normal",
        "seed": 1,
    }


def config(name, part, **more):
    """Of a configuration's record; None as its name: of a part of the pipeline."""
    found = {"device": "cuda", "element": "bfloat16", "part": part}
    if name is None:
        return found | more
    draft = name.startswith("draft")
    found |= {
        "configuration": name,
        "kernel": KERNELS.get(name, "wgmma"),
        "linear": "fp8" if "fp8" in name else "bfloat16",
        "compiled": "blocks" if "compiled" in name else "no",
    }
    found |= {"policy": "draft" if draft else "dense", "region": [8, 16], "dense_steps": 0.25 if draft else 0.0}
    found |= {"sparsity": int(name.split("_")[1]) / 100 if draft else 0.0}
    found |= {"pool": "avg", "rule": "softmax"} if draft else {}
    found |= {"remainder": "pooled"} if "pooled" in name else {}
    return found | more


def timing(samples_s):
    samples = [1e3 * each for each in samples_s]
    middle = sorted(samples)[len(samples) // 2]
    return {"samples_ms": samples, "median_ms": middle, "p10_ms": min(samples), "p90_ms": max(samples), "warmup": 1}


def made(shape, setting, metrics, notes=None, **more):
    notes = {"diffusers": "0.42.1", "weights": "random"} | (notes or {})
    return record(
        "pipeline", source(shape), setting, metrics, machine={**GPU, **CLOCKS}, notes=notes, run="one", **more
    )


def generate(shapes=tuple(SHAPES)):
    """Every record, in a fixed order."""
    found = []
    for shape in shapes:
        passes, backend = SHAPES[shape][8:]
        for part, seconds in PARTS_S.items():
            metrics = {"postprocess_ms": 1900.0} if part == "vae" else {}
            found.append(made(shape, config(None, part), metrics, timing=timing([seconds])))
        rows = {"kept_blocks": 2352240, "total_blocks": 23522400, "row_blocks_mean": 99.0, "row_blocks_max": 310}
        found.append(made(shape, config("draft_90", "masks"), rows | {"empty_rows": 12}))
        trials = {"native": {"ms": 560.0}, backend: {"ms": 352.0}, "flash": {"refused": "not installed"}}
        notes = {"best": backend, "backends": trials}
        found.append(made(shape, config(None, "backends", kernel="diffusers"), {"dense_call_ms": 352.0}, notes))
        for name, step_s in STEPS_S[shape].items():
            for turn, factor in ((1, 0.99), (2, 1.01)):
                ms = 1e3 * factor * step_s
                metrics = {"step_ms": ms, "transformer_ms": ms - 2, "scheduler_ms": 1.4, "passes": passes}
                metrics |= {"steps_timed": 1, "prediction_rms": 1.1, "peak_memory_gb": 61.5}
                found.append(made(shape, config(name, "steps", turn=turn), metrics, timing=timing([factor * step_s])))
        metrics = {f"profile_{name}_ms": ms for name, ms in PROFILE.items()}
        metrics |= {"profile_kernels_ms": sum(PROFILE.values()), "profile_span_ms": 6400.0}
        metrics |= {"call_kernels_ms": 27.02, "call_copies_ms": 0.8}
        slow = [{"kernel": "nvjet_tst", "class": "matmul", "count": 400, "ms": 2320.0}]
        found.append(made(shape, config("draft_90", "profile"), metrics, {"kernels": slow, "one_call": ONE_CALL}))
    dense, sparse = STEPS_S["hunyuan_768p"]["dense_ours"], STEPS_S["hunyuan_768p"]["draft_90"]
    if "hunyuan_768p" in shapes:
        steps = [dense] * 13 + [sparse] * 37
        metrics = {"steps_s": sum(steps), "vae_s": 31.3, "text_s": 0.21, "file_s": 4.5, "dense_step_count": 13}
        metrics |= {"whole_s": sum(steps) + 38.0, "steps_timed": 50, "peak_memory_gb": 80.1}
        setting = config("draft_90", "complete", dense_by="dense_ours", dense_kernel="wgmma")
        found.append(made("hunyuan_768p", setting, metrics, {"left_out": "nothing"}, timing=timing(steps)))
    skipped = made(
        "wan_768p", config("draft_90_fp8", "steps", turn=1), {}, status="skipped", reason="not installed: torchao"
    )
    return [*found, skipped]
