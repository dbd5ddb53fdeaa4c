"""What the tokens of an attention call are, in any order, and which of them are padding.

A call's tokens are described by their spans, in order: a segment of video is its grid (frames, height, width), tokens of
text or another condition are their number, and an ellipsis stands for however many tokens the other spans leave."""

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
Span = Union[int, Grid, types.EllipsisType]  # noqa: UP007  Python 3.10 evaluates it
_WANTED = "grids (frames, height, width), numbers of tokens and at most one ellipsis, in order, with at least one grid"


def joined(segments: Sequence[Grid]) -> Grid | None:
    """The grid of all frames of segments that have one height and width; None if they differ."""
    if len({segment[1:] for segment in segments}) != 1:
        return None
    return (sum(segment[0] for segment in segments), *segments[0][1:])


def checked_spans(spans: Any) -> tuple[Span, ...]:
    """Spans as plain numbers. Raises ValueError for anything else."""
    try:
        given = list(spans)
    except TypeError:
        raise refuse("spans", _WANTED, repr(spans)) from None
    found: list[Span] = []
    for span in given:
        if span is ...:
            found.append(span)
            continue
        if isinstance(span, (tuple, list)):  # before the next question, which graphs of older versions cannot ask
            found.append(grid_of(span))
            continue
        try:
            number = -1 if isinstance(span, bool) else operator.index(span)
        except TypeError:
            found.append(grid_of(span))
            continue
        if number < 0:
            raise refuse("spans", _WANTED, repr(spans))
        found.append(number)
    if found.count(...) > 1 or not any(isinstance(span, tuple) for span in found):
        raise refuse("spans", _WANTED, repr(spans))
    return tuple(found)


def spans_text(spans: Sequence[Span]) -> str:
    """'2 x 6 x 10 + 5 = 125 tokens and text'"""
    known = [span for span in spans if span is not ...]
    each = [" x ".join(map(str, span)) if isinstance(span, tuple) else str(span) for span in known]
    total = sum(math.prod(span) if isinstance(span, tuple) else span for span in known)  # type: ignore[arg-type]
    return f"{' + '.join(each)} = {total} tokens" + " and text" * (len(known) < len(spans))


@dataclasses.dataclass(frozen=True)
class PieceOrder:
    """Moves tokens between two orders of the same pieces."""

    lengths: tuple[int, ...]  # tokens of each piece, in the order that gather() takes
    wanted: tuple[int, ...]  # the pieces' numbers in the order that it gives

    @property
    def _same(self) -> bool:
        return list(self.wanted) == sorted(self.wanted)

    def gather(self, x: torch.Tensor, dim: int = 1) -> torch.Tensor:
        """The tokens of axis `dim` in the wanted order; x itself where the two are one."""
        if self._same:
            return x
        pieces = x.split(self.lengths, dim)
        return torch.cat([pieces[piece] for piece in self.wanted], dim)

    def scatter(self, x: torch.Tensor, dim: int = 1) -> torch.Tensor:
        """The inverse of gather."""
        if self._same:
            return x
        pieces = x.split([self.lengths[piece] for piece in self.wanted], dim)
        return torch.cat([pieces[self.wanted.index(piece)] for piece in range(len(self.lengths))], dim)


@dataclasses.dataclass(frozen=True)
class TokenOrder(PieceOrder):
    """Moves tokens between a model's order, whose pieces are spans, and the kernels': video segments first, then
    everything else."""

    segments: tuple[Grid, ...]
    video_tokens: int


def _lengths(spans: Sequence[Span], tokens: int) -> tuple[int, ...] | None:
    """How many tokens each (checked) span has where all have `tokens`; None if they have more or fewer."""
    lengths = [0 if span is ... else math.prod(span) if isinstance(span, tuple) else span for span in spans]  # type: ignore[misc]
    rest = tokens - sum(lengths)
    if rest < 0 or (rest > 0 and ... not in spans):
        return None
    return tuple(rest if span is ... else length for span, length in zip(spans, lengths))  # type: ignore[misc]


def token_order(spans: Sequence[Span], tokens: int) -> TokenOrder | None:
    """The order of `tokens` tokens with these (checked) spans; None if there are more or fewer."""
    lengths = _lengths(spans, tokens)
    if lengths is None:
        return None
    video = [number for number, span in enumerate(spans) if isinstance(span, tuple)]
    others = [number for number in range(len(spans)) if number not in video]
    segments = tuple(span for span in spans if isinstance(span, tuple))
    return TokenOrder(lengths, (*video, *others), segments, sum(lengths[number] for number in video))


def sequences_of(spans: Sequence[Span]) -> list[Sequence[Span]]:
    """The sequences of tokens that a model splits over processes, each by itself: what an ellipsis stands for is one,
    the spans before it and those behind it are others."""
    if ... not in spans:
        return [spans]
    place = list(spans).index(...)
    return [its for its in (spans[:place], spans[place : place + 1], spans[place + 1 :]) if its]


def shard_order(spans: Sequence[Span], tokens: int, shards: int) -> PieceOrder | None:
    """From the order of `tokens` tokens of shards, one behind another, each with its share of every sequence, into the
    model's. Shares are those of torch.tensor_split. None if the spans have more or fewer tokens."""
    lengths = _lengths(spans, tokens)
    if lengths is None:
        return None
    sequences, shares, first = sequences_of(spans), [], 0
    for sequence in sequences:
        length = sum(lengths[first : first + len(sequence)])
        first += len(sequence)
        shares.append([length // shards + (shard < length % shards) for shard in range(shards)])
    wanted = [shard * len(sequences) + sequence for sequence in range(len(sequences)) for shard in range(shards)]
    return PieceOrder(tuple(share[shard] for shard in range(shards) for share in shares), tuple(wanted))


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
