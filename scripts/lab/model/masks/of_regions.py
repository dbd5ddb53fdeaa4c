"""What choosers have in common whose blocks are regions in token order."""

import torch

from lab.model.heads import Regions

from .kept import Blocks


class OfRegions:
    """A chooser whose blocks are the regions of the policy's size; a kind has `mask`."""

    def __init__(self, policy, grid, text_tokens, steps):
        self.policy, self.grid, self.text_tokens, self.steps = policy, tuple(grid), text_tokens, steps
        self._regions = None

    def regions(self, device):
        """The blocks, as heads.Regions."""
        if self._regions is None:
            self._regions = Regions(self.grid, self.policy.region, self.text_tokens, device)
        return self._regions

    def __call__(self, q, k, v, layer, step):
        with torch.autocast(q.device.type, enabled=False):  # the sampler's bfloat16 must not reach the sums
            return Blocks(self.mask(q, k, layer, step), self.grid, self.policy.region)

    def mask(self, q, k, layer, step):
        """bool [clips, heads, regions, regions] of one sparse call."""
        raise NotImplementedError
