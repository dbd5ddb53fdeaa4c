r"""How good the model's clips are, and how far masks move them: figures on held-out prompts.

Example (with draftattention on the path; its kernels want a GPU):

    PYTHONPATH=scripts:kernels/python python3 -m lab.model.judge --weights data/photodit.safetensors --prompts 54 --sparse 6

Prints the PSNR of dense clips to the true ones (whole, behind the cut-out, the cut-out's disc), how often the nearest of
all scenes, and of all cut-outs, is the prompt's own; then the PSNR to the dense clips, and to the true ones, of clips
under some masks. --sheet draws true, dense and masked clips beside each other.
"""

import argparse
import sys

import torch

from .checkpoint import load_weights
from .flow import SHIFT, STEPS, sample
from .photographs import CUT_OUTS, SCENES
from .plan import parse_grid
from .policies import Policy, PolicyAttention
from .prompts import TEXT_TOKENS, add_prompt_options, prompts_of
from .sample import spoken_command
from .sheet import save_labelled_sheet
from .video import cut_out_at, frame_times, render

MASKS = [
    Policy("random", 0.9, dense_steps=0),
    Policy("oracle", 0.9, rule="row", dense_steps=0),
    Policy("draft", 0.9, dense_steps=0),
    Policy("draft", 0.9, rule="row", dense_steps=0),
    Policy("random", 0.9),
    Policy("draft", 0.9, pool="max"),
    Policy("draft", 0.9),
    Policy("draft", 0.9, rule="logits"),
    Policy("draft", 0.8),
    Policy("draft", 0.6),
]
AT_ONCE = 6  # clips


def psnr(clips, others, weight=None):
    """Decibels of each clip to the other of its place, for values in [-1, 1], [batch]. weight: of pixels, as clips."""
    square = (clips - others).square()
    if weight is None:
        mean = square.mean(dim=(1, 2, 3, 4))
    else:
        mean = (square * weight).sum(dim=(1, 2, 3, 4)) / weight.expand_as(square).sum(dim=(1, 2, 3, 4))
    return 10 * torch.log10(4 / mean)


def disc(prompts, frames, height, width, device):
    """1 where the cut-out is, [batch, 1, frames, height, width]."""
    x0, y0 = (value[..., None, None] for value in cut_out_at(prompts.to(device), frame_times(frames, device)))
    y, x = ((torch.arange(n, device=device) + 0.5) * 2 / n - 1 for n in (height, width))
    away = ((x - x0) * width / height).square() + (y[:, None] - y0).square()
    return (away <= prompts[:, 12, None, None, None].to(device).square()).float()[:, None]


def nearest(clips, prompts, column, count, weight=None):
    """Which of `count` values of a prompt's column gives the true clip nearest to each clip, [batch]."""
    frames, height, width = clips.shape[2:]
    distances = []
    for value in range(count):
        changed = prompts.clone()
        changed[:, column] = value
        distances.append(-psnr(clips, render(changed, frames, height, width, clips.device), weight))
    return torch.stack(distances, dim=1).argmin(1)


def in_parts(prompts, seeds, make):
    parts = [slice(i, i + AT_ONCE) for i in range(0, len(prompts), AT_ONCE)]
    return torch.cat([make(prompts[part], seeds[part]) for part in parts])


def spread(values):
    return f"{values.mean():.2f} dB ({values.min():.2f} to {values.max():.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--grid", type=parse_grid, default=(8, 32, 48), help="tokens (default 8x32x48)")
    add_prompt_options(parser, 54)
    parser.add_argument("--sparse", type=int, default=6, help="of how many prompts masked clips are made (default 6)")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--shift", type=float, default=SHIFT)
    parser.add_argument("--sheet", metavar="FILE.png")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, prompts = load_weights(options.weights, device), prompts_of(options)
    seeds = list(range(options.seed, options.seed + len(prompts)))
    frames, height, width = options.grid
    size = (frames, height * model.config.patch, width * model.config.patch)
    truth = in_parts(prompts, seeds, lambda some, _: render(some, *size, device))

    def clips_of(policy, some, own_seeds):
        def make(part, part_seeds):
            attention = None
            if policy is not None:
                attention = PolicyAttention(policy, options.grid, TEXT_TOKENS, options.steps)
            return sample(model, part, part_seeds, options.grid, options.steps, options.shift, attention)

        return in_parts(some, own_seeds, make)

    dense = clips_of(None, prompts, seeds)
    inside = disc(prompts, *size, device)
    scene = nearest(dense, prompts, 0, len(SCENES), 1 - inside).cpu() == prompts[:, 0]
    cut_out = nearest(dense, prompts, 1, len(CUT_OUTS), inside).cpu() == prompts[:, 1]
    print(f"dense to truth, {len(prompts)} held-out prompts, {options.steps} steps: {spread(psnr(dense, truth))}")
    print(f"  behind the cut-out {spread(psnr(dense, truth, 1 - inside))}")
    print(f"  the cut-out {spread(psnr(dense, truth, inside))}")
    print(f"  scene right {int(scene.sum())} of {len(scene)}, cut-out right {int(cut_out.sum())} of {len(cut_out)}")
    by_scene = [(psnr(dense, truth).cpu()[prompts[:, 0] == i].mean().item(), name) for i, name in enumerate(SCENES)]
    print("  by scene: " + ", ".join(f"{name} {value:.1f}" for value, name in sorted(by_scene) if value == value))
    few, few_seeds = prompts[: options.sparse], seeds[: options.sparse]
    rows = [("true", list(truth[: options.sparse])), ("dense", list(dense[: options.sparse]))]
    for policy in MASKS if options.sparse else []:
        clips = clips_of(policy, few, few_seeds)
        rows.append((policy.describe(), list(clips)))
        print(
            f"{policy.describe()}: to dense {spread(psnr(clips, dense[: options.sparse]))}, to truth "
            f"{spread(psnr(clips, truth[: options.sparse]))}",
            flush=True,
        )
    if options.sheet:
        save_labelled_sheet(options.sheet, rows, 3, spoken_command("-m lab.model.judge"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
