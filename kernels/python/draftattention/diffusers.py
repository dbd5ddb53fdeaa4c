"""Draft attention in diffusers' video models: WanTransformer3DModel and HunyuanVideoTransformer3DModel.

    from draftattention.diffusers import apply_draft_attention
    control = apply_draft_attention(pipeline, sparsity=0.9)
    video = pipeline(prompt).frames[0]

Needs diffusers >=0.35,<1 for Wan, >=0.36,<1 for HunyuanVideo. intercept_self_attention is the mechanism below it, which
captures use too: self-attention of each block after QK-norm and RoPE, with the token grid and the denoising step."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

import draftattention

from ._checks import refuse
from ._interception import CountedSteps, ScheduledSteps, install, valid_tokens

__all__ = ["AttentionCall", "DraftControl", "Interception", "ModelCall", "apply_draft_attention",
           "intercept_self_attention"]


@dataclasses.dataclass(frozen=True)
class ModelCall:
    """One forward pass of a transformer."""

    step: int  # of the denoising schedule, from 0
    steps: int  # of the whole schedule
    timestep: float  # in the model's own unit
    nth: int  # of the step's passes: under classifier-free guidance 0 is the conditional, 1 the unconditional one
    grid: tuple[int, int, int]  # frames, height and width in tokens, after patchify


@dataclasses.dataclass(frozen=True)
class AttentionCall:
    """One self-attention in it, after QK-norm and RoPE; tensors are [batch, tokens, heads, head_dim]: video tokens in
    (frame, row, column) order, then valid text tokens, then padding."""

    model: ModelCall
    layer: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    valid: tuple[int, ...]  # of each batch entry, how many tokens are not padding
    scale: float | None  # of the softmax; None: 1 / sqrt(head_dim)
    dense: Callable[[], torch.Tensor]  # the model's own attention, as the model called it


def _attentions(transformer: Any) -> list[Any]:
    """The self-attention module of each block, in order. Raises ValueError for a model of another kind."""
    import diffusers

    transformer = getattr(transformer, "_orig_mod", transformer)  # torch.compile wraps the model
    if isinstance(transformer, diffusers.WanTransformer3DModel):
        return [block.attn1 for block in transformer.blocks]
    if isinstance(transformer, diffusers.HunyuanVideoTransformer3DModel):
        return [block.attn for blocks in (transformer.transformer_blocks, transformer.single_transformer_blocks)
                for block in blocks]
    raise refuse("model", "a WanTransformer3DModel, a HunyuanVideoTransformer3DModel or a pipeline with one",
                 type(transformer).__name__)


def _patch(config: Any) -> tuple[int, int, int]:
    """(frames, height, width) of a patch in latents."""
    size = config.patch_size
    return (config.patch_size_t, size, size) if isinstance(size, int) else tuple(size)


def _chosen(layers: Iterable[int] | None, count: int) -> list[int]:
    chosen = list(range(count)) if layers is None else sorted(set(layers))
    unknown = [layer for layer in chosen if layer not in range(count)]
    if unknown or not chosen:
        raise refuse("layers", f"numbers from 0 to {count - 1}", unknown[0] if unknown else "none")
    return chosen


class _Watched:
    """One transformer's current forward pass, and its attention calls on their way to `attend`."""

    def __init__(self, transformer: Any, schedule: Any, attend: Callable[[AttentionCall], torch.Tensor]):
        self._schedule, self._attend = schedule, attend
        self._patch, self._has_text = _patch(transformer.config), hasattr(transformer, "transformer_blocks")
        self._last_step, self._nth = -1, 0
        self._call: ModelCall | None = None
        self._mask: tuple[torch.Tensor | None, tuple[int, ...]] | None = None

    @torch.compiler.disable  # it reads numbers back
    def enter(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        latents, timestep = (args[i] if len(args) > i else kwargs[name]
                             for i, name in enumerate(("hidden_states", "timestep")))
        step, steps, value = self._schedule.find(timestep)
        self._nth = self._nth + 1 if step == self._last_step else 0
        self._last_step = step
        frames, height, width = (size // patch for size, patch in zip(latents.shape[-3:], self._patch))
        self._call, self._mask = ModelCall(step, steps, value, self._nth, (frames, height, width)), None

    @torch.compiler.disable
    def leave(self, *_: Any) -> None:
        self._call = self._mask = None

    def attention(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                  mask: torch.Tensor | None, options: dict[str, Any],
                  dense: Callable[[], torch.Tensor]) -> torch.Tensor:
        if self._call is None:
            raise RuntimeError("draftattention: wanted a block's call by its transformer, found one on its own")
        for name in ("dropout_p", "is_causal", "enable_gqa", "parallel_config"):  # a parallel one has a share of tokens
            if options.get(name):
                raise refuse(name, "none", options[name])
        batch, tokens = query.shape[:2]
        video = math.prod(self._call.grid)
        if self._mask is None or self._mask[0] is not mask:  # all blocks of a pass share it: read back once
            self._mask = mask, valid_tokens(mask, batch, tokens)
        valid = self._mask[1]
        if key.shape[:2] != query.shape[:2] or min(valid) < video or (tokens != video and not self._has_text):
            raise refuse(f"layer {layer}", f"self-attention of {' x '.join(map(str, self._call.grid))} = {video} tokens"
                         + " and text" * self._has_text, f"{list(valid)} valid of {tokens}, and {key.shape[1]} keys")
        return self._attend(AttentionCall(self._call, layer, query, key, value, valid, options.get("scale"), dense))


def _install(model_or_pipeline: Any, attend: Callable[[AttentionCall], torch.Tensor], layers: Iterable[int] | None,
             steps: int | None) -> contextlib.ExitStack:
    """Intercepts the chosen blocks of every transformer; closing what it returns undoes that."""
    pipeline = hasattr(model_or_pipeline, "scheduler")
    if pipeline == (steps is not None) or not (pipeline or steps >= 1):
        raise refuse("steps", "the schedule's length for a transformer, None for a pipeline", steps)
    models = [getattr(model_or_pipeline, name, None) for name in ("transformer", "transformer_2")]
    models = [model for model in models if model is not None] if pipeline else [model_or_pipeline]
    if not models:
        raise refuse("model", "a pipeline with a transformer", type(model_or_pipeline).__name__)
    schedule = ScheduledSteps(model_or_pipeline) if pipeline else CountedSteps(steps)
    with contextlib.ExitStack() as undo:
        for model in models:
            attentions = _attentions(model)
            watched = _Watched(model, schedule, attend)
            undo.callback(model.register_forward_pre_hook(watched.enter, with_kwargs=True).remove)
            undo.callback(model.register_forward_hook(watched.leave, always_call=True).remove)
            for layer in _chosen(layers, len(attentions)):
                undo.callback(install(attentions[layer], functools.partial(watched.attention, layer)))
        return undo.pop_all()


class Interception:
    """Self-attention that goes through a function; a context manager. remove() gives the model back as it was."""

    def __init__(self, undo: contextlib.ExitStack):
        self._undo = undo

    def remove(self) -> None:
        self._undo.close()

    def __enter__(self):
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


def intercept_self_attention(model_or_pipeline: Any, attend: Callable[[AttentionCall], torch.Tensor], *,
                             layers: Iterable[int] | None = None, steps: int | None = None) -> Interception:
    """Sends the self-attention of the chosen blocks through `attend`, which gets an AttentionCall and returns what its
    dense() would: [batch, tokens, heads, head_dim]. Cross-attention and token refiners are left alone.

    model_or_pipeline, layers, steps: as apply_draft_attention has them, and so are the errors."""
    return Interception(_install(model_or_pipeline, attend, layers, steps))


class DraftControl(Interception):
    """Draft attention in a model; a context manager. remove() gives the model back as it was.

    calls         self-attention calls of the chosen layers so far
    dense_calls   of these, the model's own attention
    sparse_calls  of these, draft attention"""

    calls = dense_calls = sparse_calls = 0


def _draft(call: AttentionCall, options: dict[str, Any]) -> torch.Tensor:
    """Draft attention over the tokens that are not padding. Padding gets 0: as a key it is masked in every layer, so
    that no output depends on what stands there."""
    query, key, value = call.query, call.key, call.value

    def attend(entries: slice, count: int) -> torch.Tensor:
        return draftattention.draft_attention(
            query[entries, :count], key[entries, :count], value[entries, :count], call.model.grid, layout="bnhd",
            text_tokens=count - math.prod(call.model.grid), scale=call.scale, **options)

    batch, tokens = query.shape[:2]
    if set(call.valid) == {tokens}:
        return attend(slice(None), tokens)
    out = torch.zeros_like(query, memory_format=torch.contiguous_format)
    alike = len(set(call.valid)) == 1
    for entries in [slice(None)] if alike else [slice(entry, entry + 1) for entry in range(batch)]:
        count = call.valid[entries][0]
        out[entries, :count] = attend(entries, count)
    return out


def _require_options(options: dict[str, Any]) -> None:
    """Raises what draft_attention would for these, now and not after the dense steps."""
    rows = torch.zeros((1, 1, 1, 8))
    draftattention.draft_attention(rows, rows, rows, (1, 1, 1), **(options | {"kernel": "torch"}))
    if options["kernel"] not in ("auto", "torch"):
        names = [row["name"] for row in draftattention.kernels()]
        if options["kernel"] not in names:
            raise refuse("kernel", f"one of auto, torch, {', '.join(names)}", options["kernel"])


def apply_draft_attention(model_or_pipeline: Any, *, sparsity: float = 0.9, dense_steps: float = 0.25,
                          layers: Iterable[int] | None = None, region: Sequence[int] = (8, 16), pool: str = "avg",
                          rule: str = "softmax", kernel: str = "auto", steps: int | None = None) -> DraftControl:
    """Replaces the self-attention of diffusers' Wan and HunyuanVideo models by draft attention (arXiv 2505.14708).

    model_or_pipeline  a WanTransformer3DModel, a HunyuanVideoTransformer3DModel, or a pipeline with one (or with two:
                       Wan 2.2's transformer_2)
    dense_steps        share of the denoising steps, from the first on, that keep the model's own attention: a step that
                       begins within it does (section 4.1 of the paper: the first 25%). All passes of a step are alike
    layers             blocks by number, HunyuanVideo's dual-stream ones first, then the single-stream ones; None: all
    steps              length of the schedule, for a bare transformer alone: its steps are counted by the changes of
                       `timestep`, which falls within a run. A pipeline's are those of its scheduler
    others             as draft_attention has them

    Inference only. Returns a control with counters, whose remove() (or the end of a with block) undoes it all. Raises
    ValueError for another model, unknown layers, arguments out of range, attention that is intercepted already, and
    within the model for masks that are no padding behind the text and for parallel attention; RuntimeError for a kernel
    that was not built; ImportError for a diffusers whose processors do not call dispatch_attention_fn."""
    if not 0 <= dense_steps <= 1:
        raise refuse("dense_steps", "a share from 0 to 1", dense_steps)
    options = {"sparsity": sparsity, "region": tuple(region), "pool": pool, "rule": rule, "kernel": kernel}
    _require_options(options)

    def attend(call: AttentionCall) -> torch.Tensor:
        control.calls += 1
        if call.model.step < dense_steps * call.model.steps - 1e-9:  # 0.55 * 100 is above 55 in binary
            control.dense_calls += 1
            return call.dense()
        control.sparse_calls += 1
        return _draft(call, options)

    control = DraftControl(_install(model_or_pipeline, attend, layers, steps))
    return control
