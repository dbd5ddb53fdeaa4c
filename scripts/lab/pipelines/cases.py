"""For tests: the shapes' classes in tiny sizes, and a Bench of one whose records are kept in memory."""

from dataclasses import replace

import torch

from . import pieces
from .shapes import CLIP, HUNYUAN_768P, LLAMA, UMT5, WAN_768P
from .stopwatch import Clock

WIDTH, HEIGHT, FRAMES = 160, 96, 5  # a grid of 2 x 6 x 10 tokens
SMALL = dict(width=WIDTH, height=HEIGHT, frames=FRAMES, steps=6)  # 2 of them dense


def small(encoder, **values):
    return replace(encoder, values=encoder.values | values)


TINY_LLAMA = small(
    LLAMA,
    vocab_size=200,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=2,
    num_key_value_heads=1,
)
TINY_CLIP = small(
    CLIP,
    vocab_size=200,
    hidden_size=8,
    intermediate_size=16,
    projection_dim=8,
    num_hidden_layers=2,
    num_attention_heads=2,
)
TINY_UMT5 = small(UMT5, vocab_size=200, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
HUNYUAN = replace(
    HUNYUAN_768P,
    **SMALL,
    name="tiny_hunyuan",
    transformer=HUNYUAN_768P.transformer
    | dict(
        num_attention_heads=2,
        attention_head_dim=32,
        num_layers=1,
        num_single_layers=2,
        num_refiner_layers=1,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(8, 12, 12),
    ),
    encoders=(TINY_LLAMA, TINY_CLIP),
    vae=dict(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4),
)
WAN = replace(
    WAN_768P,
    **SMALL,
    name="tiny_wan",
    transformer=WAN_768P.transformer
    | dict(num_attention_heads=2, attention_head_dim=32, text_dim=16, freq_dim=16, ffn_dim=64, num_layers=3),
    encoders=(TINY_UMT5,),
    vae=dict(base_dim=4),
)
TINY = {shape.name: shape for shape in (HUNYUAN, WAN)}
CPU = torch.device("cpu")


class Silent:
    """Stands where pieces.Recorder does; keeps (config, metrics) of each record."""

    device = CPU

    def __init__(self):
        self.written = []

    def state(self):
        return {}

    def write(self, shape, config, metrics=None, **more):
        self.written.append((config, metrics))


def opened(shape):
    bench = pieces.Bench(shape, Silent(), Clock("cpu"), "torch")
    bench.open()
    return bench
