"""Self-attention intercepted where diffusers' processors call it: dispatch_attention_fn(query, key, value, ...), behind
projection, QK-norm and RoPE, with tensors [batch, tokens, heads, head_dim]. All else of a block stays the model's own
code. While an intercepted processor runs, the name dispatch_attention_fn of the module that defines it leads to a
router; which call is whose is a context variable, so that threads, nested calls and exceptions leave each other alone.

Below that, what says where a call stands: the step of the schedule, and the tokens that are not padding."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch

from ._checks import refuse

_NAME = "dispatch_attention_fn"
_handler: ContextVar[Callable[..., torch.Tensor] | None] = ContextVar("handler", default=None)
_lock = threading.Lock()
_users: dict[int, tuple[int, Callable[..., torch.Tensor]]] = {}  # id of a module's globals -> (running calls, original)


def _namespace(processor: Any) -> dict[str, Any]:
    """The globals in which a processor looks its attention function up. Raises ImportError if it is not there."""
    names = getattr(inspect.unwrap(type(processor).__call__), "__globals__", {})
    if not callable(names.get(_NAME)):
        import diffusers

        raise ImportError(f"draftattention: wanted diffusers >=0.35,<1 (HunyuanVideo: >=0.36,<1), whose attention "
                          f"processors call {_NAME}, found {type(processor).__name__} of diffusers "
                          f"{diffusers.__version__}, which does not")
    return names


def _router(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(original)
    def route(*args: Any, **kwargs: Any) -> torch.Tensor:
        handler = _handler.get()
        if handler is None:
            return original(*args, **kwargs)
        token = _handler.set(None)  # what the handler itself may run, another model too, is not this call
        try:
            return handler(original, *args, **kwargs)
        finally:
            _handler.reset(token)
    return route


@contextlib.contextmanager
def _rerouted(names: dict[str, Any], handler: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Meanwhile this context's calls of the name go to handler(original, ...); all other contexts' to the original."""
    with _lock:
        running, original = _users.get(id(names), (0, names[_NAME]))
        if not running:
            names[_NAME] = _router(original)
        _users[id(names)] = running + 1, original
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)
        with _lock:
            running, original = _users.pop(id(names))
            if running > 1:
                _users[id(names)] = running - 1, original
            else:
                names[_NAME] = original


def _forwarded(name: str) -> property:
    """An attribute that is the wrapped processor's, there only if it has it: diffusers asks with hasattr."""
    return property(lambda self: getattr(self.processor, name),
                    lambda self, value: setattr(self.processor, name, value))


class InterceptedProcessor:
    """An attention processor that runs another one with its attention call replaced. Made by `install`.

    attend(query, key, value, mask, options, dense) returns what dense() returns, [batch, tokens, heads, head_dim]:
    dense() is the call as the model made it, options its other keyword arguments. None: the processor as it was."""

    _attention_backend = _forwarded("_attention_backend")  # set_attention_backend writes it
    _parallel_config = _forwarded("_parallel_config")  # enable_parallelism does

    def __init__(self, processor: Any, attend: Callable[..., torch.Tensor] | None):
        self.processor, self.attend = processor, attend
        self._names = _namespace(processor)

    @torch.compiler.disable  # a lock and a context variable: nothing that a graph could hold
    def run(self, *args: Any, **kwargs: Any) -> Any:
        attend, reached = self.attend, False
        if attend is None:
            return self.processor(*args, **kwargs)

        def handler(original: Callable[..., torch.Tensor], query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                    attn_mask: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
            nonlocal reached
            reached = True
            dense = functools.partial(original, query, key, value, attn_mask=attn_mask, **options)
            return attend(query, key, value, attn_mask, options, dense)

        with _rerouted(self._names, handler):
            out = self.processor(*args, **kwargs)
        if not reached:  # never silently dense
            raise RuntimeError(f"draftattention: wanted {_NAME} called by {type(self.processor).__name__}, found none")
        return out


def install(attention: Any, attend: Callable[..., torch.Tensor]) -> Callable[[], None]:
    """Intercepts the attention module's calls; returns what undoes that. Raises ImportError if its processor does not
    call dispatch_attention_fn, ValueError if it is intercepted already."""
    processor = attention.processor
    if isinstance(processor, InterceptedProcessor):
        raise ValueError("attention: wanted a model whose attention nothing has replaced, found draft attention or a "
                         "capture (remove() it first)")

    @functools.wraps(type(processor).__call__)  # diffusers passes on only what the processor's signature names
    def call(self: InterceptedProcessor, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    kind = type(f"Intercepted{type(processor).__name__}", (InterceptedProcessor,), {"__call__": call})
    ours = kind(processor, attend)
    attention.set_processor(ours)

    def undo() -> None:
        ours.attend = None  # first: where something else holds ours by now, it stays, without effect
        if attention.processor is ours:
            attention.set_processor(processor)
    return undo


class ScheduledSteps:
    """Steps of a pipeline: a timestep's place in its scheduler's list. Equal timesteps are the first one's step."""

    def __init__(self, pipeline: Any):
        self._pipeline = pipeline

    def find(self, timestep: torch.Tensor) -> tuple[int, int, float]:
        value = timestep.max().item()  # per-token timesteps (Wan 2.2) are 0 for given frames
        known = self._pipeline.scheduler.timesteps.to(timestep.dtype).tolist()  # rounded as the pipeline rounded it
        if value not in known:
            raise refuse("timestep", f"one of the scheduler's {len(known)}, {known[0]} to {known[-1]}", value)
        return known.index(value), len(known), value


class CountedSteps:
    """Steps of a bare transformer: timesteps fall within a run, so that a change is a step and a rise a new run."""

    def __init__(self, steps: int):
        self._steps, self._step, self._last = steps, 0, -math.inf

    def find(self, timestep: torch.Tensor) -> tuple[int, int, float]:
        value = timestep.max().item()
        if value != self._last:
            self._step = 0 if value > self._last else self._step + 1
            self._last = value
        if self._step >= self._steps:
            raise refuse("steps", "the length of the schedule", f"{self._steps} and timestep {self._step + 1}, {value}")
        return self._step, self._steps, value


def valid_tokens(mask: torch.Tensor | None, batch: int, tokens: int) -> tuple[int, ...]:
    """How many tokens of each entry a mask of keys, bool [batch, 1, 1, tokens], lets through: valid ones first."""
    wanted = f"bool [{batch}, 1, 1, {tokens}], True up to the last valid token of each entry"
    if mask is None:
        return (tokens,) * batch
    if mask.dtype != torch.bool or tuple(mask.shape) not in ((batch, 1, 1, tokens), (1, 1, 1, tokens)):
        raise refuse("attn_mask", wanted, f"{mask.dtype} {list(mask.shape)}")
    rows = mask.reshape(-1, tokens)
    counts = rows.sum(dim=1, keepdim=True)
    if not torch.equal(rows, torch.arange(tokens, device=mask.device) < counts):
        raise refuse("attn_mask", wanted, "a valid token behind a masked one")
    return tuple(counts.flatten().tolist() * (batch // len(rows)))
