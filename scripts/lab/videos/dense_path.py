"""What lies between attention, head by head, and the video: what a sparse step changes of what the model says, what such
changes add up to, and how far the clip has gone from the dense one after each step.

e = sparse - dense is what a step's masks, all at once, change of the model's output at the state of a dense clip: no error
of an earlier step is in it. A step's error is ||e|| / ||dense||; added up, ||sum of dt e|| / ||last dense state||, how far
off the clip would end if no error fed back into the steps behind it."""

import torch

from lab.model.flow import sample, schedule, seeded_noise, velocity
from lab.model.heads import Regions, block_mass, effective_blocks
from lab.model.model import dense_attention
from lab.model.policies import PolicyAttention
from lab.model.prompts import TEXT_TOKENS


def relative(difference, whole):
    return (difference.double().norm() / whole.double().norm()).item()


class DensePath:
    """Dense clips with all states on their way: states[k] before step k, states[-1] the clips.

    `spread` {(layer, head): blocks that a region's attention spreads over, exp(entropy)} is a mean over the clips and
    the steps `at`; `diffuse` holds the heads with more than half of all blocks of 8 x 16."""

    def __init__(self, model, prompts, seeds, grid, steps, shift, at):
        config, device = model.config, next(model.parameters()).device
        self.model, self.prompts, self.grid = model, prompts.to(device), grid
        self.times, self.regions = schedule(steps, shift), Regions(grid, (8, 16), TEXT_TOKENS, device)
        found = {}

        def look(q, k, v, *, layer, step):
            if step in at:
                with torch.autocast(q.device.type, enabled=False):
                    for clip in range(len(q)):
                        for head in range(q.shape[1]):
                            mass = block_mass(q[clip, head], k[clip, head], self.regions)
                            found.setdefault((layer, head), []).append(effective_blocks(mass))
            return dense_attention(q, k, v)

        frames, height, width = grid
        shape = config.channels, frames, height * config.patch, width * config.patch
        self.states = [seeded_noise(seeds, shape, device)]
        sample(model, prompts, seeds, grid, steps, shift, attention=look, watch=lambda step, x: self.states.append(x))
        self.spread = {place: sum(values) / len(values) for place, values in sorted(found.items())}
        self.diffuse = {place for place, value in self.spread.items() if value > self.regions.video / 2}

    def distance(self, step, x):
        """Of the first clips of x, the state after a step, from the dense ones, as many as both have: relative L2."""
        dense = self.states[step + 1]
        few = min(len(x), len(dense))
        return relative(x[:few] - dense[:few], dense[:few])

    def errors(self, policy):
        """(error of every sparse step, added up) under a policy's masks."""
        attention = PolicyAttention(policy, self.grid, TEXT_TOKENS, len(self.times) - 1, diffuse=self.diffuse)
        found, total = [], torch.zeros_like(self.states[0])
        for step in range(attention.first_sparse_step, len(self.times) - 1):
            dt = self.times[step + 1] - self.times[step]
            dense = (self.states[step + 1] - self.states[step]) / dt
            error = velocity(self.model, self.states[step], self.times[step], self.prompts, attention, step) - dense
            found.append(relative(error, dense))
            total += dt * error
        return found, relative(total, self.states[-1])
