"""Where tokens stand, and the rotary embedding of it: a quarter of the head dimension for time, three eighths each for
rows and columns. Positions are in units of FULL whatever the grid, so that a clip looks alike to the model at every
resolution. Text tokens stand after the video tokens and are not rotated.
"""

import torch

BASE = 300.0  # the slowest pair turns once in about 1,900 tokens: far beyond any grid's side, near enough to be learned
FULL = (8, 32, 48)  # frames, rows and columns of the grid that positions count in


def axis_dims(head_dim):
    """How many dimensions of a head turn with (frame, row, column); raises ValueError unless 16 divides head_dim."""
    if head_dim % 16:
        raise ValueError(f"head_dim: wanted a multiple of 16, found {head_dim}")
    return head_dim // 4, 3 * head_dim // 8, 3 * head_dim // 8


def positions(grid, device):
    """(frame, row, column) of every video token in units of FULL, each [tokens] float32. The first and the last frame
    stand at 0 and FULL's last; rows and columns are the middles of tokens that fill the picture."""
    frames, height, width = grid
    f = torch.arange(frames, device=device, dtype=torch.float32) * ((FULL[0] - 1) / max(frames - 1, 1))
    h, w = (
        (torch.arange(n, device=device, dtype=torch.float32) + 0.5) * (full / n) - 0.5
        for n, full in ((height, FULL[1]), (width, FULL[2]))
    )
    return [axis.flatten() for axis in torch.meshgrid(f, h, w, indexing="ij")]


def rope_table(grid, text_tokens, head_dim, device):
    """(cos, sin), each [tokens, head_dim / 2] float32, tokens row-major in (frame, height, width) and then text."""
    angles = []
    for position, dims in zip(positions(grid, device), axis_dims(head_dim)):
        pairs = dims // 2
        frequency = BASE ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
        angles.append(position[:, None] * frequency)
    angle = torch.cat(angles, dim=1)
    angle = torch.cat([angle, angle.new_zeros(text_tokens, angle.shape[1])])
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Turn pair (i, i + head_dim / 2) of every token by its angle. x [batch, heads, tokens, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
