"""What is measured, a piece at a time, and the record of each."""

import contextlib
import functools
import statistics

from draftattention.diffusers import intercept_self_attention

from lab.shared.timing import summary

from . import backends, configurations, pipeline, profiling, text
from .mask_look import MaskLook
from .recorder import input_of, name_of
from .stopwatch import medians
from .whole import FRAMES_A_SECOND, complete_metrics, write_video


class Bench:
    """One shape's pipeline on the device, and its pieces. Every method measures one piece and writes its records."""

    def __init__(self, shape, recorder, clock, kernel):
        self.shape, self.recorder, self.clock = shape, recorder, clock
        self.device, self.kernel = recorder.device, kernel
        self.element, self.vae_element = pipeline.ELEMENTS[self.device.type]
        self.pipeline, self._linears = None, "bfloat16"
        self.best = None  # the backend of dense_best, once it is known
        self.embeddings = text.random_embeddings(shape, self.device, self.element)

    def open(self):
        """Builds the transformer and the VAE, once."""
        if self.pipeline is None:
            transformer = pipeline.transformer_of(self.shape, self.device, self.element)
            vae = pipeline.vae_of(self.shape, self.device, self.vae_element)
            self.pipeline = pipeline.with_parts(self.shape, transformer, vae)

    def linears(self, fp8):
        """The transformer with its linear layers in bfloat16 or in FP8. Raises Unavailable."""
        wanted = "fp8" if fp8 else "bfloat16"
        if self._linears == wanted:
            return
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

    def flops(self, configuration):
        """Of a step, about."""
        tokens = input_of(self.shape)["text_tokens"]
        kept = 1 - configuration.policy.sparsity
        return pipeline.flops_of_step(self.shape, self.pipeline.transformer, tokens, kept)

    def kernel_of(self, configuration):
        return configurations.kernel_of(configuration, self.device, self.best)

    def run(self, **more):
        return pipeline.run(self.shape, self.pipeline, self.embeddings, self.clock, **more)

    def warm_up(self, recorded):
        """One step that is not timed: libraries load, memory is taken. The draft mask of one call may be recorded."""
        before, found = self.recorder.state(), {}
        configuration = configurations.parse("draft_90", self.kernel)
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
        """One step, then the VAE and the file."""
        before = self.recorder.state()
        configuration = configurations.parse("draft_90", self.kernel)
        pipeline.peak_of(self.device)
        with configurations.attending(configuration, self.pipeline, self.kernel_of(configuration)):
            run = self.run(stop_after=1, decoded=True)
        peak = pipeline.peak_of(self.device)
        notes = {"vae": f"{type(self.pipeline.vae).__name__}, {name_of(self.vae_element)}, tiled"}
        self.recorder.write(
            self.shape,
            {"part": "vae"},
            {"postprocess_ms": 1e3 * run.postprocess_s} | peak,
            before=before,
            timing=summary([1e3 * run.decode_s]) | {"warmup": 0},
            notes=notes,
        )
        self._file(run.frames)

    def _file(self, frames):
        before = self.recorder.state()
        try:
            seconds, size = write_video(frames[0], FRAMES_A_SECOND[self.shape.family])
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
        pipeline.peak_of(self.device)
        with configurations.attending(configuration, self.pipeline, kernel):
            run = self.run(stop_after=steps)
        notes = {"steps": f"the first {steps} of a schedule of {self.shape.steps}, all {configuration.policy.name}"}
        if configuration.fp8:
            notes["torchao"] = configurations.version_of_torchao()
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
            found = profiling.profiled(lambda: self.run(stop_after=1))
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
                "by": "operators of the CPU, not kernels" if self.device.type == "cpu" else "kernels of the GPU",
            },
        )

    def complete(self, configuration, embeddings=None, text_s=None):
        """A whole video of all steps. embeddings, text_s: of the text that was encoded for it, None: random ones."""
        before = self.recorder.state()
        dense = configurations.parse(configuration.dense, self.kernel)
        count = self.shape.dense_steps if configuration.is_draft else 0
        pair = (dense, self.kernel_of(dense)), (configuration, self.kernel_of(configuration))
        self.linears(configuration.fp8)
        kept, self.embeddings = self.embeddings, embeddings or self.embeddings
        pipeline.peak_of(self.device)
        try:
            with configurations.Switch(self.pipeline, *pair, count) as switch:
                run = self.run(decoded=True, at_end=switch.at_end)
        finally:
            self.embeddings = kept
        peak = pipeline.peak_of(self.device)
        metrics = complete_metrics(run, count, configuration.is_draft) | peak
        file_s = None
        with contextlib.suppress(ImportError, OSError):
            file_s, _ = write_video(run.frames[0], FRAMES_A_SECOND[self.shape.family])
        parts = {"text_s": text_s, "file_s": file_s}
        left_out = [name.removesuffix("_s") for name, seconds in parts.items() if seconds is None]
        metrics |= {name: seconds for name, seconds in parts.items() if seconds is not None}
        metrics["whole_s"] = run.wall_s + sum(seconds for seconds in parts.values() if seconds is not None)
        self.recorder.write(
            self.shape,
            configuration.config(pair[1][1]) | {"part": "complete", "dense_by": dense.name, "dense_kernel": pair[0][1]},
            metrics,
            before=before,
            timing=summary([step.whole_ms for step in run.steps]) | {"warmup": 1},
            notes={"measured": "every step, nothing extrapolated", "left_out": ", ".join(left_out) or "nothing"},
        )
