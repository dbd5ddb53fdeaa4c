"""Times this project's attention kernels beside their peers: the same tensors, the same masks, one run.

The kernels are wgmma, mma and wgmma_8bit of the module draftattention; cuDNN, FlashAttention-2 and FlexAttention through
PyTorch; and where they are installed those of contenders/: FlashAttention-3 and -4, cudnn-frontend, FastVideo, Block
Sparse Attention, SageAttention, SpargeAttn, flex-block-attn, MagiAttention. Every output is held to ours before it is
timed. A kernel that is not there or cannot do the call is a skipped record with the reason. Kernels of 8-bit operands
say so in their records, and whether quantising is in their time.

Exit status 0: fine; 1: a kernel's output disagrees, its run broke down or it wrote into the shared tensors, or none ran;
2: bad usage, no GPU, or a file that cannot be read or written, one line on stderr. Without a GPU nothing is recorded.
"""

import argparse
import json
import sys

from lab.shared.one_line_parser import OneLineParser, Refused, writes_stdout
from lab.shared.records import build_info, machine_info, open_records

RULES = ("logits", "softmax", "released", "row")
POOLS = ("avg", "max")


def list_of(convert, wanted, fits=lambda value: True):
    """A parser of comma-separated lists."""

    def parse(text):
        try:
            values = [convert(part) for part in text.split(",")]
        except ValueError:
            values = [None]
        if any(value is None or not fits(value) for value in values):
            raise argparse.ArgumentTypeError(f"wanted {wanted}, found {text}")
        return list(dict.fromkeys(values))

    return parse


def whole(least):
    """A parser of one whole number."""

    def parse(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"wanted a whole number of at least {least}, found {text}")
        return int(text)

    return parse


def parse(arguments):
    parser = OneLineParser(
        "lab.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  PYTHONPATH=scripts python3 -m lab.peers hunyuan_768p --sparsity 0.6,0.8,0.9 --out results/gpu/peers.jsonl",
    )
    parser.add_argument(
        "input",
        metavar="DUMP|SHAPE",
        help="a dump, or wan_512p, wan_768p, hunyuan_768p, or "
        "HEADSxFRAMESxHEIGHTxWIDTH[+TEXT] for random normal tensors",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON Lines file to append records to")
    parser.add_argument(
        "--sparsity",
        type=list_of(float, "numbers in (0, 1)", lambda s: 0 < s < 1),
        metavar="LIST",
        default=[0.6, 0.8, 0.9],
        help="shares of blocks left out (default 0.6,0.8,0.9); dense always",
    )
    parser.add_argument(
        "--kernels",
        type=list_of(str, "names"),
        metavar="LIST",
        default=[],
        help="kernels by name (default: wgmma, mma, wgmma_8bit and all peers)",
    )
    parser.add_argument(
        "--without", type=list_of(str, "names"), metavar="LIST", default=[], help="kernels to leave out (default none)"
    )
    parser.add_argument("--rule", choices=RULES, default="softmax", help="how blocks are selected (default softmax)")
    parser.add_argument("--pool", choices=POOLS, default="avg", help="how regions are pooled (default avg)")
    parser.add_argument("--rounds", type=whole(1), default=5, metavar="N", help="samples of each kernel (default 5)")
    parser.add_argument(
        "--captures",
        "--capture",
        type=list_of(str, "names"),
        metavar="LIST",
        default=[],
        help="a dump's captures by name (default: all)",
    )
    parser.add_argument(
        "--heads",
        type=list_of(int, "numbers of heads", lambda h: h >= 0),
        metavar="LIST",
        default=[],
        help="a dump's heads (default: all)",
    )
    parser.add_argument("--head-dim", type=whole(1), default=128, metavar="N", help="of a shape (default 128)")
    parser.add_argument("--seed", type=whole(0), default=1, metavar="N", help="of tensors and orders (default 1)")
    parser.add_argument("--commit", metavar="HASH", help="the commit to record, for a tree without git")
    return parser.parse_args(arguments)


def require_gpu():
    """PyTorch. Raises Refused where it is not installed or finds no GPU."""
    try:
        import torch
    except ImportError as error:
        raise Refused(f"needs PyTorch: {error}") from error
    if not torch.cuda.is_available():
        why = "is built without CUDA" if torch.version.cuda is None else "finds no CUDA device"
        raise Refused(f"no GPU: PyTorch {torch.__version__} {why}")
    return torch


def require_library():
    """The module draftattention."""
    try:
        import draftattention
    except ImportError as error:
        raise Refused(f"needs the module draftattention on PYTHONPATH: {error}") from error
    return draftattention


def run(options):
    """Measures, records, prints; the exit status."""
    torch = require_gpu()
    library = require_library()
    from lab.peers import comparison, contenders, inputs
    from lab.shared import timing

    try:
        chosen = contenders.choose(library, options.kernels, options.without)
        if inputs.parse_shape(options.input) is not None:
            if options.captures or options.heads:
                raise ValueError(f"--captures, --heads: wanted a dump, found the shape {options.input}")
            call = inputs.random_call(options.input, options.head_dim, options.seed, "cuda")
        else:
            call = inputs.dump_call(options.input, options.captures, options.heads, "cuda")
    except (ValueError, OSError) as error:
        raise Refused(str(error)) from error
    with open_records(options.out) as file, torch.no_grad():
        timer = timing.GpuTimer()
        machine, build = machine_info(timer.nvml), build_info(options.commit)
        try:
            cases = comparison.make_cases(library, call, options.sparsity, options.rule, options.pool)
            jobs, reference = comparison.prepare(library, call, chosen, cases, timer)
            matmul = comparison.matmul_job("cuda")
            comparison.time_all(jobs, matmul, options.rounds, options.seed, timer)
        except ValueError as error:  # our own kernels refuse the call
            raise Refused(str(error)) from error
        except (comparison.DeviceLost, comparison.InputsChanged) as error:
            print(f"peers: {error}", file=sys.stderr)
            return 1
        made = comparison.records_of(call, jobs, matmul, reference, timer, machine, build)
        for record in made:
            file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            file.flush()
    print("\n".join(comparison.table(made)))
    if all(record["status"] == "skipped" for record in made):
        print("peers: no kernel ran: every one was skipped", file=sys.stderr)
        return 1
    return 1 if any(record["status"] == "failed" for record in made) else 0


@writes_stdout("peers")
def main(arguments=None):
    options = parse(arguments)
    try:
        return run(options)
    except Refused as refusal:
        print(f"peers: {refusal}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
