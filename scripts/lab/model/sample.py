"""Generate clips from the shipped weights and lay them out beside the true clips of the same prompts.

Example:

    PYTHONPATH=scripts python3 -m lab.model.sample --weights data/photodit.safetensors --sheet data/photodit_samples.png

Each line of the sheet is one prompt: frames of the generated clip on the left, of the true one on the right. The prompts
are held-out ones unless given. With --repeat every clip is generated twice and the bits are compared.
"""

import argparse
import shlex
import sys

import torch

from .checkpoint import load_weights
from .flow import SHIFT, STEPS, sample
from .plan import parse_grid
from .prompts import add_prompt_options, prompt_text, prompts_of
from .sheet import save_sheet
from .video import render


def spoken_command(program):
    """The command line as it would be typed, for the record. program: what python3 runs, "-m lab.model.sample"."""
    return f"python3 {program} " + shlex.join(sys.argv[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--sheet", required=True, help="PNG to write")
    parser.add_argument(
        "--grid", type=parse_grid, default=(8, 32, 48), help="FRAMESxHEIGHTxWIDTH tokens (default 8x32x48)"
    )
    add_prompt_options(parser, 8)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--shift", type=float, default=SHIFT)
    parser.add_argument("--frames-shown", type=int, default=4)
    parser.add_argument("--repeat", action="store_true", help="generate twice and compare the bits")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_weights(options.weights, device)
    prompts = prompts_of(options)
    frames, height, width = options.grid
    rows = []
    for index, prompt in enumerate(prompts):
        seed = options.seed + index
        clip = sample(model, prompt[None], [seed], options.grid, options.steps, options.shift)
        if options.repeat:
            again = sample(model, prompt[None], [seed], options.grid, options.steps, options.shift)
            if not torch.equal(clip, again):
                raise RuntimeError(
                    f"sample: two runs of seed {seed} differ by up to {(clip - again).abs().max().item()}"
                )
        truth = render(prompt[None], frames, height * model.config.patch, width * model.config.patch, device)
        rows.append([clip[0], truth[0]])
        print(f"seed {seed}: {prompt_text(prompt)}" + (": two runs agree bit for bit" if options.repeat else ""))
    save_sheet(options.sheet, rows, 2, options.frames_shown, spoken_command("-m lab.model.sample"))


if __name__ == "__main__":
    main()
