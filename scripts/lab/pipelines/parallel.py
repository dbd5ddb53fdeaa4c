"""Times denoising steps of a pipeline at full size on several GPUs of one machine, whose processes share the transformer's
tokens by diffusers' context parallelism (Ulysses), after the same steps on one GPU; and compares what they predict.

The command starts its processes itself, or is started by torchrun. --ranks 1 measures one GPU alone. Records have
config.part "parallel" and config.ranks: how many GPUs. step_ms is the slowest process's; parallel_rel_l2 is the distance of
the first pass's prediction from one GPU's, parallel_attention_rel_l2 that of the first layer's attention, where that is
looked at (not in compiled blocks). One that is more than rounding makes the record `failed`.

HunyuanVideo's dense_own on several GPUs is timed, but its padding is masked wrongly by diffusers 0.42 where it is more than
a process's share of the text, so that the record fails.

Exit status 0: all is measured; 1: a configuration failed; 2: bad usage, too few GPUs or something that is not installed, one
line on stderr.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time

from lab.pipelines.__main__ import names, require_kernel, require_offline
from lab.shared.one_line_parser import OneLineParser, Refused, positive, writes_stdout

PART = "parallel"


def parse(arguments):
    parser = OneLineParser(
        "lab.pipelines.parallel",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  PYTHONPATH=scripts python3 -m lab.pipelines.parallel --ranks 2 --shape hunyuan_768p "
        "--configurations dense_ours,draft_90 --out results/gpu/parallel.jsonl",
    )
    add = parser.add_argument
    add("--out", required=True, metavar="FILE", help="JSON Lines file that records are appended to")
    add("--ranks", type=positive, default=2, metavar="N", help="GPUs (default 2)")
    add("--shape", default="hunyuan_768p", metavar="NAME", help="one of lab.pipelines' (default hunyuan_768p)")
    add("--configurations", type=names, default=("dense_ours", "draft_90"), metavar="LIST", help="as lab.pipelines'")
    add("--rounds", type=positive, default=2, metavar="N", help="turns of each configuration (default 2)")
    add("--steps-timed", type=positive, default=1, metavar="N", help="denoising steps of a turn (default 1)")
    add("--kernel", default="auto", metavar="NAME", help="of dense_ours and draft_NN: auto, torch, or by name")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: for tests of the command (default cuda)")
    add("--commit", metavar="HASH", help="the commit to record, for a tree without git")
    add("--tiny", action="store_true", help=argparse.SUPPRESS)  # tests': the shapes of cases.py
    return parser.parse_args(arguments)


def planned(options):
    """(shape, configurations). Raises Refused."""
    import torch

    from lab.pipelines import configurations, shapes

    known = shapes.SHAPES
    if options.tiny:
        from lab.pipelines import cases

        known = cases.TINY
    if options.shape not in known:
        raise Refused(f"--shape: wanted one of {', '.join(known)}, found {options.shape!r}")
    shape, chosen = known[options.shape], []
    for name in options.configurations:
        try:
            chosen.append(configurations.parse(name, options.kernel))
        except ValueError as error:
            raise Refused(f"--configurations: {error}") from error
        if chosen[-1].fp8 or chosen[-1].base == "dense_best":
            raise Refused(f"--configurations: wanted none of FP8 and not dense_best, found {name!r}")
    if not chosen:
        raise Refused("--configurations: wanted at least one, found none")
    if options.steps_timed > shape.steps:
        raise Refused(f"--steps-timed: wanted at most the {shape.steps} of a video, found {options.steps_timed}")
    frames, height, width = shape.grid
    text = shape.text_length if shape.family == "hunyuan" else 0
    for what, count in (("heads", shape.heads), ("video tokens", frames * height * width), ("text tokens", text)):
        if count % options.ranks:
            raise Refused(f"--ranks: wanted a number that divides the {count} {what}, found {options.ranks}")
    if options.device == "cuda" and torch.cuda.device_count() < options.ranks:
        raise Refused(f"wanted {options.ranks} GPUs, found {torch.cuda.device_count()} by PyTorch {torch.__version__}")
    return shape, chosen


def environment_of_rank():
    """(rank, processes, rank on this machine), as torchrun and our own start say them; None outside of both."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    return tuple(int(os.environ[name]) for name in names) if all(name in os.environ for name in names) else None


def free_port():
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(options, arguments):
    """Starts the processes; the exit status: the first one's, or 1 where another one fails, which ends them all."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(options.ranks)}
    processes = []
    try:
        for rank in range(options.ranks):
            mine = os.environ | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(subprocess.Popen([sys.executable, "-m", "lab.pipelines.parallel", *arguments], env=mine))
        while any(process.poll() is None for process in processes):
            if any(process.poll() not in (None, 0) for process in processes):
                time.sleep(5)  # the first one may have more to say
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()  # one that has ended is left alone
            process.wait()
    codes = [process.returncode for process in processes]
    return codes[0] if codes[0] in (1, 2) or not any(codes) else 1


class Comparison:
    """One GPU, then all of them; run by every process, and recorded by the first."""

    def __init__(self, bench, chosen, options, recorder, say):
        self.bench, self.chosen, self.options = bench, chosen, options
        self.recorder, self.say, self.failed = recorder, say, False
        self.alone = {}  # configuration -> Seen of one GPU
        self.steps_ms = {}  # (configuration, GPUs) -> of each turn

    def run(self):
        ranks = self.bench.ranks
        if ranks.rank == 0:
            self._all(1)
        ranks.wait()
        if ranks.count > 1:
            ranks.share(self.bench.transformer)
            self._all(ranks.count)
        return self.failed

    def _all(self, count):
        from lab.shared.timing import shuffled_rounds

        self.bench.warm_up()
        found = {each.name: self._look(each, count) for each in self.chosen}
        turns = dict.fromkeys(found, 0)
        for configuration in shuffled_rounds(self.chosen, self.options.rounds, 1):
            turns[configuration.name] += 1
            self._turn(configuration, count, turns[configuration.name], found[configuration.name])

    def _look(self, configuration, count):
        """The record's metrics of a configuration that compare it with one GPU."""
        from . import parallel_steps

        seen = self.bench.look(configuration)
        if count == 1:
            self.alone[configuration.name] = seen
            return {}
        if self.bench.ranks.rank:
            return {}
        return parallel_steps.differences(seen, self.alone[configuration.name])

    def _turn(self, configuration, count, number, compared):
        from lab.shared.timing import summary

        from . import parallel_steps
        from .stopwatch import medians

        before = self.recorder.state() if self.recorder else None
        ranks = self.bench.ranks
        turn = self.bench.turn(configuration, self.options.steps_timed, alone=count == 1)
        turn = parallel_steps.slowest(ranks.gathered(turn) if count > 1 else [turn])
        if not self.recorder:
            return
        reason = parallel_steps.why_wrong(configuration, compared, ranks.device.type)
        self.failed |= bool(reason)
        metrics = medians(turn.steps) | {"prediction_rms": turn.prediction_rms} | compared
        metrics |= {} if turn.peak_gb is None else {"peak_memory_gb": turn.peak_gb}
        kernel = self.bench.bench.kernel_of(configuration)
        self.recorder.write(
            self.bench.shape,
            configuration.config(kernel) | {"part": PART, "turn": number, "ranks": count},
            metrics,
            before=before,
            timing=summary([step.whole_ms for step in turn.steps]) | {"warmup": 1},
            notes={"parallel": "none" if count == 1 else f"Ulysses, {ranks.backend}; step_ms is the slowest process's"},
            **({"status": "failed", "reason": reason} if reason else {}),
        )
        key = configuration.name, count
        self.steps_ms.setdefault(key, []).append(metrics["step_ms"])
        words = [f"{self.bench.shape.name} {configuration.name} on {count}: {metrics['step_ms']:.1f} ms"]
        words += [f"{name} {value:.2e}" for name, value in compared.items()]
        self.say(", ".join(words) + (f", failed: {reason}" if reason else ""))


def run_rank(options, place):
    """One process; the exit status."""
    rank, count, local = place
    import diffusers
    import torch

    from lab.pipelines import parallel_steps
    from lab.pipelines.recorder import opened
    from lab.pipelines.stopwatch import Clock

    if count != options.ranks:
        raise Refused(f"--ranks: wanted the {count} processes that torchrun started, found {options.ranks}")
    shape, chosen = planned(options)
    require_kernel(options.kernel, options.device)
    if options.device == "cuda":
        torch.cuda.set_device(local)
    diffusers.utils.logging.set_verbosity_error()
    with contextlib.ExitStack() as stack:
        recorder = None
        if rank == 0:
            recorder = stack.enter_context(opened(options.out, options.device, options.commit, local))
        ranks = parallel_steps.Ranks(options.device, rank, count)
        bench = parallel_steps.ParallelBench(shape, recorder, Clock(options.device), options.kernel, ranks)
        say = lambda text: print(text, flush=True)
        comparison = Comparison(bench, chosen, options, recorder, say)
        failed = comparison.run()
        if rank == 0:
            for name in dict.fromkeys(name for name, _ in comparison.steps_ms):
                say(summed_up(shape, name, comparison.steps_ms, count))
        failed = ranks.gathered(failed)[0]
        ranks.leave()
    return 1 if failed else 0


def summed_up(shape, name, steps_ms, count):
    """One line of what a configuration takes."""
    import statistics

    one, all_of_them = (statistics.median(steps_ms[name, each]) for each in (1, count))
    line = f"{shape.name} {name}: a step {one / 1e3:.3f} s on 1"
    return line if count == 1 else f"{line}, {all_of_them / 1e3:.3f} s on {count}: {one / all_of_them:.2f} x"


def run(options, arguments):
    """The exit status. Raises Refused."""
    require_offline()
    try:
        from lab.pipelines import parallel_steps  # noqa: F401  what it needs is all that is needed
    except ImportError as error:
        raise Refused(f"not installed: {error}") from error
    place = environment_of_rank()
    if place is None and options.ranks > 1:
        planned(options)  # refused once, before anything starts
        require_kernel(options.kernel, options.device)
        return start(options, arguments)
    return run_rank(options, place or (0, 1, 0))


@writes_stdout("parallel")
def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    try:
        return run(options, arguments)
    except Refused as refusal:
        print(f"parallel: {refusal}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
