"""Intercepts PyTorch's scaled_dot_product_attention, for models that call it themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode


class FunctionalCalls(TorchFunctionMode):
    """Within it, this thread's calls of scaled_dot_product_attention go to handler(original, query, key, value,
    attn_mask=, ...), whose tensors are [batch, tokens, heads, head_dim], as those of dispatch_attention_fn are. What the
    handler itself calls is not intercepted."""

    def __init__(self, handler: Callable[..., torch.Tensor]):
        super().__init__()
        self._handler = handler

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return self._attend(*args, **(kwargs or {}))

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        """With tensors [batch, heads, tokens, head_dim]; without the batch's axis the handler's have one of 1."""
        batched = query.dim() == 4
        options = {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale}
        if enable_gqa:  # older versions do not know it
            options["enable_gqa"] = True

        def inward(x: torch.Tensor) -> torch.Tensor:
            return (x if batched else x[None]).transpose(-3, -2)

        def outward(x: torch.Tensor) -> torch.Tensor:
            return x.transpose(-3, -2) if batched else x.transpose(-3, -2)[0]

        def original(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **named: Any) -> torch.Tensor:
            return inward(scaled_dot_product_attention(outward(query), outward(key), outward(value), **named))

        rows = (inward(x) for x in (query, key, value))
        return outward(self._handler(original, *rows, attn_mask=attn_mask, **options))
