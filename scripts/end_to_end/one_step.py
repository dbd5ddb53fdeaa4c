"""What one sparse step does to what the model says: between attention, head by head, and the video, step by step.

The states are those of dense clips; a step's error is ||sparse - dense|| / ||dense|| of the model's output, with every
head of every layer sparse at once. No error of an earlier step is in it."""

import torch

from minidit.flow import sample, schedule, velocity
from minidit.heads import Regions, block_mass, effective_blocks
from minidit.model import dense_attention
from minidit.policies import PolicyAttention
from minidit.prompts import TEXT_TOKENS


class OneStep:
    """Dense clips stopped at some steps, which count from 1 on, and the model's dense output there.

    `spread` {(layer, head): blocks that a region's attention spreads over, exp(entropy)} is a mean over the clips and
    steps; `diffuse` holds the heads with more than half of all blocks of 8 x 16."""

    def __init__(self, model, prompts, seeds, grid, steps, shift, at):
        device = next(model.parameters()).device
        self.model, self.prompts, self.grid, self.steps = model, prompts.to(device), grid, steps
        self.regions, found = Regions(grid, (8, 16), TEXT_TOKENS, device), {}

        def look(q, k, v, *, layer, step):
            with torch.autocast(q.device.type, enabled=False):
                for clip in range(len(q)):
                    for head in range(q.shape[1]):
                        mass = block_mass(q[clip, head], k[clip, head], self.regions)
                        found.setdefault((layer, head), []).append(effective_blocks(mass))
            return dense_attention(q, k, v)

        self.states = []
        for step in at:
            x = sample(model, prompts, seeds, grid, steps, shift, stop_after=step - 1)
            time = schedule(steps, shift)[step]
            self.states.append((step, time, x, velocity(model, x, time, self.prompts, look, step)))
        self.spread = {place: sum(values) / len(values) for place, values in sorted(found.items())}
        self.diffuse = {place for place, value in self.spread.items() if value > self.regions.video / 2}

    def error(self, policy):
        """Mean over steps of the relative L2 error over all clips; the policy's dense first steps do not matter."""
        found = []
        for step, time, x, dense in self.states:
            attention = PolicyAttention(policy, self.grid, TEXT_TOKENS, self.steps, diffuse=self.diffuse)
            attention.first_sparse_step = 0
            sparse = velocity(self.model, x, time, self.prompts, attention, step)
            found.append(((sparse - dense).double().norm() / dense.double().norm()).item())
        return sum(found) / len(found)
