"""Records of experiment `peers`: keys and names as the C++ records have them (harness/record/record.cpp)."""

from lab.shared import records
from lab.shared.timing import WARM_UPS, summary

from .inputs import BLOCK, REGION


def config_of(contender, case):
    """A record's `config`."""
    config = {
        "device": "cuda",
        "kernel": contender.name,
        "element": "bfloat16",
        "order": contender.order,
        "policy": "draft" if case.sparsity else "dense",
        "region": list(REGION),
        "sparsity": case.sparsity,
    }
    if contender.operands:
        config |= {"operands": contender.operands, "quantising": contender.quantising}
    return config | ({"pool": case.pool, "rule": case.rule} if case.sparsity else {})


def notes_of(contender, tolerance):
    """A record's `notes` on the kernel: what it is, where it comes from, and how near to ours its output had to be."""
    notes = {
        "kernel": contender.note,
        "package": contender.package,
        "version": contender.version(),
        "install": contender.install,
        "tolerance": f"output_rel_l2 of at most {tolerance:g}",
    }
    return {name: note for name, note in notes.items() if note}


def timing_of(call, blocks, samples, l2_flush):
    """A record's `timing`; FLOPs count 128 x 128 tokens for each of the `blocks` that are computed, cut ones too."""
    timing = summary(samples)
    flops = 4 * BLOCK * BLOCK * call.head_dim * blocks
    return timing | {"tflops_kept": flops / timing["median_ms"] / 1e9, "warmup": WARM_UPS, "l2_flush": l2_flush}


def compared(metrics, timing, dense, matmul_tflops):
    """`metrics` with the ratios; dense: the same kernel's and order's dense `timing` in this run, or None."""
    metrics = metrics | {"matmul_tflops": matmul_tflops, "share_of_matmul": timing["tflops_kept"] / matmul_tflops}
    if dense is not None:
        metrics |= {
            "speedup_over_dense": dense["median_ms"] / timing["median_ms"],
            "rate_over_dense": timing["tflops_kept"] / dense["tflops_kept"],
        }
    return metrics


def make_record(call, config, metrics, machine, build, status="ok", reason="", timing=None, notes=None):
    """One record of a cell of `call`: records.make_record."""
    return records.make_record("peers", call.input, config, metrics, machine, build, status, reason, timing, notes)
