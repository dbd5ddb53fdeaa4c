"""Draft attention in diffusers' video models (draftattention.models lists them), and in any other that is described.

    from draftattention.diffusers import apply_draft_attention
    control = apply_draft_attention(pipeline, sparsity=0.9)
    video = pipeline(prompt).frames[0]

Needs diffusers >=0.35,<1, for some models a later one. It is built on intercept_self_attention, which captures use too:
that gives each block's self-attention after QK-norm and RoPE, with the token grid and the denoising step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

import draftattention

from ._checks import number_of, refuse
from ._dropin import require_draft_attention
from ._installation import Installation, Interception
from ._lookup import unwrapped
from ._packing import Packing
from ._passes import AttentionCall, ModelCall
from .models import Adapter

__all__ = [
    "Adapter",
    "AttentionCall",
    "DraftControl",
    "Interception",
    "ModelCall",
    "apply_draft_attention",
    "context_parallel_plan",
    "intercept_self_attention",
]


def context_parallel_plan(transformer: Any) -> dict[str, Any]:
    """How enable_parallelism(cp_plan=) is to split a listed transformer's tokens: diffusers' own plan where it has one
    (Wan, LTX-Video), this package's for HunyuanVideo, of which diffusers 0.42 has none. Raises ValueError for others."""
    found, adapter = unwrapped(transformer)
    plan = getattr(found, "_cp_plan", None)
    if plan is None and adapter.plan is not None:
        plan = adapter.plan(found)
    if plan is None:
        raise refuse("transformer", "one of a class with a plan for context parallelism", type(found).__name__)
    return plan


def intercept_self_attention(
    model_or_pipeline: Any,
    attend: Callable[[AttentionCall], torch.Tensor],
    *,
    layers: Iterable[int] | None = None,
    steps: int | None = None,
    adapter: Adapter | None = None,
) -> Interception:
    """Calls `attend` in place of the chosen blocks' self-attention. It gets an AttentionCall and returns [batch,
    tokens, heads, head_dim], as the call's dense() does. Cross-attention and token refiners are not intercepted.

    model_or_pipeline, layers, steps, adapter and the errors are those of apply_draft_attention."""
    return Interception(Installation(model_or_pipeline, attend, layers, steps, adapter))


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
    function: Callable[..., Any],
    call: AttentionCall,
    entries: slice,
    count: int,
    options: dict[str, Any],
    out: Any = None,
) -> Any:
    """Calls draft_attention, or its check, with the first `count` tokens of some batch entries; `out` has those of the
    output."""
    video = sum(map(math.prod, call.model.segments))
    packing = Packing(call.model.segments, options["region"], call.query.device)
    rows = (packing.pack(x[entries, :count]) for x in (call.query, call.key, call.value))
    o = function(
        *rows,
        packing.grid,
        layout="bnhd",
        text_tokens=count - video,
        scale=call.scale,
        enable_gqa=call.enable_gqa,
        **(options | {"region": packing.region} | ({} if out is None or packing.moves else {"out": out})),
    )
    if out is None:
        return None if o is None else packing.unpack(o)
    return out.copy_(packing.unpack(o)) if packing.moves else out


def _draft(call: AttentionCall, options: dict[str, Any]) -> torch.Tensor:
    """Draft attention over the tokens that are not padding. The output of padding is 0. Every layer masks padding as
    keys, so that no other output depends on it."""
    attend = draftattention.draft_attention
    if set(call.valid) == {call.query.shape[1]}:
        return _of_entries(attend, call, slice(None), call.valid[0], options)
    out = torch.empty_like(call.query, memory_format=torch.contiguous_format)
    for entries, count in _entries(call):
        out[entries, count:] = 0
        _of_entries(attend, call, entries, count, options, out[entries, :count])
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
    strict: bool = False,
    adapter: Adapter | None = None,
) -> DraftControl:
    """Replaces the self-attention of diffusers' video models by draft attention (arXiv 2505.14708).

    model_or_pipeline  a transformer of draftattention.models.ADAPTERS, or a pipeline with one (or with two: Wan 2.2's
                       transformer_2); any other model with an `adapter`
    dense_steps        share of the denoising steps, from the first on, that keep the model's own attention; a step that
                       begins within this share is dense (section 4.1 of the paper: the first 25%). All passes of a step
                       are treated alike. Only steps that run count, fewer than the schedule's in video-to-video. Each
                       entry of the scheduler's timesteps is a step, so Heun's method has two for most of its own
    layers             block numbers, HunyuanVideo's dual-stream blocks first, then the single-stream ones; VACE's control
                       blocks behind the others; None: all
    steps              length of the schedule; for a bare transformer alone, whose steps are counted by the changes of
                       `timestep`: it falls or rises within a run, and equal ones in a row are one step. A pipeline's
                       steps are counted by its loop and its scheduler, which may be replaced; a denoising loop of your
                       own must call that scheduler's step()
    adapter            how a model that is not in the list runs its self-attention; None: by its class
    others             as in draft_attention. Text and other conditions are kept; where a model has several segments of
                       video, blocks are as packed_attention says

    model_or_pipeline may be wrapped (torch.compile, PEFT, DataParallel, FSDP), at any depth, and its blocks compiled: with
    fullgraph for models that call dispatch_attention_fn. Its copies (deepcopy, pickle, torch.save) have the model's own
    attention, and a RuntimeWarning says so.

    Tokens may be shared out over processes by diffusers' enable_parallelism, before or after, with ulysses_degree
    (ulysses_anything for numbers that it does not divide): each process then attends to all tokens with its share of the
    heads, in dense steps by the model's own attention. Every process needs the same arguments here.

    A profile of PyTorch's has each sparse call under the name draft_attention.

    Inference only. Returns a DraftControl with counters; its remove(), or the end of a with block, undoes everything,
    and its `active` says whether it still acts. Raises

    ValueError   at once for another model, unknown layers, arguments out of range, and attention that is intercepted
                 already; in the first step for anything that the sparse steps would refuse (a kernel that does not
                 support this device, gradients); in a forward pass for a mask that is more than padding after the text,
                 tokens shared out in a ring, and a pass that belongs to no run of the pipeline or whose step cannot be told
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
        "strict": strict,
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

    control = DraftControl(Installation(model_or_pipeline, attend, layers, steps, adapter))
    return control
