"""Captures one layer of a model at full size, with random weights, into a dump: the path of somebody who has the released
ones, at the real grid. The dump is then `draftbench inspect`'s, `verify`'s and, with --device cuda, any study's.

Writes a record of what it took to FILE, part `capture` of experiment `pipeline`. Needs what lab.pipelines needs, and h5py.

Exit status 0: fine; 2: bad usage, no GPU or something that is not installed, one line on stderr.
"""

import argparse
import os
import sys

from lab.pipelines.__main__ import require_gpu, require_offline
from lab.shared.one_line_parser import OneLineParser, Refused, writes_stdout


def parse(arguments):
    parser = OneLineParser(
        "lab.pipelines.captured",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  PYTHONPATH=scripts python3 -m lab.pipelines.captured --shape hunyuan_768p --out layer.h5 \\\n"
        "    --records results/gpu/pipelines.jsonl\n  draftbench verify layer.h5 --kernel wgmma --heads 0 --blocks 4",
    )
    add = parser.add_argument
    add("--shape", default="hunyuan_768p", metavar="NAME", help="of lab.pipelines (default hunyuan_768p)")
    add("--layer", type=int, metavar="N", help="from 0 (default: the middle one)")
    add("--out", required=True, metavar="DUMP", help="dump to write (.h5)")
    add("--records", required=True, metavar="FILE", help="JSON Lines file to append the record to")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: for tests of the command (default cuda)")
    add("--commit", metavar="HASH", help="the commit to record, for a tree without git")
    return parser.parse_args(arguments)


def capture(bench, layer, out):
    """The captures' names; writes the record."""
    from lab.capture.capture import capture_run
    from lab.shared.timing import summary

    from . import pipeline

    shape, before = bench.shape, bench.recorder.state()
    bench.open()
    pipeline.peak_of(bench.device)
    work = lambda: capture_run(
        bench.pipeline,
        lambda: bench.run(stop_after=1),
        out,
        layers=[layer],
        at=[0],
        model=f"{shape.model}, random weights",
        source=f"lab.pipelines.captured --shape {shape.name}",
        stop=True,
        compression=0,
    )
    names, seconds = bench.clock.wall_s(work)
    bench.recorder.write(
        shape,
        {"part": "capture"},
        {"bytes": os.path.getsize(out)} | pipeline.peak_of(bench.device),
        before=before,
        timing=summary([1e3 * seconds]) | {"warmup": 0},
        notes={
            "captures": ", ".join(names),
            "of": f"layer {layer} in the first of {shape.steps} steps, with its output",
        },
    )
    return names


def run(options):
    """The exit status. Raises Refused."""
    try:
        require_offline()
        from lab.pipelines import pieces, recorder, stopwatch
        from lab.pipelines.shapes import SHAPES
    except ImportError as error:
        raise Refused(f"not installed: {error}") from error
    shape = SHAPES.get(options.shape)
    if shape is None:
        raise Refused(f"--shape: wanted one of {', '.join(SHAPES)}, found {options.shape!r}")
    layer = shape.layers // 2 if options.layer is None else options.layer
    if layer not in range(shape.layers):
        raise Refused(f"--layer: wanted a number from 0 to {shape.layers - 1}, found {layer}")
    require_gpu(options.device)
    with recorder.opened(options.records, options.device, options.commit) as written:
        bench = pieces.Bench(shape, written, stopwatch.Clock(options.device), "auto")
        for name in capture(bench, layer, options.out):
            print(f"{options.out}: {name}")
    return 0


@writes_stdout("pipelines.captured")
def main(arguments=None):
    options = parse(arguments)
    try:
        return run(options)
    except (Refused, ValueError) as refusal:
        print(f"pipelines.captured: {refusal}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
