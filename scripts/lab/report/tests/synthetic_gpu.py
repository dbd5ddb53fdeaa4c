"""Invented records of timed GPU runs with plausible numbers, for the tests and for looking at the plots."""

import random

from .synthetic_records import record

SHAPES = {  # name: heads, frames, height, width, text tokens, attention calls a video, PFLOPs outside attention
    "wan_512p": (40, 21, 32, 48, 0, 4000, 60.5),
    "wan_768p": (40, 21, 48, 80, 0, 4000, 156.0),
    "hunyuan_768p": (24, 33, 48, 80, 256, 3000, 84.0),
}
SPARSITIES = (0.5, 0.55, 0.6, 0.75, 0.8, 0.9, 0.95)
MATMUL = 724.8125
RATES = {"wgmma": 718.0, "mma": 368.0}  # TFLOP/s, dense
SHARES = {"draft": 0.965, "random": 0.98, "uneven": 0.97, "worst": 0.985}  # of the dense rate
ORDER_GAIN = {"token": 1.0, "region": 1.01, "gather": 1.01}
PEERS = {  # TFLOP/s by sparsity
    "wgmma": {0.0: 716, 0.6: 698, 0.8: 690, 0.9: 676},
    "mma": {0.0: 368, 0.6: 364, 0.8: 360, 0.9: 354},
    "cudnn": {0.0: 612},
    "flash_attention_2": {0.0: 351},
    "flash_attention_3": {0.0: 697},
    "flex_attention": {0.0: 425, 0.6: 395, 0.8: 393, 0.9: 390},
    "block_sparse_attention": {0.0: 347, 0.6: 329, 0.8: 325, 0.9: 319},
}
GPU = {"gpu": "NVIDIA Synthetic", "driver": "580.0", "cpu": "Synthetic CPU", "cores": 16}
CLOCKS = {"sm_clock_before_mhz": 1980, "sm_clock_after_mhz": 1515, "power_before_w": 128.4, "power_after_w": 688.1}


def source(shape):
    heads, frames, height, width, text, _, _ = SHAPES[shape]
    return {
        "dump": None,
        "sha256": None,
        "capture": None,
        "head": None,
        "heads": heads,
        "grid": {"frames": frames, "height": height, "width": width},
        "text_tokens": text,
        "head_dim": 128,
        "data": "normal",
        "shape": shape,
        "seed": 1,
    }


def blocks(shape, sparsity):
    """kept and all video blocks, kept and all with text, of the whole call."""
    heads, frames, height, width, text, _, _ = SHAPES[shape]
    video, columns = frames * height * width // 128, -(-text // 128)
    total, everything = heads * video**2, heads * (video + columns) ** 2
    kept = round((1 - sparsity) * total)
    return {
        "kept_blocks": kept,
        "total_blocks": total,
        "kept_with_text": kept + everything - total,
        "all_blocks": everything,
        "kept_share": (kept + everything - total) / everything,
    }


def moved_bytes(shape, tensors):
    heads, frames, height, width, text, _, _ = SHAPES[shape]
    return 2 * tensors * heads * (frames * height * width + text) * 128 * 2


def timing(median, rng, count=10, flops=None):
    samples = sorted(median * (1 + rng.uniform(-0.008, 0.012)) for _ in range(count))
    samples[count // 2 - 1] = samples[count // 2] = median
    found = {
        "samples_ms": samples,
        "median_ms": median,
        "p10_ms": samples[1],
        "p90_ms": samples[-2],
        "warmup": 2,
        "l2_flush": 2 * 50 * 2**20,
    }
    return {**found, "tflops_kept": flops / median * 1e-9} if flops else found


def draft_ms(shape):
    heads, frames, height, width, _, _, _ = SHAPES[shape]
    return 0.08 + 0.73 * heads * frames * height * width / (24 * 126720)


def config(kernel, order, policy, sparsity, **more):
    found = {
        "device": "cuda",
        "kernel": kernel,
        "element": "bfloat16",
        "order": order,
        "policy": policy,
        "region": [8, 16],
        "sparsity": sparsity,
    }
    return {**found, **({"pool": "avg", "rule": "softmax"} if policy == "draft" else {}), **more}


def timed(experiment, shape, setting, metrics, times):
    machine = {**GPU, **CLOCKS, "throttle_reasons": ["sw_power_cap"]}
    return record(experiment, source(shape), setting, metrics, machine=machine, timing=times, run="one")


def latency(shape, kernel, order, policy, sparsity, rng):
    count = blocks(shape, sparsity)
    flops, whole = 4 * 128**3 * count["kept_with_text"], 4 * 128**3 * count["all_blocks"]
    rate = RATES[kernel] * ORDER_GAIN[order]
    dense_ms, share = whole / rate * 1e-9, 1.0
    if sparsity:
        share = SHARES[policy] - 0.04 * max(0.0, sparsity - 0.7) / 0.3 + rng.uniform(-0.004, 0.004)
    extra = moved_bytes(shape, 4) / 3.9e12 * 1e3 if order == "gather" else 0.0
    median, dense_ms = flops / (rate * share) * 1e-9 + extra, dense_ms + extra
    mean_row = count["kept_blocks"] / (count["total_blocks"] * 128 / 8 / 16) ** 0.5 / SHAPES[shape][0] ** 0.5
    spread = {"draft": 2.1, "random": 1.2, "uneven": 3.0}.get(policy, 1.0)
    metrics = {
        **count,
        "empty_rows": 4 if policy == "worst" else 0,
        "row_blocks_mean": mean_row,
        "row_blocks_max": mean_row * spread,
        "speedup_over_dense": dense_ms / median,
        "rate_over_dense": (flops / median) / (whole / dense_ms),
        "matmul_tflops": MATMUL,
        "share_of_matmul": flops / median * 1e-9 / MATMUL,
    }
    if sparsity and policy == "draft":
        metrics.update(projected(shape, dense_ms, median))
    return timed("latency", shape, config(kernel, order, policy, sparsity), metrics, timing(median, rng, 10, flops))


def sustained(single):
    """What calls in a row make of a single call's record."""
    dense = not single["config"]["sparsity"]
    factor = 1.01 if dense else 1.03
    times = {
        name: value * factor for name, value in single["timing"].items() if name in ("median_ms", "p10_ms", "p90_ms")
    }
    times["samples_ms"] = [value * factor for value in single["timing"]["samples_ms"][:5]]
    times["tflops_kept"] = single["timing"]["tflops_kept"] / factor
    metrics = dict(single["metrics"])
    metrics["rate_over_dense"] *= 1.01 / factor
    return {
        **single,
        "experiment": "latency_sustained",
        "config": {**single["config"], "sustain_ms": 300.0},
        "metrics": metrics,
        "timing": {**single["timing"], **times, "calls_per_sample": 1 + int(300 / times["median_ms"])},
    }


def projected(shape, dense_ms, sparse_ms):
    calls, other = SHAPES[shape][5], SHAPES[shape][6] * 1e3 / MATMUL
    dense = other + calls * dense_ms * 1e-3
    sparse = other + calls * (0.25 * dense_ms + 0.75 * (sparse_ms + draft_ms(shape))) * 1e-3
    return {
        "draft_ms": draft_ms(shape),
        "projected_dense_s": dense,
        "projected_sparse_s": sparse,
        "projected_speedup": dense / sparse,
        "projected_other_s": other,
        "projected_calls": calls,
        "projected_sparse_share": 0.75,
    }


def overhead(shape, kernel, sparsity, rng):
    """Every part at one sparsity."""
    whole = draft_ms(shape)
    flops = 4 * 128**3 * blocks(shape, sparsity)["kept_with_text"]
    attention = flops / (RATES[kernel] * 0.955) * 1e-9
    moved = moved_bytes(shape, 1) / 3.9e12 * 1e3
    parts = {
        "pool": 0.52 * whole,
        "map": 0.09 * whole,
        "softmax": 0.08 * whole,
        "select": 0.22 * whole,
        "lists": 0.12 * whole,
        "draft": whole,
        "reorder": 3 * moved,
        "restore": moved,
        "attention": attention,
        "attention_gather": attention * 0.99 + 4 * moved,
    }
    sizes = {"pool": 1, "reorder": 3, "restore": 1}
    for part, median in parts.items():
        metrics = {"share_of_attention": median / attention, "matmul_tflops": MATMUL}
        if part in sizes:
            size = moved_bytes(shape, 1) * sizes[part]
            metrics.update({"bytes": size, "gb_per_s": size / median * 1e-6})
        order = "gather" if part in ("reorder", "restore", "attention_gather") else "token"
        times = timing(median, rng, 10, flops if part.startswith("attention") else None)
        yield timed("overhead", shape, config(kernel, order, "draft", sparsity, part=part), metrics, times)


def peers(shape, rng):
    for kernel, rates in PEERS.items():
        for sparsity, rate in rates.items():
            count = blocks(shape, sparsity)
            flops = 4 * 128**3 * count["kept_with_text"]
            median = flops / rate * 1e-9
            whole = 4 * 128**3 * count["all_blocks"] / rates[0.0] * 1e-9
            metrics = {
                **count,
                "speedup_over_dense": whole / median,
                "rate_over_dense": rate / rates[0.0],
                "matmul_tflops": MATMUL,
                "share_of_matmul": rate / MATMUL,
                "output_rel_l2": 0.0 if kernel == "wgmma" else 0.0031,
            }
            order = "token" if kernel in RATES else "region"
            setting = config(kernel, order, "draft" if sparsity else "dense", sparsity)
            yield timed("peers", shape, setting, metrics, timing(median, rng, 5, flops))
    gone = timed("peers", shape, config("flash_attention_4", "region", "dense", 0.0), {}, {})
    yield dict(gone, status="skipped", reason="no module named flash_attn.cute")


def at_call(item, shape):
    return item["experiment"] == "latency" and item["input"]["shape"] == shape


def generate(shapes=tuple(SHAPES), sparsities=SPARSITIES, seed=11):
    """Every record of the timed experiments, in a fixed order."""
    rng = random.Random(seed)
    result = []
    for shape in shapes:
        for kernel in RATES:
            for order in ORDER_GAIN:
                for sparsity in (0.0,) + tuple(sparsities):
                    policy = "draft" if sparsity else "dense"
                    result.append(latency(shape, kernel, order, policy, sparsity, rng))
            for policy in ("random", "uneven", "worst"):
                result.append(latency(shape, kernel, "token", policy, 0.9, rng))
        for single in list(result):
            token = at_call(single, shape) and single["config"]["kernel"] == "wgmma"
            if token and single["config"]["sparsity"] in (0.0, 0.6, 0.8, 0.9) and single["config"]["order"] == "token":
                if single["config"]["policy"] in ("dense", "draft"):
                    result.append(sustained(single))
        for sparsity in (0.6, 0.8, 0.9):
            result.extend(overhead(shape, "wgmma", sparsity, rng))
        result.extend(peers(shape, rng))
    return result
