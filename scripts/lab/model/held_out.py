"""The held-out loss: fixed clips of prompts that training never draws, with fixed noise, at fixed times."""

import torch

from .flow import seeded_noise
from .prompts import draw_prompts
from .video import render

GRID = (8, 32, 48)
CLIPS = 16
TIMES = tuple((i + 1) / 8 for i in range(8))
SEED = 20_260_000


def clip_losses(model, clips, noise, t, prompts):
    """Mean squared error of the predicted clip, [batch]. clips, noise [batch, channels, frames, height, width]; t [batch]."""
    predicted = model.clean(torch.lerp(clips, noise, t.view(-1, 1, 1, 1, 1)), t, prompts)
    return (predicted - clips).square().mean(dim=(1, 2, 3, 4))


class HeldOut:
    """Holds the set on the device; `loss(model)` is the mean squared error of the predicted clips over even times."""

    def __init__(self, config, device, grid=GRID, clips=CLIPS):
        frames, height, width = grid
        shape = (config.channels, frames, height * config.patch, width * config.patch)
        prompts = draw_prompts(clips, torch.Generator().manual_seed(SEED), held_out=True)
        self.clips = render(prompts, frames, *shape[2:], device)
        self.noise = seeded_noise(range(SEED, SEED + clips), shape, device)
        self.prompts = prompts.to(device)

    @torch.no_grad()
    def loss(self, model, at_once=8):
        """(mean over all, [mean at each of TIMES])."""
        device, by_time = self.clips.device, []
        for time in TIMES:
            losses = []
            for start in range(0, len(self.clips), at_once):
                part = slice(start, start + at_once)
                clips, noise, prompts = self.clips[part], self.noise[part], self.prompts[part]
                t = torch.full((len(clips),), time, device=device)
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    losses.append(clip_losses(model, clips, noise, t, prompts))
            by_time.append(torch.cat(losses).mean().item())
        return sum(by_time) / len(by_time), by_time
