"""The held-out loss: fixed clips of prompts that training never draws, with fixed noise, at fixed times."""

import torch

from lab.model.flow import seeded_noise
from lab.model.held_out import losses_by_time

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

    def loss(self, model, at_once=8):
        """(mean over all, [mean at each of TIMES])."""
        return losses_by_time(clip_losses, model, self, TIMES, at_once)
