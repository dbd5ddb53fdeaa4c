"""More models of diffusers at their released sizes, and what one pass of each is given: random numbers of the shapes that
its pipeline makes. The sizes are the classes' own unless said otherwise."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch


class Draw:
    """Random inputs of a pass, on a device, in the type of the model."""

    def __init__(self, device, element, seed=1):
        self.device, self.element = device, element
        self._generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, *shape):
        return torch.randn(shape, generator=self._generator, device=self.device, dtype=self.element)

    def ones(self, *shape):
        return torch.ones(shape, device=self.device, dtype=torch.long)

    def time(self):
        return torch.full((1,), 900.0, device=self.device)

    def numbers(self, first, last):
        return torch.arange(first, last, device=self.device)


@dataclass(frozen=True)
class FurtherModel:
    """One model at one resolution. It has what records of a Shape have."""

    name: str
    model: str
    kind: str  # the transformer's class
    resolution: str
    grid: tuple  # of the video's tokens: frames, height, width
    heads: int
    head_dim: int
    layers: int  # with self-attention over the video
    given: Callable  # (Draw, grid) -> a pass's arguments
    text_tokens: int = 0  # in the video's attention
    config: dict = field(default_factory=dict)  # beside the class's own
    steps: int = 1
    family: str = "further"

    def inputs(self, device, element):
        return self.given(Draw(device, element), self.grid)


def _latents(draw, channels, grid, patch=2):
    frames, height, width = grid
    return draw(1, channels, frames, patch * height, patch * width)


def _wan(draw, grid, channels=16):
    return {
        "hidden_states": _latents(draw, channels, grid),
        "timestep": draw.time(),
        "encoder_hidden_states": draw(1, 512, 4096),
    }


def _vace(draw, grid):
    return _wan(draw, grid) | {"control_hidden_states": _latents(draw, 96, grid)}


def _animate(draw, grid):
    """The first frame is the reference image's; the others have a pose, and four frames of a face each."""
    frames, height, width = grid
    return _wan(draw, grid, 36) | {
        "encoder_hidden_states_image": draw(1, 257, 1280),
        "pose_hidden_states": _latents(draw, 16, (frames - 1, height, width)),
        "face_pixel_values": draw(1, 3, 4 * (frames - 2) + 1, 512, 512),
    }


def _cogvideox(draw, grid):
    frames, height, width = grid
    return {
        "hidden_states": draw(1, frames, 16, 2 * height, 2 * width),
        "encoder_hidden_states": draw(1, 226, 4096),
        "timestep": draw.time(),
    }


def _hunyuan_15(draw, grid):
    return {
        "hidden_states": _latents(draw, 65, grid, patch=1),
        "timestep": draw.time().to(draw.element),
        "encoder_hidden_states": draw(1, 256, 3584),
        "encoder_attention_mask": draw.ones(1, 256),
        "encoder_hidden_states_2": draw(1, 64, 1472),
        "encoder_attention_mask_2": draw.ones(1, 64),
        "image_embeds": 0 * draw(1, 729, 1152),  # no image: text to video
    }


def _framepack(draw, grid):
    """The last frames of the grid are made, the two before them are the clean ones; older history is coarser."""
    frames, height, width = grid
    made = frames - 2
    return {
        "hidden_states": _latents(draw, 16, (made, height, width)),
        "timestep": draw.time(),
        "encoder_hidden_states": draw(1, 256, 4096),
        "encoder_attention_mask": draw.ones(1, 256),
        "pooled_projections": draw(1, 768),
        "guidance": 6.0 * draw.time(),
        "image_embeds": draw(1, 729, 1152),
        "indices_latents": draw.numbers(20, 20 + made),
        "latents_clean": _latents(draw, 16, (2, height, width)),
        "indices_latents_clean": torch.tensor([0, 19], device=draw.device),
        "latents_history_2x": _latents(draw, 16, (2, height, width)),
        "indices_latents_history_2x": draw.numbers(17, 19),
        "latents_history_4x": _latents(draw, 16, (16, height, width)),
        "indices_latents_history_4x": draw.numbers(1, 17),
    }


def _ltx(draw, grid):
    return {
        "hidden_states": draw(1, math.prod(grid), 128),
        "encoder_hidden_states": draw(1, 128, 4096),
        "timestep": draw.time(),
        "encoder_attention_mask": draw.ones(1, 128),
        **dict(zip(("num_frames", "height", "width"), grid)),
    }


def _mochi(draw, grid):
    return {
        "hidden_states": _latents(draw, 12, grid),
        "encoder_hidden_states": draw(1, 256, 4096),
        "timestep": draw.time(),
        "encoder_attention_mask": draw.ones(1, 256).bool(),
    }


def _allegro(draw, grid):
    angles = [draw(size, 32).float() for size in grid]
    places = torch.cartesian_prod(*(draw.numbers(0, size) for size in grid)).T[:, None]
    return {
        "hidden_states": _latents(draw, 4, grid),
        "encoder_hidden_states": draw(1, 512, 4096),
        "timestep": draw.time().long(),
        "encoder_attention_mask": draw.ones(1, 512),
        "image_rotary_emb": ([(its.cos(), its.sin()) for its in angles], list(places)),
    }


_ALL = (
    FurtherModel(
        "ltx_video",
        "LTX-Video 2B",
        "LTXVideoTransformer3DModel",
        "704 x 1216, 121 frames",
        (16, 22, 38),
        32,
        64,
        28,
        _ltx,
    ),
    FurtherModel(
        "cogvideox",
        "CogVideoX 2B",
        "CogVideoXTransformer3DModel",
        "480 x 720, 49 frames",
        (13, 30, 45),
        30,
        64,
        30,
        _cogvideox,
        text_tokens=226,
    ),
    FurtherModel(
        "skyreels_v2",
        "SkyReels V2, the class's 2.2B",
        "SkyReelsV2Transformer3DModel",
        "544 x 960, 97 frames",
        (25, 34, 60),
        16,
        128,
        32,
        _wan,
    ),
    FurtherModel(
        "framepack",
        "HunyuanVideo Framepack 13B",
        "HunyuanVideoFramepackTransformer3DModel",
        "480 x 832, 9 latent frames after history",
        (11, 30, 52),
        24,
        128,
        60,
        _framepack,
        text_tokens=256,
        config=dict(has_image_proj=True, has_clean_x_embedder=True),
    ),
    FurtherModel(
        "mochi",
        "Mochi 10B",
        "MochiTransformer3DModel",
        "480 x 848, 163 frames",
        (28, 30, 53),
        24,
        128,
        48,
        _mochi,
        text_tokens=256,
    ),
    FurtherModel(
        "hunyuan_15",
        "HunyuanVideo 1.5 8B",
        "HunyuanVideo15Transformer3DModel",
        "720p, 121 frames",
        (31, 45, 80),
        16,
        128,
        54,
        _hunyuan_15,
        text_tokens=320,
    ),
    FurtherModel(
        "wan_vace", "Wan2.1 VACE 14B", "WanVACETransformer3DModel", "768p, 81 frames", (21, 48, 80), 40, 128, 48, _vace
    ),
    FurtherModel(
        "wan_animate",
        "Wan2.2 Animate 14B",
        "WanAnimateTransformer3DModel",
        "768p, 77 frames and a reference",
        (21, 48, 80),
        40,
        128,
        40,
        _animate,
    ),
    FurtherModel(
        "allegro",
        "Allegro 2.8B",
        "AllegroTransformer3DModel",
        "720 x 1280, 88 frames",
        (22, 45, 80),
        24,
        96,
        32,
        _allegro,
    ),
)
FURTHER = {model.name: model for model in _ALL}
