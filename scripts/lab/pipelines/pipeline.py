"""One shape's pipeline with random weights."""

import gc

import diffusers
import torch

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


def flops_of_step(shape, transformer, text_tokens, kept_share):
    """FLOPs of one denoising step: 4 n^2 d of self-attention, 2 n a weight elsewhere. An estimate, to know what fits."""
    frames, height, width = shape.grid
    tokens = frames * height * width + text_tokens
    attention = 4 * tokens**2 * shape.heads * shape.head_dim * shape.layers * kept_share
    return shape.passes * (attention + 2 * tokens * parameters(transformer))
