"""HunyuanVideo Framepack: history at a quarter and at half of the resolution, clean frames, the video, then image and
text. Clean frames have the video's height and width, and make one grid with it. History of a lower resolution is a
condition, kept as text is: it is a few hundredths of the tokens."""

import math
from collections.abc import Mapping
from typing import Any

from .._tokens import Span
from .adapter import Adapter, grid_of_latents, patch_of


def _given(given: Mapping[str, Any], name: str) -> Any:
    """History latents that the model will use: those with indices."""
    indices = f"indices_{name}"
    return given.get(name) if given.get(indices) is not None else None


def _spans(transformer: Any, given: Mapping[str, Any]) -> list[Span]:
    spans: list[Span] = []
    for name, patch in (("latents_history_4x", (4, 8, 8)), ("latents_history_2x", (2, 4, 4))):
        latents = _given(given, name)
        if latents is not None:  # padded up to a whole number of patches
            spans.append(math.prod(-(-size // step) for size, step in zip(latents.shape[2:], patch)))
    clean = _given(given, "latents_clean")
    if clean is not None:
        spans.append(grid_of_latents(clean, (1, 2, 2), name="latents_clean"))
    return [*spans, grid_of_latents(given["hidden_states"], patch_of(transformer.config)), ...]


ADAPTER = Adapter(
    "HunyuanVideoFramepackTransformer3DModel",
    attentions=lambda transformer: [
        block.attn for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks)
    ],
    spans=_spans,
    guidance="embedded",
    layers=lambda config: config["num_layers"] + config["num_single_layers"],
    since=">=0.36",
    functional=False,
)
