"""One attention call of a network, and how many blocks each of its heads attends to."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Call:
    """q [heads, tokens, head_dim]; k, v [kv heads, tokens, head_dim], each for as many heads of q; float32."""

    layer: int
    step: int
    timestep: float
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    scale: float  # of the softmax
    prompt: str | None = None
    moment: str = "step0"  # the step in a capture's name

    def groups(self):
        """How many heads a captured part has: those that share their keys, or one."""
        return len(self.q) // len(self.k)

    def part(self, group):
        """(q, k, v, the heads' numbers) of the heads that share keys number `group`."""
        first, count = group * self.groups(), self.groups()
        heads = list(range(first, first + count))
        return self.q[heads], self.k[group : group + 1], self.v[group : group + 1], heads


def probabilities(q, k, scale, causal=False):
    """softmax(scale q k^T) in float64, [queries, keys]; causal: of a key no later than the query."""
    s = scale * (q.astype(np.float64) @ k.astype(np.float64).T)
    if causal:
        s[np.triu_indices_from(s, 1)] = -np.inf
    p = np.exp(s - s.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def effective_blocks(p, region_of):
    """exp(entropy) of a block row's attention mass, a mean over block rows, of p [tokens, tokens]; `region_of` [video
    tokens]: their regions. Tokens behind them have none and are left out, as in `lab.model.heads` text is one."""
    video, regions = len(region_of), region_of.max() + 1
    member = np.eye(regions)[region_of]
    mass = member.T @ p[:video, :video] @ member
    mass /= mass.sum(axis=1, keepdims=True)
    entropy = -(mass * np.log(np.where(mass > 0, mass, 1))).sum(axis=1)
    return float(np.exp(entropy).mean())
