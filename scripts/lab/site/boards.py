"""The leaderboards: policies by what their masks keep, kernels by their times, choices of blocks by their videos. A row
has its numbers with intervals, and a link to its records."""

from statistics import mean

import pandas as pd

from lab.report.calls import OWN_KERNELS
from lab.report.foreign import plain
from lab.report.frame import DUMP, TIMED, rows, where, with_columns, with_metrics
from lab.report.quality import over_prompts
from lab.report.videos import every_set
from lab.shared.record_format import is_number

from .store import as_text, record_link, records_link, shortened

TIMES = ("latency", "latency_sustained", "peers")  # whole attention calls
OF_MASKS = ("attention_recall", "output_rel_l2", "choosing_flops_share", "kept_blocks", "total_blocks")


def number(value, low=None, high=None):
    """What a page shows as a number, with its interval where that is one; None of none."""
    if value is None or not is_number(float(value)):
        return None
    values = [float(each) for each in (value, low, high) if each is not None]
    return [shortened(each) for each in values] if all(map(is_number, values)) else [shortened(values[0])]


def policies(records, index):
    """A row a dump, policy and budget: means over heads, 95% intervals over prompts (Student's t) where there are two."""
    cells = with_metrics(records.of("policies"), *OF_MASKS)
    cells = where(cells, [is_number(value) for value in cells["output_rel_l2"]])
    budgets = [sparsity if sparsity is not None else "released" for sparsity in cells["sparsity"]]
    cells = with_columns(cells, budget=[as_text(budget) for budget in budgets])
    found = []
    for (dump, sha, variant, budget), group in cells.groupby([*DUMP, "variant", "budget"], sort=False):
        shares = [
            kept / total
            for kept, total in zip(group["kept_blocks"], group["total_blocks"])
            if kept is not None and total
        ]
        named = {"sha": as_text(sha), "variant": as_text(variant)}
        named |= {"sparsity": budget} if budget != "released" else {}
        found.append(
            {
                "policy": plain(variant),
                "dump": f"{plain(dump)} ({plain(sha)[:8]})",
                "sparsity": budget,
                "recall": _over_prompts(group, "attention_recall"),
                "error": _over_prompts(group, "output_rel_l2"),
                "kept": number(mean(shares)) if shares else None,
                "choosing": number(mean(value or 0.0 for value in group["choosing_flops_share"])),
                "heads": number(len(group.drop_duplicates(["capture", "head"]))),
                "link": records_link(index.loc[group.index], named),
            }
        )
    return found


def _over_prompts(group, metric):
    values = [value for value in group[metric] if is_number(value)]
    if not values:
        return None
    with_it = where(group, [is_number(value) for value in group[metric]])
    pairs = with_it[["sha", "prompt"]].assign(first=pd.Series(values, index=with_it.index, dtype=float), second=0.0)
    over = over_prompts(pairs)
    return number(over["gain"], over["low"], over["high"]) if over else number(mean(values))


def kernels(records):
    """A row a timed call: the median with the 10% and 90% quantiles of its samples."""
    found = []
    for cell in rows(records.of(*TIMES)):
        if not cell.median_ms:
            continue
        metrics, dense = cell.metrics, not cell.sparsity
        found.append(
            {
                "kernel": plain(cell.kernel or ""),
                "ours": (cell.kernel or "") in OWN_KERNELS,
                "call": plain(cell.call or ""),
                "gpu": plain(cell.gpu or cell.cpu or ""),
                "commit": plain(cell.commit),
                "sparsity": as_text(cell.sparsity or 0),
                "mask": "dense" if dense else plain(cell.policy) + (" + remainder" if cell.remainder else ""),
                "order": plain(cell.order or ""),
                "timing": "in a row" if cell.experiment == "latency_sustained" else "single call",
                "time": number(cell.median_ms, cell.p10_ms or cell.median_ms, cell.p90_ms or cell.median_ms),
                "rate": number(cell.tflops_kept),
                "speedup": number(metrics.get("speedup_over_dense")),
                "samples": number(len(cell.samples_ms or ())),
                "link": record_link(cell),
            }
        )
    return found


def videos(records):
    """[(row of the board, every clip's numbers)], a pair a choice of blocks and set of clips: means over clips with 95%
    bootstrap intervals."""
    found = []
    for each in every_set(records):
        for choice in each.choices():
            cell = each.get(choice)
            summaries = {name: each.summary(choice, name) for name in ("psnr", "ssim", "lpips")}
            intervals = {name: number(*summary) if summary else None for name, summary in summaries.items()}
            row = {
                "policy": plain(choice.policy),
                "choice": plain(choice.label),
                "sparsity": as_text(choice.sparsity),
                "model": f"{plain(cell.model or '')}, {plain(cell.grid_text)} tokens",
                "gpu": plain(cell.gpu or cell.cpu or ""),
                "link": record_link(cell),
            }
            clips = {
                name: [shortened(float(value)) for value in cell.arrays.get(name) or ()] or None for name in summaries
            }
            numbers = {"kept": number(cell.metrics.get("kept_share")), "clips": number(cell.clips)}
            found.append((row | intervals | numbers, row | {"clips": clips, "intervals": intervals}))
    return found


def times(records):
    """The page of kernels' times: every sample of every timed cell, parts of calls included."""
    found = []
    for cell in rows(records.of(*TIMED)):
        if not cell.samples_ms:
            continue
        throttled = cell.machine.get("throttle_reasons") or []
        found.append(
            {
                "set": {"peers": "kernels side by side", "overhead": "parts of a call", "latency": "single calls"}.get(
                    cell.experiment, "calls in a row"
                ),
                "call": plain(cell.call or ""),
                "gpu": plain(cell.gpu or cell.cpu or ""),
                "sparsity": as_text(cell.sparsity or 0),
                "name": plain(cell.part or cell.kernel or "")
                + (f", {plain(cell.order)} order" if cell.order not in (None, "token") else ""),
                "ours": (cell.kernel or "") in OWN_KERNELS or bool(cell.part),
                "mask": ("dense" if not cell.sparsity else plain(cell.policy))
                + (" + remainder" if cell.remainder else ""),
                "samples": [shortened(float(value)) for value in cell.samples_ms],
                "median": cell.median_ms,
                "clock": [cell.machine.get("sm_clock_before_mhz"), cell.machine.get("sm_clock_after_mhz")],
                "power": cell.machine.get("power_after_w"),
                "throttled": [plain(text) for text in throttled],
                "commit": plain(cell.commit),
                "run": plain(cell.run),
                "link": record_link(cell),
            }
        )
    return found
