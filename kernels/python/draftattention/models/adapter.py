"""How a class of video transformers runs its self-attention: what draft attention has to know of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._checks import refuse, shape_text
from .._tokens import Grid, Span

_CHANNELS_FIRST = ("batch entries", "channels", "frames", "height", "width")
FRAMES_FIRST = ("batch entries", "frames", "channels", "height", "width")


@dataclasses.dataclass(frozen=True)
class Adapter:
    """One class of transformers.

    kind        the class, or its name in diffusers
    attentions  transformer -> the self-attention modules of its blocks, in the order in which layers are numbered. Each
                has a processor of diffusers, or else a forward() that attends once; either by dispatch_attention_fn or
                by PyTorch's scaled_dot_product_attention
    spans       (transformer, a pass's arguments by name) -> what the tokens of its self-attention are, in order: the grid
                (frames, height, width) of each segment of video, the number of tokens of text or another condition,
                an ellipsis for as many as are left. Under context parallelism what the ellipsis stands for is split by
                itself, and so are all spans before it together, and all behind it
    guidance    "passes": classifier-free guidance is a second pass a step; "batch": it is in one pass, each batch's
                first half unconditional; "embedded": the scale is an input of the model, true guidance a second pass
    latents, timestep   the names of these arguments of forward(). Steps are counted by the latter's changes
    given       a pipeline's current_timestep -> the timestep that it gives the transformer
    layers      config -> how many layers there are
    since       the versions of diffusers whose class it fits
    functional  whether attention may be scaled_dot_product_attention; if not, it must be dispatch_attention_fn
    plan        transformer -> diffusers' cp_plan, how context parallelism splits its tokens; None: diffusers' own, if any"""

    kind: type | str
    attentions: Callable[[Any], Sequence[Any]]
    spans: Callable[[Any, Mapping[str, Any]], Sequence[Span]]
    guidance: str = "passes"
    latents: str = "hidden_states"
    timestep: str = "timestep"
    given: Callable[[float], float] = lambda current: current
    layers: Callable[[Mapping[str, Any]], int] = lambda config: config["num_layers"]
    since: str = ">=0.35"
    functional: bool = True
    plan: Callable[[Any], dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        return self.kind if isinstance(self.kind, str) else self.kind.__name__

    def found(self) -> type | None:
        """The class; None if the diffusers that is installed has none of this name."""
        if isinstance(self.kind, type):
            return self.kind
        try:
            import diffusers
        except ImportError:
            return None
        return getattr(diffusers, self.kind, None)


def patch_of(config: Any) -> Grid:
    """(frames, height, width) of a patch in latents."""
    size = config.patch_size
    return tuple(size) if not isinstance(size, int) else (getattr(config, "patch_size_t", 1) or 1, size, size)


def grid_of_latents(
    latents: Any, patch: Grid, axes: Sequence[str] = _CHANNELS_FIRST, name: str = "hidden_states"
) -> Grid:
    """The grid of latents after patchify. Raises ValueError for latents without these axes."""
    if latents.dim() != len(axes):
        raise refuse(name, f"{len(axes)} axes, {shape_text(axes)}", f"{latents.dim()}, {shape_text(latents.shape)}")
    sizes = dict(zip(axes, latents.shape))
    frames, height, width = (sizes[axis] // step for axis, step in zip(("frames", "height", "width"), patch))
    return frames, height, width
