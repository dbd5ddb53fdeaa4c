"""What a sampling run attends to: an attention hook for `flow.sample` that keeps some of the blocks.

| policy | blocks kept, for every head of every clip, layer and step |
| --- | --- |
| dense | all |
| draft | by the draft map of the call's own queries and keys (`draftattention.draft_mask`) |
| oracle | those with the most true attention mass, of the head or, with rule `row`, of each block row: the upper end |
| random | by chance: the lower end |

Heads that a policy's `heads` leaves out keep all blocks. The first `dense_steps` of the steps are dense in all of them (paper, section 4.1: the first 25%).
"""

import math
from dataclasses import dataclass

import draftattention
import torch

from .heads import Regions, block_mass, kept_blocks
from .model import dense_attention

POLICIES = ("dense", "draft", "oracle", "random")
HEADS = ("all", "diffuse", "others")


@dataclass(frozen=True)
class Policy:
    """sparsity: share of the video x video blocks left out of a sparse call; pool and rule matter to `draft`, rule `row` to
    `oracle` too, seed to `random`. kernel: of the sparse calls, a name of draftattention's; policy `dense` takes PyTorch's own attention
    under "auto" and else that kernel. heads: which of the model's keep some blocks alone; who makes a PolicyAttention
    says which are diffuse."""

    name: str = "dense"
    sparsity: float = 0.0
    pool: str = "avg"
    rule: str = "softmax"
    region: tuple = (8, 16)
    dense_steps: float = 0.25
    seed: int = 0
    kernel: str = "auto"
    heads: str = "all"

    def __post_init__(self):
        if self.name not in POLICIES:
            raise ValueError(f"policy: wanted one of {', '.join(POLICIES)}, found {self.name!r}")
        if not 0 <= self.sparsity < 1 or (self.name == "dense") != (self.sparsity == 0):
            raise ValueError(
                f"sparsity: wanted 0 for dense and else a number in (0, 1), found {self.sparsity} for {self.name}"
            )
        if self.heads not in HEADS:
            raise ValueError(f"heads: wanted one of {', '.join(HEADS)}, found {self.heads!r}")
        if not 0 <= self.dense_steps <= 1:
            raise ValueError(f"dense_steps: wanted a share of 0 to 1, found {self.dense_steps}")

    def first_sparse_step(self, steps):
        """Of a run of `steps`, counted from 0; `steps` if all are dense."""
        return math.ceil(self.dense_steps * steps - 1e-9)

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
        return found | ({"seed": self.seed} if self.name == "random" else {})

    def describe(self):
        """For captions: "draft avg 90%"."""
        if self.name == "dense":
            return "dense" if self.kernel == "auto" else f"dense, {self.kernel}"
        words = [self.name] + ([self.pool] if self.name == "draft" else []) + [f"{100 * self.sparsity:g}%"]
        if self.name in ("draft", "oracle") and self.rule != "softmax":
            words.append(self.rule)
        if self.region != (8, 16):
            words.append(f"{self.region[0]}x{self.region[1]}")
        if self.heads != "all":
            words.append("in the diffuse heads alone" if self.heads == "diffuse" else "in the other heads alone")
        return " ".join(words) + ("" if self.dense_steps == 0.25 else f", {100 * self.dense_steps:g}% of steps dense")


class PolicyAttention:
    """The hook of one policy: attention(q, k, v, layer=, step=), all [clips, heads, tokens, head_dim].

    `probe(q, k, v, o, mask, layer=, step=)` is called after every sparse call, with mask bool
    [clips, heads, regions, regions]. `calls` counts dense and sparse calls. diffuse: (layer, head) of the diffuse heads,
    for policies that do not treat all alike."""

    def __init__(self, policy, grid, text_tokens, steps, probe=None, diffuse=None):
        if policy.heads != "all" and diffuse is None:
            raise ValueError(f"heads: {policy.heads!r} wants to know which heads are diffuse")
        self.policy, self.grid, self.text_tokens, self.probe = policy, tuple(grid), text_tokens, probe
        self.diffuse = diffuse
        self.first_sparse_step = policy.first_sparse_step(steps)
        self.calls = {"dense": 0, "sparse": 0}
        self._regions = None

    def __call__(self, q, k, v, *, layer, step):
        policy = self.policy
        dense = policy.name == "dense"
        if step < self.first_sparse_step or (dense and policy.kernel == "auto"):
            self.calls["dense"] += 1
            return dense_attention(q, k, v)
        self.calls["dense" if dense else "sparse"] += 1
        mask = None if dense else self.mask(q, k, layer, step)
        for head in self.dense_heads(layer, q.shape[1]):
            mask[:, head] = True
        o = draftattention.block_attention(
            q, k, v, self.grid, mask, text_tokens=self.text_tokens, region=policy.region, kernel=policy.kernel
        )
        if self.probe is not None and mask is not None:
            self.probe(q, k, v, o, mask, layer=layer, step=step)
        return o

    def dense_heads(self, layer, heads):
        """The heads of a layer that keep all blocks in sparse calls too."""
        if self.policy.heads == "all":
            return []
        return [head for head in range(heads) if ((layer, head) in self.diffuse) != (self.policy.heads == "diffuse")]

    def regions(self, device):
        if self._regions is None:
            self._regions = Regions(self.grid, self.policy.region, self.text_tokens, device)
        return self._regions

    def mask(self, q, k, layer, step):
        """bool [clips, heads, regions, regions] of one sparse call."""
        policy = self.policy
        if policy.name == "draft":
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
        regions = self.regions(q.device)
        shape = (*q.shape[:2], regions.video, regions.video)
        if policy.name == "random":  # drawn on the CPU, so that a seed means the same on every device
            generator = torch.Generator().manual_seed(1_000_003 * policy.seed + 1_000 * step + layer)
            scores = torch.rand(shape, generator=generator).to(q.device)
        else:
            with torch.autocast(q.device.type, enabled=False):  # the sampler's bfloat16 must not reach the sums
                scores = torch.stack(
                    [torch.stack([video_mass(*head, regions) for head in zip(*clip)]) for clip in zip(q, k)]
                )
        if policy.name == "oracle" and policy.rule == "row":
            count = max(1, math.ceil((1 - policy.sparsity) * regions.video - 1e-9))
            return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, scores.topk(count).indices, True)
        return torch.stack([torch.stack([kept_blocks(head, 1 - policy.sparsity) for head in clip]) for clip in scores])


def video_mass(q, k, regions):
    """The share of all video queries' attention that goes from one region to another, float32 [regions, regions].
    q, k [tokens, head_dim] of one head, text last."""
    weight = regions.sizes[:-1] / regions.sizes[:-1].sum()
    return weight[:, None] * block_mass(q, k, regions)[:-1, :-1]
