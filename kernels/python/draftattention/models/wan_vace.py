"""Wan VACE: Wan's blocks and, numbered behind them, the blocks of its control branch. Both attend to video tokens alone;
reference images are frames of the latents, and control latents have the video's grid."""

from .adapter import Adapter, grid_of_latents, patch_of

ADAPTER = Adapter(
    "WanVACETransformer3DModel",
    attentions=lambda transformer: [block.attn1 for block in (*transformer.blocks, *transformer.vace_blocks)],
    spans=lambda transformer, given: [grid_of_latents(given["hidden_states"], patch_of(transformer.config))],
    layers=lambda config: config["num_layers"] + len(config["vace_layers"]),
    functional=False,
)
