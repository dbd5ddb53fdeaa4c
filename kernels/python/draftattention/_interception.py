"""Intercepts self-attention where diffusers' processors call it: dispatch_attention_fn(query, key, value, ...), after
projection, QK-norm and RoPE, with tensors [batch, tokens, heads, head_dim]. The rest of a block stays the model's code.

While an intercepted processor runs, the global name dispatch_attention_fn of its module is a router. The router sends a
call to the handler in a context variable, so that threads, nested calls and exceptions do not disturb each other.

In a graph of torch.compile, which can hold no context variable, the router makes the call an operator of
_traced_calls.py. For that the router stays in place as long as a model of the module is intercepted.

A copy of an intercepted model, by copy.deepcopy, pickle or torch.save, is the model without the interception."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch

from . import _traced_calls
from ._functional import FunctionalCalls

_NAME = "dispatch_attention_fn"
_handler: ContextVar[Callable[..., torch.Tensor] | None] = ContextVar("handler", default=None)
_lock = threading.Lock()
_users: dict[int, tuple[int, Callable[..., torch.Tensor]]] = {}  # id of a module's globals -> (users, original)


def _globals(processor: Any) -> dict[str, Any]:
    """Those of a processor's function, or of a bound forward(); none if it is neither."""
    function = processor if inspect.ismethod(processor) else type(processor).__call__
    return getattr(inspect.unwrap(function), "__globals__", {})


def _namespace(processor: Any) -> dict[str, Any]:
    """The globals in which a processor looks up its attention function. Raises ImportError if it is not there."""
    names = _globals(processor)
    if not callable(names.get(_NAME)):
        import diffusers

        raise ImportError(
            f"draftattention: wanted diffusers >=0.35,<1 (HunyuanVideo, SkyReels V2: >=0.36,<1), whose attention "
            f"processors call {_NAME}, found {type(processor).__name__} of diffusers "
            f"{diffusers.__version__}, which does not"
        )
    return names


def _router(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(original)
    def route(*args: Any, **kwargs: Any) -> torch.Tensor:
        if torch.compiler.is_compiling():
            traced = _traced_calls.current()
            return original(*args, **kwargs) if traced is None else traced(*args, **kwargs)
        handler = _handler.get()
        if handler is None:
            return original(*args, **kwargs)
        token = _handler.set(None)  # attention that the handler itself runs, even of another model, is not intercepted
        try:
            return handler(original, *args, **kwargs)
        finally:
            _handler.reset(token)

    return route


def _hold(names: dict[str, Any]) -> None:
    """The name is a router until _release, which is to be called as often."""
    with _lock:
        users, original = _users.get(id(names), (0, names[_NAME]))
        if not users:
            names[_NAME] = _router(original)
        _users[id(names)] = users + 1, original


def _release(names: dict[str, Any]) -> None:
    with _lock:
        users, original = _users.pop(id(names))
        if users > 1:
            _users[id(names)] = users - 1, original
        else:
            names[_NAME] = original


@contextlib.contextmanager
def _rerouted(names: dict[str, Any], handler: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Within it, calls of the name from this context go to handler(original, ...), from other contexts to the
    original."""
    _hold(names)
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)
        _release(names)


def _routed_names(processor: Any, functional: bool) -> dict[str, Any] | None:
    """The globals in which a processor, or a module's forward(), looks up dispatch_attention_fn; None where it calls
    PyTorch's own attention and `functional` allows that. Raises ImportError if it calls neither."""
    if functional and not callable(_globals(processor).get(_NAME)):
        return None
    return _namespace(processor)


def intercepted_already() -> ValueError:
    return ValueError(
        "attention: wanted a model whose attention nothing has replaced, found draft attention or "
        "a capture (remove() it first)"
    )


def _forwarded(name: str) -> property:
    """An attribute of the wrapped processor. It exists only if the processor has it, since diffusers uses hasattr."""
    return property(
        lambda self: getattr(self.processor, name), lambda self, value: setattr(self.processor, name, value)
    )


class InterceptedProcessor:
    """An attention processor that runs another one with its attention call replaced by `attend`. Made by `Installed`.

    attend(query, key, value, mask, options, dense) returns [batch, tokens, heads, head_dim], as dense() does. dense()
    is the model's own call, whose arguments may be replaced by name, options its other keyword arguments. If `attend` is
    None, nothing is replaced."""

    _attention_backend = _forwarded("_attention_backend")  # written by set_attention_backend
    _parallel_config = _forwarded("_parallel_config")  # written by enable_parallelism

    def __init__(
        self, processor: Any, attend: Callable[..., torch.Tensor] | None, token: torch.Tensor, functional: bool = False
    ):
        self.processor, self.attend = processor, attend
        self._names = _routed_names(processor, functional)
        # All that a graph looks at: a value that differs from layer to layer would give each a graph of its own.
        self.acts, self.traceable = attend is not None, self._names is not None
        self._released: Callable[[], Any] = lambda: None
        self.token, self.handle = token, _traced_calls.handle_of(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies and files hold the wrapped processor alone."""
        # Protocol 2 and later refuse a result whose class is not that of the pickled object; protocol 1 does not check
        # it.
        return self.processor.__reduce_ex__(min(int(protocol), 1))

    def hold(self) -> None:
        """The name that the processor looks up is a router until stop(), or until this is garbage."""
        if self._names is not None:
            _hold(self._names)
            self._released = weakref.finalize(self, _release, self._names)

    def stop(self) -> None:
        """It has no effect any more, even if another processor has wrapped it."""
        self.attend, self.acts = None, False
        self._released()

    def run(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() and self.traceable:
            return self._run_traced(*args, **kwargs)
        return self._run(*args, **kwargs)

    def _run_traced(self, *args: Any, **kwargs: Any) -> Any:
        if not self.acts:
            return self.processor(*args, **kwargs)
        with _traced_calls.tracing(self) as traced:
            out = self.processor(*args, **kwargs)
        if not traced.reached:
            raise self._unreached()
        return out

    @torch.compiler.disable  # a graph cannot hold the lock and the context variable
    def _run(self, *args: Any, **kwargs: Any) -> Any:
        attend, reached = self.attend, False
        if attend is None:
            return self.processor(*args, **kwargs)

        def handler(original: Callable[..., torch.Tensor], *args: Any, **options: Any) -> torch.Tensor:
            nonlocal reached
            reached = True
            return self.handle_call(original, *args, **options)

        with FunctionalCalls(handler) if self._names is None else _rerouted(self._names, handler):
            out = self.processor(*args, **kwargs)
        if not reached:
            raise self._unreached()
        return out

    def handle_call(
        self,
        original: Callable[..., torch.Tensor],
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        **options: Any,
    ) -> torch.Tensor:
        """`attend` in place of the model's own call."""
        dense = functools.partial(original, query=query, key=key, value=value, attn_mask=attn_mask, **options)
        if self.attend is None:  # removed while a graph runs that was traced before
            return dense()
        return self.attend(query, key, value, attn_mask, options, dense)

    @property
    def original(self) -> Callable[..., torch.Tensor]:
        """dispatch_attention_fn without the router."""
        names = self._names or {}
        with _lock:
            return _users[id(names)][1] if id(names) in _users else names[_NAME]

    def _unreached(self) -> RuntimeError:
        """The processor ran its own attention: refuse rather than be dense silently."""
        name = getattr(self.processor, "__qualname__", type(self.processor).__name__)
        called = "scaled_dot_product_attention" if self._names is None else _NAME
        return RuntimeError(f"draftattention: wanted {called} called by {name}, found none")


@functools.cache  # one class for all layers, since torch.compile recompiles for each class
def _kind_over(kind: type) -> type[InterceptedProcessor]:
    """The subclass of InterceptedProcessor that wraps processors of this class."""

    @functools.wraps(kind.__call__)  # diffusers passes only the arguments that the processor's signature names
    def call(self: InterceptedProcessor, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    return type(f"Intercepted{kind.__name__}", (InterceptedProcessor,), {"__call__": call})


class Installed:
    """An attention module whose calls are intercepted."""

    def __init__(
        self, attention: Any, attend: Callable[..., torch.Tensor], token: torch.Tensor, functional: bool = False
    ):
        """Raises ImportError if its processor does not call dispatch_attention_fn, ValueError if it is intercepted
        already."""
        processor = attention.processor
        # An interception that was removed, but whose processor somebody set again, does nothing: skip it.
        while isinstance(processor, InterceptedProcessor) and processor.attend is None:
            processor = processor.processor
        if isinstance(processor, InterceptedProcessor):
            raise intercepted_already()

        kind = _kind_over(type(processor))  # type: ignore[arg-type]
        self._attention, self._ours = attention, kind(processor, attend, token, functional)
        self._set(self._ours)
        self._ours.hold()

    def _set(self, processor: Any) -> None:
        if hasattr(self._attention, "set_processor"):
            self._attention.set_processor(processor)
        else:  # Mochi's
            self._attention.processor = processor

    def found(self) -> str:
        """The class name of the processor that has replaced ours; "" if ours is still in place."""
        processor = self._attention.processor
        return "" if processor is self._ours and self._ours.attend is not None else type(processor).__name__

    def undo(self) -> None:
        self._ours.stop()
        if self._attention.processor is self._ours:
            self._set(self._ours.processor)


class PassHook:
    """A hook of a model's forward pass that calls a function. In a copy of the model it is a hook that does nothing."""

    def __init__(self, function: Callable[..., None], traced: Callable[..., None], warns: bool):
        """traced  takes the function's place in a graph of torch.compile"""
        self._function, self._traced, self._warns = function, traced, warns

    def __call__(self, *args: Any) -> None:
        if torch.compiler.is_compiling():
            self._traced(*args)
        else:
            self._function(*args)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._warns:
            warnings.warn(
                "draftattention: a copy of this model, or its file, has the model's own attention (apply "
                "draft attention to the copy; remove() ends it in this one)",
                RuntimeWarning,
                stacklevel=2,
            )
        # A do-nothing function of the standard library, so that loading the file does not need this package.
        return getattr, (contextlib.nullcontext(), "__exit__")
