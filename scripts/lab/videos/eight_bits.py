"""What 8-bit numbers do to the small model's videos, and which of them do it: experiment `video_eight_bits`, the paper's Table 2
in miniature, dense and with draft masks.

_8bit      attention by the kernel of 8-bit operands; where that cannot run, by its emulation (lab.model.eight_bits)
_fp8       the blocks' linear layers in FP8 (lab.model.fp8)
_8bit_fp8  both
_qk _p _v  one of the sources of 8-bit attention's error alone, by the emulation

Attention rounds where a mask is in place: in every step of a dense video, behind the dense first steps of a sparse one, which
stay as they are. FP8 layers are in all steps. A record holds the same metrics three times:

NAME        against the dense clips of 16-bit numbers, as `video` records have it
NAME_bf16   against the clips that the same policy makes with 16-bit numbers: what rounding alone does
NAME_alike  against the dense clips with the same rounding, as the paper's Table 2 compares; not of dense ones

and `one_step_bf16`, the error of one step beside 16-bit numbers at the dense clips' states, in which no earlier step's is.
"""

import math
import time
from dataclasses import dataclass, replace

import draftattention

from lab.model import eight_bits, fp8
from lab.model.flow import velocity
from lab.model.policies import Policy, PolicyAttention, why_not_here
from lab.model.prompts import TEXT_TOKENS

from .configurations import REFERENCE, draft
from .dense_path import relative
from .quality import mean_of_each

EXPERIMENT = "video_eight_bits"
SPARSITY = 0.9  # the paper's, of Table 2


@dataclass(frozen=True)
class Configuration:
    """name: "draft_90_8bit_fp8"; plain: the same with 16-bit numbers; dense: the configuration with the same rounding and no
    mask, None for a dense one."""

    name: str
    policy: Policy
    plain: Policy
    dense: str | None
    fp8: bool = False


def refuse_kernel(kernel):
    """Raises ValueError for a kernel that could not stand for 16-bit numbers."""
    if any(row["name"] == kernel and row["eight_bit"] for row in draftattention.kernels()):
        raise ValueError(f"--kernel: wanted one of 16-bit operands for eight_bits, found {kernel}")


def configurations(kernel="auto"):
    """Every configuration; those with which others are compared come before them. kernel: of the sparse calls with 16-bit
    numbers."""
    eight = {"rounds": eight_bits.SOURCES} if why_not_here(eight_bits.KERNEL) else {"kernel": eight_bits.KERNEL}
    changes = {"8bit": (eight, False), "fp8": ({}, True), "8bit_fp8": (eight, True)}
    changes |= {source: ({"rounds": (source,)}, False) for source in eight_bits.SOURCES}
    found = []
    for mask, plain in (("dense", REFERENCE), ("draft", draft(SPARSITY, kernel=kernel))):
        for suffix, (own, linear) in changes.items():
            if mask == "dense":
                policy = replace(plain, dense_steps=0.0, **own) if own else plain
                found.append(Configuration(f"dense_{suffix}", policy, plain, None, linear))
            else:
                name = f"draft_{100 * SPARSITY:g}_{suffix}"
                found.append(Configuration(name, replace(plain, **own), plain, f"dense_{suffix}", linear))
    svg = Policy("svg", SPARSITY, kernel=kernel)  # what the paper compares with
    return [*found, Configuration(f"svg_{100 * SPARSITY:g}_fp8", svg, svg, "dense_fp8", True)]


class EightBits:
    """study: quality.Study, with its dense clips made."""

    def __init__(self, study, kernel):
        self.study, self.chosen = study, configurations(kernel)
        self._by_name = {one.name: one for one in self.chosen}
        self._clips = {REFERENCE: study.dense}
        self._models = {False: study.model}

    def model(self, one):
        """The model whose linear layers are those of the configuration. Raises fp8.Unavailable."""
        if one.fp8 not in self._models:
            self._models[True] = fp8.with_fp8_linears(self.study.model)
        return self._models[one.fp8]

    def clips(self, one):
        """Of a configuration, or of a policy with 16-bit numbers; made once. Raises fp8.Unavailable."""
        if one not in self._clips:
            study = self.study
            if not isinstance(one, Policy):
                self._clips[one] = study.clips_of(one.policy, model=self.model(one))[0]
            elif one.name != "draft" or study.is_done(one):
                self._clips[one] = study.clips_of(one)[0]
            else:
                self._clips[one] = study.measure(one)  # the record of it that the report compares with
        return self._clips[one]

    def config(self, one):
        whole = "bfloat16" if self.study.device.type == "cuda" else "float32"
        return self.study.config(one.policy) | {"configuration": one.name, "linear": "fp8" if one.fp8 else whole}

    def is_done(self, one):
        study = self.study
        wanted = [name for name, (found, _) in study.judges.of_a_clip().items() if found]
        return study.is_recorded(EXPERIMENT, study.source(), self.config(one), wanted)

    def notes(self, one):
        own = {}
        if one.policy.rounds:
            why = why_not_here(eight_bits.KERNEL) if one.policy.rounds == eight_bits.SOURCES else "a source alone"
            own["attention"] = f"by the emulation of {eight_bits.KERNEL}: {why}"
        if one.fp8:
            own["torchao"] = fp8.version_of_torchao()
        return self.study.judges.notes() | own

    def one_step(self, one):
        """The error of each step in which the mask is in place: of the model's output at a dense clip's states, relative to
        that of the same policy with 16-bit numbers. Masks are chosen anew: what rounding changes of them is in it."""
        study, path, model = self.study, self.study.path, self.model(one)
        plain, rounded = (
            PolicyAttention(policy, study.setup.grid, TEXT_TOKENS, study.setup.steps, diffuse=path.diffuse)
            for policy in (one.plain, one.policy)
        )
        found = []
        for step in range(0 if one.dense is None else plain.first_sparse_step, study.setup.steps):
            at = path.states[step], path.times[step], path.prompts
            wanted = velocity(path.model, *at, plain, step)
            found.append(relative(velocity(model, *at, rounded, step) - wanted, wanted))
        return found

    def measure(self, one):
        """Appends the record of one configuration. Raises fp8.Unavailable."""
        study, begin = self.study, time.monotonic()
        clips = self.clips(one)
        seconds = time.monotonic() - begin
        values = study.beside(clips, study.dense) | study.alone(clips)
        others = {"bf16": one.plain} | ({"alike": self._by_name[one.dense]} if one.dense else {})
        for suffix, other in others.items():
            compared = study.beside(clips, self.clips(other))
            values |= {f"{name}_{suffix}": numbers for name, numbers in compared.items()}
        values["one_step_bf16"] = self.one_step(one)
        means = mean_of_each(values) | study.judges.of_all(clips)
        means["one_step_bf16_rel_l2"] = means.pop("one_step_bf16")
        means |= {"seconds_per_clip": seconds / study.setup.clips, "clips": study.setup.clips}
        study.append(EXPERIMENT, self.config(one), means, arrays=values, notes=self.notes(one))


def run(study, kernel, seconds=math.inf, say=print, warn=print):
    """Every configuration that is not done, until the time is over; whether all are done now that can be: what cannot run here
    is a `skipped` record, and one line to `warn`."""
    begin = time.monotonic()
    if study.dense is None:
        study.make_dense()
    part, refused = EightBits(study, kernel), set()
    for one in part.chosen:
        if part.is_done(one):
            continue
        if time.monotonic() - begin > seconds:
            return False
        try:
            part.measure(one)
        except fp8.Unavailable as error:
            config = part.config(one)
            if not study.is_recorded(EXPERIMENT, study.source(), config, status="skipped"):
                study.append(EXPERIMENT, config, {}, status="skipped", reason=str(error))
            if str(error) not in refused:
                warn(f"videos: FP8 linear layers are left out: {error}")
            refused.add(str(error))
            continue
        say(f"{one.name}: {time.monotonic() - begin:.0f} s")
    return True
