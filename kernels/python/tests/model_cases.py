"""Tiny random transformers of the real classes of diffusers, one pass of each, and what the tokens of their self-attention
are, written down by hand: the tests' own knowledge of their orders."""

import dataclasses
import functools
import math

import diffusers
import torch
from diffusers_cases import GRID, numbers, text_mask
from truth import blocks_of_tokens

REGION = (4, 4)  # 6 and 10 are no multiples of it
LATENTS = (4, 2, 12, 20)
KEPT = -1  # a token of text or another condition


def regions(grid=GRID):
    """A segment's tokens: the number of each one's region."""
    return blocks_of_tokens(grid, REGION, 0).tolist()


@dataclasses.dataclass
class ModelCase:
    """A transformer's class and configuration, one pass's arguments, and the regions of its tokens.

    labels  number of tokens of a self-attention call -> the region of each in the model's own order, KEPT for others
    place   the module in which the model's own processor finds its attention function, "" for PyTorch's own"""

    kind: str
    config: dict
    given: dict
    labels: object
    place: str
    grid: tuple = GRID
    layers: int = 2
    entries: int = 1

    def transformer(self):
        torch.manual_seed(0)
        model = getattr(diffusers, self.kind)(**self.config).eval().double()
        with torch.no_grad():
            for name, its in model.named_parameters():
                if name == "pos_frequencies":  # Mochi's RoPE, zeros at first
                    its.copy_(numbers(*its.shape, seed=7))
        return model

    def one_pass(self, model, **changed):
        given = {
            name: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
            for name, x in (self.given | changed).items()
        }
        with torch.no_grad():
            return model(**given, return_dict=False)[0]


def video_alone(tokens):
    return regions() if tokens == math.prod(GRID) else None


def video_then(grid, tokens):
    video = math.prod(grid)
    return regions(grid) + [KEPT] * (tokens - video) if tokens > video else None


def text_then_video(tokens):
    return [KEPT] * (tokens - math.prod(GRID)) + regions() if tokens > math.prod(GRID) else None


WAN = dict(
    num_attention_heads=2,
    attention_head_dim=24,
    in_channels=4,
    out_channels=4,
    text_dim=16,
    freq_dim=16,
    ffn_dim=32,
    num_layers=2,
)
WAN_GIVEN = {
    "hidden_states": numbers(1, *LATENTS),
    "timestep": torch.tensor([900.0]),
    "encoder_hidden_states": numbers(1, 7, 16, seed=1),
}
HUNYUAN = dict(
    in_channels=4,
    out_channels=4,
    num_attention_heads=2,
    attention_head_dim=32,
    num_layers=1,
    num_single_layers=1,
    num_refiner_layers=1,
    text_embed_dim=16,
    pooled_projection_dim=8,
    rope_axes_dim=(8, 12, 12),
)
HUNYUAN_GIVEN = {
    "hidden_states": numbers(2, *LATENTS),
    "timestep": torch.full((2,), 500.0),
    "encoder_hidden_states": numbers(2, 9, 16, seed=1),
    "encoder_attention_mask": text_mask([5, 8]),
}
MODULE = "diffusers.models.transformers.transformer_"


def cogvideox(patch_size_t=None):
    frames = 2 * (patch_size_t or 1)
    config = dict(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=2,
        sample_width=20,
        sample_height=12,
        sample_frames=5,
        max_text_seq_length=7,
        patch_size_t=patch_size_t,
        use_rotary_positional_embeddings=True,
    )
    angles = numbers(math.prod(GRID), 16, seed=3)
    given = {
        "hidden_states": numbers(2, frames, 4, 12, 20),
        "encoder_hidden_states": numbers(2, 7, 16, seed=1),
        "timestep": torch.full((2,), 900),
        "image_rotary_emb": (angles.cos(), angles.sin()),
    }
    return ModelCase("CogVideoXTransformer3DModel", config, given, text_then_video, "", entries=2)


def hunyuan_video_15(image=False):
    config = {name: value for name, value in HUNYUAN.items() if "pooled" not in name and "single" not in name}
    config |= dict(num_layers=2, patch_size=2, text_embed_2_dim=12, image_embed_dim=8)
    given = HUNYUAN_GIVEN | {
        "encoder_hidden_states_2": numbers(2, 4, 12, seed=2),
        "encoder_attention_mask_2": (torch.arange(4) < torch.tensor([[2], [3]])).long(),
        "image_embeds": numbers(2, 3, 8, seed=3) if image else torch.zeros(2, 3, 8),
    }
    labels = functools.partial(video_then, GRID)
    place = MODULE + "hunyuan_video15"
    return ModelCase("HunyuanVideo15Transformer3DModel", config, given, labels, place, entries=2)


def framepack(history=True, entries=2):
    """History at a quarter of the resolution is 1 x 2 x 3 tokens (padded up), at half of it 1 x 3 x 5."""
    config = HUNYUAN | dict(has_image_proj=True, image_proj_dim=8, has_clean_x_embedder=True)
    given = {name: x[:entries] for name, x in HUNYUAN_GIVEN.items()} | {
        "pooled_projections": numbers(entries, 8, seed=2),
        "guidance": torch.full((entries,), 6000.0),
        "image_embeds": numbers(entries, 3, 8, seed=3),
        "indices_latents": torch.arange(20, 22),
        "latents_clean": numbers(entries, 4, 2, 12, 20, seed=4),
        "indices_latents_clean": torch.tensor([0, 19]),
        "latents_history_2x": numbers(entries, 4, 2, 12, 20, seed=5),
        "indices_latents_history_2x": torch.arange(17, 19),
        "latents_history_4x": numbers(entries, 4, 4, 12, 20, seed=6),
        "indices_latents_history_4x": torch.arange(13, 17),
    }
    grid, before = (4, 6, 10), 2 * 3 + 3 * 5

    def labels(tokens):
        video = math.prod(grid)
        rest = tokens - before - video
        return [KEPT] * before + regions(grid) + [KEPT] * rest if rest > 0 else None

    place = MODULE + "hunyuan_video"
    return ModelCase(
        "HunyuanVideoFramepackTransformer3DModel", config, given, labels, place, grid=grid, entries=entries
    )


def ltx_video():
    config = dict(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=16,
    )
    given = {
        "hidden_states": numbers(2, math.prod(GRID), 8),
        "encoder_hidden_states": numbers(2, 7, 16, seed=1),
        "timestep": torch.full((2,), 900.0),
        "encoder_attention_mask": torch.ones(2, 7),
        **dict(zip(("num_frames", "height", "width"), GRID)),
    }
    return ModelCase("LTXVideoTransformer3DModel", config, given, video_alone, MODULE + "ltx", entries=2)


def mochi():
    config = dict(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=16,
        time_embed_dim=8,
    )
    given = {
        "hidden_states": numbers(2, *LATENTS),
        "encoder_hidden_states": numbers(2, 9, 16, seed=1),
        "timestep": torch.full((2,), 900.0),
        "encoder_attention_mask": text_mask([5, 8]).bool(),
    }
    return ModelCase("MochiTransformer3DModel", config, given, functools.partial(video_then, GRID), "", entries=2)


def allegro():
    config = dict(
        num_attention_heads=2,
        attention_head_dim=24,
        num_layers=2,
        cross_attention_dim=48,
        sample_height=12,
        sample_width=20,
        sample_frames=2,
        caption_channels=16,
    )
    place = torch.cartesian_prod(*map(torch.arange, GRID)).T[:, None]
    angles = [numbers(size, 8, seed=size) for size in GRID]
    given = {
        "hidden_states": numbers(2, *LATENTS),
        "encoder_hidden_states": numbers(2, 7, 16, seed=1),
        "timestep": torch.full((2,), 900),
        "encoder_attention_mask": torch.ones(2, 7),
        "image_rotary_emb": ([(its.cos(), its.sin()) for its in angles], list(place)),
    }
    return ModelCase("AllegroTransformer3DModel", config, given, video_alone, "", entries=2)


def wan_vace():
    config = WAN | dict(vace_layers=[0, 1], vace_in_channels=4)
    given = WAN_GIVEN | {"control_hidden_states": numbers(1, *LATENTS, seed=2)}
    return ModelCase("WanVACETransformer3DModel", config, given, video_alone, MODULE + "wan", layers=4)


def wan_animate():
    """Latents of 3 frames, the first the reference image; 5 frames of a face make 2 motion vectors."""
    grid = (3, 6, 10)
    config = WAN | dict(
        in_channels=12,
        latent_channels=4,
        image_dim=16,
        motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    given = WAN_GIVEN | {
        "hidden_states": numbers(1, 12, 3, 12, 20),
        "encoder_hidden_states_image": numbers(1, 3, 16, seed=2),
        "pose_hidden_states": numbers(1, 4, 2, 12, 20, seed=3),
        "face_pixel_values": numbers(1, 3, 5, 16, 16, seed=4),
    }

    def labels(tokens):
        return regions(grid) if tokens == math.prod(grid) else None

    return ModelCase("WanAnimateTransformer3DModel", config, given, labels, MODULE + "wan_animate", grid=grid)


def skyreels_v2(forcing=False):
    given = WAN_GIVEN | (
        {"timestep": torch.tensor([[900.0, 700.0]]), "enable_diffusion_forcing": True} if forcing else {}
    )
    return ModelCase("SkyReelsV2Transformer3DModel", WAN, given, video_alone, MODULE + "skyreels_v2")


CASES = {
    "cogvideox": cogvideox,
    "cogvideox_15": functools.partial(cogvideox, 2),
    "hunyuan_video_15": hunyuan_video_15,
    "hunyuan_video_15_image": functools.partial(hunyuan_video_15, True),
    "framepack": framepack,
    "framepack_one": functools.partial(framepack, entries=1),
    "ltx_video": ltx_video,
    "mochi": mochi,
    "allegro": allegro,
    "wan_vace": wan_vace,
    "wan_animate": wan_animate,
    "skyreels_v2": skyreels_v2,
    "skyreels_v2_forcing": functools.partial(skyreels_v2, True),
}
