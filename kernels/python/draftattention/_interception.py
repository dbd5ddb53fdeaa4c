"""Self-attention intercepted where diffusers' processors call it: dispatch_attention_fn(query, key, value, ...), behind
projection, QK-norm and RoPE, with tensors [batch, tokens, heads, head_dim]. All else of a block stays the model's own
code. While an intercepted processor runs, the name dispatch_attention_fn of the module that defines it leads to a
router; which call is whose is a context variable, so that threads, nested calls and exceptions leave each other alone.

A copy of an intercepted model, by copy.deepcopy, pickle or torch.save, is the model without the interception. Below
that, which tokens of a call are not padding."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import warnings
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

        raise ImportError(
            f"draftattention: wanted diffusers >=0.35,<1 (HunyuanVideo: >=0.36,<1), whose attention "
            f"processors call {_NAME}, found {type(processor).__name__} of diffusers "
            f"{diffusers.__version__}, which does not"
        )
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
    return property(
        lambda self: getattr(self.processor, name), lambda self, value: setattr(self.processor, name, value)
    )


class InterceptedProcessor:
    """An attention processor that runs another one with its attention call replaced. Made by `install`.

    attend(query, key, value, mask, options, dense) returns what dense() returns, [batch, tokens, heads, head_dim]:
    dense() is the call as the model made it, options its other keyword arguments. None: the processor as it was."""

    _attention_backend = _forwarded("_attention_backend")  # set_attention_backend writes it
    _parallel_config = _forwarded("_parallel_config")  # enable_parallelism does

    def __init__(self, processor: Any, attend: Callable[..., torch.Tensor] | None):
        self.processor, self.attend = processor, attend
        self._names = _namespace(processor)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A copy, or what stands in a file, is the processor alone."""
        # Protocol 1's way to make an object names its class; the later ones' way would want this class there.
        return self.processor.__reduce_ex__(min(int(protocol), 1))

    @torch.compiler.disable  # a lock and a context variable: nothing that a graph could hold
    def run(self, *args: Any, **kwargs: Any) -> Any:
        attend, reached = self.attend, False
        if attend is None:
            return self.processor(*args, **kwargs)

        def handler(
            original: Callable[..., torch.Tensor],
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            attn_mask: torch.Tensor | None = None,
            **options: Any,
        ) -> torch.Tensor:
            nonlocal reached
            reached = True
            dense = functools.partial(original, query, key, value, attn_mask=attn_mask, **options)
            return attend(query, key, value, attn_mask, options, dense)

        with _rerouted(self._names, handler):
            out = self.processor(*args, **kwargs)
        if not reached:  # never silently dense
            raise RuntimeError(f"draftattention: wanted {_NAME} called by {type(self.processor).__name__}, found none")
        return out


@functools.cache  # one class for all layers: torch.compile compiles anew for each
def _kind_over(kind: type) -> type[InterceptedProcessor]:
    """The class of ours over processors of this class."""

    @functools.wraps(kind.__call__)  # diffusers passes on only what the processor's signature names
    def call(self: InterceptedProcessor, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    return type(f"Intercepted{kind.__name__}", (InterceptedProcessor,), {"__call__": call})


class Installed:
    """An attention module whose calls are intercepted."""

    def __init__(self, attention: Any, attend: Callable[..., torch.Tensor]):
        """Raises ImportError if its processor does not call dispatch_attention_fn, ValueError if it is intercepted
        already."""
        processor = attention.processor
        while isinstance(processor, InterceptedProcessor) and processor.attend is None:  # removed, but put back
            processor = processor.processor
        if isinstance(processor, InterceptedProcessor):
            raise ValueError(
                "attention: wanted a model whose attention nothing has replaced, found draft attention or "
                "a capture (remove() it first)"
            )

        self._attention, self._ours = attention, _kind_over(type(processor))(processor, attend)  # type: ignore[arg-type]
        attention.set_processor(self._ours)

    def found(self) -> str:
        """The processor that stands in the place of ours by now, by its class; "" where ours stands."""
        processor = self._attention.processor
        return "" if processor is self._ours and self._ours.attend is not None else type(processor).__name__

    def undo(self) -> None:
        self._ours.attend = None  # first: where something else holds ours by now, it stays, without effect
        if self._attention.processor is self._ours:
            self._attention.set_processor(self._ours.processor)


class PassHook:
    """A hook of a model's forward pass that calls a function. In a copy of the model is a call that does nothing."""

    def __init__(self, function: Callable[..., None], warns: bool):
        self._function, self._warns = function, warns

    @torch.compiler.disable  # it reads numbers back
    def __call__(self, *args: Any) -> None:
        self._function(*args)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._warns:
            warnings.warn(
                "draftattention: a copy of this model, or its file, has the model's own attention (apply "
                "draft attention to the copy; remove() ends it in this one)",
                RuntimeWarning,
                stacklevel=2,
            )
        return getattr, (contextlib.nullcontext(), "__exit__")  # of the standard library: a file needs nothing of ours


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
