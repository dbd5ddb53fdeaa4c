"""Where tokens stand, and their angles of rotary embedding, in units of FULL whatever the grid: a clip looks alike to the
model at every resolution. Text tokens stand after the video tokens and are not rotated."""

import torch

from lab.model.rope import table_of

BASE = 300.0
FULL = (8, 32, 48)  # frames, rows and columns of the grid that positions count in


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
    return table_of(positions(grid, device), text_tokens, head_dim, BASE)
