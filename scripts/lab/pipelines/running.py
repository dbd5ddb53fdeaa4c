"""Runs of a pipeline: some denoising steps, from the first one on or from where an earlier run stopped; and decoding."""

import contextlib
import itertools
from dataclasses import dataclass, field

import torch

from .pipeline import SEED, freed
from .stopwatch import StepWatch

# Of a scheduler: what every run sets alike, and on devices of its own.
KEPT_APART = ("timesteps", "sigmas", "betas", "alphas", "alphas_cumprod", "alpha_t", "sigma_t", "lambda_t")


@dataclass
class Run:
    """What some denoising steps left behind; another run can go on from it."""

    latents: torch.Tensor
    steps: list = field(default_factory=list)  # a stopwatch.Step for each that ran, in this run and those before
    scheduler: dict = field(default_factory=dict)  # its state
    prediction_rms: float = 0.0  # of the last pass's output: random weights that overflow would show here


def _plain(value):
    """Whether a part of a scheduler's state is of the kinds that can be saved."""
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, torch.Tensor))


def _state_of(scheduler):
    return {name: value for name, value in vars(scheduler).items() if _plain(value) and name not in KEPT_APART}


@contextlib.contextmanager
def _skipping(pipeline, count):
    """The pipeline's loop leaves out its first `count` turns, as it does while it is interrupted."""
    kind, turns = type(pipeline), itertools.count()

    class Skipping(kind):
        @property
        def interrupt(self):  # asked once a turn
            return next(turns) < count or self._interrupt

    pipeline.__class__ = Skipping
    try:
        yield
    finally:
        pipeline.__class__ = kind


def _call(shape, pipeline, embeddings, **more):
    (found,) = pipeline(
        height=shape.height,
        width=shape.width,
        num_frames=shape.frames,
        num_inference_steps=shape.steps,
        guidance_scale=shape.guidance,
        generator=torch.Generator(pipeline.transformer.device).manual_seed(SEED),
        return_dict=False,
        **embeddings.given,
        **more,
    )
    return found


@torch.no_grad()
def denoise(shape, pipeline, embeddings, clock, *, stop_after=None, at_end=None, begun=None):
    """Steps of a video until step number stop_after, or to the end. at_end(step) is called at each step's end, for
    instance to change what attends in those that follow; the run stops where it returns True. begun: a Run to go on
    from."""
    done = len(begun.steps) if begun else 0
    watch = StepWatch(pipeline, clock, begun.scheduler if begun else None)

    def ended(_pipeline, number, _timestep, given):
        watch.end()
        stops = at_end is not None and at_end(number)
        if stops or number + 1 == stop_after:
            _pipeline._interrupt = True  # as diffusers' guide to callbacks has it
        return given

    with watch, _skipping(pipeline, done):
        latents = _call(
            shape,
            pipeline,
            embeddings,
            latents=begun.latents if begun else None,
            output_type="latent",
            callback_on_step_end=ended,
        )
    rms = watch.prediction.float().pow(2).mean().sqrt().item()
    before = begun.steps if begun else []
    return Run(latents, before + watch.steps(), _state_of(pipeline.scheduler), rms)


@torch.no_grad()
def decode(shape, pipeline, embeddings, clock, latents):
    """(frames [frames, height, width, 3] in [0, 1], seconds of the VAE, seconds of what makes pixels of its output)."""
    times = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_skipping(pipeline, shape.steps))
        stack.enter_context(_timed(pipeline.vae, "decode", clock, times))
        stack.enter_context(_timed(pipeline.video_processor, "postprocess_video", clock, times))
        frames = _call(shape, pipeline, embeddings, latents=latents, output_type="np")
    return frames[0], times["decode"], times["postprocess_video"]


@contextlib.contextmanager
def _timed(owner, name, clock, times):
    """Notes the seconds of the owner's method in times[name]. Memory that nobody holds is given back before."""
    method = getattr(owner, name)

    def call(*arguments, **more):
        freed("cuda" if clock.cuda else "cpu")
        found, times[name] = clock.wall_s(lambda: method(*arguments, **more))
        return found

    setattr(owner, name, call)
    try:
        yield
    finally:
        delattr(owner, name)
