"""Finds the parts of a diffusers model or pipeline that draft attention needs, also inside wrappers."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch

from ._checks import refuse

PARTS = ("transformer", "transformer_2")  # attributes of a pipeline


def is_pipeline(model_or_pipeline: Any) -> bool:
    return hasattr(model_or_pipeline, "scheduler") and not isinstance(model_or_pipeline, torch.nn.Module)


def transformers_of(model_or_pipeline: Any) -> list[Any]:
    """A pipeline's one or two transformers, still in their wrappers, or the model that was given. Empty for a pipeline
    whose transformers were removed, as people do to free memory."""
    if not is_pipeline(model_or_pipeline):
        return [model_or_pipeline]
    found = [getattr(model_or_pipeline, name, None) for name in PARTS]
    return [model for model in found if model is not None]


def unwrapped(model: Any) -> Any:
    """The Wan or HunyuanVideo transformer inside wrappers of any depth, such as torch.compile's, PEFT's, DataParallel's
    or FSDP's. Raises ValueError if there is none, or more than one."""
    import diffusers

    kinds = [
        getattr(diffusers, name)
        for name in ("WanTransformer3DModel", "HunyuanVideoTransformer3DModel")
        if hasattr(diffusers, name)
    ]
    wanted = "a WanTransformer3DModel, a HunyuanVideoTransformer3DModel or a pipeline with one"
    if isinstance(model, tuple(kinds)):
        return model
    found = (
        [part for part in model.modules() if isinstance(part, tuple(kinds))]
        if isinstance(model, torch.nn.Module)
        else []
    )
    if len(found) != 1:
        name = type(model).__name__
        raise refuse("model", wanted, f"{name} with {len(found)} of them" if found else name)
    return found[0]


def hooked(model: Any) -> torch.nn.Module:
    """The module on which to register hooks of the transformer's forward pass: torch.compile's wrapper if there is one,
    since a graph that is already compiled does not see a new hook of the module inside."""
    transformer = unwrapped(model)
    for part in model.modules():
        if "_orig_mod" in part._modules and any(inner is transformer for inner in part.modules()):
            return part
    return transformer


def attentions(transformer: Any) -> list[Any]:
    """The self-attention module of each block, in order."""
    if hasattr(transformer, "transformer_blocks"):
        return [
            block.attn
            for blocks in (transformer.transformer_blocks, transformer.single_transformer_blocks)
            for block in blocks
        ]
    return [block.attn1 for block in transformer.blocks]


def patch_of(config: Any) -> tuple[int, int, int]:
    """(frames, height, width) of a patch in latents."""
    size = config.patch_size
    return (config.patch_size_t, size, size) if isinstance(size, int) else tuple(size)


def list_of(layers: Any) -> list[Any] | None:
    """`layers` as a list, since an iterator can be read only once. None if it is not iterable, or is text."""
    try:
        return None if isinstance(layers, (str, bytes)) else list(layers)
    except TypeError:  # also for a tensor without axes, although it has __iter__
        return None


def chosen_layers(layers: Iterable[int] | None, count: int) -> list[int]:
    """The chosen layers' numbers, rising. Raises ValueError if none is chosen, or one does not exist."""
    wanted = f"numbers from 0 to {count - 1}"
    if layers is None:
        return list(range(count))
    given = list_of(layers)
    if given is None:
        raise refuse("layers", wanted, repr(layers))
    chosen = set()
    for layer in given:
        try:
            number = -1 if isinstance(layer, bool) else operator.index(layer)
        except TypeError:
            number = -1
        if number not in range(count):
            raise refuse("layers", wanted, repr(layer))
        chosen.add(number)
    if not chosen:
        raise refuse("layers", wanted, "none")
    return sorted(chosen)
