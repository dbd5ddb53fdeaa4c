"""Generates videos with the small video DiT, dense and sparse, and measures them: the paper's Tables 1, 4 and 5 in
miniature, the dense first steps, the four rules, oracle and random masks, what other systems keep at the same budgets,
contrast, how long a video takes, and pictures; and Table 2, with linear layers and attention of 8-bit numbers.

Records go to OUT/videos.jsonl and OUT/video_times.jsonl, pictures to OUT/pictures. What is there is not made again, so
that a run that was stopped, or ended by --seconds, goes on where it was. Needs PyTorch, torchmetrics and, on a GPU, the
built package draftattention on PYTHONPATH; elsewhere its PyTorch path, and no times. FP8 layers need torchao and a GPU from
compute capability 8.9 on.

Exit status 0: everything is there; 1: a record failed, or the dense clips were not the same bits twice; 2: bad usage or
something that is not installed, one line on stderr; 3: --seconds are over and more is to be done.
"""

import argparse
import math
import os
import sys
import time

from lab.shared.files import ROOT, sha256_of
from lab.shared.one_line_parser import OneLineParser, writes_stdout
from lab.shared.record_file import Malformed, read_all

PARTS = ("quality", "speed", "pictures", "systems", "eight_bits")
USUAL = PARTS[:3]


def parse(arguments):
    parser = OneLineParser(
        "lab.videos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  PYTHONPATH=scripts python3 -m lab.videos --out results/video",
    )
    parser.add_argument("--weights", default=os.path.join(ROOT, "data", "photodit.safetensors"), metavar="FILE")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the records and pictures")
    parser.add_argument(
        "--parts",
        type=lambda text: text.split(","),
        default=list(USUAL),
        metavar="LIST",
        help=f"some of {','.join(PARTS)} (default {','.join(USUAL)}); systems: what others keep at equal budgets; eight_bits:"
        " 8-bit attention and FP8 linear layers, and which of their roundings matters",
    )
    parser.add_argument("--clips", type=int, default=32, help="prompts, each with a seed of its own (default 32)")
    parser.add_argument("--grid", default="8x32x48", help="FRAMESxHEIGHTxWIDTH tokens of the clips (default 8x32x48)")
    parser.add_argument("--steps", type=int, default=30, help="denoising steps (default 30)")
    parser.add_argument("--batch", type=int, default=8, help="clips at a time (default 8)")
    parser.add_argument(
        "--kernel", default="auto", help="of the sparse calls: auto, torch, or a kernel of draftattention"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, help="start nothing more after so long")
    parser.add_argument(
        "--lpips", metavar="FILE", help="AlexNet's weights, of lab.videos.lpips_weights (default: no LPIPS)"
    )
    parser.add_argument(
        "--vbench", metavar="DIR", help="score by VBench, with the weights that this folder holds (default: no VBench)"
    )
    parser.add_argument("--commit", metavar="HASH", help="the commit to record, for a tree without git")
    return parser.parse_args(arguments)


def refuse(text):
    print(f"videos: {text}", file=sys.stderr)
    return 2


@writes_stdout("videos")
def main(arguments=None):
    options = parse(arguments)
    if unknown := [part for part in options.parts if part not in PARTS]:
        return refuse(f"--parts: wanted some of {', '.join(PARTS)}, found {unknown[0]!r}")
    if options.clips < 1 or options.batch < 1:
        return refuse(f"--clips, --batch: wanted at least 1, found {options.clips}, {options.batch}")
    if options.steps < 3:
        return refuse(
            f"--steps: wanted at least 3, since attention is looked at a third of the way, found {options.steps}"
        )
    try:
        import torch

        from lab.model.checkpoint import load_weights
        from lab.model.plan import parse_grid
        from lab.model.policies import dense_kernel
        from lab.model.sample import spoken_command
        from lab.shared.nvml import Nvml
        from lab.shared.records import build_info, machine_info
        from lab.videos import (
            configurations,
            eight_bits,
            motion,
            perceptual,
            pictures,
            quality,
            speed,
            vbench_scores,
            visible,
        )
    except ImportError as error:
        return refuse(f"not installed: {error}")
    videos, times = (os.path.join(options.out, name) for name in ("videos.jsonl", "video_times.jsonl"))
    try:
        for path in (videos, times):  # a run goes on with them, which is too late to find out
            read_all(path)
    except (OSError, Malformed) as error:
        return refuse(error)
    if not os.path.exists(options.weights):
        return refuse(f"--weights: no such file: {options.weights}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.parts == ["speed"] and device.type != "cuda":
        return refuse("--parts speed: wanted a GPU, found none")
    try:
        setup = quality.Setup(
            clips=options.clips, batch=options.batch, grid=parse_grid(options.grid), steps=options.steps
        )
        judges = quality.Judges(
            lpips=perceptual.find_lpips(options.lpips, device),
            cvvdp=visible.find_cvvdp(device),
            flow_px=motion.find_flow(),
            vbench=vbench_scores.find_vbench(options.vbench, device),
        )
        vbench_scores.say(judges.vbench[1])
        if "eight_bits" in options.parts:
            eight_bits.refuse_kernel(options.kernel)
    except ValueError as error:
        return refuse(error)
    nvml = Nvml(torch.cuda.get_device_properties(0).uuid if device.type == "cuda" else "none")
    machine, build = machine_info(nvml), build_info(options.commit)
    model, weights = load_weights(options.weights, device), sha256_of(options.weights)
    dense = dense_kernel(options.kernel, device)
    os.makedirs(options.out, exist_ok=True)
    study = quality.Study(model, weights, setup, machine, build, videos, judges)
    whole, begin = True, time.monotonic()
    if "speed" in options.parts and device.type == "cuda":
        speed.run(model, dense, machine, build, weights, times, nvml)
    chosen = configurations.configurations(options.kernel, dense) if "quality" in options.parts else []
    chosen += configurations.systems(options.kernel) if "systems" in options.parts else []
    left = lambda: options.seconds - (time.monotonic() - begin)
    try:
        if chosen:
            whole = study.run(chosen, left())
        if whole and "eight_bits" in options.parts:
            warn = lambda text: print(text, file=sys.stderr)
            whole = eight_bits.run(study, options.kernel, left(), warn=warn)
    except RuntimeError as error:
        print(f"videos: {error}", file=sys.stderr)
        return 1
    if "pictures" in options.parts and whole:
        command = spoken_command("-m lab.videos")
        for path in pictures.draw(study, options.kernel, os.path.join(options.out, "pictures"), command):
            print(path)
    if not whole:
        return 3
    return 1 if any(record["status"] == "failed" for record in read_all(study.out)) else 0


if __name__ == "__main__":
    sys.exit(main())
