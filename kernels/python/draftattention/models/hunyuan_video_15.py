"""HunyuanVideo 1.5: video tokens, then those of image and texts that are valid, then padding. A mask of pairs of tokens
says what is padding."""

from .adapter import Adapter, grid_of_latents, patch_of

ADAPTER = Adapter(
    "HunyuanVideo15Transformer3DModel",
    attentions=lambda transformer: [block.attn for block in transformer.transformer_blocks],
    spans=lambda transformer, given: [grid_of_latents(given["hidden_states"], patch_of(transformer.config)), ...],
    since=">=0.36",
    functional=False,
)
