"""Wan Animate: self-attention of video tokens alone, the reference image a frame of the latents. Pose is added to them;
the face adapter's attention is cross-attention and stays the model's own."""

from .adapter import Adapter, grid_of_latents, patch_of

ADAPTER = Adapter(
    "WanAnimateTransformer3DModel",
    attentions=lambda transformer: [block.attn1 for block in transformer.blocks],
    spans=lambda transformer, given: [grid_of_latents(given["hidden_states"], patch_of(transformer.config))],
    since=">=0.36",
    functional=False,
)
