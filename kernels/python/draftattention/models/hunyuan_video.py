"""HunyuanVideo: video tokens, then text, then padding, in dual-stream blocks and, numbered behind them, single-stream
ones. A mask of keys says what is padding."""

from .adapter import Adapter, grid_of_latents, patch_of

ADAPTER = Adapter(
    "HunyuanVideoTransformer3DModel",
    attentions=lambda transformer: [
        block.attn for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks)
    ],
    spans=lambda transformer, given: [grid_of_latents(given["hidden_states"], patch_of(transformer.config)), ...],
    guidance="embedded",
    layers=lambda config: config["num_layers"] + config["num_single_layers"],
    since=">=0.36",
    functional=False,
)
