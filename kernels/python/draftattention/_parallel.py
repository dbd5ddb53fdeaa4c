"""diffusers' context parallelism by Ulysses: each process has a share of the tokens, and for attention the processes
exchange them, so that each has all tokens of a share of the heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ._checks import refuse


def ulysses_of(parallel_config: Any) -> Any:
    """What diffusers calls context_parallel_config; None where tokens are not shared out. Raises ValueError for a ring."""
    if parallel_config is None:
        return None
    if not hasattr(parallel_config, "context_parallel_config"):
        raise refuse("parallel_config", "one of diffusers, or None", parallel_config)
    context = parallel_config.context_parallel_config
    if context is not None and context.ring_degree > 1:
        raise refuse(
            "ring_degree",
            "1 (use ulysses_degree: in a ring a process sees a share of the keys at a time, and a draft mask is of all)",
            context.ring_degree,
        )
    return context


def exchanged(
    parallel_config: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    enable_gqa: bool,
    attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """The output for this process's tokens, of attend(query, key, value), which gets and returns all tokens of this
    process's heads, shard behind shard. All processes of the group call it together. Raises ValueError for heads that
    cannot be shared out, and for gradients."""
    try:
        from diffusers.models.attention_dispatch import _templated_context_parallel_attention as templated
    except ImportError as error:
        import diffusers

        raise ImportError(
            "draftattention: wanted a diffusers whose exchange of tokens can be called (0.36 to 0.42 are known), found "
            f"{diffusers.__version__}"
        ) from error

    context = parallel_config.context_parallel_config
    heads, degree = query.shape[2], context.ulysses_degree
    if heads % degree and not getattr(context, "ulysses_anything", False):
        raise refuse("heads", f"a number that ulysses_degree, {degree}, divides (or ulysses_anything=True)", heads)
    if torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value)):
        raise refuse("query, key, value", "no gradients, as there is no backward pass", "requires_grad=True")

    def forward(_ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> Any:
        return attend(query, key, value)

    return templated(
        query,
        key,
        value,
        enable_gqa=enable_gqa,  # which diffusers refuses
        forward_op=forward,
        backward_op=None,
        _parallel_config=parallel_config,
    )
