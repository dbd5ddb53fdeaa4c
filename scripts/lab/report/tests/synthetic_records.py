"""Invented records with realistic numbers, for the tests and for looking at the plots. Never for results."""

import json
import math
import random

GRID = {"frames": 8, "height": 32, "width": 48}
SPARSITIES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95)
REGIONS = ((4, 8), (8, 8), (8, 16), (16, 8), (16, 16), (16, 32))
RULES = ("logits", "softmax", "released", "row")
TOKENS = 8 * 32 * 48


def record(experiment, source, config, metrics, **more):
    common = {
        "schema": 2,
        "experiment": experiment,
        "input": source,
        "config": config,
        "metrics": metrics,
        "status": "ok",
        "machine": {"cpu": "Synthetic CPU", "cores": 2},
        "build": {"commit": "0123456789abcdef", "dirty": False},
        "time": "2030-01-01T00:00:00Z",
    }
    common.update(more)
    return common


def heads(captures=2, count=3):
    for capture in range(captures):
        for head in range(count):
            yield (
                {
                    "dump": "synthetic.h5",
                    "sha256": "ab12cd34" * 8,
                    "model": "synthetic",
                    "capture": f"layer{3 * capture}_step15",
                    "layer": 3 * capture,
                    "step": 15,
                    "steps": 30,
                    "head": head,
                    "grid": GRID,
                    "text_tokens": 8,
                    "head_dim": 128,
                },
                capture * count + head,
            )


def quality(index, policy, pool, rule, region, sparsity, rng):
    """Recall k^a with an exponent by policy and head; errors fall with recall."""
    focus = (0.18, 0.3, 0.45, 0.6, 0.8, 0.95)[index % 6]
    size = math.log2(region[0] * region[1] / 128)
    keep = 1 - sparsity
    exponent = {"oracle": focus * 0.8, "random": 1.0}.get(
        policy, focus + (0.0 if pool == "avg" else 0.35 * (1 - focus))
    )
    exponent += {"row": 0.03, "logits": -0.02}.get(rule, 0) + (0.04 * size if policy != "random" else 0)
    recall = keep ** max(exponent, 0.02)
    blocks = (TOKENS // (region[0] * region[1])) ** 2
    kept = math.ceil(keep * blocks - 1e-6)
    empty = 0 if rule == "row" or policy != "draft" else int(max(0.0, sparsity - 0.7) * 40 * focus)
    error = (1 - recall) * (0.6 + 0.5 * focus) + 0.02 * empty * focus + rng.uniform(0, 0.01)
    smallest = 0.0 if empty else keep * (1.0 if rule == "row" else 0.4)
    frobenius = math.sqrt(TOKENS) * (1 - recall) * 0.25
    return {
        "attention_recall": recall,
        "attention_recall_p05": recall * 0.6,
        "attention_recall_min": recall * 0.2 if not empty else 0.0,
        "max_dropped_mass": 1 - recall * 0.2 if not empty else 1.0,
        "mean_dropped_mass": 1 - recall,
        "min_kept_fraction": smallest,
        "kept_blocks": kept + (1 if rule == "released" else 0),
        "total_blocks": blocks,
        "empty_rows": empty,
        "output_rel_l2": error,
        "output_rel_l1": error * 0.9,
        "output_cosine": 1 - error * error / 2,
        "output_psnr": 20 - 20 * math.log10(error + 1e-3),
        "probs_frobenius": frobenius,
        "trivial_bound": math.sqrt(2 * TOKENS),
    }


def steps(metrics):
    """What every mask has: step 1, the bound from mu, the output bound."""
    n, frobenius = TOKENS, metrics["probs_frobenius"]
    return {
        "step_1_row_l1_max": 2 * metrics["max_dropped_mass"] * 0.99,
        "step_1_residual": 3e-15,
        "step_1_rows_checked": 96,
        "step_1_bound": 2 * math.sqrt(n) * metrics["max_dropped_mass"],
        "bound_sharp_mu": min(frobenius * 1.6, metrics["trivial_bound"]),
        "output_error_max": 1.7,
        "output_bound_max_ratio": 0.41,
        "check_step_1": 1,
        "check_sharp_mu": 1,
        "check_output": 1,
    }


def bounds(index, pool, metrics, rng):
    n, trivial = TOKENS, metrics["trivial_bound"]
    delta = (4.0 + 5 * (index % 6)) * (1.0 if pool == "avg" else 1.8)
    s = metrics["min_kept_fraction"]
    odds = s / (1 - s)
    bound = 2 * math.sqrt(n) / (1 + odds * math.exp(-2 * delta))
    paper = 2 * math.sqrt(n) / (1 + odds * math.exp(max(-700.0, -2 * delta * math.sqrt(128))))
    rms = delta * math.sqrt(128) * 0.21
    metrics = dict(metrics)
    metrics.update(steps(metrics))
    metrics.update(
        {
            "delta_logits": delta * math.sqrt(128),
            "delta_scaled": delta,
            "delta_p50": rms * 0.6,
            "delta_p90": rms * 1.6,
            "delta_p99": rms * 2.7,
            "delta_p999": rms * 3.6,
            "logits_rms_deviation": rms,
            "logits_frobenius": rms * n,
            "bound_3_3": delta * math.sqrt(128) * n,
            "tightness_3_3": 0.21,
            "delta_block_row": 3,
            "delta_block_column": 17,
            "delta_half_block_share": 0.2,
            "delta_radii": delta * math.sqrt(128) * 2.4,
            "radii_tightness": 1 / 2.4,
            "bound_3_5": bound,
            "bound_3_5_paper_delta": paper,
            "tightness_3_5": metrics["probs_frobenius"] / bound,
            "vacuity_3_5": bound / trivial,
            "bound_sharp": bound / math.sqrt(2),
            "bound_blocks": trivial * rng.uniform(0.93, 0.99),
            "bound_radii": trivial * rng.uniform(0.995, 1.0),
            "step_2_max_ratio": 0.99,
            "check_3_3": 1,
            "check_radii_delta": 1,
            "check_step_2": 1,
            "check_3_5": 1,
            "check_sharp": 1,
            "check_blocks": 1,
            "check_radii": 1,
        }
    )
    return metrics


def config(policy, pool, rule, region, sparsity, seed=None):
    result = {
        "policy": policy,
        "pool": pool,
        "rule": rule,
        "region": list(region),
        "sparsity": sparsity,
        "device": "cpu",
        "kernel": "reference",
    }
    if policy != "draft":
        result = {key: value for key, value in result.items() if key not in ("pool", "rule")}
    if seed is not None:
        result["seed"] = seed
    return result


def maps(index, region, rng):
    per_frame = (GRID["height"] // region[0]) * (GRID["width"] // region[1])
    g = GRID["frames"] * per_frame
    draft, mass = [], []
    for i in range(g):
        row = [
            math.exp(
                -0.35 * abs(i // per_frame - j // per_frame)
                - 0.5 * abs(i % per_frame - j % per_frame) * (1 + index)
                + rng.gauss(0, 0.5)
            )
            for j in range(g)
        ]
        total = sum(row)
        draft.append([float(f"{value / total:.5g}") for value in row])
        noisy = [value * math.exp(rng.gauss(0, 0.6)) for value in row]
        mass.append([float(f"{value / sum(noisy) * 0.98:.5g}") for value in noisy])
    threshold = sorted((value for row in draft for value in row), reverse=True)[math.ceil(0.1 * g * g) - 1]
    mask = ["".join("1" if value >= threshold else "0" for value in row) for row in draft]
    return {"draft_map": draft, "block_mass": mass, "mask": mask}


def generate(captures=2, count=3, seed=7):
    """Every record of the experiments on dumps, in a fixed order."""
    rng = random.Random(seed)
    result = []
    for source, index in heads(captures, count):
        for sparsity in SPARSITIES:
            for pool in ("avg", "max"):
                for rule in RULES:
                    cell = quality(index, "draft", pool, rule, (8, 16), sparsity, rng)
                    result.append(
                        record(
                            "bounds",
                            source,
                            config("draft", pool, rule, (8, 16), sparsity),
                            bounds(index, pool, cell, rng),
                        )
                    )
            for policy in ("oracle", "random"):
                cell = quality(index, policy, "", "", (8, 16), sparsity, rng)
                result.append(
                    record(
                        "bounds",
                        source,
                        config(policy, "", "", (8, 16), sparsity, 1 if policy == "random" else None),
                        {**cell, **steps(cell)},
                        notes={"theorem_3_5": "not applicable: no threshold on S~"},
                    )
                )
        for region in REGIONS:
            for sparsity in (0.5, 0.75, 0.9):
                for policy, pool in (("draft", "avg"), ("draft", "max"), ("oracle", ""), ("random", "")):
                    cell = quality(index, policy, pool, "softmax", region, sparsity, rng)
                    result.append(
                        record(
                            "regions",
                            source,
                            config(policy, pool, "softmax", region, sparsity, 1 if policy == "random" else None),
                            cell,
                        )
                    )
        cell = quality(index, "draft", "avg", "softmax", (8, 16), 0.9, rng)
        shares = {
            "mass_same_region": 0.12,
            "mass_same_frame": 0.31,
            "mass_same_position": 0.2,
            "mass_text": 0.02,
            "effective_blocks": 20.5,
        }
        result.append(
            record(
                "maps",
                source,
                config("draft", "avg", "softmax", (8, 16), 0.9),
                {**cell, **shares},
                arrays=maps(index, (8, 16), rng),
            )
        )
    return result


def write(path, records):
    with open(path, "w", encoding="utf-8") as stream:
        for item in records:
            stream.write(json.dumps(item) + "\n")
