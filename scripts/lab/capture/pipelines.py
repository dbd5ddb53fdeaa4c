"""Loading a diffusers pipeline of Wan or HunyuanVideo, and what it is called with."""

import os

import diffusers
import torch

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def _unfit(model, error):
    """The error of many libraries, for a missing file, a missing class or a missing network."""
    lines = str(error).strip().splitlines() or [repr(error)]
    return ValueError(f"--model: wanted a diffusers pipeline, found {model}: {lines[0]}")


def require_known(model, options):
    """What the pipeline's configuration alone says, before its weights are loaded: raises ValueError for a pipeline of
    another kind, and for layers, heads, branches and guidance that it does not have."""
    try:
        parts = diffusers.DiffusionPipeline.load_config(model)
    except Exception as error:
        raise _unfit(model, error) from error
    for part in ("transformer", "transformer_2"):
        kind = (parts.get(part) or [None, None])[1]
        if kind not in ("WanTransformer3DModel", "HunyuanVideoTransformer3DModel"):
            continue
        try:
            config = getattr(diffusers, kind).load_config(model, subfolder=part)
            count = config["num_layers"] + config.get("num_single_layers", 0)
        except Exception as error:
            raise _unfit(model, error) from error
        _require_numbers("layers", options.layers, count)
        _require_numbers("heads", options.heads or [], config["num_attention_heads"])
        _require_branches(kind == "HunyuanVideoTransformer3DModel", parts["_class_name"], options)
        return
    raise ValueError(f"--model: wanted a Wan or HunyuanVideo pipeline, found {parts.get('_class_name')}")


def _require_numbers(name, numbers, count):
    unknown = [number for number in numbers if number >= count]
    if unknown:
        kind = "different numbers" if name == "heads" else "numbers"
        raise ValueError(f"{name}: wanted {kind} from 0 to {count - 1}, found {unknown[0]}")


def _require_branches(embedded, name, options):
    """Raises ValueError for unconditional passes, or what belongs to them, in a pipeline that will make none."""
    if embedded and options.true_guidance is None:
        if options.negative_prompt is not None or "uncond" in options.branches:
            raise ValueError(
                "--negative-prompt, --branch: wanted a pipeline with classifier-free guidance, or "
                f"--true-guidance, found {name}, whose guidance is embedded"
            )
    elif not embedded and options.true_guidance is not None:
        raise ValueError(f"--true-guidance: wanted a pipeline with embedded guidance, found {name} (use --guidance)")
    scale, option = (options.true_guidance, "--true-guidance") if embedded else (options.guidance, "--guidance")
    if "uncond" in options.branches and scale is not None and not scale > 1:
        raise ValueError(f"{option}: wanted a scale above 1, as unconditional passes are asked for, found {scale:g}")


def load(model, dtype, device):
    """The pipeline of a local folder or a hub name, with all its parts in one element type and on one device.

    Raises ValueError for a folder or name that gives no pipeline with a Wan or HunyuanVideo transformer, and for a
    device that is not there."""
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(model, torch_dtype=DTYPES[dtype])
    except Exception as error:
        raise _unfit(model, error) from error
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

    Raises ValueError for unconditional passes that it will not make: HunyuanVideo's guidance is embedded, but for
    true guidance."""
    embedded = isinstance(pipeline.transformer, diffusers.HunyuanVideoTransformer3DModel)
    _require_branches(embedded, type(pipeline).__name__, options)
    given = dict(
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        height=options.height,
        width=options.width,
        num_frames=options.frames,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance,
        output_type="latent",
        generator=torch.Generator("cpu").manual_seed(options.seed),
        true_cfg_scale=options.true_guidance,
    )
    if options.true_guidance is not None and options.negative_prompt is None:
        given["negative_prompt"] = ""  # without one the pipeline makes no second pass
    return {name: value for name, value in given.items() if value is not None}


def model_name(model):
    """The last part of a folder or hub name."""
    return os.path.basename(os.path.normpath(model))


def source(pipeline, options):
    """How the dump came about, for its attribute."""
    on = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device
    size = "x".join(str(value or "default") for value in (options.width, options.height))
    guidance = "default" if options.guidance is None else f"{options.guidance:g}"
    if options.true_guidance is not None:
        guidance += f", true guidance {options.true_guidance:g}"
    return (
        f"lab.capture: {type(pipeline).__name__}, {type(pipeline.scheduler).__name__}, {size} "
        f"pixels, {options.frames or 'default'} frames, {options.steps} steps, guidance {guidance}, seed "
        f"{options.seed}, {options.dtype}; diffusers {diffusers.__version__}, torch {torch.__version__} on {on}"
    )
