"""Which pieces a sitting measures, in which order; and what the file holds already."""

from dataclasses import dataclass, field

import torch

from lab.shared.timing import shuffled_rounds

from . import budget, configurations, pieces, pipeline
from .recorder import EXPERIMENT

SEED = 1
ALL_DONE, SOME_FAILED, MORE_TO_DO = 0, 1, 3  # exit statuses


class DeviceLost(Exception):
    """After an error on the GPU it answers to nobody: the sitting is over."""


@dataclass(frozen=True)
class Plan:
    """What a table wants."""

    shapes: tuple
    configurations: tuple  # names; empty: each shape's usual ones
    rounds: int
    steps_timed: int  # of each turn
    profiled: tuple  # configurations by name
    complete: tuple  # configurations by name, of all shapes, or SHAPE/NAME of one
    kernel: str
    text: bool  # whether the encoders are measured

    def of(self, shape):
        return self.named(self.configurations or configurations.usual(shape))

    def completed(self, shape):
        """Of which whole videos are wanted."""
        pairs = [each.rpartition("/")[::2] for each in self.complete]
        return self.named(name for of, name in pairs if of in ("", shape.name))

    def named(self, names):
        return [configurations.parse(each, self.kernel) for each in names]


@dataclass
class Done:
    """What a file holds of this GPU: cells that are ok or skipped are not measured again, failed ones are."""

    cells: set = field(default_factory=set)  # (shape, part, configuration, turn)
    steps: list = field(default_factory=list)  # (shape, configuration, seconds of a step)
    best: dict = field(default_factory=dict)  # shape: backend
    seconds: dict = field(default_factory=dict)  # (shape, part): of the VAE and the file

    @classmethod
    def read(cls, records, gpu):
        done = cls()
        for record in records:
            mine = (record.get("machine") or {}).get("gpu") == gpu
            if record["experiment"] == EXPERIMENT and mine:
                done.add(record)
        return done

    def add(self, record):
        if record["status"] == "failed":
            return
        config, shape = record["config"], record["input"]["shape"]
        part, name, skipped = config["part"], config.get("configuration"), record["status"] == "skipped"
        self.cells.add((shape, part, name, None if skipped else config.get("turn")))
        if part == "steps" and not skipped:
            self.steps.append((shape, name, record["metrics"]["step_ms"] / 1e3))
        if part == "backends" and not skipped:
            self.best[shape] = record["notes"]["best"]
        if part in ("vae", "file") and not skipped:
            more = record["metrics"].get("postprocess_ms", 0.0)
            self.seconds[shape, part] = (record["timing"]["median_ms"] + more) / 1e3

    def has(self, shape, part, configuration=None, turn=None):
        """Whether a cell is there; one that was skipped is, in all turns."""
        return bool({(shape, part, configuration, turn), (shape, part, configuration, None)} & self.cells)


class Sitting:
    """Measures what is missing while the budget lasts."""

    def __init__(self, plan, recorder, clock, done, time_left, say=print):
        self.plan, self.recorder, self.clock, self.done, self.budget = plan, recorder, clock, done, time_left
        self._type, self._say = recorder.device.type, say
        self.speeds = budget.Speeds(self._type)
        self.left, self.failed = [], []
        recorder.heard = done.add

    def run(self):
        """The exit status. Raises DeviceLost."""
        for shape in self.plan.shapes:
            ShapeSitting(self, shape).run()
            pipeline.freed(self.recorder.device)
        for name in self.failed:
            self._say(f"failed: {name}")
        if self.left:
            self._say(f"left for the next sitting: {', '.join(self.left)}")
            return MORE_TO_DO
        return SOME_FAILED if self.failed else ALL_DONE

    def measure(self, shape, part, seconds, work, configuration=None, turn=None, recorded=True):
        """Whether a piece was measured: where it fits into the budget, and did not fail. One that fails, or that cannot
        run here, has a record that says so (unless not `recorded`), and the next piece goes on."""
        words = [shape.name, part, configuration and configuration.name, turn and f"turn {turn}"]
        name = " ".join(word for word in words if word)
        if not self.budget.fits(seconds):
            more = ", more than a whole sitting" * (seconds > self.budget.whole_s)
            self.left.append(f"{name} (about {seconds:.0f} s{more})")
            return False
        whole = failed = False
        try:
            whole = work() is not False
        except Exception as error:  # out of memory, a kernel that gives up: said, and the others are measured
            reason = configurations.why_unavailable(error)
            status = "skipped" if reason else "failed"
            reason = reason or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            self._say(f"{name}: {status}: {reason}")
            if status == "failed":
                self.failed.append(f"{name}: {reason}")
            if recorded or status == "failed":
                config = configuration.config("none") if configuration else {}
                config |= {"part": part} | ({"turn": turn} if turn else {})
                self.recorder.write(shape, config, status=status, reason=reason)
            self._require_device(error)
            failed = True
        if failed:  # the error held what it was about
            pipeline.freed(self.recorder.device)
            return False
        self._say(f"{name}: {'done' if whole else 'begun'}, {self.budget.left_s():.0f} s left")
        return whole

    def _require_device(self, error):
        if self._type == "cuda" and not isinstance(error, torch.OutOfMemoryError):
            try:
                torch.cuda.synchronize()
            except RuntimeError as lost:
                raise DeviceLost(" ".join(str(lost).split())[:200]) from error


class ShapeSitting:
    """One shape's part of a sitting."""

    def __init__(self, sitting, shape):
        self.sitting, self.shape, self.plan, self.done = sitting, shape, sitting.plan, sitting.done
        self.type, self.speeds = sitting.recorder.device.type, sitting.speeds
        self.bench = pieces.Bench(shape, sitting.recorder, sitting.clock, self.plan.kernel)
        self.bench.best = self.done.best.get(shape.name)

    def measure(self, part, seconds, work, **more):
        return self.sitting.measure(self.shape, part, seconds, work, **more)

    def missing(self, part, configuration=None):
        return not self.done.has(self.shape.name, part, configuration and configuration.name)

    def run(self):
        plan, bench = self.plan, self.bench
        chosen = plan.of(self.shape)
        turns = self.turns(chosen)
        to_profile = [each for each in plan.named(plan.profiled) if self.missing("profile", each)]
        to_complete = [each for each in plan.completed(self.shape) if self.missing("complete", each)]
        wanted = [*chosen, *plan.named(plan.profiled), *to_complete]
        wants_video = self.missing("vae") or self.missing("file")
        wants_backends = self.missing("backends") and any(each.base == "dense_best" for each in wanted)
        if plan.text and self.missing("text"):
            self.measure("text", budget.TEXT_S[self.type], bench.text)
        if not (turns or to_profile or to_complete or wants_video or wants_backends):
            return
        if not self.open():
            return
        if wants_video:
            self.measure("vae", self.decoding_s(), bench.decoding)
        if wants_backends:
            self.measure("backends", budget.TRIALS_S[self.type], bench.backends)
        for configuration, number in turns:
            self.turn(configuration, number)
        for configuration in to_profile:
            seconds = 3 * self.step_s(configuration.name)  # tracing takes time, and so does reading the trace
            self.of_one("profile", seconds, lambda: bench.profile(configuration), configuration)
        for configuration in to_complete:
            self.complete(configuration)

    def turns(self, chosen):
        """[(configuration, number)] that are missing: rounds, in which all take turns; FP8 last, as it changes weights."""
        found = []
        for fp8 in (False, True):
            some = [each for each in chosen if each.fp8 == fp8]
            order = shuffled_rounds(some, self.plan.rounds, SEED)
            turns = [(each, 1 + place // len(some)) for place, each in enumerate(order)]
            found += [pair for pair in turns if not self.done.has(self.shape.name, "steps", pair[0].name, pair[1])]
        return found

    def open(self):
        """Whether the pipeline stands and is warm."""
        if not self.measure("building", budget.BUILDING_S[self.type], self.bench.open, recorded=False):
            return False
        for shape, name, seconds in self.done.steps:
            if shape == self.shape.name:
                self.speeds.note(shape, name, seconds, self.flops(name))
        recorded = self.missing("masks", configurations.parse(pieces.WARM_UP))
        return self.measure(
            "masks", self.step_s(pieces.WARM_UP), lambda: self.bench.warm_up(recorded), recorded=recorded
        )

    def flops(self, name):
        return self.bench.flops(configurations.parse(name, self.plan.kernel))

    def step_s(self, name):
        """What a step of a configuration will take."""
        return self.speeds.step_s(self.shape.name, name, self.flops(name))

    def decoding_s(self):
        """What the VAE and the file will take."""
        known = [self.done.seconds.get((self.shape.name, part)) for part in ("vae", "file")]
        if None not in known:
            return budget.MARGIN * sum(known) + budget.SAVING_S
        return budget.DECODING_S[self.type] * self.shape.width * self.shape.height * self.shape.frames

    def of_one(self, part, seconds, work, configuration, turn=None):
        """A piece of one configuration; one whose backend is not chosen yet is left."""
        if configuration.base == "dense_best" and self.bench.best is None:
            self.sitting.left.append(f"{self.shape.name} {part} {configuration.name} (its backend is not chosen yet)")
            return
        seconds += budget.BUILDING_S[self.type] if self.bench.rebuilds(configuration) else 0.0
        if self.bench.compiles(configuration):
            seconds += budget.COMPILING_S[self.type] + self.step_s(configuration.name)
        self.measure(part, seconds, work, configuration=configuration, turn=turn)

    def turn(self, configuration, number):
        name = configuration.name
        if self.done.has(self.shape.name, "steps", name, number):
            return  # it was skipped in a round before

        def work():
            step_s = self.bench.turn(configuration, number, self.plan.steps_timed)
            self.speeds.note(self.shape.name, name, step_s, self.flops(name))

        self.of_one("steps", self.plan.steps_timed * self.step_s(name), work, configuration, number)

    def complete(self, configuration):
        """A whole video, as many of its steps as fit: some at least, or it is left."""
        some = min(3, self.shape.steps)
        seconds = some * self.step_s(configuration.dense) + budget.SAVING_S
        seconds += budget.TEXT_S[self.type] if self.plan.text else 0.0
        path = f"{self.sitting.recorder.path}.{self.shape.name}.{configuration.name}"

        def work():
            left_s, decoding_s = self.sitting.budget.left_s, self.decoding_s()
            whole = self.bench.complete(configuration, path, left_s, self.plan.text, decoding_s)
            if not whole:
                self.sitting.left.append(f"{self.shape.name} complete {configuration.name} (begun: {path})")
            return whole

        self.of_one("complete", seconds, work, configuration)
