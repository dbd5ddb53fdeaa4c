"""Denoising steps of one process among several, which share a transformer's tokens by Ulysses; what is compared with one
GPU's."""

import contextlib
import datetime
from dataclasses import dataclass
from types import SimpleNamespace
from unittest import mock

import torch
from draftattention.diffusers import context_parallel_plan

from lab.shared.relative import relative_l2

from . import configurations, pieces, pipeline
from .stopwatch import Step

# The largest relative L2 that rounding may make. On a GPU: 16 times eps = 2^-8 of bfloat16. Each of some 500 roundings of
# a residual stream is up to eps / 2 of it and about eps / sqrt(12) on average, which add up as a random walk to 6 eps.
# On a CPU in float32, products of up to 2^12 terms: 2^-13, far below what a wrong order makes.
ROUNDING = {"cuda": 16 * 2.0**-8, "cpu": 2.0**-13}
# Of one attention call's output under a draft mask on a GPU: of blocks with almost equal scores, which random weights make
# many of, others may be kept. Outputs of other heads or tokens differ by sqrt(2).
CHOICES = 0.3


@dataclass
class Seen:
    """Of a run's first pass: the model's prediction, and this process's video rows of the first layer's attention."""

    prediction: torch.Tensor
    attention: torch.Tensor | None


@dataclass
class Turn:
    """Some timed steps."""

    steps: list  # of stopwatch.Step
    prediction_rms: float
    peak_gb: float | None


class Ranks:
    """The processes. Raises RuntimeError where torch.distributed gives up."""

    def __init__(self, device, rank, count):
        self.rank, self.count, self.device = rank, count, torch.device(device)
        self.backend = "nccl" if self.device.type == "cuda" else "gloo"
        if count == 1:
            return
        # Objects and waiting go by gloo: waiting by NCCL would keep a GPU busy.
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "cpu:gloo",
            rank=rank,
            world_size=count,
            timeout=datetime.timedelta(minutes=30),
        )
        self._hosts = torch.distributed.new_group(backend="gloo", timeout=datetime.timedelta(minutes=30))

    def leave(self):
        if self.count > 1:
            torch.distributed.destroy_process_group()

    def wait(self):
        """Until all processes are here."""
        if self.count > 1:
            torch.distributed.barrier(self._hosts)

    def gathered(self, value):
        """Everybody's value, by rank."""
        if self.count == 1:
            return [value]
        found = [None] * self.count
        torch.distributed.all_gather_object(found, value, group=self._hosts)
        return found

    def share(self, transformer):
        """The transformer's tokens are shared out from now on."""
        import diffusers

        names = ("ring", "ulysses")
        mesh = torch.distributed.device_mesh.init_device_mesh(self.device.type, (1, self.count), mesh_dim_names=names)
        config = diffusers.ContextParallelConfig(ulysses_degree=self.count, mesh=mesh)
        with contextlib.ExitStack() as stack:
            if self.device.type == "cpu":  # diffusers asks how many accelerators there are
                stack.enter_context(mock.patch.object(torch.accelerator, "device_count", lambda: self.count))
            transformer.enable_parallelism(config=config, cp_plan=context_parallel_plan(transformer))


class ParallelBench:
    """A pipeline on this process's device."""

    def __init__(self, shape, recorder, clock, kernel, ranks):
        device = recorder.device if recorder else ranks.device
        self.bench = pieces.Bench(shape, recorder or SimpleNamespace(device=device), clock, kernel)
        self.shape, self.ranks = shape, ranks
        self.bench.open()

    @property
    def transformer(self):
        return self.bench.pipeline.transformer

    def attending(self, configuration):
        return configurations.attending(configuration, self.bench.pipeline, self.bench.kernel_of(configuration))

    def warm_up(self):
        """A step whose blocks are not compiled, as diffusers' hooks can be traced after a pass alone."""
        with self.attending(configurations.parse(pieces.WARM_UP, self.bench.kernel)):
            self.bench.run(stop_after=1)

    def look(self, configuration):
        """Seen in one step that is not timed."""
        found, handles = {}, []

        def keep(name):
            def hook(_module, _given, output):
                if name not in found:
                    found[name] = output[0] if isinstance(output, tuple) else output

            return hook

        handles.append(self.transformer.register_forward_hook(keep("prediction")))
        if not configuration.compiled:  # a graph has no place for it
            handles.append(self._first_attention().register_forward_hook(keep("attention")))
        try:
            with self.attending(configuration):
                self.bench.run(stop_after=1)
        finally:
            for handle in handles:
                handle.remove()
        rows = found.get("attention")
        return Seen(found["prediction"].cpu(), None if rows is None else rows.cpu())

    def _first_attention(self):
        if self.shape.family == "hunyuan":
            return self.transformer.transformer_blocks[0].attn
        return self.transformer.blocks[0].attn1

    def turn(self, configuration, steps, alone):
        """A Turn. alone: whether this process is the only one that has it."""
        with self.attending(configuration):
            if configuration.compiled:
                self.bench.run(stop_after=1)  # makes what graphs are not there yet
            if not alone:
                self.ranks.wait()
            pipeline.peak_of(self.ranks.device)
            run = self.bench.run(stop_after=steps)
        return Turn(run.steps, run.prediction_rms, pipeline.peak_of(self.ranks.device).get("peak_memory_gb"))


def slowest(turns):
    """One Turn of what each process measured."""
    by_step = zip(*(turn.steps for turn in turns))
    steps = [Step(*map(max, zip(*(vars(each).values() for each in some)))) for some in by_step]
    peaks = [turn.peak_gb for turn in turns if turn.peak_gb is not None]
    return Turn(steps, turns[0].prediction_rms, max(peaks, default=None))


def differences(seen, alone):
    """A record's metrics: the relative L2 between what the first process saw and what one GPU gives."""
    found = {"parallel_rel_l2": relative_l2(seen.prediction, alone.prediction)}
    if seen.attention is not None:
        found["parallel_attention_rel_l2"] = relative_l2(seen.attention, alone.attention[:, : seen.attention.shape[1]])
    return found


def why_wrong(configuration, found, kind):
    """Why these differences are no rounding; "" if they may be."""
    bounds = dict.fromkeys(found, ROUNDING[kind])
    if kind == "cuda" and configuration.is_draft and "parallel_attention_rel_l2" in bounds:
        bounds["parallel_attention_rel_l2"] = CHOICES
    wrong = [name for name in found if not found[name] <= bounds[name]]
    return "; ".join(f"{name}: wanted at most {bounds[name]:.3g}, found {found[name]:.3g}" for name in wrong)
