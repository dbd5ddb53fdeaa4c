"""Invented records of the small video model's videos with plausible numbers, for the tests and for looking at the
plots. Never for results."""

import random

from .synthetic_records import record

SPARSITIES = (0.6, 0.75, 0.9)
LOSSES = {"avg": 0.0, "max": 2.5, "oracle": -1.5, "random": 4.0}  # dB below the draft by average pooling
RULE_LOSS = {"logits": 0.4, "softmax": 0.0, "released": 0.0, "row": -0.8}
REGION_LOSS = {(8, 16): 0.0, (16, 16): 0.9, (8, 8): -0.6}
STEP_LOSS = {0.25: 0.0, 0.0: 7.0, 0.5: -3.0}
HEADS_LOSS = {"all": 0.0, "diffuse": -4.0, "others": -1.5}
TO_TRUTH = 25.0  # dB of the dense clips, about
GRIDS = ((21, 32, 48), (33, 48, 80))
MACHINE = {"gpu": "NVIDIA Synthetic", "driver": "580.0", "cpu": "Synthetic CPU", "cores": 16}


def source(clips, **more):
    found = {
        "model": "photodit",
        "weights_sha256": "ab" * 32,
        "grid": {"frames": 8, "height": 32, "width": 48},
        "text_tokens": 16,
        "heads": 3,
        "head_dim": 128,
        "layers": 2,
        "steps": 30,
        "shift": 3.0,
        "clips": clips,
        "batch": 8,
        "first_seed": 1001,
        "prompts": "held out",
    }
    return {**found, **more}


def config(policy, sparsity, pool="avg", rule="softmax", region=(8, 16), dense_steps=0.25, kernel="wgmma", heads="all"):
    found = {
        "policy": policy,
        "kernel": kernel,
        "region": list(region),
        "sparsity": sparsity,
        "dense_steps": dense_steps,
        "device": "cuda",
        **({"heads": heads} if heads != "all" else {}),
    }
    return {**found, **({"pool": pool, "rule": rule} if policy == "draft" else {})}


def video(clips, rng, policy, sparsity, **changes):
    setting = config(policy, sparsity, **changes)
    loss = LOSSES.get(changes.get("pool", "avg") if policy == "draft" else policy, 0.0)
    loss += RULE_LOSS[changes.get("rule", "softmax")] + REGION_LOSS[changes.get("region", (8, 16))]
    loss += STEP_LOSS[changes.get("dense_steps", 0.25)] + HEADS_LOSS[changes.get("heads", "all")]
    middle = 42 - 22 * sparsity - loss
    clip = random.Random(5)  # the same prompts in every configuration
    psnr = [middle + clip.uniform(-3, 3) + rng.uniform(-0.3, 0.3) for _ in range(clips)]
    ssim = [min(0.999, 0.55 + 0.011 * value) for value in psnr]
    lpips = [0.7 - 0.015 * value for value in psnr]
    truth = [TO_TRUTH - 30 / value for value in psnr]
    kept = 1 - (1 - changes.get("dense_steps", 0.25)) * sparsity
    metrics = {
        "psnr": sum(psnr) / clips,
        "ssim": sum(ssim) / clips,
        "lpips": sum(lpips) / clips,
        "psnr_truth": sum(truth) / clips,
        "kept_share": kept,
        "flops_share": 0.3 + 0.7 * kept,
        "seconds_per_clip": 0.4,
        "clips": clips,
        "attention_recall": 0.9 - 0.6 * sparsity - 0.03 * loss,
        "output_rel_l2": 0.1 + 0.5 * sparsity + 0.03 * loss,
        "one_step_rel_l2": 0.05 + 0.2 * sparsity + 0.02 * loss,
        "added_up_rel_l2": 0.1 + 0.1 * sparsity + 0.01 * loss,
        "distance_rel_l2": 0.2 + 0.5 * sparsity + 0.02 * loss,
        "empty_rows_share": 0.1 if policy == "draft" and changes.get("rule") != "row" else 0.0,
        "effective_blocks": 40.0,
    }
    yield record(
        "video",
        source(clips),
        setting,
        metrics,
        machine=MACHINE,
        arrays={
            "psnr": psnr,
            "ssim": ssim,
            "lpips": lpips,
            "psnr_truth": truth,
            "cvvdp": [10 - value for value in lpips],
            "flicker": [0.02] * clips,
            "distance": [0.0, 0.01, 0.1, metrics["distance_rel_l2"]],
            "one_step": 3 * [metrics["one_step_rel_l2"]],
        },
    )
    for layer in range(2):
        for head in range(3):
            diffuse = layer == 1
            error = (0.9 if diffuse else 0.3) + 0.02 * loss + 0.01 * head
            error -= 0.3 if diffuse and (policy == "random" or changes.get("rule") == "row") else 0.0
            found = {
                "attention_recall": 0.2 if diffuse else 0.8,
                "output_rel_l2": error,
                "empty_rows_share": 0.3 if diffuse else 0.0,
                "kept_share": 1 - sparsity,
                "effective_blocks": 80.0 if diffuse else 12.0,
            }
            yield record(
                "video_heads",
                source(clips, layer=layer, head=head, probe_clips=2),
                {**setting, "probe_steps": [10, 20]},
                found,
                machine=MACHINE,
            )


def washed(clips, rng, policy, sparsity, share, **changes):
    """Contrast of a configuration; its PSNR is one more the less contrast there is."""
    setting = config(policy, sparsity, **changes)
    arrays = {
        "contrast": [share + rng.uniform(-0.02, 0.02) for _ in range(clips)],
        "psnr": [16 - 2 * share + rng.uniform(-0.1, 0.1) for _ in range(clips)],
        "psnr_matched": [12 + 2 * share + rng.uniform(-0.1, 0.1) for _ in range(clips)],
    }
    yield record(
        "video_contrast",
        source(clips),
        setting,
        {name: sum(one) / clips for name, one in arrays.items()},
        machine=MACHINE,
        arrays=arrays,
    )


def feedback(clips, rng, by, step, growth, **changes):
    setting = config("draft" if by == "mask" else "dense", 0.9, **changes)
    values = [growth + rng.uniform(-0.05, 0.05) for _ in range(clips)]
    yield record(
        "video_feedback",
        source(clips, probe_clips=clips),
        {**setting, "disturbed_by": by, "step": step, "size": 0.02},
        {"growth": sum(values) / clips},
        machine=MACHINE,
        arrays={"growth": values},
    )


ROUNDED = {"qk": 0.01, "p": 0.02, "v": 0.02, "fp8": 0.04, "8bit": 0.03, "8bit_fp8": 0.05}  # one step's error


def eight_bits(clips, plain, losses=None, against_svg=1.5):
    """Dense clips and drafts with each rounding; plain: the draft's record with 16-bit numbers; losses: {suffix: dB of PSNR
    that a draft loses}; against_svg: dB by which the draft with FP8 layers is nearer to the dense FP8 clips than Sparse VideoGen."""
    rng, sparsity = random.Random(4), plain["config"]["sparsity"]
    for mask in ("dense", "draft"):
        for suffix, error in ROUNDED.items():
            near = [40 - 300 * error + rng.uniform(-1, 1) for _ in range(clips)]
            lost = (losses or {}).get(suffix, 0.01)
            arrays = {"psnr_bf16": near, "one_step_bf16": [0.9 * error, 1.1 * error]}
            arrays["psnr"] = (
                near if mask == "dense" else [one - lost + rng.uniform(-0.1, 0.1) for one in plain["arrays"]["psnr"]]
            )
            arrays |= {} if mask == "dense" else {"psnr_alike": [one - 0.2 for one in arrays["psnr"]]}
            setting = config(
                mask, 0.0 if mask == "dense" else sparsity, kernel="wgmma_8bit" if "8bit" in suffix else "auto"
            )
            setting |= {"rounds": suffix, "kernel": "emulation"} if suffix in ("qk", "p", "v") else {}
            setting |= {"configuration": ("dense_" if mask == "dense" else "draft_90_") + suffix}
            yield rounded(clips, setting, "fp8" if "fp8" in suffix else "bfloat16", arrays, error)
            if (mask, suffix) == ("draft", "fp8"):
                drafted = arrays["psnr_alike"]
    arrays = {"psnr_alike": [one - against_svg + rng.uniform(-0.2, 0.2) for one in drafted]}
    yield rounded(clips, config("svg", sparsity) | {"configuration": "svg_90_fp8"}, "fp8", arrays, 0.05)


def rounded(clips, setting, linear, arrays, error):
    for suffix in ("", "_bf16", "_alike"):
        if f"psnr{suffix}" in arrays:
            arrays[f"ssim{suffix}"] = [min(0.999, 0.55 + 0.011 * one) for one in arrays[f"psnr{suffix}"]]
            arrays[f"lpips{suffix}"] = [0.7 - 0.015 * one for one in arrays[f"psnr{suffix}"]]
    means = {name: sum(one) / len(one) for name, one in arrays.items() if name != "one_step_bf16"}
    means |= {"one_step_bf16_rel_l2": error, "clips": clips}
    setting = setting | {"linear": linear}
    return record("video_eight_bits", source(clips), setting, means, machine=MACHINE, arrays=arrays)


def times():
    for grid in GRIDS:
        tokens = grid[0] * grid[1] * grid[2]
        attention, other = 3e-7 * tokens**2, 0.05 * tokens
        rows = [("dense", 0.0, "auto", 1.25), ("dense", 0.0, "wgmma", 1.0)]
        rows += [("draft", sparsity, "wgmma", 0.25 + 0.75 * (1 - sparsity)) for sparsity in SPARSITIES]
        for policy, sparsity, kernel, share in rows:
            own = attention * share
            whole = own + other
            metrics = {
                "attention_share": own / whole,
                "attention_ms": own,
                "other_ms": other,
                "speedup_over_pytorch": (1.25 * attention + other) / whole,
                "speedup_over_dense": (attention + other) / whole,
            }
            metrics["dense_call_ms"] = attention / 240
            if policy == "draft":
                metrics |= {"draft_ms": 0.05, "sparse_call_ms": attention / 240 * (1 - sparsity)}
            place = source(1, grid=dict(zip(("frames", "height", "width"), grid)))
            setting = config(policy, sparsity, kernel=kernel, dense_steps=0.25 if policy == "draft" else 0.0)
            yield record(
                "video_time",
                place,
                setting,
                metrics,
                machine=MACHINE,
                timing={"samples_ms": [whole, whole], "median_ms": whole, "p10_ms": whole, "p90_ms": whole},
            )


def generate(clips=32, seed=3):
    """Every record, in a fixed order."""
    rng = random.Random(seed)
    dense = record(
        "video",
        source(clips),
        config("dense", 0.0, kernel="auto"),
        {"repeat_max_abs": 0.0, "kept_share": 1.0, "flops_share": 1.0, "clips": clips, "flicker_truth": 0.01},
        machine=MACHINE,
        arrays={
            "effective_blocks": 3 * [12.0] + 3 * [80.0],
            "psnr_truth": [TO_TRUTH - 0.01 * clip for clip in range(clips)],
            "flicker": [0.015] * clips,
        },
    )
    rounding = record(
        "video",
        source(clips),
        config("dense", 0.0, dense_steps=0.0),
        {"psnr": 55.0, "ssim": 0.999},
        machine=MACHINE,
        arrays={"psnr": [55.0] * clips, "ssim": [0.999] * clips},
    )
    found = [dense, rounding]
    for sparsity in SPARSITIES:
        for changes in (
            {},
            {"pool": "max"},
            {"rule": "logits"},
            {"rule": "released"},
            {"rule": "row"},
            {"region": (16, 16)},
            {"region": (8, 8)},
            {"dense_steps": 0.0},
            {"dense_steps": 0.5},
        ):
            found += video(clips, rng, "draft", sparsity, **changes)
        for policy in ("random", "oracle"):
            found += video(clips, rng, policy, sparsity)
    for sparsity in SPARSITIES:
        for heads in ("diffuse", "others"):
            for rule in ("softmax", "row"):
                found += video(clips, rng, "draft", sparsity, rule=rule, heads=heads)
    for share, changes in ((0.95, {}), (0.6, {"rule": "logits"}), (0.8, {"rule": "row"})):
        found += washed(clips, rng, "draft", 0.9, share, **changes)
    for step, growth in ((8, 4.0), (15, 2.0)):
        found += feedback(clips, rng, "noise", step, 0.2)
        found += feedback(clips, rng, "mask", step, growth)
    drafts = [one for one in found if one["experiment"] == "video" and one["config"]["policy"] == "draft"]
    plain = next(one for one in drafts if one["config"] == config("draft", 0.9))
    return found + list(eight_bits(clips, plain)) + list(times())
