"""What is measured, a piece at a time, and the record of each."""

import contextlib
import functools
import os
import statistics
import time

import torch
from draftattention.diffusers import intercept_self_attention

from lab.model import fp8
from lab.shared.timing import summary

from . import backends, budget, configurations, pipeline, profiling, running, text, whole
from .mask_look import MaskLook
from .recorder import input_of, name_of
from .stopwatch import medians

WARM_UP = "draft_90"  # the cheapest of the usual configurations


class Bench:
    """One shape's pipeline on the device, and its pieces. Every method measures one piece and writes its records."""

    def __init__(self, shape, recorder, clock, kernel):
        self.shape, self.recorder, self.clock = shape, recorder, clock
        self.device, self.kernel = recorder.device, kernel
        self.element, self.vae_element = pipeline.ELEMENTS[self.device.type]
        self.pipeline, self._linears = None, "bfloat16"
        self.best = None  # the backend of dense_best, once it is known
        self._graphs = {None}  # Configuration.graphs of those that have run
        self.embeddings = text.random_embeddings(shape, self.device, self.element)

    def open(self):
        """Builds the transformer and the VAE, once."""
        if self.pipeline is None:
            self._forget_graphs()
            transformer = pipeline.transformer_of(self.shape, self.device, self.element)
            vae = pipeline.vae_of(self.shape, self.device, self.vae_element)
            self.pipeline = pipeline.with_parts(self.shape, transformer, vae)

    def _forget_graphs(self):
        """Graphs of the blocks' code go, those of other shapes too: beside one that is there PyTorch makes the next for
        any size, which took 64 and 87 s where the first had taken 8 to 18, and may run slower."""
        torch.compiler.reset()
        self._graphs = {None}

    def linears(self, fp8):
        """The transformer with its linear layers in bfloat16 or in FP8. Raises Unavailable."""
        wanted = "fp8" if fp8 else "bfloat16"
        if self._linears == wanted:
            return
        self._forget_graphs()
        if self._linears != "bfloat16":  # those weights are gone
            self.pipeline.transformer = None
            pipeline.freed(self.device)
            self.pipeline.transformer = pipeline.transformer_of(self.shape, self.device, self.element)
            self._linears = "bfloat16"
        if fp8:
            self._linears = "some fp8"  # as it is where torchao gives up on the way
            configurations.quantise_linears(self.pipeline.transformer, self.shape)
        self._linears = wanted

    def rebuilds(self, configuration):
        """Whether this configuration wants the weights made anew, or quantised."""
        return self._linears != ("fp8" if configuration.fp8 else "bfloat16")

    def compiles(self, configuration):
        """Whether this configuration's graphs are still to be made."""
        return configuration.graphs not in self._graphs

    def _compile(self, configuration):
        """Makes its graphs in a step that is not timed; seconds of it, compilation and all."""
        if not self.compiles(configuration):
            return None
        _, seconds = self.clock.wall_s(lambda: self.run(stop_after=1))
        self._graphs.add(configuration.graphs)
        return seconds

    def flops(self, configuration):
        """Of a step, about."""
        tokens = input_of(self.shape)["text_tokens"]
        kept = 1 - configuration.policy.sparsity
        return pipeline.flops_of_step(self.shape, self.pipeline.transformer, tokens, kept)

    def kernel_of(self, configuration):
        return configurations.kernel_of(configuration, self.device, self.best)

    def run(self, **more):
        return running.denoise(self.shape, self.pipeline, self.embeddings, self.clock, **more)

    def warm_up(self, recorded):
        """One step that is not timed: libraries load, memory is taken. The draft mask of one call may be recorded."""
        before, found = self.recorder.state(), {}
        configuration = configurations.parse(WARM_UP, self.kernel)
        kernel = self.kernel_of(configuration)
        with intercept_self_attention(self.pipeline, MaskLook(self.shape, configuration, kernel, found)):
            self.run(stop_after=1)
        if recorded:
            config = configuration.config(kernel) | {"part": "masks"}
            self.recorder.write(self.shape, config, found, before=before, notes={"call": "middle layer, first step"})

    def encoded(self):
        """(the prompt's embeddings, seconds of encoding it), after one encoding that is not timed. The encoders are made
        for it, which is not timed either, and are gone afterwards."""
        found, seconds = self._timed_encoding()
        pipeline.freed(self.device)
        return found.to(self.device, self.element), seconds

    def _timed_encoding(self):
        encoders = text.encoding_pipeline(self.shape, self.device, self.element)
        encode = functools.partial(text.encode, self.shape, encoders, self.device)
        encode()
        return self.clock.wall_s(encode)

    def text(self):
        """The encoders; the pipeline is not needed."""
        before = self.recorder.state()
        pipeline.peak_of(self.device)
        found, seconds = self.encoded()
        rms = found.given["prompt_embeds"].float().pow(2).mean().sqrt().item()
        metrics = {"prediction_rms": rms, "prompt_tokens": found.valid} | pipeline.peak_of(self.device)
        self.recorder.write(
            self.shape,
            {"part": "text"},
            metrics,
            before=before,
            timing=summary([1e3 * seconds]) | {"warmup": 1},
            notes={"tokenizer": "one token a word; the released vocabularies would be a download"},
        )

    def decoding(self):
        """The VAE on random latents, and the file."""
        before = self.recorder.state()
        pipeline.peak_of(self.device)
        latents = self.latents()
        frames, decode_s, postprocess_s = running.decode(
            self.shape, self.pipeline, self.embeddings, self.clock, latents
        )
        peak = pipeline.peak_of(self.device)
        notes = {"vae": f"{type(self.pipeline.vae).__name__}, {name_of(self.vae_element)}, tiled", "latents": "normal"}
        self.recorder.write(
            self.shape,
            {"part": "vae"},
            {"postprocess_ms": 1e3 * postprocess_s} | peak,
            before=before,
            timing=summary([1e3 * decode_s]) | {"warmup": 0},
            notes=notes,
        )
        pipeline.freed(self.device)
        self._file(frames)

    def latents(self):
        frames, height, width = self.shape.grid  # a patch has 2 x 2 of them
        size = 1, self.shape.transformer["in_channels"], frames, 2 * height, 2 * width
        generator = torch.Generator(self.device).manual_seed(pipeline.SEED)
        return torch.randn(size, generator=generator, device=self.device)

    def _file(self, frames):
        before = self.recorder.state()
        try:
            seconds, size = whole.write_video(frames, whole.FRAMES_A_SECOND[self.shape.family])
        except (ImportError, OSError) as error:
            self.recorder.write(self.shape, {"part": "file"}, status="skipped", reason=f"no file: {error}")
            return None
        timing = summary([1e3 * seconds]) | {"warmup": 0}
        self.recorder.write(self.shape, {"part": "file"}, {"bytes": size}, before=before, timing=timing)
        return seconds

    def backends(self):
        """Every backend of diffusers on one call; sets `best`."""
        before = self.recorder.state()
        found = backends.trials(self.shape, self.embeddings.valid, self.clock, self.device, self.element)
        pipeline.freed(self.device)
        self.best = backends.best_of(found)
        milliseconds = {each.name: each.ms for each in found if each.counts}
        self.recorder.write(
            self.shape,
            {"part": "backends", "kernel": "diffusers"},
            {"dense_call_ms": milliseconds[self.best]},
            before=before,
            notes={"best": self.best, "backends": {each.name: each.noted() for each in found}},
        )

    def turn(self, configuration, number, steps):
        """Some steps of a configuration; returns the median step in seconds. Raises Unavailable."""
        before = self.recorder.state()
        kernel = self.kernel_of(configuration)
        self.linears(configuration.fp8)
        with configurations.attending(configuration, self.pipeline, kernel):
            compile_s = self._compile(configuration)
            pipeline.peak_of(self.device)
            run = self.run(stop_after=steps)
        notes = {} if compile_s is None else {"first_compiled_step_s": f"{compile_s:.1f}"}
        notes |= {"steps": f"the first {steps} of a schedule of {self.shape.steps}, all {configuration.policy.name}"}
        if configuration.fp8:
            notes["torchao"] = fp8.version_of_torchao()
        self.recorder.write(
            self.shape,
            configuration.config(kernel) | {"part": "steps", "turn": number},
            medians(run.steps) | {"prediction_rms": run.prediction_rms} | pipeline.peak_of(self.device),
            before=before,
            timing=summary([step.whole_ms for step in run.steps]) | {"warmup": 1},
            notes=notes,
        )
        return statistics.median(step.whole_ms for step in run.steps) / 1e3

    def profile(self, configuration):
        """One step by class of kernel."""
        before = self.recorder.state()
        kernel = self.kernel_of(configuration)
        self.linears(configuration.fp8)
        with configurations.attending(configuration, self.pipeline, kernel):
            self._compile(configuration)
            found = profiling.profiled(lambda: self.run(stop_after=1))
        if self.device.type == "cuda" and not found.on_gpu:
            raise RuntimeError("wanted the GPU's kernels, found none: the profiler may not look at them here")
        kinds = found.by_class()
        call = found.one_call()
        metrics = {f"profile_{kind}_ms": ms for kind, ms in kinds.items()}
        metrics |= {"profile_kernels_ms": sum(kinds.values()), "profile_span_ms": found.span_ms()}
        if call:
            copies = sum(each.ms for each in call if each.kind == "copies")
            metrics |= {"call_kernels_ms": sum(each.ms for each in call), "call_copies_ms": copies}
        self.recorder.write(
            self.shape,
            configuration.config(kernel) | {"part": "profile"},
            metrics,
            before=before,
            notes={
                "kernels": found.slowest(),
                "one_call": [
                    {"kernel": profiling.shortened(each.name), "class": each.kind, "ms": each.ms} for each in call
                ],
                "by": "kernels of the GPU" if found.on_gpu else "operators of the CPU, not kernels",
            },
        )

    def complete(self, configuration, path, left_s, with_text, decoding_s):
        """A whole video of all steps: whether it is done. One that does not fit into left_s() seconds is kept at `path`
        and goes on with the next call. with_text: by the encoders' embeddings, else random ones; decoding_s: what
        decoding will take."""
        shape, before = self.shape, self.recorder.state()
        dense = configurations.parse(configuration.dense, self.kernel)
        count = shape.dense_steps if configuration.is_draft else shape.steps
        pair = (dense, self.kernel_of(dense)), (configuration, self.kernel_of(configuration))
        self.linears(configuration.fp8)
        if self.compiles(configuration):
            with configurations.attending(configuration, self.pipeline, pair[1][1]):
                self._compile(configuration)
        pipeline.peak_of(self.device)
        of = f"{shape.name}, {configuration.name}, {shape.steps} steps"
        video = whole.Video.load(path, of, self.device)
        if video is None:
            video = whole.Video(of, *(self.encoded() if with_text else (self.embeddings, None)))
        video.sittings += 1
        if video.done < shape.steps:
            self._go_on(video, pair, count, left_s)
            video.peak_gb = max(video.peak_gb, pipeline.peak_of(self.device).get("peak_memory_gb", 0.0))
            video.save(path)
        if video.done < shape.steps or left_s() < decoding_s:
            return False
        frames, *seconds = running.decode(shape, self.pipeline, video.embeddings, self.clock, video.run.latents)
        file_s = None
        with contextlib.suppress(ImportError, OSError):
            file_s, _ = whole.write_video(frames, whole.FRAMES_A_SECOND[shape.family])
        left_out = [name for name, value in (("text", video.text_s), ("file", file_s)) if value is None]
        video.peak_gb = max(video.peak_gb, pipeline.peak_of(self.device).get("peak_memory_gb", 0.0))
        metrics = whole.complete_metrics(video, count, sum(seconds), file_s)
        config = configuration.config(pair[1][1]) | {
            "part": "complete",
            "dense_by": dense.name,
            "dense_kernel": pair[0][1],
        }
        self.recorder.write(
            shape,
            config,
            metrics,
            before=before,
            timing=summary([step.whole_ms for step in video.run.steps]) | {"warmup": 1},
            notes={
                "measured": "every step, nothing extrapolated",
                "sittings": str(video.sittings),
                "left_out": ", ".join(left_out) or "nothing",
            },
        )
        os.remove(path)
        return True

    def _go_on(self, video, pair, count, left_s):
        """Steps of a video while another one fits into left_s() seconds."""
        longest, last = 0.0, time.monotonic()

        def at_end(step):
            nonlocal longest, last
            switch.at_end(step)
            self.clock.wait()
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            return left_s() < budget.MARGIN * longest + budget.SAVING_S

        with configurations.Switch(self.pipeline, *pair, count, video.done) as switch:
            video.run = running.denoise(
                self.shape, self.pipeline, video.embeddings, self.clock, at_end=at_end, begun=video.run
            )
