"""What one sparse call keeps, block by block, and attention over it."""

from dataclasses import dataclass

import draftattention
import torch

from lab.model import eight_bits


def attend(q, k, v, grid, mask, region, text_tokens, policy):
    """draftattention's attention over blocks by the policy's kernel, or the emulation of what one of 8-bit operands
    rounds."""
    named = {"text_tokens": text_tokens, "region": region}
    if policy.rounds:
        return eight_bits.attention(q, k, v, grid, mask, rounds=policy.rounds, **named)
    return draftattention.block_attention(
        q, k, v, grid, mask, kernel=policy.kernel, remainder=policy.remainder, **named
    )


def regions_first(places, text_tokens):
    """Places [..., video] of the video's tokens, text behind them: [..., tokens]."""
    video = places.shape[-1]
    text = torch.arange(video, video + text_tokens, device=places.device)
    return torch.cat([places, text.expand(*places.shape[:-1], -1)], dim=-1)


@dataclass(frozen=True)
class Blocks:
    """mask bool [clips, heads, blocks, blocks], or of a shape that broadcasts to it. The blocks are the regions of a grid,
    in token order, or with `places` int64 [clips, heads, tokens], the token at each place, in another order: grid is then
    that of a row of tokens."""

    mask: torch.Tensor
    grid: tuple
    region: tuple
    places: torch.Tensor | None = None

    def with_whole(self, heads, shape):
        """With all blocks of these heads; shape: (clips, heads)."""
        if not heads:
            return self
        mask = self.mask.expand(*shape, *self.mask.shape[-2:]).clone()
        mask[:, heads] = True
        return Blocks(mask, self.grid, self.region, self.places)

    def attend(self, q, k, v, text_tokens, policy):
        """(o, what a probe sees: (q, k, v, o, mask) in the blocks' own order)."""
        if self.places is None:
            rows = q, k, v
        else:
            index = self.places[..., None].expand(-1, -1, -1, q.shape[-1])
            rows = [x.gather(2, index) for x in (q, k, v)]
        o = attend(*rows, self.grid, self.mask, self.region, text_tokens, policy)
        seen = (*rows, o, self.mask.expand(*q.shape[:2], *self.mask.shape[-2:]))
        return o if self.places is None else torch.empty_like(o).scatter_(2, index, o), seen
