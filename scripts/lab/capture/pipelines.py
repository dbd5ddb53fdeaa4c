"""Loading a diffusers pipeline of a model that draftattention knows, and what it is called with."""

import inspect
import os

import diffusers
import torch
from draftattention.models import ADAPTERS

PARTS = ("transformer", "transformer_2")  # of a pipeline
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
    for part in PARTS:
        kind = (parts.get(part) or [None, None])[1]
        adapter = next((its for its in ADAPTERS if its.name == kind and its.found() is not None), None)
        if adapter is None:
            continue
        try:
            config = adapter.found().load_config(model, subfolder=part)
            count = adapter.layers(config)
        except Exception as error:
            raise _unfit(model, error) from error
        _require_numbers("layers", options.layers, count)
        _require_numbers("heads", options.heads or [], config["num_attention_heads"])
        _require_branches(adapter, parts["_class_name"], options)
        return
    raise ValueError(f"--model: wanted {_wanted()}, found {parts.get('_class_name')}")


def _wanted():
    return f"a pipeline with one of {', '.join(its.name for its in ADAPTERS)}"


def _adapter_of(pipeline):
    """That of the pipeline's transformer; None if it has none that is known."""
    found = [getattr(pipeline, name, None) for name in PARTS]
    kinds = [(its, its.found()) for its in ADAPTERS]
    return next((its for its, kind in kinds if kind is not None and any(isinstance(x, kind) for x in found)), None)


def _require_numbers(name, numbers, count):
    unknown = [number for number in numbers if number >= count]
    if unknown:
        kind = "different numbers" if name == "heads" else "numbers"
        raise ValueError(f"{name}: wanted {kind} from 0 to {count - 1}, found {unknown[0]}")


def _require_branches(adapter, name, options):
    """Raises ValueError for unconditional passes, or what belongs to them, in a pipeline that will make none."""
    embedded = adapter.guidance == "embedded"
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

    Raises ValueError for a folder or name that gives no pipeline with a known transformer, and for a device that is not
    there."""
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(model, torch_dtype=DTYPES[dtype])
    except Exception as error:
        raise _unfit(model, error) from error
    if _adapter_of(pipeline) is None:
        raise ValueError(f"--model: wanted {_wanted()}, found {type(pipeline).__name__}")
    try:
        return pipeline.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device: wanted a device with room for the model, found {device}: {error}") from error


def arguments(pipeline, options):
    """The keyword arguments of the pipeline's call; the video is not decoded.

    Raises ValueError for unconditional passes that it will not make (HunyuanVideo's guidance is embedded, but for true
    guidance), for options that it does not have, and for a pipeline that wants more than a prompt."""
    name = type(pipeline).__name__
    _require_branches(_adapter_of(pipeline), name, options)
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
    given = {name: value for name, value in given.items() if value is not None}
    known = inspect.signature(pipeline.__call__).parameters
    unknown = [argument for argument in given if argument not in known]
    if unknown:
        raise ValueError(f"--model: wanted a pipeline that takes {', '.join(unknown)}, found {name}")
    more = [its.name for its in known.values() if its.default is its.empty and its.name not in given]
    if more:
        raise ValueError(
            f"--model: wanted a pipeline that needs a prompt alone, found {name}, which wants {', '.join(more)}"
        )
    return given


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
