"""Intercepted calls in a graph of torch.compile: each is one operator, whose implementation is the interception itself.
So a graph has no break, and one graph serves all steps, dense and sparse.

draftattention::intercepted stands for one attention call, draftattention::begin_pass for the hook before a forward pass.
A graph names an interception by a tensor that holds its number: a tensor's value is no guard, so that all blocks share a
graph. Both have the pass's token as an argument, which begin_pass is said to write, so that nothing is moved in front of
it. torch.cuda.graph and inductor's CUDA graphs would repeat the step in which they were made; the latter leave these
operators out."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ._checks import autocast, refuse

_PASSED = ("dropout_p", "is_causal", "scale", "enable_gqa")  # options of dispatch_attention_fn that the operator has
_OWN = {"backend": "_attention_backend", "parallel_config": "_parallel_config"}  # those that are the processor's
_numbers = itertools.count()
_interceptions: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_stack: list[TracedCalls] = []  # while a graph is traced: the processors that it is in


def handle_of(interception: Any) -> torch.Tensor:
    """A tensor that names an interception while that exists."""
    number = next(_numbers)
    _interceptions[number] = interception
    return torch.tensor(number, dtype=torch.int64, device="cpu")


def new_token() -> torch.Tensor:
    """That of a model's passes."""
    return torch.zeros((), dtype=torch.int64, device="cpu")


def _named(handle: torch.Tensor) -> Any:
    found = _interceptions.get(int(handle))
    if found is None:
        raise RuntimeError("draftattention: wanted a model that still exists, found a graph of one that does not")
    return found


class TracedCalls:
    """The attention calls of one processor that is being traced."""

    def __init__(self, interception: Any):
        self._interception, self.reached = interception, False

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        **options: Any,
    ) -> torch.Tensor:
        self.reached = True
        for name, found in options.items():
            own = getattr(self._interception.processor, _OWN[name], None) if name in _OWN else None
            if name not in _PASSED and found is not None and found is not own:
                raise refuse(f"{name} in a compiled graph", own, found)
        query, key, value = autocast(query, key, value)  # now: graphs run without autocast
        return torch.ops.draftattention.intercepted(
            query,
            key,
            value,
            attn_mask,
            self._interception.token,
            self._interception.handle,
            **{name: options[name] for name in _PASSED if name in options},
        )


def current() -> TracedCalls | None:
    """Of the processor that is being traced."""
    return _stack[-1] if _stack else None


@contextlib.contextmanager
def tracing(interception: Any) -> Iterator[TracedCalls]:
    """Within it, current() is of this interception."""
    traced = TracedCalls(interception)
    _stack.append(traced)
    try:
        yield traced
    finally:
        _stack.pop()


def _operator(name: str, schema: str, mutates: Sequence[str] = ()) -> Any:
    unsafe = getattr(torch._C.Tag, "cudagraph_unsafe", None)  # older versions have neither the tag nor the argument
    tags = {} if unsafe is None else {"tags": [unsafe]}
    return torch.library.custom_op(f"draftattention::{name}", mutates_args=mutates, schema=schema, **tags)


@_operator(
    "intercepted",
    "(Tensor query, Tensor key, Tensor value, Tensor? attn_mask, Tensor token, Tensor handle, *, float dropout_p=0.0, "
    "bool is_causal=False, float? scale=None, bool enable_gqa=False) -> Tensor",
)
def _intercepted(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None,
    token: torch.Tensor,
    handle: torch.Tensor,
    **options: Any,
) -> torch.Tensor:
    interception = _named(handle)
    options |= {name: getattr(interception.processor, own, None) for name, own in _OWN.items()}
    out = interception.handle_call(interception.original, query, key, value, attn_mask, **options)
    return out.contiguous()


@_intercepted.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


@_operator(
    "begin_pass",
    "(Tensor(a!) token, Tensor handle, Tensor[] tensors, str[] tensor_names, SymInt[] numbers, str[] number_names) -> ()",
    mutates=("token",),
)
def _begin_pass(
    token: torch.Tensor,
    handle: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    tensor_names: Sequence[str],
    numbers: Sequence[int],
    number_names: Sequence[str],
) -> None:
    _named(handle).begin(dict(zip(tensor_names, tensors)) | dict(zip(number_names, numbers)))


@_begin_pass.register_fake
def _(*args: Any) -> None:
    return None


def begin_pass(token: torch.Tensor, handle: torch.Tensor, given: Mapping[str, Any]) -> None:
    """In a graph: the object that the handle names begins a pass with these arguments of the model's forward()."""
    tensors = {name: its for name, its in given.items() if isinstance(its, torch.Tensor)}
    numbers = {name: its for name, its in given.items() if isinstance(its, int) and not isinstance(its, bool)}
    torch.ops.draftattention.begin_pass(
        token, handle, list(tensors.values()), list(tensors), list(numbers.values()), list(numbers)
    )
