"""Times whole pipelines of diffusers at full size, dense and with draft attention: HunyuanVideo 13B and Wan2.1 14B and
1.3B, with random weights, on one GPU of 80 GB or more. Nothing is downloaded, and the Hub is never asked.

Each configuration takes turns with the others: some denoising steps in the real pipeline, by events. The text encoders, the
VAE, the file and the draft mask of one call are measured once, a step is profiled, and whole videos are run. Every
piece is a record as soon as it is measured, and the same command goes on with what the file lacks.

Configurations: dense_own (diffusers' attention as it comes), dense_best (the fastest of its backends that are installed),
dense_ours (this project's kernel), draft_NN (NN% sparsity; dense steps of a video by dense_ours), and with _pooled (dropped
blocks take part as their mean), _8bit (kernel wgmma_8bit), _fp8 (linear layers in FP8, by torchao), _compiled (blocks by
torch.compile, without a break in a graph).

Needs PyTorch, diffusers, transformers and the built package draftattention on PYTHONPATH; OpenCV for the file.

Exit status 0: all is measured; 1: a piece failed; 2: bad usage, no GPU or something that is not installed, one line on
stderr; 3: the rest did not fit into --minutes and is left for the next sitting.
"""

import argparse
import math
import os
import sys

from lab.pipelines import budget
from lab.shared.one_line_parser import OneLineParser, Refused, positive, writes_stdout

COMPLETE = ("wan_1.3b_768p/draft_90_compiled",)  # two minutes of an H200; HunyuanVideo's takes eight
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DIFFUSERS_OFFLINE": "1"}


def minutes(text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"wanted a number above 0, found {text}")
    return number


def names(text):
    return tuple(dict.fromkeys(filter(None, text.split(","))))


def parse(arguments):
    parser = OneLineParser(
        "lab.pipelines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example, the whole table in sittings of ten minutes (each time the same command):\n"
        "  PYTHONPATH=scripts python3 -m lab.pipelines --out results/gpu/pipelines.jsonl --minutes 10",
    )
    add = parser.add_argument
    add("--out", required=True, metavar="FILE", help="JSON Lines file of records, which a later sitting goes on with")
    add(
        "--shapes",
        type=names,
        default=(),
        metavar="LIST",
        help="hunyuan_768p, wan_768p, wan_512p, wan_1.3b_768p, wan_1.3b_512p (default: all)",
    )
    add("--configurations", type=names, default=(), metavar="LIST", help="by name (default: each shape's usual ones)")
    add(
        "--rounds",
        type=positive,
        default=1,
        metavar="N",
        help="turns of each configuration (default 1; a later sitting may want more)",
    )
    add("--steps-timed", type=positive, default=1, metavar="N", help="denoising steps of a turn (default 1)")
    add("--profile", type=names, default=("draft_90",), metavar="LIST", help="configurations (default draft_90)")
    add(
        "--complete",
        type=names,
        default=COMPLETE,
        metavar="LIST",
        help=f"whole videos: configurations, or SHAPE/CONFIGURATION of one (default {','.join(COMPLETE)}; '' for none)",
    )
    add("--minutes", type=minutes, default=60.0, metavar="X", help="start nothing that would end later (default 60)")
    add("--no-text", dest="text", action="store_false", help="leave out the text encoders")
    add("--kernel", default="auto", metavar="NAME", help="of dense_ours and draft_NN: auto, torch, or by name")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: for tests of the command (default cuda)")
    add("--commit", metavar="HASH", help="the commit to record, for a tree without git")
    return parser.parse_args(arguments)


def require_offline():
    """Nothing asks the Hub, even where a library would. Raises Refused if that comes too late."""
    os.environ.update(OFFLINE)
    import huggingface_hub.constants

    if not huggingface_hub.constants.HF_HUB_OFFLINE:
        raise Refused("wanted huggingface_hub offline, found it imported before this command: set HF_HUB_OFFLINE=1")


def plan_of(options):
    from lab.pipelines import configurations
    from lab.pipelines.shapes import SHAPES
    from lab.pipelines.sitting import Plan

    for name in options.shapes:
        if name not in SHAPES:
            raise Refused(f"--shapes: wanted some of {', '.join(SHAPES)}, found {name!r}")
    chosen = options.shapes or tuple(SHAPES)
    for option in ("configurations", "profile", "complete"):
        for name in getattr(options, option):
            of, _, name = name.rpartition("/") if option == "complete" else ("", "", name)
            if of and of not in chosen and options.complete is not COMPLETE:
                raise Refused(f"--complete: wanted one of {', '.join(chosen)} before /, found {of!r}")
            try:
                configurations.parse(name, options.kernel)
            except ValueError as error:
                raise Refused(f"--{option}: {error}") from error
    shapes = tuple(SHAPES[name] for name in chosen)
    if options.steps_timed > (most := min(shape.steps for shape in shapes)):
        raise Refused(f"--steps-timed: wanted at most the {most} steps of a video, found {options.steps_timed}")
    return Plan(
        shapes=shapes,
        configurations=options.configurations,
        rounds=options.rounds,
        steps_timed=options.steps_timed,
        profiled=options.profile,
        complete=options.complete,
        kernel=options.kernel,
        text=options.text,
    )


def require_gpu(device):
    """Raises Refused where it is cuda and PyTorch finds no GPU."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise Refused(f"wanted a GPU, found none by PyTorch {torch.__version__}")


def require_kernel(name, device):
    """Raises Refused for a kernel that draftattention does not know."""
    import draftattention

    known = ["auto", "torch", *(row["name"] for row in draftattention.kernels())]
    if name not in known:
        raise Refused(f"--kernel: wanted one of {', '.join(known)}, found {name!r}")
    if device == "cuda" and name == "auto" and not draftattention.kernels():
        raise Refused("wanted the built package draftattention on PYTHONPATH, found it without kernels")


def run(options):
    """The exit status. Raises Refused."""
    time_left = budget.Budget(options.minutes)  # loading libraries is in it
    try:
        require_offline()
        import diffusers
        import torch  # noqa: F401
        import transformers  # noqa: F401

        from lab.pipelines import recorder as recording
        from lab.pipelines import sitting, stopwatch, table
        from lab.shared.record_file import read_all
    except ImportError as error:
        raise Refused(f"not installed: {error}") from error
    require_gpu(options.device)
    plan = plan_of(options)
    require_kernel(options.kernel, options.device)
    diffusers.utils.logging.set_verbosity_error()
    with recording.opened(options.out, options.device, options.commit) as recorder:
        done = sitting.Done.read(read_all(options.out), recorder.gpu)
        say = lambda text: print(text, flush=True)
        try:
            status = sitting.Sitting(plan, recorder, stopwatch.Clock(options.device), done, time_left, say).run()
        except sitting.DeviceLost as error:
            print(f"pipelines: the GPU is lost: {error}", file=sys.stderr)
            status = sitting.SOME_FAILED
    print("\n".join(table.lines(read_all(options.out))))
    return status


@writes_stdout("pipelines")
def main(arguments=None):
    options = parse(arguments)
    try:
        return run(options)
    except Refused as refusal:
        print(f"pipelines: {refusal}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
