"""What a sampling run attends to: an attention hook for `flow.sample` that keeps some of the blocks.

| policy | blocks kept, for every head of every clip, layer and step |
| --- | --- |
| dense | all |
| draft | by the draft map of the call's own queries and keys (`draftattention.draft_mask`) |
| oracle | those with the most true attention mass, of the head or, with rule `row`, of each block row: the upper end |
| random | by chance: the lower end |
| adaspa | oracle by row, found at two steps of a run (AdaSpa) |
| xattention | by sums along antidiagonals of every 8 tokens (XAttention) |
| sol_attn | by pooled scores in deviations of their row; what is dropped takes part as a whole (Sol-Attn) |
| svg | a band in the token order of the head's kind, spatial or temporal (Sparse VideoGen) |
| svg2 | no blocks but pairs of clusters of queries and keys (Sparse VideoGen 2) |

All but draft and random stand in lab.model.masks, with their sources. Heads that a policy's `heads` leaves out keep all
blocks. The first `dense_steps` of the steps are dense in all of them (paper, section 4.1: the first 25%).
"""

from dataclasses import dataclass

import draftattention
import torch

from lab.shared.video_time import first_sparse_step

from . import eight_bits
from .masks import kept as blocks
from .masks.exact import AdaSpa, Oracle
from .masks.of_regions import OfRegions
from .masks.ranking import generator_of, keep_best
from .masks.sol_attn import SolAttn
from .masks.svg import SparseVideoGen
from .masks.svg2 import SparseVideoGen2
from .masks.xattention import XAttention
from .model import dense_attention

HEADS = ("all", "diffuse", "others")
CHANCE = ("random", "svg", "svg2")  # the policies that draw
OTHER_BLOCKS = {"svg": "raster or frame_last", "svg2": "clusters"}  # from which their blocks are, not from regions


class Draft(OfRegions):
    """The paper's rule, with draftattention's code."""

    def mask(self, q, k, layer, step):
        policy = self.policy
        return draftattention.draft_mask(
            q,
            k,
            self.grid,
            text_tokens=self.text_tokens,
            sparsity=policy.sparsity,
            region=policy.region,
            pool=policy.pool,
            rule=policy.rule,
            kernel=policy.kernel,
        )


class Random(OfRegions):
    """Blocks by chance: the same for every device, and whatever the queries and keys."""

    def mask(self, q, k, layer, step):
        regions = self.regions(q.device).video
        scores = torch.rand((*q.shape[:2], regions, regions), generator=generator_of(self.policy.seed, layer, step))
        return keep_best(scores.to(q.device), self.policy.sparsity)


CHOOSERS = {
    "dense": OfRegions,
    "draft": Draft,
    "oracle": Oracle,
    "random": Random,
    "adaspa": AdaSpa,
    "xattention": XAttention,
    "sol_attn": SolAttn,
    "svg": SparseVideoGen,
    "svg2": SparseVideoGen2,
}
POLICIES = tuple(CHOOSERS)


def dense_kernel(name, device):
    """What stands for "auto" in a dense run: "auto" would be PyTorch's own attention there."""
    if name != "auto":
        return name
    if device.type != "cuda":
        return "torch"
    return next(
        (
            row["name"]
            for row in sorted(draftattention.kernels(), key=lambda row: row["name"] != "wgmma")
            if row["here"] == ""
        ),
        "torch",
    )


def why_not_here(kernel):
    """Why a kernel of draftattention's cannot run here; "" if it can."""
    row = next((row for row in draftattention.kernels() if row["name"] == kernel), None)
    if row is None:
        return f"this build of draftattention has no kernel {kernel}"
    return "" if row["here"] == "" else f"kernel {kernel}: {row['here'] or 'no GPU'}"


@dataclass(frozen=True)
class Policy:
    """sparsity: share of the video x video blocks left out of a sparse call; pool and rule matter to `draft`, rule `row` to
    `oracle` too, seed to CHANCE. kernel: of the sparse calls, a name of draftattention's; policy `dense` takes PyTorch's
    own attention under "auto" and else that kernel, `svg2` always PyTorch's. heads: which of the model's keep some blocks
    alone; who makes a PolicyAttention says which are diffuse. remainder: "pooled" if dropped blocks take part as a whole
    (draftattention's), which is a part of `sol_attn`. rounds: eight_bits.SOURCES; with any, all but the dense first steps
    attend by that emulation, and the kernel makes masks alone."""

    name: str = "dense"
    sparsity: float = 0.0
    pool: str = "avg"
    rule: str = "softmax"
    region: tuple = (8, 16)
    dense_steps: float = 0.25
    seed: int = 0
    kernel: str = "auto"
    heads: str = "all"
    remainder: str | None = None
    rounds: tuple = ()

    def __post_init__(self):
        if self.name not in POLICIES:
            raise ValueError(f"policy: wanted one of {', '.join(POLICIES)}, found {self.name!r}")
        if not 0 <= self.sparsity < 1 or (self.name == "dense") != (self.sparsity == 0):
            raise ValueError(
                f"sparsity: wanted 0 for dense and else a number in (0, 1), found {self.sparsity} for {self.name}"
            )
        if self.heads not in HEADS:
            raise ValueError(f"heads: wanted one of {', '.join(HEADS)}, found {self.heads!r}")
        wanted = (None,) if self.name in ("dense", *OTHER_BLOCKS) else (None, "pooled")
        wanted = ("pooled",) if self.name == "sol_attn" else wanted
        if self.remainder not in wanted:
            words = " or ".join(map(repr, wanted))
            raise ValueError(f"remainder: wanted {words} for {self.name}, found {self.remainder!r}")
        if self.rounds and (self.name == "svg2" or self.remainder is not None):
            raise ValueError(f"rounds: wanted none for svg2 or with a remainder, found {'+'.join(self.rounds)}")
        if unknown := [source for source in self.rounds if source not in eight_bits.SOURCES]:
            raise ValueError(f"rounds: wanted some of {', '.join(eight_bits.SOURCES)}, found {unknown[0]!r}")
        if not 0 <= self.dense_steps <= 1:
            raise ValueError(f"dense_steps: wanted a share of 0 to 1, found {self.dense_steps}")

    def first_sparse_step(self, steps):
        """Of a run of `steps`, counted from 0; `steps` if all are dense."""
        return first_sparse_step(self.dense_steps, steps)

    def config(self):
        """A record's `config`, without the device."""
        found = {
            "policy": self.name,
            "kernel": self.kernel,
            "region": list(self.region),
            "sparsity": self.sparsity,
            "dense_steps": self.dense_steps,
        }
        if self.name == "draft":
            found |= {"pool": self.pool, "rule": self.rule}
        if self.name == "oracle" and self.rule == "row":
            found["rule"] = self.rule
        if self.heads != "all":
            found["heads"] = self.heads
        if self.remainder is not None:
            found["remainder"] = self.remainder
        if self.rounds:
            found |= {"kernel": eight_bits.EMULATION, "rounds": "+".join(self.rounds)}
        if self.name in OTHER_BLOCKS:
            found["block_layout"] = OTHER_BLOCKS[self.name]
        return found | ({"seed": self.seed} if self.name in CHANCE else {})

    def describe(self):
        """For captions: "draft avg 90%"."""
        rounds = f", {'+'.join(self.rounds)} rounded" if self.rounds else ""
        if self.name == "dense":
            return "dense" + (rounds or ("" if self.kernel == "auto" else f", {self.kernel}"))
        words = [self.name] + ([self.pool] if self.name == "draft" else []) + [f"{100 * self.sparsity:g}%"]
        if self.name in ("draft", "oracle") and self.rule != "softmax":
            words.append(self.rule)
        if self.remainder is not None and self.name != "sol_attn":
            words.append("with the rest pooled")
        if self.region != (8, 16):
            words.append(f"{self.region[0]}x{self.region[1]}")
        if self.heads != "all":
            words.append("in the diffuse heads alone" if self.heads == "diffuse" else "in the other heads alone")
        steps = "" if self.dense_steps == 0.25 else f", {100 * self.dense_steps:g}% of steps dense"
        return " ".join(words) + rounds + steps


class PolicyAttention:
    """The hook of one policy: attention(q, k, v, layer=, step=), all [clips, heads, tokens, head_dim].

    `probe(q, k, v, o, mask, layer=, step=)` is called after every sparse call, with mask bool [clips, heads, blocks, blocks]
    and all tokens in the order of its blocks, those of regions(); of svg2 the mask is a masks.svg2.Clusters. `calls` counts
    dense and sparse calls. diffuse: (layer, head) of the diffuse heads, for policies that do not treat all alike."""

    def __init__(self, policy, grid, text_tokens, steps, probe=None, diffuse=None):
        if policy.heads != "all" and diffuse is None:
            raise ValueError(f"heads: {policy.heads!r} wants to know which heads are diffuse")
        self.policy, self.grid, self.text_tokens, self.probe = policy, tuple(grid), text_tokens, probe
        self.diffuse = diffuse
        self.first_sparse_step = policy.first_sparse_step(steps)
        self.calls = {"dense": 0, "sparse": 0}
        self._chooser = CHOOSERS[policy.name](policy, self.grid, text_tokens, steps)

    def __call__(self, q, k, v, *, layer, step):
        policy = self.policy
        dense = policy.name == "dense"
        if step < self.first_sparse_step or (dense and policy.kernel == "auto" and not policy.rounds):
            self.calls["dense"] += 1
            return dense_attention(q, k, v)
        self.calls["dense" if dense else "sparse"] += 1
        if dense:
            return blocks.attend(q, k, v, self.grid, None, policy.region, self.text_tokens, policy)
        kept = self.choose(q, k, v, layer, step)
        o, seen = kept.attend(q, k, v, self.text_tokens, policy)
        if self.probe is not None:
            self.probe(*seen, layer=layer, step=step)
        return o

    def dense_heads(self, layer, heads):
        """The heads of a layer that keep all blocks in sparse calls too."""
        if self.policy.heads == "all":
            return []
        return [head for head in range(heads) if ((layer, head) in self.diffuse) != (self.policy.heads == "diffuse")]

    def regions(self, device):
        """The blocks, as heads.Regions; of svg2 regions that are not its blocks."""
        return self._chooser.regions(device)

    def choose(self, q, k, v, layer, step):
        """What one sparse call keeps: a masks.kept.Blocks, or of svg2 a masks.svg2.Clusters."""
        kept = self._chooser(q, k, v, layer, step)
        return kept.with_whole(self.dense_heads(layer, q.shape[1]), q.shape[:2])
