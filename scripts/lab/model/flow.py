"""Rectified flow: x_t = (1 - t) clip + t noise, the model predicts noise - clip, Euler steps from t = 1 to t = 0."""

import torch

STEPS = 30
SHIFT = 3.0


def shift_time(t, shift):
    """Bend times in [0, 1] towards noise: s t / (1 + (s - 1) t). Works on floats and tensors."""
    return shift * t / (1 + (shift - 1) * t)


def schedule(steps=STEPS, shift=SHIFT):
    """The steps + 1 times of a sampling run, from 1.0 down to 0.0."""
    if steps < 1:
        raise ValueError(f"steps: wanted at least 1, found {steps}")
    return [shift_time(1 - i / steps, shift) for i in range(steps + 1)]


def seeded_noise(seeds, shape, device):
    """[len(seeds), *shape] standard normal, drawn on the CPU so that a seed means the same on every device."""
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    return torch.stack(rows).to(device)


@torch.no_grad()
def velocity(model, x, time, prompts, attention=None, step=0):
    """What the model predicts for noisy clips x [batch, channels, frames, height, width] at one time, of x's shape;
    otherwise as `sample`."""
    t = torch.full((len(x),), time, device=x.device)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
        return model(x, t, prompts, attention=attention, step=step)


@torch.no_grad()
def sample(model, prompts, seeds, grid, steps=STEPS, shift=SHIFT, attention=None, stop_after=None, watch=None):
    """Generate clips [batch, channels, frames, height, width] in about [-1, 1], the same bits at every run.

    prompts [batch, 13], one seed of its noise a clip, grid (frames, height, width) in tokens. `attention(q, k, v, layer=,
    step=)` replaces the dense attention and knows the layer and the denoising step. `stop_after` ends the run after
    that step (for captures). `watch(step, x)` sees the state after each step. bfloat16 on a GPU, float32 on the CPU.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"sample: wanted one seed a prompt, found {len(seeds)} seeds for {len(prompts)} prompts")
    config, device = model.config, next(model.parameters()).device
    frames, height, width = grid
    x = seeded_noise(seeds, (config.channels, frames, height * config.patch, width * config.patch), device)
    prompts, times = prompts.to(device), schedule(steps, shift)
    for step in range(steps):
        x = x + (times[step + 1] - times[step]) * velocity(model, x, times[step], prompts, attention, step)
        if watch is not None:
            watch(step, x)
        if step == stop_after:
            break
    return x
