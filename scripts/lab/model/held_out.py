"""The held-out loss: fixed clips of prompts that training never draws, with fixed noise, at fixed times."""

import torch

from .flow import flow_losses, seeded_noise
from .prompts import draw_prompts
from .video import render

GRID = (8, 32, 48)
CLIPS = 16
TIMES = tuple((i + 0.5) / 8 for i in range(8))
SEED = 20_260_000


class HeldOut:
    """Holds the set on the device; `loss(model)` is the mean squared velocity error over uniform times."""

    def __init__(self, config, device, grid=GRID, clips=CLIPS):
        frames, height, width = grid
        shape = (config.channels, frames, height * config.patch, width * config.patch)
        seeds = range(SEED, SEED + clips)
        prompts = draw_prompts(clips, torch.Generator().manual_seed(SEED), held_out=True)
        self.clips = render(prompts, seeds, frames, *shape[2:], device)
        self.noise = seeded_noise(seeds, shape, device)
        self.prompts = prompts.to(device)

    def loss(self, model, at_once=8):
        """(mean over all, [mean at each of TIMES])."""
        return losses_by_time(flow_losses, model, self, TIMES, at_once)


@torch.no_grad()
def losses_by_time(losses_of, model, held_out, times, at_once=8):
    """(mean over all, [mean at each time]) of losses_of(model, clips, noise, t, prompts) over held_out's clips."""
    device = held_out.clips.device
    by_time = []
    for time in times:
        losses = []
        for start in range(0, len(held_out.clips), at_once):
            part = slice(start, start + at_once)
            clips, noise, prompts = held_out.clips[part], held_out.noise[part], held_out.prompts[part]
            t = torch.full((len(clips),), time, device=device)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                losses.append(losses_of(model, clips, noise, t, prompts))
        by_time.append(torch.cat(losses).mean().item())
    return sum(by_time) / len(by_time), by_time
