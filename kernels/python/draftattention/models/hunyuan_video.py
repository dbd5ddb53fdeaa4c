"""HunyuanVideo: video tokens, then text, then padding, in dual-stream blocks and, numbered behind them, single-stream
ones. A mask of keys says what is padding."""

from typing import Any

from .._checks import refuse
from .adapter import Adapter, grid_of_latents, patch_of


def _plan(transformer: Any) -> dict[str, Any]:
    """Video and text are split at the first block: before it, where the mask is made, the model sees all tokens."""
    from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput

    if transformer.config.image_condition_type == "token_replace":
        raise refuse("image_condition_type", "none whose blocks count the first frame's tokens", "token_replace")
    rows = ContextParallelInput(split_dim=1, expected_dims=3)
    angles = ContextParallelInput(split_dim=0, expected_dims=2, split_output=True)
    return {
        "rope": {0: angles, 1: angles},
        "transformer_blocks.0": {"hidden_states": rows, "encoder_hidden_states": rows},
        "proj_out": ContextParallelOutput(gather_dim=1, expected_dims=3),
    }


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
    plan=_plan,
)
