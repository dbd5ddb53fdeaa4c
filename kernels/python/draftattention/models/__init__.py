"""The video transformers of diffusers that draft attention knows, and how to describe another one.

A model is one file, which defines ADAPTER, and one line below. One of your own needs neither: make its Adapter, and pass
it as `adapter` to apply_draft_attention or intercept_self_attention."""

import importlib

from .adapter import Adapter

__all__ = ["ADAPTERS", "Adapter"]

_FILES = (
    "wan",
    "wan_vace",
    "wan_animate",
    "skyreels_v2",
    "hunyuan_video",
    "hunyuan_video_15",
    "hunyuan_video_framepack",
    "cogvideox",
    "ltx_video",
    "mochi",
    "allegro",
)
ADAPTERS: tuple[Adapter, ...] = tuple(importlib.import_module(f".{name}", __name__).ADAPTER for name in _FILES)
