"""CogVideoX 1.0 and 1.5: text, then video, without padding. Latents are [batch, frames, channels, height, width]."""

from .adapter import FRAMES_FIRST, Adapter, grid_of_latents, patch_of

ADAPTER = Adapter(
    "CogVideoXTransformer3DModel",
    attentions=lambda transformer: [block.attn1 for block in transformer.transformer_blocks],
    spans=lambda transformer, given: [
        ...,
        grid_of_latents(given["hidden_states"], patch_of(transformer.config), FRAMES_FIRST),
    ],
    guidance="batch",
)
