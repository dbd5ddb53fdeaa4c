"""Generate clips, dense or with some of the attention blocks left out; save their frames and an animated picture.

Example (with the package draftattention on the path as well; its kernels run on a GPU, PyTorch on a CPU):

    PYTHONPATH=scripts:kernels/python python3 -m lab.model.generate --weights data/photodit.safetensors \
        --policy draft --sparsity 0.9 --prompts 2 --out build/clips

OUT/clip_000/frame_000.png, ... are the frames, OUT/clip_000.gif plays them, and OUT/clips.json holds the options, the
prompts and the seeds. The same options give the same bits; --repeat makes every clip twice and compares them. With
--beside dense each clip is also made densely, and the animation shows the dense one on the left.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict

import torch
from PIL import Image

from .checkpoint import load_weights
from .flow import SHIFT, STEPS, sample
from .plan import parse_grid
from .policies import POLICIES, Policy, PolicyAttention
from .prompts import TEXT_TOKENS, add_prompt_options, prompt_text, prompts_of
from .sample import spoken_command
from .sheet import animate, to_pixels


def parse_region(text):
    """'8x16' -> (8, 16). Raises ValueError."""
    height, cross, width = text.partition("x")
    if not (cross and height.isdigit() and width.isdigit() and int(height) > 0 and int(width) > 0):
        raise ValueError(f"region: wanted HEIGHTxWIDTH in tokens, such as 8x16, found {text!r}")
    return int(height), int(width)


def generate(model, prompts, seeds, grid, policy, steps=STEPS, shift=SHIFT, probe=None):
    """Clips [batch, channels, frames, height, width] in about [-1, 1] under a policy; as flow.sample otherwise."""
    attention = PolicyAttention(policy, grid, TEXT_TOKENS, steps, probe)
    return sample(model, prompts, seeds, grid, steps, shift, attention=attention)


def add_policy_options(parser):
    parser.add_argument("--policy", choices=POLICIES, default="dense")
    parser.add_argument("--sparsity", type=float, help="share of the blocks left out (default 0.9, dense 0)")
    parser.add_argument("--pool", choices=("avg", "max"), default="avg")
    parser.add_argument("--rule", choices=("logits", "softmax", "released", "row"), default="softmax")
    parser.add_argument("--region", type=parse_region, default=(8, 16), help="HEIGHTxWIDTH in tokens (default 8x16)")
    parser.add_argument(
        "--dense-steps", type=float, default=0.25, help="share of the steps, the first, that stay dense"
    )
    parser.add_argument(
        "--remainder", choices=("pooled",), help="dropped blocks take part as a whole (always with sol_attn)"
    )
    parser.add_argument("--kernel", default="auto", help="auto, torch, or a kernel of draftattention")


def policy_of(options):
    """Raises ValueError."""
    sparsity = options.sparsity if options.sparsity is not None else 0.0 if options.policy == "dense" else 0.9
    return Policy(
        options.policy,
        sparsity,
        options.pool,
        options.rule,
        options.region,
        options.dense_steps,
        options.seed,
        options.kernel,
        remainder="pooled" if options.policy == "sol_attn" else options.remainder,
    )


def save_clip(folder, name, clip, left=None):
    """Frames of one clip [3, frames, height, width], and their animation, with another clip on its left if given."""
    frames = to_pixels(clip)
    os.makedirs(os.path.join(folder, name), exist_ok=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(os.path.join(folder, name, f"frame_{index:03d}.png"))
    animate(os.path.join(folder, f"{name}.gif"), [clip] if left is None else [left, clip])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    add_policy_options(parser)
    parser.add_argument(
        "--grid", type=parse_grid, default=(8, 32, 48), help="FRAMESxHEIGHTxWIDTH tokens (default 8x32x48)"
    )
    add_prompt_options(parser, 4)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--shift", type=float, default=SHIFT)
    parser.add_argument("--beside", choices=("dense",), help="show each clip beside the dense one")
    parser.add_argument("--repeat", action="store_true", help="generate twice and compare the bits")
    options = parser.parse_args(arguments)
    try:
        policy = policy_of(options)
    except ValueError as error:
        parser.error(str(error))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_weights(options.weights, device)
    prompts = prompts_of(options)
    made = []
    for index, prompt in enumerate(prompts):
        seed = options.seed + index

        def run(which):
            return generate(model, prompt[None], [seed], options.grid, which, options.steps, options.shift)[0]

        clip = run(policy)
        if options.repeat and not torch.equal(clip, again := run(policy)):
            raise RuntimeError(f"generate: two runs of seed {seed} differ by up to {(clip - again).abs().max().item()}")
        name = f"clip_{index:03d}"
        save_clip(options.out, name, clip, run(Policy(dense_steps=1.0)) if options.beside else None)
        made.append({"name": name, "seed": seed, "prompt": prompt_text(prompt)})
        print(f"{name}: seed {seed}: {made[-1]['prompt']}" + (": two runs agree bit for bit" if options.repeat else ""))
    with open(os.path.join(options.out, "clips.json"), "w") as file:
        json.dump(
            {
                "command": spoken_command("-m lab.model.generate"),
                "policy": asdict(policy),
                "grid": options.grid,
                "steps": options.steps,
                "shift": options.shift,
                "device": device.type,
                "clips": made,
            },
            file,
            indent=2,
        )
        file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
