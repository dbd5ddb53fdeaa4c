"""What the tokens of an attention call are, in any order, and which of them are padding.

A call's tokens are described by their parts, in order: a segment of video is its grid (frames, height, width), tokens of
text or another condition are their number, and an ellipsis stands for however many tokens the other parts leave."""

from __future__ import annotations

import dataclasses
import math
import operator
import types
from collections.abc import Sequence
from typing import Any, Union

import torch

from ._checks import grid_of, refuse

Grid = tuple[int, int, int]
Part = Union[int, Grid, types.EllipsisType]  # noqa: UP007  Python 3.10 evaluates it
_WANTED = "grids (frames, height, width), numbers of tokens and at most one ellipsis, in order, with at least one grid"


def joined(segments: Sequence[Grid]) -> Grid | None:
    """The grid of all frames of segments that have one height and width; None if they differ."""
    if len({segment[1:] for segment in segments}) != 1:
        return None
    return (sum(segment[0] for segment in segments), *segments[0][1:])


def checked_parts(parts: Any) -> tuple[Part, ...]:
    """Parts as plain numbers. Raises ValueError for anything else."""
    try:
        given = list(parts)
    except TypeError:
        raise refuse("parts", _WANTED, repr(parts)) from None
    found: list[Part] = []
    for part in given:
        if part is ...:
            found.append(part)
            continue
        try:
            number = -1 if isinstance(part, bool) else operator.index(part)
        except TypeError:
            found.append(grid_of(part))
            continue
        if number < 0:
            raise refuse("parts", _WANTED, repr(parts))
        found.append(number)
    if found.count(...) > 1 or not any(isinstance(part, tuple) for part in found):
        raise refuse("parts", _WANTED, repr(parts))
    return tuple(found)


def parts_text(parts: Sequence[Part]) -> str:
    """'2 x 6 x 10 + 5 = 125 tokens and text'"""
    known = [part for part in parts if part is not ...]
    each = [" x ".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in known]
    total = sum(math.prod(part) if isinstance(part, tuple) else part for part in known)  # type: ignore[arg-type]
    return f"{' + '.join(each)} = {total} tokens" + " and text" * (len(known) < len(parts))


@dataclasses.dataclass(frozen=True)
class TokenOrder:
    """Moves tokens between a model's order and the kernels': video segments first, then everything else."""

    segments: tuple[Grid, ...]
    lengths: tuple[int, ...]  # tokens of each part, in the model's order
    video: tuple[int, ...]  # numbers of the parts that are video

    @property
    def video_tokens(self) -> int:
        return sum(self.lengths[part] for part in self.video)

    @property
    def _first(self) -> list[int]:
        """The parts' numbers in the kernels' order."""
        return [*self.video, *(part for part in range(len(self.lengths)) if part not in self.video)]

    @property
    def _same(self) -> bool:
        return self._first == sorted(self._first)

    def gather(self, x: torch.Tensor, dim: int = 1) -> torch.Tensor:
        """The tokens of axis `dim` from the model's order into the kernels'; x itself where the two are one."""
        if self._same:
            return x
        pieces = x.split(self.lengths, dim)
        return torch.cat([pieces[part] for part in self._first], dim)

    def scatter(self, x: torch.Tensor, dim: int = 1) -> torch.Tensor:
        """The inverse of gather."""
        if self._same:
            return x
        pieces = x.split([self.lengths[part] for part in self._first], dim)
        return torch.cat([pieces[self._first.index(part)] for part in range(len(self.lengths))], dim)


def token_order(parts: Sequence[Part], tokens: int) -> TokenOrder | None:
    """The order of `tokens` tokens with these (checked) parts; None if there are more or fewer."""
    lengths = [0 if part is ... else math.prod(part) if isinstance(part, tuple) else part for part in parts]  # type: ignore[misc]
    rest = tokens - sum(lengths)
    if rest < 0 or (rest > 0 and ... not in parts):
        return None
    lengths = [rest if part is ... else length for part, length in zip(parts, lengths)]
    video = tuple(number for number, part in enumerate(parts) if isinstance(part, tuple))
    return TokenOrder(tuple(parts[number] for number in video), tuple(lengths), video)  # type: ignore[misc]


def gathered_mask(mask: torch.Tensor | None, order: TokenOrder) -> torch.Tensor | None:
    """A mask [..., queries or 1, keys] in the kernels' order."""
    tokens = sum(order.lengths)
    if mask is None or mask.dim() < 2 or mask.shape[-1] != tokens:
        return mask  # valid_tokens refuses other shapes
    mask = order.gather(mask, -1)
    return order.gather(mask, -2) if mask.shape[-2] == tokens else mask


def valid_tokens(mask: torch.Tensor | None, batch: int, tokens: int) -> tuple[int, ...]:
    """How many tokens of each batch entry are valid by a mask of padding: of keys, bool [batch, 1, 1, tokens], or of
    pairs of valid tokens, bool [batch, 1, tokens, tokens]. Raises ValueError unless valid tokens come first and nothing
    else is masked."""
    wanted = f"bool [{batch}, 1, 1, {tokens}], True up to the last valid token of each entry"
    if mask is None:
        return (tokens,) * batch
    shapes = [(entries, 1, queries, tokens) for entries in (batch, 1) for queries in (1, tokens)]
    if mask.dtype != torch.bool or tuple(mask.shape) not in shapes:
        raise refuse("attn_mask", wanted, f"{mask.dtype} {list(mask.shape)}")
    rows = mask[:, 0, 0]
    counts = rows.sum(dim=1, keepdim=True)
    if not torch.equal(rows, torch.arange(tokens, device=mask.device) < counts):
        raise refuse("attn_mask", wanted, "a valid token behind a masked one")
    valid = counts.flatten().tolist()
    if mask.shape[2] > 1:
        for pairs, count in zip(mask[:, 0], valid):
            # Without temporaries of the mask's size, which is the square of the tokens.
            if not bool(pairs[:count, :count].all()) or bool(pairs[count:].any()) or bool(pairs[:, count:].any()):
                raise refuse(
                    "attn_mask",
                    wanted,
                    f"{mask.dtype} {list(mask.shape)} that is no mask of padding, such as a causal one",
                )
    return tuple(valid * (batch // len(mask)))
