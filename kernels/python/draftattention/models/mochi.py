"""Mochi: video tokens, then the text tokens that are not padding. It attends to one batch entry at a time."""

from .adapter import Adapter, grid_of_latents, patch_of

ADAPTER = Adapter(
    "MochiTransformer3DModel",
    attentions=lambda transformer: [block.attn1 for block in transformer.transformer_blocks],
    spans=lambda transformer, given: [grid_of_latents(given["hidden_states"], patch_of(transformer.config)), ...],
    guidance="batch",
    given=lambda current: 1000 - current,  # its time runs from 0, and the pipeline shows it as others do
)
