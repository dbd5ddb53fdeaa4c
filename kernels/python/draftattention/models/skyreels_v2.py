"""SkyReels V2, also with diffusion forcing (a timestep for each frame): self-attention of video tokens alone. With
causal blocks of frames its attention has a causal mask, and is refused: draft attention has none."""

from .adapter import Adapter, grid_of_latents, patch_of

ADAPTER = Adapter(
    "SkyReelsV2Transformer3DModel",
    attentions=lambda transformer: [block.attn1 for block in transformer.blocks],
    spans=lambda transformer, given: [grid_of_latents(given["hidden_states"], patch_of(transformer.config))],
    since=">=0.36",
    functional=False,
)
