"""Loading a diffusers pipeline of Wan or HunyuanVideo, and what it is called with."""

import os

import diffusers
import torch

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def load(model, dtype, device):
    """The pipeline of a local folder or a hub name, with all its parts in one element type and on one device.

    Raises ValueError for a folder or name that gives no pipeline with a Wan or HunyuanVideo transformer, and for a
    device that is not there."""
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(model, torch_dtype=DTYPES[dtype])
    except Exception as error:  # of many libraries, for a missing file, a missing class or a missing network
        lines = str(error).strip().splitlines() or [repr(error)]
        raise ValueError(f"--model: wanted a diffusers pipeline, found {model}: {lines[0]}") from error
    kinds = diffusers.WanTransformer3DModel, diffusers.HunyuanVideoTransformer3DModel
    found = [getattr(pipeline, name, None) for name in ("transformer", "transformer_2")]
    if not any(isinstance(part, kinds) for part in found):
        raise ValueError(f"--model: wanted a Wan or HunyuanVideo pipeline, found {type(pipeline).__name__}")
    try:
        return pipeline.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device: wanted a device with room for the model, found {device}: {error}") from error


def arguments(pipeline, options):
    """The keyword arguments of the pipeline's call; the video is not decoded.

    Raises ValueError for a negative prompt where guidance is embedded, as HunyuanVideo's is."""
    embedded = isinstance(pipeline.transformer, diffusers.HunyuanVideoTransformer3DModel)
    if embedded and (options.negative_prompt is not None or "uncond" in options.branches):
        raise ValueError("--negative-prompt, --branch: wanted a pipeline with classifier-free guidance, "
                         f"found {type(pipeline).__name__}, whose guidance is embedded")
    given = dict(prompt=options.prompt, negative_prompt=options.negative_prompt, height=options.height,
                 width=options.width, num_frames=options.frames, num_inference_steps=options.steps,
                 guidance_scale=options.guidance, output_type="latent",
                 generator=torch.Generator("cpu").manual_seed(options.seed))
    return {name: value for name, value in given.items() if value is not None}


def model_name(model):
    """The last part of a folder or hub name."""
    return os.path.basename(os.path.normpath(model))


def source(pipeline, options):
    """How the dump came about, for its attribute."""
    on = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device
    size = "x".join(str(value or "default") for value in (options.width, options.height))
    guidance = "default" if options.guidance is None else f"{options.guidance:g}"
    return (f"scripts/capture_video_model.py: {type(pipeline).__name__}, {type(pipeline.scheduler).__name__}, {size} "
            f"pixels, {options.frames or 'default'} frames, {options.steps} steps, guidance {guidance}, seed "
            f"{options.seed}, {options.dtype}; diffusers {diffusers.__version__}, torch {torch.__version__} on {on}")
