"""The video diffusion transformer: joint attention over [video tokens, text tokens], adaLN shared by all blocks.

The attention of every block goes through one hook, so that it can be recorded or replaced:

    attention(q, k, v, layer=int, step=int) -> o

with q, k, v, o [batch, heads, tokens, head_dim], after QK-norm and RoPE, video tokens row-major in
(frame, height, width), text last. The scale is 1 / sqrt(head_dim).
"""

from dataclasses import asdict, dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from .prompts import TEXT_TOKENS, VALUES
from .rope import axis_dims, rope_table, rotate


@dataclass(frozen=True)
class ModelConfig:
    dim: int = 384
    heads: int = 3
    head_dim: int = 128
    layers: int = 8
    mlp_ratio: int = 4
    patch: int = 4  # pixels a side of one token
    channels: int = 3
    time_features: int = 256

    def as_dict(self):
        return asdict(self)


def dense_attention(q, k, v):
    """softmax(q k^T / sqrt(head_dim)) v without forming it; all [batch, heads, tokens, head_dim]."""
    return F.scaled_dot_product_attention(q, k, v)


def patchify(video, patch):
    """[batch, channels, frames, height, width] -> [batch, tokens, channels * patch^2]; raises ValueError if ragged."""
    batch, channels, frames, height, width = video.shape
    if height % patch or width % patch:
        raise ValueError(f"video: wanted sides that {patch} divides, found {height} x {width}")
    x = video.reshape(batch, channels, frames, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 3, 5, 1, 4, 6).reshape(batch, -1, channels * patch * patch)


def unpatchify(tokens, grid, patch, channels):
    """Inverse of patchify for a (frames, height, width) grid of tokens."""
    frames, height, width = grid
    x = tokens.reshape(len(tokens), frames, height, width, channels, patch, patch)
    return x.permute(0, 4, 1, 2, 5, 3, 6).reshape(len(tokens), channels, frames, height * patch, width * patch)


def time_features(t, count):
    """[batch] times in [0, 1] -> [batch, count] sines and cosines."""
    frequency = 1000.0 ** (torch.arange(count // 2, device=t.device, dtype=torch.float32) / (count // 2 - 1))
    angle = t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def modulate(x, shift, scale):
    """Layer-normalised x [batch, tokens, dim], scaled and shifted by [batch, dim]."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """One transformer block; adds its own constant to the modulation that all blocks share."""

    def __init__(self, config):
        super().__init__()
        inner = config.heads * config.head_dim
        self.heads = config.heads
        self.table = nn.Parameter(torch.zeros(6, config.dim))
        self.qkv = nn.Linear(config.dim, 3 * inner, bias=False)
        self.query_norm = nn.Parameter(torch.ones(config.head_dim))
        self.key_norm = nn.Parameter(torch.ones(config.head_dim))
        self.out = nn.Linear(inner, config.dim)
        self.up = nn.Linear(config.dim, config.mlp_ratio * config.dim)
        self.down = nn.Linear(config.mlp_ratio * config.dim, config.dim)

    def forward(self, x, modulation, cos, sin, attention):
        """x [batch, tokens, dim]; modulation [batch, 6, dim]; cos, sin [tokens, head_dim / 2] -> x."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (modulation + self.table).unbind(1)
        batch, tokens, _ = x.shape
        qkv = self.qkv(modulate(x, shift_a, scale_a)).view(batch, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q = rotate(F.rms_norm(q.float(), q.shape[-1:], self.query_norm, eps=1e-6), cos, sin).to(v.dtype)
        k = rotate(F.rms_norm(k.float(), k.shape[-1:], self.key_norm, eps=1e-6), cos, sin).to(v.dtype)
        o = attention(q, k, v).transpose(1, 2).reshape(batch, tokens, -1)
        x = x + gate_a[:, None] * self.out(o)
        hidden = F.gelu(self.up(modulate(x, shift_m, scale_m)), approximate="tanh")
        return x + gate_m[:, None] * self.down(hidden)


class MiniDiT(nn.Module):
    """Predicts the velocity noise - clip of a rectified flow, for any grid of tokens."""

    def __init__(self, config=ModelConfig()):
        super().__init__()
        axis_dims(config.head_dim)
        self.config = config
        dim, pixels = config.dim, config.channels * config.patch**2
        self.embed = nn.Linear(pixels, dim)
        self.text = nn.Parameter(0.02 * torch.randn(TEXT_TOKENS, VALUES, dim))
        self.time = nn.Sequential(nn.Linear(config.time_features, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.ada = nn.Linear(dim, 6 * dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_table = nn.Parameter(torch.zeros(2, dim))
        self.final = nn.Linear(dim, pixels)
        for layer in (self.ada, self.final):  # every block starts as the identity, and the model as zero
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def grid_of(self, video):
        """(frames, height, width) in tokens of a [batch, channels, frames, height, width] clip in pixels."""
        return video.shape[2], video.shape[3] // self.config.patch, video.shape[4] // self.config.patch

    def forward(self, video, t, prompts, attention=None, step=-1):
        """video [batch, channels, frames, height, width]; t [batch], 1 is noise; prompts [batch, 16] -> like video."""
        config, grid = self.config, self.grid_of(video)
        words = self.text[torch.arange(TEXT_TOKENS, device=video.device), prompts]  # [batch, 16, dim]
        x = torch.cat([self.embed(patchify(video, config.patch)), words.to(self.embed.weight.dtype)], dim=1)
        cos, sin = rope_table(grid, TEXT_TOKENS, config.head_dim, video.device)
        modulation = self.ada(F.silu(self.time(time_features(t, config.time_features)))).unflatten(-1, (6, -1)).float()
        for layer, block in enumerate(self.blocks):
            hook = dense_attention if attention is None else partial(attention, layer=layer, step=step)
            x = block(x.float(), modulation, cos, sin, hook)
        shift, scale = (modulation[:, :2] + self.final_table).unbind(1)
        tokens = self.final(modulate(x[:, :-TEXT_TOKENS], shift, scale))
        return unpatchify(tokens.float(), grid, config.patch, config.channels)
