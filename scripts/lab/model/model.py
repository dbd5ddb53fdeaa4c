"""The video diffusion transformer: joint attention over [video tokens, text tokens], adaLN of every block by frame.

The attention of every block goes through one hook, so that it can be recorded or replaced:

    attention(q, k, v, layer=int, step=int) -> o

with q, k, v, o [batch, heads, tokens, head_dim], after QK-norm and RoPE, video tokens row-major in
(frame, height, width), text last. The scale is 1 / sqrt(head_dim).

A token knows where it stands, what the prompt says and where its frame's camera is; what it shows it can learn from
other tokens alone: nothing computes where its ray meets the photograph. That is what makes a mask's damage visible.
"""

import math
from dataclasses import asdict, dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from .photographs import CUT_OUTS, SCENES
from .prompts import TEXT_TOKENS, VALUES
from .rope import FULL, axis_dims, positions, rope_table, rotate
from .video import camera_at, cut_out_at, frame_times

WAVES = 6  # frequencies of a number's Fourier features
SIGMA = 0.5  # of a clip's values, about: what the network's input and output are scaled by


@dataclass(frozen=True)
class ModelConfig:
    dim: int = 512
    heads: int = 3
    head_dim: int = 128
    layers: int = 8
    mlp_ratio: int = 4
    patch: int = 4  # pixels a side of one token
    channels: int = 3
    condition: int = 128  # width of what modulates a frame
    time_features: int = 64

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


def waves(values):
    """[..., n] numbers of about [-1, 1] -> [..., n * (2 WAVES + 1)]: themselves, and sines and cosines."""
    angle = values[..., None] * (math.pi * 2.0 ** torch.arange(WAVES, device=values.device))
    return torch.cat([values[..., None], angle.sin(), angle.cos()], dim=-1).flatten(-2)


def wave_count(numbers):
    return numbers * (2 * WAVES + 1)


class Modulation:
    """Shifts, scales and gates of every frame, and of the text: [batch, frames + 1, dim] each, the text's last."""

    def __init__(self, frames, tokens):
        self.frames, self.tokens = frames, tokens

    def by_token(self, x, *factors):
        """Pairs of (a part of x [batch, tokens, dim], its factors): the video's frames, then the text."""
        frames, video = self.frames, self.tokens - TEXT_TOKENS
        yield x[:, :video].unflatten(1, (frames, -1)), [factor[:, :frames, None] for factor in factors]
        yield x[:, video:].unflatten(1, (1, -1)), [factor[:, frames:, None] for factor in factors]

    def shifted(self, x, shift, scale):
        """Layer-normalised x, scaled and shifted by its frame's numbers."""
        x = F.layer_norm(x, x.shape[-1:])
        parts = [part * (1 + scales) + shifts for part, (shifts, scales) in self.by_token(x, shift, scale)]
        return torch.cat([part.flatten(1, 2) for part in parts], dim=1)

    def gated(self, x, gate):
        return torch.cat([(part * gates).flatten(1, 2) for part, (gates,) in self.by_token(x, gate)], dim=1)


class Block(nn.Module):
    """One transformer block."""

    def __init__(self, config):
        super().__init__()
        inner = config.heads * config.head_dim
        self.heads = config.heads
        self.ada = nn.Linear(config.condition, 6 * config.dim)
        self.qkv = nn.Linear(config.dim, 3 * inner, bias=False)
        self.query_norm = nn.Parameter(torch.ones(config.head_dim))
        self.key_norm = nn.Parameter(torch.ones(config.head_dim))
        self.out = nn.Linear(inner, config.dim)
        self.up = nn.Linear(config.dim, config.mlp_ratio * config.dim)
        self.down = nn.Linear(config.mlp_ratio * config.dim, config.dim)

    def forward(self, x, condition, cos, sin, attention):
        """x [batch, tokens, dim]; condition [batch, frames + 1, width]; cos, sin [tokens, head_dim / 2] -> x."""
        batch, tokens, _ = x.shape
        by_frame = Modulation(condition.shape[1] - 1, tokens)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.ada(condition).float().chunk(6, dim=-1)
        qkv = self.qkv(by_frame.shifted(x, shift_a, scale_a)).view(batch, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q = rotate(F.rms_norm(q.float(), q.shape[-1:], self.query_norm, eps=1e-6), cos, sin).to(v.dtype)
        k = rotate(F.rms_norm(k.float(), k.shape[-1:], self.key_norm, eps=1e-6), cos, sin).to(v.dtype)
        o = attention(q, k, v).transpose(1, 2).reshape(batch, tokens, -1)
        x = x + by_frame.gated(self.out(o), gate_a)
        hidden = F.gelu(self.up(by_frame.shifted(x, shift_m, scale_m)), approximate="tanh")
        return x + by_frame.gated(self.down(hidden), gate_m)


class Condition(nn.Module):
    """What modulates the blocks: for each frame of a clip, and for its text, a vector of all that the prompt says, of
    the time, and of the frame's own camera and cut-out."""

    def __init__(self, config, hidden=256):
        super().__init__()
        self.time_features = config.time_features
        self.scene = nn.Embedding(len(SCENES), 64)
        self.cut_out = nn.Embedding(len(CUT_OUTS), 64)
        self.of_frame = wave_count(6)
        width = config.time_features + 64 + 64 + wave_count(VALUES - 2) + self.of_frame + 1
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, config.condition)

    def forward(self, prompts, t, frames):
        """prompts [batch, 13], t [batch] -> [batch, frames + 1, width]."""
        times = frame_times(frames, prompts.device)
        camera_x, camera_y, camera_width = camera_at(prompts, times)
        of_frame = [camera_x, camera_y, camera_width, *cut_out_at(prompts, times), (2 * times - 1).expand_as(camera_x)]
        of_frame = waves(torch.stack(of_frame, dim=-1))
        of_frame = F.pad(F.pad(of_frame, (0, 1)), (0, 0, 0, 1))  # a flag that marks the text, and its row
        of_frame[:, -1, -1] = 1
        of_clip = torch.cat(
            [
                time_features(t, self.time_features),
                self.scene(prompts[:, 0].long()),
                self.cut_out(prompts[:, 1].long()),
                waves(prompts[:, 2:]),
            ],
            dim=-1,
        )
        joined = torch.cat([of_clip[:, None].expand(-1, frames + 1, -1), of_frame], dim=-1)
        return F.silu(self.second(F.silu(self.first(joined))))


class Text(nn.Module):
    """A prompt's 16 tokens: scene, cut-out, the numbers, and the differences between their ends."""

    def __init__(self, config):
        super().__init__()
        self.scene = nn.Embedding(len(SCENES), config.dim)
        self.cut_out = nn.Embedding(len(CUT_OUTS), config.dim)
        self.numbers = nn.Parameter(torch.randn(TEXT_TOKENS - 2, wave_count(2), config.dim) / wave_count(2) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(TEXT_TOKENS - 2, config.dim))

    def forward(self, prompts):
        """[batch, 13] -> [batch, 16, dim]."""
        values = prompts[:, 2:]
        pan, zoom, way = (
            values[:, 3:5] - values[:, :2],
            values[:, 5:6] - values[:, 2:3],
            values[:, 8:10] - values[:, 6:8],
        )
        alone = torch.cat([values, zoom], dim=1)
        pairs = torch.cat([F.pad(alone[..., None], (0, 1)), pan[:, None], way[:, None]], dim=1)  # [batch, 14, 2]
        numbers = torch.einsum("bnf,nfd->bnd", waves(pairs), self.numbers) + self.bias
        return torch.cat([self.scene(prompts[:, :1].long()), self.cut_out(prompts[:, 1:2].long()), numbers], dim=1)


class PhotoDiT(nn.Module):
    """Predicts the clip that a noisy one came from, and from that the velocity noise - clip; for any grid of tokens."""

    def __init__(self, config=ModelConfig()):
        super().__init__()
        axis_dims(config.head_dim)
        self.config = config
        dim, pixels = config.dim, config.channels * config.patch**2
        self.embed = nn.Linear(pixels, dim)
        self.place = nn.Linear(wave_count(3), dim, bias=False)
        self.text = Text(config)
        self.condition = Condition(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_ada = nn.Linear(config.condition, 2 * dim)
        self.final = nn.Linear(dim, pixels)
        # Every block starts as the identity, and the network as zero.
        for layer in (*(block.ada for block in self.blocks), self.final_ada, self.final):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def grid_of(self, video):
        """(frames, height, width) in tokens of a [batch, channels, frames, height, width] clip in pixels."""
        return video.shape[2], video.shape[3] // self.config.patch, video.shape[4] // self.config.patch

    def places(self, grid, device):
        """[tokens, features] of where a token stands in its clip."""
        f, h, w = positions(grid, device)
        scaled = [2 * f / (FULL[0] - 1) - 1, 2 * (h + 0.5) / FULL[1] - 1, 2 * (w + 0.5) / FULL[2] - 1]
        return waves(torch.stack(scaled, dim=-1))

    def network(self, video, t, prompts, attention, step):
        config, grid = self.config, self.grid_of(video)
        tokens = self.embed(patchify(video, config.patch)) + self.place(self.places(grid, video.device))
        x = torch.cat([tokens.float(), self.text(prompts).float()], dim=1)
        cos, sin = rope_table(grid, TEXT_TOKENS, config.head_dim, video.device)
        condition = self.condition(prompts, t, grid[0])
        for layer, block in enumerate(self.blocks):
            hook = dense_attention if attention is None else partial(attention, layer=layer, step=step)
            x = block(x, condition, cos, sin, hook)
        shift, scale = self.final_ada(condition).float().chunk(2, dim=-1)
        x = Modulation(grid[0], x.shape[1]).shifted(x, shift, scale)[:, :-TEXT_TOKENS]
        return unpatchify(self.final(x).float(), grid, config.patch, config.channels)

    def clean(self, video, t, prompts, attention=None, step=-1):
        """The clip in video [batch, channels, frames, height, width] = (1 - t) clip + t noise; t [batch]; prompts
        [batch, 13]. The network's input has variance 1, and its output is what the best linear guess leaves."""
        at = t.view(-1, 1, 1, 1, 1).float()
        variance = ((1 - at) * SIGMA).square() + at.square()
        guess = (1 - at) * SIGMA**2 / variance * video
        return guess + SIGMA * at * variance.rsqrt() * self.network(
            video * variance.rsqrt(), t, prompts, attention, step
        )

    def forward(self, video, t, prompts, attention=None, step=-1):
        """The velocity noise - clip at t > 0; otherwise as `clean`."""
        return (video - self.clean(video, t, prompts, attention, step)) / t.view(-1, 1, 1, 1, 1)
