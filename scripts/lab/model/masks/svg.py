"""Sparse VideoGen: each head is spatial or temporal, found anew in every call, and keeps a band.

Source: arXiv 2502.01776; svg-project/Sparse-VideoGen 5ce7b01, svg/models/hyvideo/{utils,attention}.py: 64 rows, drawn with
replacement from the first 10,000, are computed with all keys and under each kind's profile band, |I - J| < floor(1.5 *
tokens of a frame / 128) of blocks of 128; a head is of the kind with the smaller mean squared error, spatial if they are
equal. Then it keeps a band in its kind's order: tokens as they are (spatial) or with frames innermost (temporal).

Ours: the band that is computed is of whole blocks, by rising |I - J| up to the budget; blocks have as many tokens as a
region. Text is kept in both bands, as there.
"""

import torch

from lab.model.heads import Regions

from .kept import Blocks, regions_first
from .ranking import distances, generator_of, keep_best


class SparseVideoGen:
    ROWS, FIRST, PROFILE = 64, 10_000, 1.5

    def __init__(self, policy, grid, text_tokens, steps):
        self.policy, self.text_tokens = policy, text_tokens
        self.frames, self.frame = grid[0], grid[1] * grid[2]
        self.video = self.frames * self.frame
        self.grid, self.region = (1, 1, self.video), (1, policy.region[0] * policy.region[1])
        self._regions = self._orders = None

    def regions(self, device):
        """The blocks of both orders, as heads.Regions."""
        if self._regions is None:
            self._regions = Regions(self.grid, self.region, self.text_tokens, device)
        return self._regions

    def orders(self, device):
        """int64 [2, video]: the token at each place, of spatial and of temporal heads."""
        if self._orders is None:
            tokens = torch.arange(self.video, device=device)
            self._orders = torch.stack([tokens, tokens.view(self.frames, self.frame).T.flatten()])
        return self._orders

    def profile(self, rows, device):
        """bool [2, rows, tokens]: which keys these rows have in each kind's profile band."""
        size = self.region[1]
        block = torch.empty_like(self.orders(device))
        block.scatter_(1, self.orders(device), (torch.arange(self.video, device=device) // size).expand(2, -1))
        width = max(1, int(self.PROFILE * self.frame) // size)
        near = (block[:, rows, None] - block[:, None]).abs() < width
        return torch.cat([near, near.new_ones(2, len(rows), self.text_tokens)], dim=-1)

    def temporal(self, q, k, v, layer, step):
        """bool [clips, heads]: which are temporal, by the call's own profile."""
        rows = torch.randint(
            min(self.FIRST, self.video), (self.ROWS,), generator=generator_of(self.policy.seed, layer, step)
        ).to(q.device)
        k, v = k.float(), v.float()
        logits = q[:, :, rows].float() @ k.mT * q.shape[-1] ** -0.5
        whole = torch.softmax(logits, dim=-1) @ v
        spatial, temporal = (
            (torch.softmax(logits.masked_fill(~near, -torch.inf), dim=-1) @ v - whole).square().mean(dim=(-2, -1))
            for near in self.profile(rows, q.device)
        )
        return temporal < spatial

    def __call__(self, q, k, v, layer, step):
        with torch.autocast(q.device.type, enabled=False):
            kinds = self.temporal(q, k, v, layer, step)
        near = -distances(self.regions(q.device).video, q.device)
        places = regions_first(self.orders(q.device)[kinds.long()], self.text_tokens)
        return Blocks(keep_best(near, self.policy.sparsity)[None, None], self.grid, self.region, places)
