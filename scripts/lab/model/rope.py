"""3-D rotary position embedding: a quarter of the head dimension for time, three eighths each for rows and columns.

Text tokens stand after the video tokens and are not rotated.
"""

import torch

BASE = 256.0  # slowest pair turns once in about 1,600 tokens: far beyond any grid side, near enough to be learned


def axis_dims(head_dim):
    """How many dimensions of a head turn with (frame, row, column); raises ValueError unless 16 divides head_dim."""
    if head_dim % 16:
        raise ValueError(f"head_dim: wanted a multiple of 16, found {head_dim}")
    return head_dim // 4, 3 * head_dim // 8, 3 * head_dim // 8


def rope_table(grid, text_tokens, head_dim, device):
    """(cos, sin), each [tokens, head_dim / 2] float32, tokens row-major in (frame, height, width) and then text."""
    axes = torch.meshgrid(*(torch.arange(n, device=device, dtype=torch.float32) for n in grid), indexing="ij")
    return table_of(axes, text_tokens, head_dim, BASE)


def table_of(axes, text_tokens, head_dim, base):
    """rope_table's result for tokens at these positions: axes (frame, row, column), each of one number a token."""
    angles = []
    for position, dims in zip(axes, axis_dims(head_dim)):
        pairs = dims // 2
        frequency = base ** (-torch.arange(pairs, device=position.device, dtype=torch.float32) / pairs)
        angles.append(position.reshape(-1, 1) * frequency)
    angle = torch.cat(angles, dim=1)
    angle = torch.cat([angle, angle.new_zeros(text_tokens, angle.shape[1])])
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Turn pair (i, i + head_dim / 2) of every token by its angle. x [batch, heads, tokens, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
