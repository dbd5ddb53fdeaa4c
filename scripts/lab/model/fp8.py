"""Linear layers that multiply FP8 numbers, by torchao: weights once, activations at each call, a scale a row of each."""

import copy
import importlib.metadata

import torch

OF_VIDEO = ("qkv", "out", "up", "down")  # a block's layers over the tokens: not `ada`, whose rows are a clip's frames


class Unavailable(Exception):
    """What cannot run here: why."""


def quantise(module, chosen):
    """Quantises those linear layers, of bfloat16 weights, for which chosen(layer, name) is true. Raises Unavailable, perhaps
    on the way."""
    try:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_
    except ImportError as error:
        raise Unavailable(f"not installed: {error}") from error
    try:
        quantize_(module, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()), filter_fn=chosen)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        raise Unavailable(f"torchao: {' '.join(str(error).split())[:200]}") from error
    # It leaves layers whose sides 16 does not divide.
    layers = [layer for name, layer in module.named_modules() if chosen(layer, name)]
    if left := sum(type(layer.weight) is torch.nn.Parameter for layer in layers):
        raise Unavailable(f"torchao: wanted {len(layers)} layers in FP8, found {left} left as they were")


def with_fp8_linears(model):
    """A copy of a PhotoDiT whose blocks' layers over the tokens multiply FP8 numbers; they take and give bfloat16, as
    under autocast without FP8. Raises Unavailable."""
    model = copy.deepcopy(model)
    layers = {getattr(block, name) for block in model.blocks for name in OF_VIDEO}
    for layer in layers:
        layer.to(torch.bfloat16)
        layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(torch.bfloat16),))
    quantise(model, lambda layer, name: layer in layers)
    return model


def version_of_torchao():
    return importlib.metadata.version("torchao")
