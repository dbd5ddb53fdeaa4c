"""Procedural video: textured shapes that move and spin over a textured background that pans and zooms.

A clip is a function of its prompt and its seed alone. Every random number comes from a CPU generator, so the same
seed gives the same clip on any device up to floating-point rounding.
"""

import math

import torch

from .prompts import FIELDS
from .textures import coverage, texture, value_noise

MAX_SHAPES = 4
TABLE = 32  # lattice points a side of the random fields
_SCALARS = 64
# (dark, light) colour pairs, RGB in [0, 1]
_PALETTES = torch.tensor(
    [
        [[0.10, 0.12, 0.35], [0.75, 0.85, 1.00]],
        [[0.35, 0.08, 0.05], [1.00, 0.75, 0.45]],
        [[0.05, 0.25, 0.12], [0.70, 0.95, 0.55]],
        [[0.25, 0.08, 0.30], [0.95, 0.65, 0.90]],
        [[0.08, 0.08, 0.08], [0.92, 0.92, 0.88]],
        [[0.05, 0.28, 0.32], [0.98, 0.92, 0.50]],
        [[0.40, 0.22, 0.05], [0.55, 0.80, 0.85]],
        [[0.12, 0.05, 0.22], [0.98, 0.45, 0.35]],
    ]
)


def render(prompts, seeds, frames, height, width, device="cpu"):
    """Clips [batch, 3, frames, height, width] in [-1, 1]; prompts [batch, 16] int64, one seed a clip, sizes in pixels."""
    if len(prompts) != len(seeds):
        raise ValueError(f"render: wanted one seed a prompt, found {len(seeds)} seeds for {len(prompts)} prompts")
    scalars, tables = _draws(seeds, device)
    fields = {name: prompts[:, i].to(device) for i, name in enumerate(FIELDS)}
    time = torch.arange(frames, device=device, dtype=torch.float32).view(1, -1, 1, 1)
    y = (torch.arange(height, device=device) - (height - 1) / 2).view(1, 1, -1, 1)
    x = (torch.arange(width, device=device) - (width - 1) / 2).view(1, 1, 1, -1)
    image = _background(fields, scalars, tables, x, y, time)
    return _with_shapes(image, fields, scalars, tables, x, y, time, height, width) * 2 - 1


def _draws(seeds, device):
    """Uniform numbers a clip: scalars [batch, 64] and lattice tables [batch, 3, TABLE, TABLE]."""
    rows = [
        torch.rand(_SCALARS + 3 * TABLE * TABLE, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds
    ]
    rows = torch.stack(rows).to(device, non_blocking=True)
    return rows[:, :_SCALARS], rows[:, _SCALARS:].view(-1, 3, TABLE, TABLE)


def _wide(parameter):
    return parameter.view(-1, 1, 1, 1)


def _colour(palette, jitter, mix):
    """palette [batch] indices, jitter [batch, 6] in [0, 1], mix [batch, f, h, w] -> [batch, 3, f, h, w]."""
    pair = _PALETTES.to(mix.device)[palette] + 0.12 * (jitter.view(-1, 2, 3) - 0.5)
    dark, light = pair[:, 0].view(-1, 3, 1, 1, 1), pair[:, 1].view(-1, 3, 1, 1, 1)
    return dark + (light - dark) * mix.unsqueeze(1)


def _background(fields, scalars, tables, x, y, time):
    direction = fields["pan_direction"] * (math.pi / 4)
    speed = 0.5 * fields["pan_speed"]  # pixels a frame
    rate = 0.006 * (fields["zoom"] - 3.5)  # log scale a frame
    scale = torch.exp(_wide(rate) * time)
    world_x, world_y = torch.broadcast_tensors(
        x * scale + _wide(speed * direction.cos()) * time, y * scale + _wide(speed * direction.sin()) * time
    )
    period = 9.0 + 2.5 * fields["background_period"]
    angle = fields["background_angle"] * (math.pi / 8)
    mix = texture(fields["background_texture"], world_x, world_y, angle, period, 8 * scalars[:, :2], tables[:, 0])
    offset_x, offset_y = _wide(TABLE * scalars[:, 2]), _wide(TABLE * scalars[:, 3])
    soft = 0.7 * value_noise(tables[:, 1], world_x / 28 + offset_x, world_y / 28 + offset_y)
    soft = soft + 0.3 * value_noise(tables[:, 2], world_x / 11 + offset_y, world_y / 11 + offset_x)
    shade = 1 - _wide(0.1 * fields["shade"]) * soft
    return _colour(fields["background_palette"], scalars[:, 4:10], mix) * shade.unsqueeze(1)


def _bounce(position, length, margin):
    """Reflect a coordinate between `margin` and `length - margin`."""
    span = (length - 2 * margin).clamp(min=1.0)
    phase = torch.remainder(position - margin, 2 * span)
    return margin + torch.minimum(phase, 2 * span - phase)


def _with_shapes(image, fields, scalars, tables, x, y, time, height, width):
    """Draw up to MAX_SHAPES shapes; the textures of all are looked up once, at the topmost shape's coordinates."""
    count = 1 + fields["shape_count"] // 2
    radius = (0.11 + 0.022 * fields["shape_size"]) * height
    direction = fields["shape_direction"] * (math.pi / 4)
    speed = 0.5 + 0.5 * fields["shape_speed"]  # pixels a frame
    spin = 0.05 * (fields["shape_spin"] - 3.5)  # radians a frame
    alpha = torch.zeros_like(image[:, 0])
    local_x, local_y = torch.zeros_like(alpha), torch.zeros_like(alpha)
    for index in range(MAX_SHAPES):
        own = scalars[:, 16 + 4 * index : 20 + 4 * index]
        velocity = speed * (1 + 0.2 * index)
        centre_x = _bounce(
            _wide(own[:, 0] * width) + _wide(velocity * direction.cos()) * time, width, _wide(0.6 * radius)
        )
        centre_y = _bounce(
            _wide(own[:, 1] * height) + _wide(velocity * direction.sin()) * time, height, _wide(0.6 * radius)
        )
        turn = _wide(2 * math.pi * own[:, 2]) + _wide(spin) * time
        dx, dy = x + width / 2 - centre_x, y + height / 2 - centre_y
        shape_x = dx * turn.cos() + dy * turn.sin()
        shape_y = dy * turn.cos() - dx * turn.sin()
        cover = coverage(fields["shape_kind"], shape_x, shape_y, radius * (1 - 0.12 * index))
        cover = cover * _wide((count > index).float())
        top = cover > 0.5
        local_x, local_y = torch.where(top, shape_x, local_x), torch.where(top, shape_y, local_y)
        alpha = torch.maximum(alpha, cover)
    period = 7.0 + 1.5 * fields["shape_size"]
    mix = texture(
        fields["shape_texture"], local_x, local_y, torch.zeros_like(speed), period, 8 * scalars[:, 10:12], tables[:, 0]
    )
    colour = _colour(fields["shape_palette"], scalars[:, 32:38], mix)
    return image + alpha.unsqueeze(1) * (colour - image)
