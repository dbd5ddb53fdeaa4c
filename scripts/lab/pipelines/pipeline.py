"""One shape's pipeline with random weights, and runs of it."""

import contextlib
import gc
from dataclasses import dataclass, field

import diffusers
import torch

from .stopwatch import StepWatch
from .weights import build, parameters

SEED = 1
# Of the transformer and the encoders, and of the VAE: HunyuanVideo's is usually decoded in float16, Wan2.1's in float32.
ELEMENTS = {"cuda": (torch.bfloat16, torch.float16), "cpu": (torch.float32, torch.float32)}


def scheduler_of(shape):
    if shape.family == "hunyuan":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=shape.shift)
    return diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=shape.shift
    )


def transformer_of(shape, device, element):
    kind = "HunyuanVideoTransformer3DModel" if shape.family == "hunyuan" else "WanTransformer3DModel"
    return build(lambda: getattr(diffusers, kind)(**shape.transformer), device, element, SEED)


def vae_of(shape, device, element):
    kind = diffusers.AutoencoderKLHunyuanVideo if shape.family == "hunyuan" else diffusers.AutoencoderKLWan
    vae = build(lambda: kind(**shape.vae), device, element, SEED)
    vae.enable_tiling()
    return vae


def with_parts(shape, transformer, vae):
    """diffusers' pipeline of these, without encoders: it is called with embeddings."""
    parts = {"transformer": transformer, "vae": vae, "scheduler": scheduler_of(shape)}
    if shape.family == "hunyuan":
        none = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        found = diffusers.HunyuanVideoPipeline(**parts, **none)
    else:
        found = diffusers.WanPipeline(**parts, text_encoder=None, tokenizer=None)
    found.set_progress_bar_config(disable=True)
    return found


def freed(device):
    """Gives back the memory of what nobody holds any more."""
    if torch.device(device).type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def peak_of(device):
    """The largest memory of tensors since the last call, as a record's metric; none on a CPU."""
    if torch.device(device).type != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return {"peak_memory_gb": peak}


@dataclass
class Run:
    """What one call of a pipeline gave."""

    frames: object  # [1, frames, height, width, 3] in [0, 1], or latents
    steps: list  # a stopwatch.Step for each that ran
    prediction_rms: float  # of the last pass's output: random weights that overflow would show here
    decode_s: float | None = None
    postprocess_s: float | None = None
    wall_s: float = 0.0  # the whole call
    shown: dict = field(default_factory=dict)


@torch.no_grad()
def run(shape, pipeline, embeddings, clock, *, stop_after=None, decoded=False, at_end=None):
    """Calls the pipeline for a video and stops after some of its steps, or after all. at_end(number) is called at each step's
    end, for instance to change what attends in the steps that follow."""
    watch = StepWatch(pipeline, clock)

    def ended(_pipeline, number, _timestep, given):
        watch.end()
        if at_end is not None:
            at_end(number)
        if number + 1 == stop_after:
            _pipeline._interrupt = True  # as diffusers' guide to callbacks has it
        return given

    with contextlib.ExitStack() as stack:
        stack.enter_context(watch)
        times = {}
        if decoded:
            stack.enter_context(_timed(pipeline.vae, "decode", clock, times))
            stack.enter_context(_timed(pipeline.video_processor, "postprocess_video", clock, times))
        (frames,), wall_s = clock.wall_s(
            lambda: pipeline(
                height=shape.height,
                width=shape.width,
                num_frames=shape.frames,
                num_inference_steps=shape.steps,
                guidance_scale=shape.guidance,
                generator=torch.Generator(pipeline.transformer.device).manual_seed(SEED),
                output_type="np" if decoded else "latent",
                return_dict=False,
                callback_on_step_end=ended,
                **embeddings.given,
            )
        )
    rms = watch.prediction.float().pow(2).mean().sqrt().item()
    return Run(frames, watch.steps(), rms, times.get("decode"), times.get("postprocess_video"), wall_s)


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


def flops_of_step(shape, transformer, text_tokens, kept_share):
    """FLOPs of one denoising step: 4 n^2 d of self-attention, 2 n a weight elsewhere. An estimate, to know what fits."""
    frames, height, width = shape.grid
    tokens = frames * height * width + text_tokens
    attention = 4 * tokens**2 * shape.heads * shape.head_dim * shape.layers * kept_share
    return shape.passes * (attention + 2 * tokens * parameters(transformer))
