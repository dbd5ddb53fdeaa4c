"""Tiny random pipelines of diffusers' video models beside Wan and HunyuanVideo, of the real classes, without encoders."""

import dataclasses
import functools
import types

import diffusers
import torch
from diffusers.guiders import ClassifierFreeGuidance
from diffusers_cases import GRID, numbers, text_mask
from model_cases import CASES


@dataclasses.dataclass
class PipelineCase:
    """guidance: "batch", "passes"; text: tokens of text in self-attention, of the prompt."""

    pipeline: object
    given: dict
    guidance: str
    text: int = 0
    grid: tuple = GRID

    @property
    def transformer(self):
        return self.pipeline.transformer

    def run(self, steps=4, **changed):
        self.pipeline.set_progress_bar_config(disable=True)
        options = {"num_inference_steps": steps, "output_type": "latent", "return_dict": False}
        options["generator"] = torch.Generator().manual_seed(0)
        with torch.no_grad():
            return self.pipeline(**(self.given | options | changed))[0]

    def run_alone(self, steps=4):
        """A run without guidance: of the prompt alone."""
        guider = getattr(self.pipeline, "guider", None)
        if guider is None:
            return self.run(steps, guidance_scale=1.0)
        self.pipeline.guider = ClassifierFreeGuidance(guidance_scale=1.0)
        try:
            return self.run(steps)
        finally:
            self.pipeline.guider = guider


def transformer(name):
    return CASES[name]().transformer().float()


def prompts(tokens=7, mask=None, negative_mask=None):
    given = {"prompt_embeds": numbers(1, tokens, 16), "negative_prompt_embeds": numbers(1, tokens, 16, seed=1)}
    if mask is not None:
        given |= {"prompt_attention_mask": mask, "negative_prompt_attention_mask": negative_mask}
    return given


def sized(spatial, temporal, latents=GRID):
    return {"height": 12 * spatial, "width": 20 * spatial, "num_frames": (latents[0] - 1) * temporal + 1}


def cogvideox():
    pipeline = diffusers.CogVideoXPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        transformer=transformer("cogvideox"),
        scheduler=diffusers.CogVideoXDDIMScheduler(),
    )
    given = prompts() | sized(8, 4) | {"latents": numbers(1, 2, 4, 12, 20), "guidance_scale": 4.0}
    return PipelineCase(pipeline, given, "batch", text=7)


def mochi():
    pipeline = diffusers.MochiPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer("mochi"),
    )
    masks = [text_mask([count]).bool() for count in (5, 5)]
    given = prompts(9, *masks) | sized(8, 6) | {"latents": numbers(1, 4, 2, 12, 20), "guidance_scale": 4.0}
    return PipelineCase(pipeline, given, "batch", text=5)


def ltx_video():
    pipeline = diffusers.LTXPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer("ltx_video"),
    )
    masks = [torch.ones(1, 7) for _ in range(2)]
    given = prompts(7, *masks) | {"height": 192, "width": 320, "num_frames": 9}
    return PipelineCase(pipeline, given | {"latents": numbers(1, 120, 8), "guidance_scale": 4.0}, "batch")


def allegro():
    pipeline = diffusers.AllegroPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        transformer=transformer("allegro"),
        scheduler=diffusers.EulerAncestralDiscreteScheduler(),
    )
    masks = [torch.ones(1, 7) for _ in range(2)]
    given = prompts(7, *masks) | sized(8, 4) | {"latents": numbers(1, 4, 2, 12, 20), "guidance_scale": 4.0}
    return PipelineCase(pipeline, given | {"num_frames": 8, "negative_prompt": None}, "batch")


def skyreels_v2(forcing=False):
    kind = diffusers.SkyReelsV2DiffusionForcingPipeline if forcing else diffusers.SkyReelsV2Pipeline
    pipeline = kind(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        transformer=transformer("skyreels_v2"),
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
    )
    given = prompts() | sized(8, 4) | {"guidance_scale": 4.0}
    if forcing:
        given |= {"prompt": None, "base_num_frames": 5}
    return PipelineCase(pipeline, given, "passes")


class Decoder(torch.nn.Module):
    """What HunyuanVideo 1.5's pipeline asks of its decoder before it decodes."""

    config = types.SimpleNamespace(latent_channels=4)
    temporal_compression_ratio, spatial_compression_ratio = 4, 8
    device, dtype = torch.device("cpu"), torch.float32


def hunyuan_video_15():
    case = CASES["hunyuan_video_15"]()
    case.config["in_channels"] = 2 * 4 + 1  # latents, those of an image, and its mask
    pipeline = diffusers.HunyuanVideo15Pipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=case.transformer().float(),
        vae=Decoder(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder_2=None,
        tokenizer_2=None,
        guider=ClassifierFreeGuidance(guidance_scale=4.0),
    )
    pipeline.vision_num_semantic_tokens = 3
    given = prompts(9) | sized(8, 4) | {"latents": numbers(1, 4, 2, 12, 20)}
    for name, seed in (("", 2), ("negative_", 3)):
        given |= {
            f"{name}prompt_embeds_mask": text_mask([5]),
            f"{name}prompt_embeds_2": numbers(1, 4, 12, seed=seed),
            f"{name}prompt_embeds_mask_2": torch.tensor([[1, 1, 0, 0]]),
        }
    return PipelineCase(pipeline, given, "passes", text=7)


def wan_vace():
    pipeline = diffusers.WanVACEPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=diffusers.AutoencoderKLWan(
            base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
        ).eval(),
        transformer=vace_transformer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    given = prompts() | sized(8, 4) | {"latents": numbers(1, 4, 2, 12, 20), "guidance_scale": 4.0}
    return PipelineCase(pipeline, given, "passes")


def vace_transformer():
    case = CASES["wan_vace"]()
    case.config["vace_in_channels"] = 2 * 4 + 64  # inactive and reactive latents, and their mask
    return case.transformer().float()


CASES_OF_PIPELINES = {
    "cogvideox": cogvideox,
    "mochi": mochi,
    "ltx_video": ltx_video,
    "allegro": allegro,
    "skyreels_v2": skyreels_v2,
    "skyreels_v2_forcing": functools.partial(skyreels_v2, True),
    "hunyuan_video_15": hunyuan_video_15,
    "wan_vace": wan_vace,
}
