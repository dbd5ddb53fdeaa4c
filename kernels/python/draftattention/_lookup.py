"""Finds the parts of a diffusers model or pipeline that draft attention needs, also inside wrappers."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch

from ._checks import refuse
from .models import ADAPTERS, Adapter

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


def unwrapped(model: Any, adapter: Adapter | None = None) -> tuple[Any, Adapter]:
    """The transformer inside wrappers of any depth, such as torch.compile's, PEFT's, DataParallel's or FSDP's, and its
    adapter: the given one, or that of its class. Raises ValueError if there is none, or more than one."""
    kinds = [(its.found(), its) for its in (ADAPTERS if adapter is None else (adapter,))]
    parts = list(model.modules()) if isinstance(model, torch.nn.Module) else []
    for chosen in ([model], parts):
        found = [(part, its) for part in chosen for kind, its in kinds if kind is not None and isinstance(part, kind)]
        if len(found) == 1:
            return found[0]
    names = [f"a {its.name}" for kind, its in kinds if kind is not None]
    missing = [its.name for kind, its in kinds if kind is None]
    wanted = f"{', '.join(names)} or a pipeline with one" + " (adapter= describes another)" * (adapter is None)
    if missing:
        wanted += f"; there is no {' and no '.join(missing)} in the diffusers that is installed"
    name = type(model).__name__
    raise refuse("model", wanted, f"{name} with {len(found)} of them" if found else name)


def hooked(model: Any, transformer: torch.nn.Module) -> torch.nn.Module:
    """The module on which to register hooks of the transformer's forward pass: torch.compile's wrapper if there is one,
    since a graph that is already compiled does not see a new hook of the module inside."""
    for part in model.modules():
        if "_orig_mod" in part._modules and any(inner is transformer for inner in part.modules()):
            return part
    return transformer


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
