"""Textures and shapes as functions of the plane, with edges about one pixel wide.

All take coordinates in pixels and return values in [0, 1]; a texture's `period` is in pixels too, so that detail is
equally fine on every grid.
"""

import math

import torch

EDGE = 1.25  # width of an anti-aliased edge, pixels


def value_noise(table, x, y):
    """Smooth random field. table [batch, size, size] in [0, 1]; x, y [batch, ...] in lattice units -> [batch, ...]."""
    size = table.shape[-1]
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    ix, iy = x0.long() % size, y0.long() % size
    jx, jy = (ix + 1) % size, (iy + 1) % size
    flat = table.flatten(1)

    def at(row, column):
        return flat.gather(1, (row * size + column).flatten(1)).view_as(x)

    top = torch.lerp(at(iy, ix), at(iy, jx), fx)
    bottom = torch.lerp(at(jy, ix), at(jy, jx), fx)
    return torch.lerp(top, bottom, fy)


def texture(kind, x, y, angle, period, phase, table):
    """Eight sharp patterns, chosen a clip.

    kind, angle (radians), period (pixels): [batch]; phase [batch, 2] in periods; table [batch, size, size];
    x, y [batch, frames, height, width] in pixels -> the same shape, in [0, 1].
    """

    def wide(parameter):
        return parameter.view(-1, 1, 1, 1)

    period = wide(period)
    cos, sin = wide(angle.cos()), wide(angle.sin())
    u = (x * cos + y * sin) / period + wide(phase[:, 0])
    v = (y * cos - x * sin) / period + wide(phase[:, 1])

    def wave(s):  # the sign of a sine of one period, softened over EDGE pixels
        return (0.5 + s * period / (2 * math.pi * EDGE)).clamp(0, 1)

    def inside(distance):  # distance in periods, positive inside
        return (0.5 + distance * period / EDGE).clamp(0, 1)

    du, dv = u - u.floor() - 0.5, v - v.floor() - 0.5
    row = (2 * v).floor()
    brick_u = u + 0.5 * (row % 2)
    mortar_u = 0.5 - (brick_u - brick_u.floor() - 0.5).abs()
    mortar_v = 0.5 * (0.5 - (2 * v - row - 0.5).abs())
    tau = 2 * math.pi
    patterns = (
        lambda: wave(torch.sin(tau * u)),  # stripes
        lambda: wave(2 * torch.sin(math.pi * u) * torch.sin(math.pi * v)),  # checks
        lambda: inside(0.33 - torch.hypot(du, dv)),  # dots
        lambda: inside(torch.minimum(mortar_u, mortar_v) - 0.07),  # bricks
        lambda: wave(torch.sin(tau * (u + 0.25 * torch.sin(math.pi * v)))),  # waves
        lambda: inside(0.8 * (value_noise(table, 1.5 * u, 1.5 * v) - 0.5)),  # blobs
        lambda: wave(torch.sin(tau * torch.hypot(u, v))),  # rings
        lambda: wave(torch.sin(tau * (u + dv.abs()))),  # zigzag
    )
    out = torch.zeros_like(x)
    for index, pattern in enumerate(patterns):
        out = torch.where(wide(kind) == index, pattern(), out)
    return out


def coverage(kind, x, y, radius):
    """How much of a pixel a shape covers. kind, radius (pixels) [batch]; x, y [batch, frames, height, width]."""

    def wide(parameter):
        return parameter.view(-1, 1, 1, 1)

    size = wide(radius)
    r, ax, ay = torch.hypot(x, y), x.abs(), y.abs()
    half, root = 0.5, math.sqrt(3) / 2
    signed_distances = (  # negative inside
        lambda: r - size,  # disc
        lambda: torch.maximum(ax, ay) - 0.85 * size,  # box
        lambda: (ax + ay - 1.2 * size) / math.sqrt(2),  # diamond
        lambda: (r - 0.72 * size).abs() - 0.28 * size,  # ring
        lambda: torch.minimum(
            torch.maximum(ax - size, ay - 0.35 * size), torch.maximum(ax - 0.35 * size, ay - size)
        ),  # cross
        lambda: torch.maximum(y, root * ax - half * y) - 0.6 * size,  # triangle
        lambda: torch.maximum(ay, root * ax + half * ay) - 0.87 * size,  # hexagon
        lambda: 0.8 * (r - size * (0.75 + 0.25 * torch.cos(5 * torch.atan2(y, x)))),  # star
    )
    distance = torch.zeros_like(x)
    for index, signed in enumerate(signed_distances):
        distance = torch.where(wide(kind) == index, signed(), distance)
    return (0.5 - distance / EDGE).clamp(0, 1)
