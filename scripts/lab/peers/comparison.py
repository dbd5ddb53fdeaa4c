"""Checks every contender against this project's kernel under one mask, then times all that passed, in one run."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from lab.shared.relative import relative_l2
from lab.shared.timing import machine_of, quantile, shuffled_rounds

from . import records
from .contenders import Case, Contender, Prepared, Unsupported
from .inputs import ELEMENT, REGION
from .masks import kept_metrics

# Of relative L2. Two right kernels that round probabilities and outputs to bfloat16 (unit roundoff 2^-8), each in its
# own way, differ by two or three roundoffs; this is five. A row of 100 equal blocks that lacks one is off by 0.1.
LARGEST_DISAGREEMENT = 2e-2
# The same of a kernel that multiplies 8-bit operands. E4M3 has a unit roundoff of 2^-4: rounding Q, K, probabilities, V
# and the output leaves 0.06 to 0.09 where outputs are averages of random values, and this is under twice that. Where
# every row keeps fewer than 40 equal blocks, one that is missing in each is still found; a wrong mask always is.
LARGEST_DISAGREEMENT_OF_8_BITS = 0.15

MATMUL_SIZE = 8192
MATMULS_PER_ROUND = 3  # short ones: more of them, spread over the round

REFERENCES = ("wgmma", "mma")  # the first that can do the call
METHOD = (
    "every kernel once a round in shuffled order; GPU events; L2 overwritten and a pause before each sample, "
    "not timed; clocks and power are medians over the samples"
)


class DeviceLost(Exception):
    """After an error in one kernel the GPU answers to nobody."""


class InputsChanged(Exception):
    """A kernel wrote into the tensors that all share: who comes after it would attend to something else."""


@dataclass(eq=False)
class Job:
    """One thing to time; a contender's cell unless it is the matrix product."""

    contender: Contender = None
    case: Case = None
    work: Callable = None  # what is timed
    notes: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""
    samples: list = field(default_factory=list)
    states: list = field(default_factory=list)  # (before, after) of each sample


def make_cases(library, call, sparsities, rule, pool):
    """Dense, then the draft mask of the call's own Q and K at each sparsity."""
    cases = [Case()]
    for sparsity in sparsities:
        lists = library.draft_lists(
            call.q, call.k, grid=call.grid, region=REGION, pool=pool, rule=rule, sparsity=sparsity
        )
        cases.append(Case(sparsity, rule, pool, lists.mask.bool(), lists))
    return cases


def tolerance_of(contender):
    """The largest output_rel_l2 that a kernel may have."""
    return LARGEST_DISAGREEMENT_OF_8_BITS if contender.operands else LARGEST_DISAGREEMENT


def fingerprint(call):
    """A number that other bits of q, k or v change."""
    return tuple(int(x.view(torch.int16).sum(dtype=torch.int64)) for x in (call.q, call.k, call.v))


def first_line(error):
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    kind = "" if isinstance(error, Unsupported) else type(error).__name__
    return ": ".join(part for part in (kind, lines[0][:300] if lines else "") if part)


def reference_of(library, call, case):
    """(kernel's name, its output in token order). Raises the last kernel's error if none can do the call."""
    known = {kernel["name"] for kernel in library.kernels()}
    error = ValueError(f"reference: wanted a kernel of {', '.join(REFERENCES)}, found none")
    for name in REFERENCES:
        if name in known:
            try:
                return name, library.attention(
                    call.q, call.k, call.v, grid=call.grid, region=REGION, lists=case.lists, kernel=name
                )[0]
            except ValueError as refusal:
                error = refusal
    raise error


def check(job, call, reference, timer):
    """Prepares the job and holds its first output, which is its warm-up, to the reference. A peer that throws is
    skipped; so is a kernel of ours that refuses the call, but one that breaks down has failed. Raises InputsChanged."""
    before, out = fingerprint(call), None
    try:
        prepared = job.contender.prepare(call, job.case)
        if not isinstance(prepared, Prepared):
            prepared = Prepared(prepared)
        job.work, job.notes = prepared.run, prepared.notes
        out = prepared.output(prepared.run())
        timer.wait()
    except Exception as error:  # whatever a foreign package raises
        refused = not job.contender.ours or isinstance(error, (ValueError, Unsupported))
        job.status, job.reason, job.work = "skipped" if refused else "failed", first_line(error), None
        _require_device(timer, job)
    if fingerprint(call) != before:
        raise InputsChanged(f"{job.contender.name}: wrote into Q, K or V")
    if out is None:
        return
    if out.shape != reference.shape:
        job.status, job.reason = "failed", f"output: wanted {tuple(reference.shape)}, found {tuple(out.shape)}"
        return
    disagreement, largest = relative_l2(out, reference), tolerance_of(job.contender)
    job.metrics["output_rel_l2"] = disagreement
    if not disagreement <= largest:  # NaN too
        job.status, job.work = "failed", None
        job.reason = f"output_rel_l2: wanted at most {largest:g}, found {disagreement:g}"


def _require_device(timer, job):
    try:
        timer.wait()
    except Exception as error:
        raise DeviceLost(f"{job.contender.name}: {job.reason}; then the GPU: {first_line(error)}") from error


def prepare(library, call, contenders, cases, timer):
    """(jobs, name of the reference kernel): every cell, checked."""
    in_region_order = None
    if any(contender.order == "region" for contender in contenders):
        in_region_order = call.reordered(lambda rows: library.to_region_order(rows, call.grid, REGION))
    jobs, name = [], ""
    for case in cases:
        name, reference = reference_of(library, call, case)
        reordered = None if in_region_order is None else library.to_region_order(reference, call.grid, REGION)
        for contender in contenders:
            if case.mask is not None and not contender.sparse:
                continue
            job = Job(contender, case)
            region = contender.order == "region"
            check(job, in_region_order if region else call, reordered if region else reference, timer)
            print(
                f"peers: {contender.name}, sparsity {case.sparsity:g}: "
                f"{job.reason or 'agrees to ' + format(job.metrics['output_rel_l2'], '.1e')}",
                file=sys.stderr,
            )
            jobs.append(job)
    return jobs, name


def matmul_job(device):
    """The machine's own mark: a bfloat16 product of 8192^3 of random numbers by cuBLAS."""
    a, b = (torch.randn(MATMUL_SIZE, MATMUL_SIZE, dtype=ELEMENT, device=device) for _ in range(2))
    job = Job(work=lambda: torch.matmul(a, b))
    job.work()
    return job


def time_all(jobs, matmul, rounds, seed, timer):
    """Samples of every job that passed its check. One that throws now has failed and is left out from then on."""
    for job in shuffled_rounds(jobs + [matmul] * MATMULS_PER_ROUND, rounds, seed):
        if job.status != "ok":
            continue
        try:
            before = timer.state()
            sample = timer.sample(job.work)
            job.states.append((before, timer.state()))
            job.samples.append(sample)
        except Exception as error:
            if job is matmul:
                raise DeviceLost(f"matrix product: {first_line(error)}") from error
            job.status, job.reason = "failed", first_line(error)
            _require_device(timer, job)


def computed_blocks(call, job, counts):
    """Blocks that the job computes: the project's, or slices of 128 tokens where a peer knows no regions. The two
    differ only where regions do not divide the grid."""
    if job.contender.ours or job.case.mask is not None:
        return counts["kept_with_text"]
    return call.heads * call.slices**2


def records_of(call, jobs, matmul, reference, timer, machine, build):
    """One record a cell, in the jobs' order."""
    matmul_tflops = 2 * MATMUL_SIZE**3 / quantile(matmul.samples, 0.5) / 1e9
    dense, made = {}, []
    for job in jobs:
        counts = kept_metrics(call, job.case.mask)
        metrics, timing = counts | job.metrics, None
        if job.status == "ok":
            timing = records.timing_of(call, computed_blocks(call, job, counts), job.samples, timer.l2_flush)
            if job.case.mask is None:
                dense[job.contender.name] = timing
            metrics = records.compared(metrics, timing, dense.get(job.contender.name), matmul_tflops)
        notes = records.notes_of(job.contender, tolerance_of(job.contender)) | job.notes
        notes |= {"reference": reference, "method": METHOD}
        made.append(
            records.make_record(
                call,
                records.config_of(job.contender, job.case),
                metrics,
                machine_of(machine, job.states),
                build,
                job.status,
                job.reason,
                timing,
                notes,
            )
        )
    return made


def table(made):
    """The records as lines of text."""
    rows = [
        ("kernel", "order", "sparsity", "kept", "ms", "p10 to p90", "TFLOP/s", "of matmul", "speed-up", "clock", "")
    ]
    for record in made:
        config, metrics, timing = record["config"], record["metrics"], record.get("timing")
        cells = [config["kernel"], config["order"], f"{config['sparsity']:g}", f"{metrics['kept_share']:.3f}"]
        if timing:
            speedup, clock = metrics.get("speedup_over_dense"), record["machine"].get("sm_clock_after_mhz")
            cells += [
                f"{timing['median_ms']:.3f}",
                f"{timing['p10_ms']:.3f} to {timing['p90_ms']:.3f}",
                f"{timing['tflops_kept']:.0f}",
                f"{metrics['share_of_matmul']:.3f}",
                "-" if speedup is None else f"{speedup:.2f}",
                "-" if clock is None else f"{clock:.0f}",
            ]
        else:
            cells += ["-"] * 6
        verdict = "" if record["status"] == "ok" else f"{record['status']}: {record['reason']}"
        rows.append((*cells, verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    marks = [record["metrics"]["matmul_tflops"] for record in made if "matmul_tflops" in record["metrics"]]
    return lines + [f"matmul: {mark:.0f} TFLOP/s, bfloat16, {MATMUL_SIZE}^3" for mark in marks[:1]]
