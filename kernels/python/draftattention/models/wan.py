"""Wan 2.1 and 2.2, text and image to video: self-attention of video tokens alone; text is in cross-attention."""

from .adapter import Adapter, grid_of_latents, patch_of

ADAPTER = Adapter(
    "WanTransformer3DModel",
    attentions=lambda transformer: [block.attn1 for block in transformer.blocks],
    spans=lambda transformer, given: [grid_of_latents(given["hidden_states"], patch_of(transformer.config))],
    functional=False,
)
