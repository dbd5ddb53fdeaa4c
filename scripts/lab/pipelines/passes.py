"""Times one pass of more models of diffusers at their released sizes with random weights: LTX-Video, CogVideoX, SkyReels V2,
HunyuanVideo Framepack, Mochi, HunyuanVideo 1.5, Wan VACE, Wan Animate, Allegro. Each with diffusers' own attention, with this
project's dense kernel and with draft attention at 90%; text, VAE and schedule are left out.

Records are part `pass` of experiment `pipeline`. What the file holds of this GPU is not measured again. A model that a
kernel cannot do is a skipped record with the reason.

Exit status 0: all is measured; 1: a pass failed; 2: bad usage, no GPU or something that is not installed, one line on
stderr; 3: --minutes are over and more is to be done.
"""

import argparse
import sys

from lab.pipelines import budget
from lab.pipelines.__main__ import minutes, names, require_gpu, require_kernel, require_offline
from lab.shared.one_line_parser import OneLineParser, Refused, writes_stdout

PART = "pass"
USUAL = ("dense_ours", "draft_90", "dense_own")


def parse(arguments):
    parser = OneLineParser(
        "lab.pipelines.passes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  PYTHONPATH=scripts python3 -m lab.pipelines.passes --models mochi,ltx_video --out passes.jsonl",
    )
    add = parser.add_argument
    add("--out", required=True, metavar="FILE", help="JSON Lines file that records are appended to")
    add("--models", type=names, default=(), metavar="LIST", help="by name (default: all)")
    add("--configurations", type=names, default=USUAL, metavar="LIST", help=f"default {','.join(USUAL)}")
    add("--minutes", type=minutes, default=60.0, metavar="X", help="begin no model later (default 60)")
    add("--kernel", default="auto", metavar="NAME", help="of dense_ours and draft_NN: auto, torch, or by name")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: for tests of the command (default cuda)")
    add("--commit", metavar="HASH", help="the commit to record, for a tree without git")
    return parser.parse_args(arguments)


def planned(options):
    """(models, configurations). Raises Refused."""
    from lab.pipelines import configurations
    from lab.pipelines.further import FURTHER

    for name in options.models:
        if name not in FURTHER:
            raise Refused(f"--models: wanted some of {', '.join(FURTHER)}, found {name!r}")
    chosen = []
    for name in options.configurations:
        try:
            chosen.append(configurations.parse(name, options.kernel))
        except ValueError as error:
            raise Refused(f"--configurations: {error}") from error
        if chosen[-1].fp8 or chosen[-1].compiled or chosen[-1].base == "dense_best":
            raise Refused(f"--configurations: wanted none of FP8, compiled or dense_best, found {name!r}")
    return [FURTHER[name] for name in options.models or FURTHER], chosen


class Passes:
    """One model's passes; made when the first is wanted."""

    def __init__(self, model, recorder, clock):
        self.model, self.recorder, self.clock = model, recorder, clock
        self._transformer = None

    def run(self, configuration):
        """Writes the record; whether the pass did not fail."""
        from . import configurations, pipeline

        before, config = self.recorder.state(), configuration.config(configuration.policy.kernel) | {"part": PART}
        try:
            kernel = configurations.kernel_of(configuration, self.recorder.device, None)
            config = configuration.config(kernel) | {"part": PART}
            pipeline.peak_of(self.recorder.device)
            ms, rms = self._timed(configuration, kernel)
        except Exception as error:  # one model's failure is not the others'
            why = configurations.why_unavailable(error)
            status = {"status": "skipped", "reason": why} if why else {"status": "failed", "reason": str(error)[:500]}
            self.recorder.write(self.model, config, **status)
            return bool(why)
        from lab.shared.timing import summary

        self.recorder.write(
            self.model,
            config,
            {"transformer_ms": ms, "passes": 1, "prediction_rms": rms} | pipeline.peak_of(self.recorder.device),
            before=before,
            timing=summary([ms]) | {"warmup": 1},
        )
        return True

    def _timed(self, configuration, kernel):
        """(milliseconds, rms of what comes out) of a pass after one that is not timed."""
        import torch

        from .configurations import attention_of

        transformer, given = self._opened()
        with torch.no_grad(), attention_of(configuration, transformer, kernel, steps=1):
            transformer(**given, return_dict=False)
            begin = self.clock.mark()
            (prediction,) = transformer(**given, return_dict=False)
            ms = self.clock.ms(begin, self.clock.mark())
        rms = prediction.float().pow(2).mean().sqrt().item()
        if not 0 < rms < float("inf"):
            raise RuntimeError(f"wanted a prediction of finite numbers, found the rms {rms}")
        return ms, rms

    def _opened(self):
        import diffusers

        from . import pipeline, weights

        if self._transformer is None:
            element = pipeline.ELEMENTS[self.recorder.device.type][0]
            kind = getattr(diffusers, self.model.kind)
            self._transformer = weights.build(
                lambda: kind(**self.model.config), self.recorder.device, element, pipeline.SEED
            )
            self._given = self.model.inputs(self.recorder.device, element)
        return self._transformer, self._given

    def close(self):
        from . import pipeline

        self._transformer = self._given = None
        pipeline.freed(self.recorder.device)


def run(options):
    """The exit status. Raises Refused."""
    time_left = budget.Budget(options.minutes)
    require_offline()
    try:
        import diffusers

        from lab.pipelines import recorder as recording
        from lab.pipelines import stopwatch
        from lab.shared.record_file import read_all
    except ImportError as error:
        raise Refused(f"not installed: {error}") from error
    models, chosen = planned(options)
    require_gpu(options.device)
    require_kernel(options.kernel, options.device)
    diffusers.utils.logging.set_verbosity_error()
    failed = late = False
    with recording.opened(options.out, options.device, options.commit) as recorder:
        done = done_in(read_all(options.out), recorder.gpu)
        recorder.heard = tell
        for model in models:
            left = [each for each in chosen if (model.name, each.name) not in done]
            late |= bool(left) and not time_left.fits(1.0)
            if not left or late:
                continue
            passes = Passes(model, recorder, stopwatch.Clock(options.device))
            for configuration in left:
                failed |= not passes.run(configuration)
            passes.close()
    return 1 if failed else 3 if late else 0


def done_in(records, gpu):
    """{(model, configuration)} of passes that this GPU has a record of, but for failed ones."""
    return {
        (record["input"]["shape"], record["config"]["configuration"])
        for record in records
        if record["config"].get("part") == PART and record["status"] != "failed" and record["machine"].get("gpu") == gpu
    }


def tell(record):
    what = f"{record['metrics']['transformer_ms']:.1f} ms" if record["status"] == "ok" else record["reason"]
    print(f"{record['input']['shape']} {record['config']['configuration']}: {record['status']}, {what}", flush=True)


@writes_stdout("pipelines.passes")
def main(arguments=None):
    options = parse(arguments)
    try:
        return run(options)
    except Refused as refusal:
        print(f"pipelines.passes: {refusal}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
