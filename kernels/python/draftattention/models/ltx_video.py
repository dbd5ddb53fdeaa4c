"""LTX-Video: self-attention of video tokens alone. Latents are packed before the model, [batch, tokens, channels], so that
the grid is what it is told beside them."""

from collections.abc import Mapping
from typing import Any

from .._checks import refuse
from .._tokens import Span
from .adapter import Adapter


def _spans(transformer: Any, given: Mapping[str, Any]) -> list[Span]:
    sizes = {name: given.get(name) for name in ("num_frames", "height", "width")}
    if any(size is None for size in sizes.values()) or given.get("video_coords") is not None:
        raise refuse(
            "num_frames, height, width",
            "the grid of the video's tokens",
            "coordinates of each token" if given.get("video_coords") is not None else sizes,
        )
    return [tuple(sizes.values())]  # type: ignore[list-item]


ADAPTER = Adapter(
    "LTXVideoTransformer3DModel",
    attentions=lambda transformer: [block.attn1 for block in transformer.transformer_blocks],
    spans=_spans,
    guidance="batch",
    functional=False,
)
