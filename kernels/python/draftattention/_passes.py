"""Follows the forward passes of a transformer, and gives each of its attention calls its place in the run and the order
of its tokens."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch

from . import _traced_calls
from ._checks import autocast, refuse, require_strided
from ._forward import InstalledForward
from ._interception import Installed, PassHook
from ._lookup import chosen_layers, hooked, unwrapped
from ._parallel import exchanged, ulysses_of
from ._steps import CountedSteps, PipelineSteps
from ._tokens import (
    Grid,
    PieceOrder,
    TokenOrder,
    checked_spans,
    gathered_mask,
    joined,
    sequences_of,
    shard_order,
    spans_text,
    token_order,
    valid_tokens,
)
from .models import Adapter


@dataclasses.dataclass(frozen=True)
class ModelCall:
    """One forward pass of a transformer."""

    step: int  # counted from 0: an iteration of the denoising loop (Heun's method has two for most of its own steps)
    steps: int  # how many run: fewer than the schedule's in video-to-video
    timestep: float  # in the model's own unit
    nth: int  # counted from 0 among the step's passes: with classifier-free guidance 0 is conditional, 1 unconditional
    segments: tuple[Grid, ...]  # frames, height and width in tokens, after patchify, of each segment of video
    batch: int = 1  # entries of the pass's batch
    guidance: str = "passes"  # where the branches of classifier-free guidance are: Adapter.guidance

    @property
    def grid(self) -> Grid:
        """The video's grid: of all segments' frames. Raises ValueError for segments that differ in height or width."""
        grid = joined(self.segments)
        if grid is None:
            raise refuse("grid", "segments of video that have one height and width", self.segments)
        return grid


@dataclasses.dataclass(frozen=True)
class AttentionCall:
    """One self-attention call of a forward pass, after QK-norm and RoPE. Tensors are [batch, tokens, heads, head_dim]:
    video tokens in (frame, row, column) order, then tokens of text and other conditions, then padding, whatever the
    model's own order is; under autocast in its type. Under context parallelism they are all tokens of this process's
    share of the heads."""

    model: ModelCall
    layer: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    valid: tuple[int, ...]  # for each batch entry, how many tokens are not padding
    scale: float | None  # softmax scale; None: 1 / sqrt(head_dim)
    enable_gqa: bool  # key and value may have fewer heads, shared by query heads
    dense: Callable[[], torch.Tensor]  # the model's own attention, as the model called it
    entry: int = 0  # the first of its batch entries: a model may attend to one at a time


class Watched:
    """Follows one transformer's forward passes and sends their attention calls to `attend`."""

    def __init__(
        self,
        model: Any,
        adapter: Adapter | None,
        steps: PipelineSteps | CountedSteps,
        attend: Callable[[AttentionCall], torch.Tensor],
    ):
        self._transformer, self._adapter = unwrapped(model, adapter)
        self._steps, self._attend = steps, attend
        self._arguments = [*inspect.signature(type(self._transformer).forward).parameters][1:]  # without self
        # Each thread's current pass: `call`, its tokens' `spans`, `entries` that a layer has attended to, and `order`: the
        # last mask, batch and number of tokens with what they say.
        self._pass = threading.local()
        self._installed: dict[int, Installed | InstalledForward] = {}
        self._layers = 0  # of the model
        self._token, self._handle = _traced_calls.new_token(), _traced_calls.handle_of(self)
        self._lost: dict[int, str] = {}

    def install(self, model: Any, layers: Iterable[int] | None) -> contextlib.ExitStack:
        """Intercepts the chosen blocks; closing the returned stack undoes that."""
        its = list(self._adapter.attentions(self._transformer))
        self._layers = len(its)
        with contextlib.ExitStack() as undo:
            module = hooked(model, self._transformer)
            hooks = (
                PassHook(self.enter, self.enter_traced, warns=True),
                PassHook(self.leave, self.leave_traced, warns=False),
            )
            undo.callback(module.register_forward_pre_hook(hooks[0], with_kwargs=True).remove)
            undo.callback(module.register_forward_hook(hooks[1], always_call=True).remove)
            for layer in chosen_layers(layers, len(its)):
                kind = Installed if callable(getattr(its[layer], "processor", None)) else InstalledForward
                attend = functools.partial(self.attention, layer)
                installed = kind(its[layer], attend, self._token, self._adapter.functional)
                self._installed[layer] = installed
                undo.callback(installed.undo)
            return undo.pop_all()

    def lost(self) -> dict[int, str]:
        """Layers whose processor somebody has replaced, with the new processor's class name."""
        found = {layer: installed.found() for layer, installed in self._installed.items()}
        return {layer: name for layer, name in found.items() if name}

    def enter(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.begin(dict(zip(self._arguments, args)) | kwargs)

    def enter_traced(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        _traced_calls.begin_pass(self._token, self._handle, dict(zip(self._arguments, args)) | kwargs)

    def begin(self, given: dict[str, Any]) -> None:
        """Begins a forward pass with these arguments by name."""
        latents, timestep = (_argument(name, given) for name in (self._adapter.latents, self._adapter.timestep))
        spans = checked_spans(self._adapter.spans(self._transformer, given))
        lost = self.lost()
        if lost != self._lost:
            self._lost = lost
            if lost:
                warnings.warn(
                    f"draftattention no longer acts in layers {sorted(lost)}, where {min(lost.values())} was "
                    "set as attention processor (remove(), and apply again)",
                    RuntimeWarning,
                    stacklevel=2,
                )
        place = self._steps.find(timestep)
        segments = tuple(span for span in spans if isinstance(span, tuple))
        self._pass.call = ModelCall(*place, segments, latents.shape[0], self._adapter.guidance)
        self._pass.spans = spans
        self._pass.entries, self._pass.order = {}, None

    def leave(self, *_: Any) -> None:
        self._pass.call = self._pass.order = None

    def leave_traced(self, *_: Any) -> None:
        """Nothing: an operator at a graph's end could run before those that it is to follow."""

    def _order_of(
        self, layer: int, mask: torch.Tensor | None, batch: int, tokens: int, keys: int
    ) -> tuple[TokenOrder, tuple[int, ...]]:
        """A call's order of tokens, and how many of each entry are valid. Raises ValueError for tokens that are not those
        of the pass's spans."""
        # Blocks of a pass share one mask as a rule, so that it is read back from the device once.
        last = self._pass.order
        if last is not None and last[0] is mask and last[1:3] == (batch, tokens) and keys == tokens:
            return last[3:]
        order = token_order(self._pass.spans, tokens)
        valid = (tokens,) * batch if order is None else valid_tokens(gathered_mask(mask, order), batch, tokens)
        if order is None or keys != tokens or min(valid) < order.video_tokens:
            raise refuse(
                f"layer {layer}",
                f"self-attention of {spans_text(self._pass.spans)}",
                f"{list(valid)} valid of {tokens}, and {keys} keys",
            )
        self._pass.order = mask, batch, tokens, order, valid
        return order, valid

    def attention(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        options: dict[str, Any],
        dense: Callable[..., torch.Tensor],
    ) -> torch.Tensor:
        if getattr(self._pass, "call", None) is None:
            raise RuntimeError("draftattention: wanted a block's call by its transformer, found one on its own")
        for name in ("dropout_p", "is_causal"):
            if options.get(name):
                raise refuse(name, "none", options[name])
        config = options.get("parallel_config")
        context = ulysses_of(config)
        if context is None:
            return self._attend_to_all(layer, query, key, value, mask, options, dense)
        share = query.shape[1]

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            order = self._order_of_shards(layer, query.shape[1], share, context)
            query, key, value = (order.gather(x) for x in (query, key, value))
            self._require_mask_for_all(layer, mask, query, key)
            own = functools.partial(dense, query=query, key=key, value=value, parallel_config=None)
            return order.scatter(self._attend_to_all(layer, query, key, value, mask, options, own))

        return exchanged(config, query, key, value, bool(options.get("enable_gqa")), attend)

    def _order_of_shards(self, layer: int, tokens: int, share: int, context: Any) -> PieceOrder:
        """From the order in which an exchange leaves tokens into the model's. Raises ValueError unless `share` of them are
        this process's."""
        spans, degree, rank = self._pass.spans, context.ulysses_degree, context._ulysses_local_rank
        order = shard_order(spans, tokens, degree)
        pieces = len(sequences_of(spans))
        own = None if order is None else sum(order.lengths[rank * pieces : (rank + 1) * pieces])
        if order is None or own != share:
            wanted = f"shares of {spans_text(spans)}, which are split over {degree} processes, video and text each"
            raise refuse(f"layer {layer}", wanted, f"{share} tokens of {tokens}")
        return order

    def _require_mask_for_all(
        self, layer: int, mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor
    ) -> None:
        """Raises ValueError for padding in a model whose other layers diffusers would mask wrongly: it takes the mask's
        order for that of the shards."""
        _, valid = self._order_of(layer, mask, query.shape[0], query.shape[1], key.shape[1])
        moved = len(sequences_of(self._pass.spans)) > 1
        if moved and min(valid) < query.shape[1] and len(self._installed) < self._layers:
            raise refuse(
                "layers",
                f"all {self._layers} of a model with padding under context parallelism (diffusers masks other tokens)",
                f"{len(self._installed)}",
            )

    def _attend_to_all(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        options: dict[str, Any],
        dense: Callable[..., torch.Tensor],
    ) -> torch.Tensor:
        """With all tokens, in the model's order."""
        batch, tokens = query.shape[:2]
        order, valid = self._order_of(layer, mask, batch, tokens, key.shape[1])
        entry = self._pass.entries.get(layer, 0)
        self._pass.entries[layer] = entry + batch
        q, k, v = (order.gather(x) for x in autocast(query, key, value))
        scale, shared = options.get("scale"), bool(options.get("enable_gqa"))
        call = AttentionCall(
            self._pass.call, layer, q, k, v, valid, scale, shared, lambda: order.gather(dense()), entry
        )
        return order.scatter(self._attend(call))


def _argument(name: str, given: dict[str, Any]) -> torch.Tensor:
    """One of the arguments of a transformer's forward pass. Raises TypeError if it is missing or is no tensor,
    ValueError for a tensor that is not dense or has no values."""
    if name not in given:
        raise TypeError(f"{name}: wanted a torch.Tensor, found no such argument")
    x = given[name]
    require_strided(name, x)
    if x.numel() == 0 or x.is_meta:
        raise refuse(name, "a tensor with values", f"one on {x.device} of shape {list(x.shape)}")
    return x
