"""Clips of every configuration beside the dense ones of the same prompts and seeds, and beside the prompts' true clips:
experiment `video`, `video_heads` for what each head kept meanwhile, `video_contrast` for how washed-out the clips are, and
`video_feedback` for what becomes of a small error.

A configuration that the file of records already holds for the same weights, clips and build is not made again, so that
a run that was stopped goes on where it was; the dense clips are made again, twice, and have to be the same bits.
"""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from lab.model.flow import SHIFT, STEPS, sample
from lab.model.policies import PolicyAttention
from lab.model.prompts import TEXT_TOKENS, draw_prompts
from lab.model.video import render
from lab.shared.record_file import read_all
from lab.shared.record_format import identity
from lab.shared.records import make_record

from . import contrast, feedback, metrics, motion
from .configurations import REFERENCE, flops_share
from .dense_path import DensePath
from .probing import NAMES, Probe

FIRST_SEED = 1001


@dataclass(frozen=True)
class Setup:
    """What all clips share. The attention is looked at a third and two thirds of the way, in `probe_clips` clips."""

    clips: int = 32
    batch: int = 8
    grid: tuple = (8, 32, 48)
    steps: int = STEPS
    shift: float = SHIFT
    probe_clips: int = 2

    @property
    def probe_steps(self):
        return self.steps // 3, 2 * self.steps // 3


def mean_of_each(values):
    """{name: mean} of {name: numbers}."""
    return {name: sum(found) / len(found) for name, found in values.items()}


@dataclass(frozen=True)
class Judges:
    """Metrics of packages that may be missing: each (function, "") or (None, why there is none)."""

    lpips: tuple
    cvvdp: tuple
    flow_px: tuple
    vbench: tuple = (None, {})  # vbench_scores.find_vbench's

    def of_a_clip(self):
        """{name: (function, "") or (None, why)} of those that give a number a clip."""
        return {name: found for name, found in vars(self).items() if name != "vbench"}

    def notes(self):
        """{name: why there is none}."""
        notes = {name: why for name, (found, why) in self.of_a_clip().items() if found is None}
        return notes | {f"vbench_{name}": why for name, why in self.vbench[1].items()}

    def of_all(self, clips):
        """{"vbench_<dimension>": score over all clips}."""
        scores = self.vbench[0]
        return {f"vbench_{name}": value for name, value in scores(clips).items()} if scores else {}


class Study:
    """model: lab.model.model.PhotoDiT on its device; weights: sha256 of its file; judges: Judges."""

    def __init__(self, model, weights, setup, machine, build, out, judges):
        self.model, self.weights, self.setup, self.machine, self.build, self.out = (
            model,
            weights,
            setup,
            machine,
            build,
            out,
        )
        self.device = next(model.parameters()).device
        self.prompts = draw_prompts(setup.clips, torch.Generator().manual_seed(FIRST_SEED), held_out=True)
        self.seeds = list(range(FIRST_SEED, FIRST_SEED + setup.clips))
        self.judges = judges
        frames, height, width = setup.grid
        patch = model.config.patch
        self.truth = render(self.prompts, frames, height * patch, width * patch, self.device).cpu()
        self.dense = self.path = None

    def source(self):
        """The records' `input`."""
        config, setup = self.model.config, self.setup
        frames, height, width = setup.grid
        return {
            "model": "photodit",
            "weights_sha256": self.weights,
            "grid": {"frames": frames, "height": height, "width": width},
            "text_tokens": TEXT_TOKENS,
            "heads": config.heads,
            "head_dim": config.head_dim,
            "layers": config.layers,
            "steps": setup.steps,
            "shift": setup.shift,
            "clips": setup.clips,
            "batch": setup.batch,
            "first_seed": FIRST_SEED,
            "prompts": "held out",
        }

    def config(self, policy):
        return policy.config() | {"device": self.device.type}

    def clips_of(self, policy, probe=None, places=None, watch=None, model=None):
        """(clips [count, channels, frames, height, width] on the CPU, share of the video x video blocks kept on average
        over all calls if `probe` saw sparse ones). places: which clips, by index (default: all). The probe and `watch`
        look into the first batch alone. model: another one than the study's."""
        setup, made = self.setup, []
        diffuse = self.path.diffuse if self.path else None
        attention = PolicyAttention(policy, setup.grid, TEXT_TOKENS, setup.steps, probe, diffuse)
        if probe is not None:
            probe.regions = attention.regions(self.device)
        places = list(range(setup.clips)) if places is None else places
        for start in range(0, len(places), setup.batch):
            batch = places[start : start + setup.batch]
            if probe is not None:
                probe.on = start == 0
            made.append(
                sample(
                    model or self.model,
                    self.prompts[batch],
                    [self.seeds[place] for place in batch],
                    setup.grid,
                    setup.steps,
                    setup.shift,
                    attention=attention,
                    watch=watch if start == 0 else None,
                ).cpu()
            )
        calls = attention.calls
        sparse = calls["sparse"] / (calls["sparse"] + calls["dense"])
        kept = probe.mean("kept_share") if probe is not None else None
        return torch.cat(made), 1 - sparse * (1 - kept) if kept is not None else 1.0

    def make_dense(self):
        """The reference clips, made twice; a record of them, and of how far each head's attention spreads. Raises
        RuntimeError if the two runs differ."""
        begin = time.monotonic()
        self.dense, _ = self.clips_of(REFERENCE)
        seconds = time.monotonic() - begin
        again, _ = self.clips_of(REFERENCE)
        difference = (self.dense - again).abs().max().item()
        if not torch.equal(self.dense, again):
            raise RuntimeError(f"dense clips: wanted the same bits twice, found differences of up to {difference}")
        few = self.setup.probe_clips
        self.path = DensePath(
            self.model,
            self.prompts[:few],
            self.seeds[:few],
            self.setup.grid,
            self.setup.steps,
            self.setup.shift,
            self.setup.probe_steps,
        )
        values = self.alone(self.dense)
        self.append(
            "video",
            self.config(REFERENCE),
            mean_of_each(values)
            | self.judges.of_all(self.dense)
            | {f"{name}_truth": mean for name, mean in mean_of_each(self.in_time(self.truth)).items()}
            | {
                "repeat_max_abs": difference,
                "kept_share": 1.0,
                "flops_share": 1.0,
                "seconds_per_clip": seconds / self.setup.clips,
                "clips": self.setup.clips,
            },
            arrays=values | {"effective_blocks": list(self.path.spread.values())},
            notes=self.judges.notes(),
        )

    def beside(self, clips, others):
        """{metric: one number a clip} of clips against others of the same prompts and seeds."""
        of_two = {"psnr": metrics.psnr, "ssim": metrics.ssim}
        of_two |= {name: found for name in ("lpips", "cvvdp") if (found := getattr(self.judges, name)[0])}
        pairs = list(zip(clips.to(self.device), others.to(self.device)))
        return {name: [distance(*pair) for pair in pairs] for name, distance in of_two.items()}

    def alone(self, clips):
        """{metric: one number a clip} of clips without the dense ones: against the true clips, and in time."""
        pairs = zip(clips.to(self.device), self.truth.to(self.device))
        return {"psnr_truth": [metrics.psnr(*pair) for pair in pairs]} | self.in_time(clips)

    def in_time(self, clips):
        """{metric: one number a clip} of what moves and flickers."""
        values = {"flicker": [motion.flicker(*pair) for pair in zip(clips.to(self.device), self.prompts)]}
        flow_px = self.judges.flow_px[0]
        if not flow_px:
            return values
        with ThreadPoolExecutor() as pool:  # on the CPU, without Python's lock: a third of a configuration's time else
            return values | {"flow_px": list(pool.map(flow_px, clips))}

    def measure(self, policy):
        """The clips of one configuration, after a `video` record of them, a `video_contrast` one where that is wanted, and
        `video_heads` records of a sparse policy."""
        begin = time.monotonic()
        probe = Probe(self.setup.probe_steps, self.setup.probe_clips)
        distances = []
        clips, kept = self.clips_of(policy, probe, watch=lambda step, x: distances.append(self.path.distance(step, x)))
        seconds = time.monotonic() - begin
        values = self.beside(clips, self.dense) | self.alone(clips)
        means = mean_of_each(values) | self.judges.of_all(clips)
        means |= {
            "kept_share": kept,
            "flops_share": flops_share(self.model.config, self.setup.grid, TEXT_TOKENS, kept),
            "seconds_per_clip": seconds / self.setup.clips,
            "clips": self.setup.clips,
        }
        for name in NAMES:
            if name != "kept_share" and probe.mean(name) is not None:
                means[name] = probe.mean(name)
        values["distance"] = distances
        means["distance_rel_l2"] = distances[-1]
        if policy.name != "dense":
            values["one_step"], means["added_up_rel_l2"] = self.path.errors(policy)
            means["one_step_rel_l2"] = sum(values["one_step"]) / len(values["one_step"])
        if contrast.is_wanted(policy):
            found = contrast.measure(clips, self.dense, self.device)
            self.append("video_contrast", self.config(policy), mean_of_each(found), arrays=found)
        self.append("video", self.config(policy), means, arrays=values, notes=self.judges.notes())
        for layer, head in sorted({(row["layer"], row["head"]) for row in probe.rows}):
            found = {name: probe.mean(name, layer, head) for name in NAMES}
            self.append(
                "video_heads",
                self.config(policy) | {"probe_steps": list(self.setup.probe_steps)},
                found,
                place={"layer": layer, "head": head, "probe_clips": self.setup.probe_clips},
            )
        return clips

    def append(self, experiment, config, found, arrays=None, notes=None, place=None, **status):
        record = make_record(
            experiment,
            self.source() | (place or {}),
            config,
            found,
            self.machine,
            self.build,
            arrays=arrays,
            notes=notes,
            **status,
        )
        with open(self.out, "a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def is_recorded(self, experiment, source, config, arrays=(), status="ok"):
        """Whether the file holds this cell, made by this build, with these arrays."""
        wanted = identity({"experiment": experiment, "input": source, "config": config, "machine": self.machine})
        return any(
            identity(record) == wanted
            and (record.get("build") or {}).get("commit") == self.build.get("commit")
            and record["status"] == status
            and set(arrays) <= set(record.get("arrays") or {})
            for record in read_all(self.out)
        )

    def is_done(self, policy):
        """Whether the file holds this configuration, made by this build of these clips, with every metric that can be
        had."""
        wanted = [name for name, (found, _) in self.judges.of_a_clip().items() if found]
        return self.is_recorded("video", self.source(), self.config(policy), wanted)

    def measure_feedback(self):
        """`video_feedback` records of the first batch of clips: those that the file lacks of this build."""
        setup, few = self.setup, min(self.setup.batch, self.setup.clips)
        place, device = {"probe_clips": few}, {"device": self.device.type}
        todo = [
            (policy, step, config)
            for policy, step in feedback.disturbances(setup.steps)
            if not self.is_recorded(
                "video_feedback", self.source() | place, config := feedback.config_of(policy, step) | device
            )
        ]
        if not todo:
            return
        path = DensePath(self.model, self.prompts[:few], self.seeds[:few], setup.grid, setup.steps, setup.shift, at=())
        disturbed = feedback.Disturbed(path)
        for policy, step, config in todo:
            values = {"growth": disturbed.growth(policy, step)}
            self.append("video_feedback", config, mean_of_each(values), arrays=values, place=place)

    def run(self, policies, seconds=math.inf, say=print):
        """Every policy that is not done, until the time is over; whether all are done now."""
        begin = time.monotonic()
        self.make_dense()
        self.measure_feedback()
        for policy in policies:
            if self.is_done(policy):
                continue
            if time.monotonic() - begin > seconds:
                return False
            self.measure(policy)
            say(f"{policy.describe()}: {time.monotonic() - begin:.0f} s")
        return True
