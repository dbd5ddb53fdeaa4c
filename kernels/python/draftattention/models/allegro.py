"""Allegro: self-attention of video tokens alone. A mask of latents, for videos of several sizes in a batch, is refused."""

from .adapter import Adapter, grid_of_latents, patch_of

ADAPTER = Adapter(
    "AllegroTransformer3DModel",
    attentions=lambda transformer: [block.attn1 for block in transformer.transformer_blocks],
    spans=lambda transformer, given: [grid_of_latents(given["hidden_states"], patch_of(transformer.config))],
    guidance="batch",
)
