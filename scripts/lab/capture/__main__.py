"""Captures Q, K, V and the attention output of a video model's blocks into a dump, while a diffusers pipeline runs.

Models: every text-to-video pipeline whose transformer draftattention.models lists (Wan, HunyuanVideo, CogVideoX,
LTX-Video, Mochi, ...), from a folder or by its hub name. Each chosen layer, step and branch becomes a capture named like
layer12_step25_cond, written before the model goes on, in the model's element type: video tokens, then those of text that
are not padding, if the model attends to both at once.

Exit status 0: fine; 2: bad usage, or a model or run without what was asked for, one line on stderr and no file.
"""

import argparse
import math
import os
import sys

from lab.shared.one_line_parser import OneLineParser, positive, writes_stdout

BRANCHES = {"cond": ("cond",), "uncond": ("uncond",), "both": ("cond", "uncond")}


def numbers(text):
    """'0,12,29' -> [0, 12, 29]"""
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"wanted numbers from 0 on, found {text}")
    return list(dict.fromkeys(map(int, parts)))


def finite(text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"wanted a finite number, found {text}")
    return number


def seed(text):
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 0 to 2^63 - 1, found {text}")
    return number


def words(text):
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # what Python makes of other bytes
        raise argparse.ArgumentTypeError("wanted UTF-8, found other bytes")
    return text


def parse(arguments):
    parser = OneLineParser(
        "lab.capture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  PYTHONPATH=scripts python3 -m lab.capture --model Wan-AI/Wan2.1-T2V-1.3B-Diffusers \\\n"
        '    --prompt "A cat walks on grass" --height 480 --width 832 --frames 81 \\\n'
        "    --layers 0,15,29 --at 12,25 --out wan.h5",
    )
    add = parser.add_argument
    add("--model", required=True, metavar="FOLDER|NAME", help="diffusers pipeline, a local folder or a hub name")
    add("--out", required=True, metavar="FILE", help="dump to write (.h5)")
    add(
        "--layers",
        required=True,
        type=numbers,
        metavar="LIST",
        help="blocks from 0; HunyuanVideo's single-stream ones follow its dual-stream ones, VACE's control blocks the others",
    )
    add(
        "--at",
        required=True,
        type=numbers,
        metavar="LIST",
        help="denoising steps to capture, from 0: turns of the pipeline's loop",
    )
    add("--heads", type=numbers, metavar="LIST", help="heads to store (default: all)")
    add(
        "--branch",
        choices=BRANCHES,
        default="cond",
        help="passes of a step to capture under classifier-free guidance (default cond)",
    )
    add("--prompt", required=True, type=words, metavar="TEXT")
    add("--negative-prompt", type=words, metavar="TEXT", help="of classifier-free guidance (default: the pipeline's)")
    add("--height", type=positive, metavar="N", help="pixels (default: the pipeline's)")
    add("--width", type=positive, metavar="N", help="pixels (default: the pipeline's)")
    add("--frames", type=positive, metavar="N", help="of the video (default: the pipeline's)")
    add("--steps", type=positive, default=50, metavar="N", help="denoising steps (default 50)")
    add("--guidance", type=finite, metavar="X", help="guidance scale (default: the pipeline's)")
    add(
        "--true-guidance",
        type=finite,
        metavar="X",
        help="HunyuanVideo's scale of classifier-free guidance beside the "
        "embedded one, which makes a second pass a step (default: none)",
    )
    add("--seed", type=seed, default=0, metavar="N", help="of the noise, drawn on the CPU (default 0)")
    add(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        default="bfloat16",
        help="of the model (default bfloat16)",
    )
    add("--device", metavar="DEVICE", help="cuda, cuda:1, cpu (default: cuda where there is one)")
    add("--no-output", dest="output", action="store_false", help="leave out `o`, the model's own attention output")
    add("--stop-after-last-capture", dest="stop", action="store_true", help="end the run there")
    add(
        "--compression",
        type=int,
        choices=range(10),
        default=1,
        metavar="0-9",
        help="gzip's level, 0 for none (default 1)",
    )
    options = parser.parse_args(arguments)
    late = [step for step in options.at if step >= options.steps]
    if late:
        parser.error(f"argument --at: wanted steps from 0 to {options.steps - 1}, found {late[0]}")
    folder = os.path.dirname(os.path.abspath(options.out))
    if not os.path.isdir(folder):
        parser.error(f"argument --out: wanted a file in a folder that exists, found {options.out}")
    if options.true_guidance is not None and not options.true_guidance > 1:
        parser.error(f"argument --true-guidance: wanted a scale above 1, found {options.true_guidance:g}")
    options.branches = BRANCHES[options.branch]
    return options


@writes_stdout("capture")
def main(arguments=None):
    options = parse(arguments)
    try:
        import diffusers  # noqa: F401
        import torch

        from lab.capture import capture, pipelines
    except ImportError as error:
        print(f"capture: needs PyTorch, diffusers, transformers, h5py and draftattention: {error}", file=sys.stderr)
        return 2
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        capture.require_out(options.out)
        pipelines.require_known(options.model, options)
        pipeline = pipelines.load(options.model, options.dtype, options.device)
        call = pipelines.arguments(pipeline, options)
        names = capture.capture_run(
            pipeline,
            lambda: pipeline(**call),
            options.out,
            layers=options.layers,
            at=options.at,
            heads=options.heads,
            branches=options.branches,
            model=pipelines.model_name(options.model),
            prompt=options.prompt,
            negative_prompt=options.negative_prompt,
            source=pipelines.source(pipeline, options),
            output=options.output,
            stop=options.stop,
            compression=options.compression,
        )
    except (ValueError, ImportError, OSError) as error:
        print(f"capture: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{options.out}: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
