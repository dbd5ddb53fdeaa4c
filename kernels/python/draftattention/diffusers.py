"""Draft attention in diffusers' video models: WanTransformer3DModel and HunyuanVideoTransformer3DModel.

    from draftattention.diffusers import apply_draft_attention
    control = apply_draft_attention(pipeline, sparsity=0.9)
    video = pipeline(prompt).frames[0]

Needs diffusers >=0.35,<1 for Wan, >=0.36,<1 for HunyuanVideo. It is built on intercept_self_attention, which captures
use too: that gives each block's self-attention after QK-norm and RoPE, with the token grid and the denoising step."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import operator
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

import draftattention

from ._checks import autocast, number_of, refuse, require_strided, shape_text
from ._dropin import require_draft_attention
from ._interception import Installed, PassHook, valid_tokens
from ._models import attentions, chosen_layers, hooked, is_pipeline, list_of, patch_of, transformers_of, unwrapped
from ._steps import CountedSteps, PipelineSteps

__all__ = [
    "AttentionCall",
    "DraftControl",
    "Interception",
    "ModelCall",
    "apply_draft_attention",
    "intercept_self_attention",
]


@dataclasses.dataclass(frozen=True)
class ModelCall:
    """One forward pass of a transformer."""

    step: int  # counted from 0: an iteration of the denoising loop (Heun's method has two for most of its own steps)
    steps: int  # how many run: fewer than the schedule's in video-to-video
    timestep: float  # in the model's own unit
    nth: int  # counted from 0 among the step's passes: with classifier-free guidance 0 is conditional, 1 unconditional
    grid: tuple[int, int, int]  # frames, height and width in tokens, after patchify


@dataclasses.dataclass(frozen=True)
class AttentionCall:
    """One self-attention call of a forward pass, after QK-norm and RoPE. Tensors are [batch, tokens, heads, head_dim]:
    video tokens in (frame, row, column) order, then valid text tokens, then padding; under autocast in its type."""

    model: ModelCall
    layer: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    valid: tuple[int, ...]  # for each batch entry, how many tokens are not padding
    scale: float | None  # softmax scale; None: 1 / sqrt(head_dim)
    enable_gqa: bool  # key and value may have fewer heads, shared by query heads
    dense: Callable[[], torch.Tensor]  # the model's own attention, as the model called it


class _Watched:
    """Follows one transformer's forward passes and sends their attention calls to `attend`."""

    def __init__(
        self, model: Any, steps: PipelineSteps | CountedSteps, attend: Callable[[AttentionCall], torch.Tensor]
    ):
        transformer = unwrapped(model)
        self._steps, self._attend = steps, attend
        self._patch, self._has_text = patch_of(transformer.config), hasattr(transformer, "transformer_blocks")
        self._pass = threading.local()  # each thread's current pass: `call`, and `mask` with its valid tokens
        self._installed: dict[int, Installed] = {}
        self._lost: dict[int, str] = {}

    def install(self, model: Any, layers: Iterable[int] | None) -> contextlib.ExitStack:
        """Intercepts the chosen blocks; closing the returned stack undoes that."""
        its = attentions(unwrapped(model))
        with contextlib.ExitStack() as undo:
            module = hooked(model)
            hooks = PassHook(self.enter, warns=True), PassHook(self.leave, warns=False)
            undo.callback(module.register_forward_pre_hook(hooks[0], with_kwargs=True).remove)
            undo.callback(module.register_forward_hook(hooks[1], always_call=True).remove)
            for layer in chosen_layers(layers, len(its)):
                installed = Installed(its[layer], functools.partial(self.attention, layer))
                self._installed[layer] = installed
                undo.callback(installed.undo)
            return undo.pop_all()

    def lost(self) -> dict[int, str]:
        """Layers whose processor somebody has replaced, with the new processor's class name."""
        found = {layer: installed.found() for layer, installed in self._installed.items()}
        return {layer: name for layer, name in found.items() if name}

    def enter(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(("hidden_states", "timestep"), args)) | kwargs
        latents, timestep = (_argument(name, given) for name in ("hidden_states", "timestep"))
        if latents.dim() != 5:
            axes = ["batch entries", "channels", "frames", "height", "width"]
            raise refuse(
                "hidden_states", f"5 axes, {shape_text(axes)}", f"{latents.dim()}, {shape_text(latents.shape)}"
            )
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
        frames, height, width = (size // patch for size, patch in zip(latents.shape[-3:], self._patch))
        self._pass.call, self._pass.mask = ModelCall(*place, (frames, height, width)), None

    def leave(self, *_: Any) -> None:
        self._pass.call = self._pass.mask = None

    def attention(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        options: dict[str, Any],
        dense: Callable[[], torch.Tensor],
    ) -> torch.Tensor:
        model = getattr(self._pass, "call", None)
        if model is None:
            raise RuntimeError("draftattention: wanted a block's call by its transformer, found one on its own")
        for name in ("dropout_p", "is_causal", "parallel_config"):  # parallel attention sees only a share of the tokens
            if options.get(name):
                raise refuse(name, "none", options[name])
        batch, tokens = query.shape[:2]
        video = math.prod(model.grid)
        # All blocks of a pass share one mask, so that it is read back from the device once.
        if self._pass.mask is None or self._pass.mask[0] is not mask:
            self._pass.mask = mask, valid_tokens(mask, batch, tokens)
        valid = self._pass.mask[1]
        if key.shape[:2] != query.shape[:2] or min(valid) < video or (tokens != video and not self._has_text):
            raise refuse(
                f"layer {layer}",
                f"self-attention of {' x '.join(map(str, model.grid))} = {video} tokens" + " and text" * self._has_text,
                f"{list(valid)} valid of {tokens}, and {key.shape[1]} keys",
            )
        q, k, v = autocast(query, key, value)
        return self._attend(
            AttentionCall(model, layer, q, k, v, valid, options.get("scale"), bool(options.get("enable_gqa")), dense)
        )


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


def _steps_of(model_or_pipeline: Any, steps: int | None) -> PipelineSteps | CountedSteps:
    wanted = "the schedule's length for a transformer, a whole number from 1 on, None for a pipeline"
    if is_pipeline(model_or_pipeline):
        if steps is not None:
            raise refuse("steps", wanted, repr(steps))
        if model_or_pipeline.scheduler is None:
            raise refuse("pipeline", "one with a scheduler", "None as its scheduler")
        return PipelineSteps(model_or_pipeline)
    try:
        number = 0 if steps is None or isinstance(steps, bool) else operator.index(steps)
    except TypeError:
        number = 0
    if number < 1:
        raise refuse("steps", wanted, repr(steps))
    return CountedSteps(number)


class _Installation:
    """Intercepts a model, or every transformer of a pipeline."""

    def __init__(
        self,
        model_or_pipeline: Any,
        attend: Callable[[AttentionCall], torch.Tensor],
        layers: Iterable[int] | None,
        steps: int | None,
    ):
        given = list_of(layers)
        layers = layers if given is None else given
        self._held, models = model_or_pipeline, transformers_of(model_or_pipeline)
        if not models:
            raise refuse("model", "a pipeline with a transformer", type(model_or_pipeline).__name__)
        self._transformers = [unwrapped(model) for model in models]
        counted = _steps_of(model_or_pipeline, steps)
        self._watched = [_Watched(model, counted, attend) for model in models]
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

    def __init__(self, installation: _Installation):
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


def intercept_self_attention(
    model_or_pipeline: Any,
    attend: Callable[[AttentionCall], torch.Tensor],
    *,
    layers: Iterable[int] | None = None,
    steps: int | None = None,
) -> Interception:
    """Calls `attend` in place of the chosen blocks' self-attention. It gets an AttentionCall and returns [batch,
    tokens, heads, head_dim], as the call's dense() does. Cross-attention and token refiners are not intercepted.

    model_or_pipeline, layers, steps and the errors are those of apply_draft_attention."""
    return Interception(_Installation(model_or_pipeline, attend, layers, steps))


class DraftControl(Interception):
    """Handle of draft attention in a model, with Interception's `active` and remove(); a context manager.

    calls         self-attention calls of the chosen layers so far
    dense_calls   of these, the model's own attention
    sparse_calls  of these, draft attention"""

    calls = dense_calls = sparse_calls = 0

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self.calls} calls: {self.dense_calls} dense, {self.sparse_calls} sparse>"


def _entries(call: AttentionCall) -> list[tuple[slice, int]]:
    """Groups of batch entries with the same number of valid tokens, and that number."""
    if len(set(call.valid)) == 1:
        return [(slice(None), call.valid[0])]
    return [(slice(entry, entry + 1), count) for entry, count in enumerate(call.valid)]


def _of_entries(
    function: Callable[..., Any], call: AttentionCall, entries: slice, count: int, options: dict[str, Any]
) -> Any:
    """Calls draft_attention, or its check, with the first `count` tokens of some batch entries."""
    rows = (x[entries, :count] for x in (call.query, call.key, call.value))
    return function(
        *rows,
        call.model.grid,
        layout="bnhd",
        text_tokens=count - math.prod(call.model.grid),
        scale=call.scale,
        enable_gqa=call.enable_gqa,
        **options,
    )


def _draft(call: AttentionCall, options: dict[str, Any]) -> torch.Tensor:
    """Draft attention over the tokens that are not padding. The output of padding is 0. Every layer masks padding as
    keys, so that no other output depends on it."""
    attend = draftattention.draft_attention
    if set(call.valid) == {call.query.shape[1]}:
        return _of_entries(attend, call, slice(None), call.valid[0], options)
    out = torch.zeros_like(call.query, memory_format=torch.contiguous_format)
    for entries, count in _entries(call):
        out[entries, :count] = _of_entries(attend, call, entries, count, options)
    return out


def _require_options(options: dict[str, Any]) -> None:
    """Raises the errors of draft_attention for these options now, rather than after the dense steps."""
    rows = torch.zeros((1, 1, 1, 8), device="cpu")  # not the default device, which may be meta
    require_draft_attention(rows, rows, rows, (1, 1, 1), **(options | {"kernel": "torch"}))
    if options["kernel"] not in ("auto", "torch"):
        names = [row["name"] for row in draftattention.kernels()]
        if options["kernel"] not in names:
            raise refuse(
                "kernel",
                f"one of {', '.join(['auto', 'torch', *names])}"
                + " (there are no kernels in this build)" * (not names),
                repr(options["kernel"]),
            )


def apply_draft_attention(
    model_or_pipeline: Any,
    *,
    sparsity: float = 0.9,
    dense_steps: float = 0.25,
    layers: Iterable[int] | None = None,
    region: Sequence[int] = (8, 16),
    pool: str = "avg",
    rule: str = "softmax",
    kernel: str = "auto",
    steps: int | None = None,
    remainder: str | None = None,
) -> DraftControl:
    """Replaces the self-attention of diffusers' Wan and HunyuanVideo models by draft attention (arXiv 2505.14708).

    model_or_pipeline  a WanTransformer3DModel, a HunyuanVideoTransformer3DModel, or a pipeline with one (or with two:
                       Wan 2.2's transformer_2)
    dense_steps        share of the denoising steps, from the first on, that keep the model's own attention; a step that
                       begins within this share is dense (section 4.1 of the paper: the first 25%). All passes of a step
                       are treated alike. Only steps that run count, fewer than the schedule's in video-to-video. Each
                       entry of the scheduler's timesteps is a step, so Heun's method has two for most of its own
    layers             block numbers, HunyuanVideo's dual-stream blocks first, then the single-stream ones; None: all
    steps              length of the schedule; for a bare transformer alone, whose steps are counted by the changes of
                       `timestep`: it falls or rises within a run, and equal ones in a row are one step. A pipeline's
                       steps are counted by its loop and its scheduler, which may be replaced; a denoising loop of your
                       own must call that scheduler's step()
    others             as in draft_attention

    model_or_pipeline may be wrapped (torch.compile without fullgraph, PEFT, DataParallel, FSDP), at any depth. Its
    copies (deepcopy, pickle, torch.save) have the model's own attention, and a RuntimeWarning says so.

    A profile of PyTorch's has each sparse call under the name draft_attention.

    Inference only. Returns a DraftControl with counters; its remove(), or the end of a with block, undoes everything,
    and its `active` says whether it still acts. Raises

    ValueError   at once for another model, unknown layers, arguments out of range, and attention that is intercepted
                 already; in the first step for anything that the sparse steps would refuse (a kernel that does not
                 support this device, gradients); in a forward pass for a mask that is more than padding after the text,
                 parallel attention, and a pass that belongs to no run of the pipeline or whose step cannot be told
    TypeError    in a forward pass, for latents or a timestep that are no tensors
    ImportError  for a diffusers version whose processors do not call dispatch_attention_fn"""
    dense_steps = number_of("dense_steps", "a share from 0 to 1", dense_steps, lambda share: 0.0 <= share <= 1.0)
    options = {
        "sparsity": sparsity,
        "region": region,
        "pool": pool,
        "rule": rule,
        "kernel": kernel,
        "remainder": remainder,
    }
    _require_options(options)

    def is_dense(step: int, steps: int) -> bool:
        return step < dense_steps * steps - 1e-9  # slack: in binary 0.55 * 100 is above 55

    def attend(call: AttentionCall) -> torch.Tensor:
        model = call.model
        control.calls += 1
        if is_dense(model.step, model.steps):
            # If sparse steps will follow, check their arguments in the first step, not when the first of them runs.
            if model.step == 0 and not is_dense(model.steps - 1, model.steps):
                for entries, count in _entries(call):
                    _of_entries(require_draft_attention, call, entries, count, options)
            control.dense_calls += 1
            return call.dense()
        control.sparse_calls += 1
        with torch.profiler.record_function("draft_attention"):
            return _draft(call, options)

    control = DraftControl(_Installation(model_or_pipeline, attend, layers, steps))
    return control
