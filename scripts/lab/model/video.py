"""The true clip of a prompt: a photograph under a moving camera, and a round cut-out with a white rim before it."""

import torch
import torch.nn.functional as F

from .photographs import photographs

SHARPER = 2  # frames are drawn that much larger and averaged down
RIM = 0.06  # of the cut-out's radius


def frame_times(frames, device="cpu"):
    """[frames] from 0 to 1: where a frame stands between a prompt's two ends."""
    return torch.linspace(0, 1, frames, device=device) if frames > 1 else torch.zeros(1, device=device)


def camera_at(prompts, times):
    """(x, y, half-width), each [batch, frames]: a straight pan, and a zoom at a steady rate."""
    x0, y0, width0, x1, y1, width1 = prompts[:, 2:8, None].unbind(1)
    width = width0 * (width1 / width0) ** times
    return torch.lerp(x0, x1, times), torch.lerp(y0, y1, times), width


def cut_out_at(prompts, times):
    """(x, y), each [batch, frames], in the frame."""
    x0, y0, x1, y1 = prompts[:, 8:12, None].unbind(1)
    return torch.lerp(x0, x1, times), torch.lerp(y0, y1, times)


def render(prompts, frames, height, width, device="cpu"):
    """Clips [batch, 3, frames, height, width] in [-1, 1]; prompts [batch, 13], sizes in pixels."""
    scenes, cut_outs = photographs(str(device))
    prompts = prompts.to(device)
    times, large = frame_times(frames, device), (SHARPER * height, SHARPER * width)
    y, x = (((torch.arange(n, device=device) + 0.5) * 2 / n - 1) for n in large)
    batch = len(prompts)

    centre_x, centre_y, half = (value.reshape(-1, 1, 1) for value in camera_at(prompts, times))
    points = torch.stack(torch.broadcast_tensors(centre_x + half * x, centre_y + half * y[:, None]), dim=-1)
    scene = prompts[:, 0].long().repeat_interleave(frames)
    seen = F.grid_sample(scenes[scene], points, align_corners=False, padding_mode="border")

    middle_x, middle_y = (value.reshape(-1, 1, 1) for value in cut_out_at(prompts, times))
    radius = prompts[:, 12].repeat_interleave(frames).view(-1, 1, 1)
    across = (x - middle_x) * (width / height) / radius
    down = (y[:, None] - middle_y) / radius
    across, down = torch.broadcast_tensors(across, down)
    which = prompts[:, 1].long().repeat_interleave(frames)
    shown = F.grid_sample(
        cut_outs[which], torch.stack([across, down], dim=-1), align_corners=False, padding_mode="border"
    )
    distance = (across.square() + down.square()).sqrt()
    shown = torch.where((distance > 1 - RIM)[:, None], torch.ones_like(shown), shown)
    frames_drawn = torch.where((distance <= 1)[:, None], shown, seen)
    small = F.avg_pool2d(frames_drawn, SHARPER)
    return small.view(batch, frames, 3, height, width).transpose(1, 2).contiguous()
