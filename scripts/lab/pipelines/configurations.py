"""What attends in a pipeline, by name: dense_own, dense_best, dense_ours, draft_90, draft_90_pooled, draft_90_8bit, ...

dense_own   diffusers' own attention, as a user has it who chooses nothing
dense_best  the fastest of diffusers' attention backends here (backends.py)
dense_ours  this project's dense kernel
draft_NN    draft attention at NN% sparsity, with the paper's region, pooling and rule
_pooled     dropped blocks take part as their mean (remainder="pooled")
_8bit       attention by the kernel wgmma_8bit
_fp8        the blocks' linear layers in FP8, by torchao
_compiled   the blocks by torch.compile, one graph without a break for each class of block: norms, RoPE, modulation and
            copies become a few kernels, around the same attention"""

import contextlib
import re
from dataclasses import dataclass

from lab.model.eight_bits import KERNEL as EIGHT_BIT
from lab.model.fp8 import Unavailable, quantise
from lab.model.policies import Policy, dense_kernel, why_not_here
from lab.shared.video_time import PAPER_DENSE_STEPS, dense_configuration

from . import backends

DENSE = ("dense_own", "dense_best", "dense_ours")
NAME = re.compile(
    r"(dense_own|dense_best|dense_ours|draft_([1-9]\d?))((?:_pooled)?)((?:_8bit)?)((?:_fp8)?)((?:_compiled)?)"
)
WANTED = (
    "dense_own, dense_best, dense_ours or draft_NN, then _pooled, _8bit, _fp8, _compiled (the first two not for "
    "diffusers' own)"
)


def why_unavailable(error):
    """The reason if the error is of a configuration that cannot run here, which is no failure; else None."""
    kernel = isinstance(error, ValueError) and str(error).startswith("kernel")  # what draftattention refuses
    return str(error) if kernel or isinstance(error, Unavailable) else None


@dataclass(frozen=True)
class Configuration:
    """One row of the table."""

    name: str
    base: str  # dense_own, dense_best, dense_ours or draft
    policy: Policy
    fp8: bool
    compiled: bool = False

    @property
    def is_draft(self):
        return self.base == "draft"

    @property
    def dense(self):
        """The name of the configuration that takes the dense steps of a video."""
        return dense_configuration(self.fp8, self.compiled) if self.is_draft else self.name

    @property
    def graphs(self):
        """Which graphs it wants: configurations of the same share them, since attention of ours is one operator."""
        return (self.base if self.base in ("dense_own", "dense_best") else "ours", self.fp8) if self.compiled else None

    def config(self, kernel):
        """A record's `config`; kernel: what attends."""
        return self.policy.config() | {
            "kernel": kernel,
            "configuration": self.name,
            "linear": "fp8" if self.fp8 else "bfloat16",
            "compiled": "blocks" if self.compiled else "no",
        }


def parse(name, kernel="auto"):
    """The Configuration of a name. Raises ValueError. kernel: of ours, where the name says nothing of it."""
    found = NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"wanted {WANTED}, found {name!r}")
    base, percent, pooled, eight, fp8, compiled = found.groups()
    last = bool(fp8), bool(compiled)
    own = base in ("dense_own", "dense_best")
    if (own and (pooled or eight)) or (pooled and not percent):
        raise ValueError(f"wanted {WANTED}, found {name!r}")
    kernel = EIGHT_BIT if eight else kernel
    if percent:
        rest = "pooled" if pooled else None
        policy = Policy("draft", int(percent) / 100, dense_steps=PAPER_DENSE_STEPS, kernel=kernel, remainder=rest)
        return Configuration(name, "draft", policy, *last)
    return Configuration(name, base, Policy(kernel=kernel, dense_steps=0.0), *last)


def usual(shape):
    """The names of a shape's table, most wanted first."""
    sparse = sorted((f"draft_{round(100 * sparsity)}" for sparsity in shape.sparsities), reverse=True)
    return [
        "dense_ours",
        "dense_own",
        "dense_best",
        *sparse,
        "draft_90_pooled",
        "draft_90_8bit",
        "dense_ours_compiled",
        "draft_90_compiled",
        "draft_90_8bit_compiled",
        "dense_ours_fp8",
        "draft_90_fp8",
    ]


def kernel_of(configuration, device, best):
    """What attends, as records name it. best: the backend of dense_best. Raises Unavailable."""
    if configuration.base == "dense_own":
        return "diffusers"
    if configuration.base == "dense_best":
        if best in (None, backends.OWN):
            raise Unavailable("diffusers' own attention is the best of its backends here")
        return best
    kernel = dense_kernel(configuration.policy.kernel, device)
    if kernel != "torch" and (why := why_not_here(kernel)):
        raise Unavailable(why)
    return kernel


def blocks_of(transformer):
    """Those that compile_repeated_blocks compiles."""
    kinds = getattr(transformer, "_repeated_blocks", None) or ()
    return [module for module in transformer.modules() if type(module).__name__ in kinds]


@contextlib.contextmanager
def compiling(configuration, transformer):
    """Where the configuration says so, the transformer's blocks are compiled, without a break in a graph."""
    if not configuration.compiled:
        yield
        return
    blocks = blocks_of(transformer)
    if not blocks:
        raise Unavailable(f"diffusers names no repeated blocks of {type(transformer).__name__}")
    try:
        for block in blocks:
            block.compile(fullgraph=True)
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None


@contextlib.contextmanager
def attending(configuration, pipeline, kernel):
    """The configuration attends in every step of the pipeline. kernel: what kernel_of gave."""
    with attention_of(configuration, pipeline, kernel) as control, compiling(configuration, pipeline.transformer):
        yield control


@contextlib.contextmanager
def attention_of(configuration, pipeline, kernel, steps=None):
    """The configuration's attention alone, in a pipeline or, with the number of its steps, in a transformer that no
    pipeline calls."""
    from draftattention.diffusers import apply_draft_attention

    if configuration.base == "dense_own":
        yield None
    elif configuration.base == "dense_best":
        with backends.taking(pipeline.transformer, kernel):
            yield None
    else:
        policy = configuration.policy
        with apply_draft_attention(
            pipeline,
            sparsity=policy.sparsity,
            dense_steps=0.0,
            region=policy.region,
            pool=policy.pool,
            rule=policy.rule,
            kernel=kernel,
            remainder=policy.remainder,
            steps=steps,
        ) as control:
            yield control


class Switch:
    """What attends in a whole video: a dense configuration in the first steps, then another one."""

    def __init__(self, pipeline, dense, sparse, dense_steps, first=0):
        """dense, sparse: (configuration, kernel); first: the step that begins."""
        self._pipeline, self._sparse, self._dense_steps = pipeline, sparse, dense_steps
        self._stack = contextlib.ExitStack()
        first, kernel = dense if first < dense_steps else sparse
        self._stack.enter_context(attending(first, pipeline, kernel))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def at_end(self, step):
        """At the end of a step, counted from 0."""
        if step + 1 == self._dense_steps:
            self._stack.close()
            configuration, kernel = self._sparse
            self._stack.enter_context(attending(configuration, self._pipeline, kernel))


def is_over_video(name, shape):
    """Whether the blocks' linear layer of this name multiplies the video's tokens. Not the modulation's, whose input is one
    row; not cross-attention's keys and values, whose input is the text: its padding is rows of zeros, for which torchao's
    scale is 0, and the quotient NaN."""
    blocks = ("transformer_blocks.", "single_transformer_blocks.") if shape.family == "hunyuan" else ("blocks.",)
    return name.startswith(blocks) and ".norm" not in name and not name.endswith((".attn2.to_k", ".attn2.to_v"))


def quantise_linears(transformer, shape):
    """The blocks' linear layers over the video multiply FP8 numbers (lab.model.fp8). Raises Unavailable."""
    import torch

    quantise(transformer, lambda module, name: isinstance(module, torch.nn.Linear) and is_over_video(name, shape))
