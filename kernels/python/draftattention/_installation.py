"""Intercepts all transformers of a model or pipeline, and undoes that."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch

from ._checks import refuse
from ._lookup import is_pipeline, list_of, transformers_of, unwrapped
from ._passes import AttentionCall, Watched
from ._steps import CountedSteps, PipelineSteps
from .models import Adapter


def _steps_of(model_or_pipeline: Any, adapter: Adapter, steps: int | None) -> PipelineSteps | CountedSteps:
    wanted = "the schedule's length for a transformer, a whole number from 1 on, None for a pipeline"
    if is_pipeline(model_or_pipeline):
        if steps is not None:
            raise refuse("steps", wanted, repr(steps))
        if model_or_pipeline.scheduler is None:
            raise refuse("pipeline", "one with a scheduler", "None as its scheduler")
        return PipelineSteps(model_or_pipeline, adapter.given)
    try:
        number = 0 if steps is None or isinstance(steps, bool) else operator.index(steps)
    except TypeError:
        number = 0
    if number < 1:
        raise refuse("steps", wanted, repr(steps))
    return CountedSteps(number)


class Installation:
    """Intercepts a model, or every transformer of a pipeline."""

    def __init__(
        self,
        model_or_pipeline: Any,
        attend: Callable[[AttentionCall], torch.Tensor],
        layers: Iterable[int] | None,
        steps: int | None,
        adapter: Adapter | None,
    ):
        given = list_of(layers)
        layers = layers if given is None else given
        self._held, models = model_or_pipeline, transformers_of(model_or_pipeline)
        if not models:
            raise refuse("model", "a pipeline with a transformer", type(model_or_pipeline).__name__)
        if adapter is not None and not isinstance(adapter, Adapter):
            raise refuse("adapter", "an Adapter of draftattention.models, or None", repr(adapter))
        found = [unwrapped(model, adapter) for model in models]
        self._transformers = [transformer for transformer, _ in found]
        counted = _steps_of(model_or_pipeline, found[0][1], steps)
        self._watched = [Watched(model, adapter, counted, attend) for model in models]
        with contextlib.ExitStack() as undo:
            for watched, model in zip(self._watched, models):
                undo.enter_context(watched.install(model, layers))
            self._undo: contextlib.ExitStack = undo.pop_all()
        self.removed = False

    def remove(self) -> None:
        self._undo.close()
        self.removed = True

    def acts(self) -> bool:
        """Whether all chosen layers are still intercepted and the pipeline still has their transformers."""
        if self.removed or any(watched.lost() for watched in self._watched):
            return False
        held = [
            part
            for model in transformers_of(self._held)
            if isinstance(model, torch.nn.Module)
            for part in model.modules()
        ]
        return all(any(part is transformer for part in held) for transformer in self._transformers)


class Interception:
    """Handle of an interception; a context manager. remove() restores the model.

    active   whether it acts in all chosen layers. False after remove(), if another attention processor was set (the
             next forward pass then gives a RuntimeWarning), or if the pipeline's transformer was replaced or removed"""

    def __init__(self, installation: Installation):
        self._installation = installation

    @property
    def active(self) -> bool:
        return self._installation.acts()

    def remove(self) -> None:
        self._installation.remove()

    def __enter__(self):
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<draftattention's {type(self).__name__}, {'active' if self.active else 'not active'}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            f"draftattention: {type(self).__name__} is of one model in this process and cannot be copied "
            "(a copy of the model has its own attention, as after remove(): apply to the copy)"
        )
