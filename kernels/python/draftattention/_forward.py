"""Intercepts an attention module that has no processor: its forward() runs with its attention call replaced."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from ._interception import InterceptedProcessor, intercepted_already


class InterceptedForward(InterceptedProcessor):
    """A module's forward() with its attention call replaced by `attend`, as InterceptedProcessor is of a processor."""

    def __init__(
        self, module: torch.nn.Module, attend: Callable[..., torch.Tensor], token: torch.Tensor, functional: bool
    ):
        self._module, self._own = module, module.__dict__.get("forward")
        super().__init__(module.forward, attend, token, functional)
        functools.update_wrapper(self, module.forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """In a copy of the module, or its file, its own forward()."""
        if self._own is not None:
            return self._own.__reduce_ex__(protocol)
        return getattr, (self._module, "forward")


class InstalledForward:
    """A module whose forward() is intercepted; the interface is that of _interception.Installed."""

    def __init__(
        self, module: torch.nn.Module, attend: Callable[..., torch.Tensor], token: torch.Tensor, functional: bool
    ):
        """Raises ValueError if it is intercepted already."""
        if isinstance(module.forward, InterceptedForward) and module.forward.attend is not None:
            raise intercepted_already()
        self._module, self._ours = module, InterceptedForward(module, attend, token, functional)
        module.forward = self._ours  # type: ignore[method-assign]
        self._ours.hold()

    def found(self) -> str:
        forward = self._module.forward
        return (
            "" if forward is self._ours and self._ours.attend is not None else getattr(forward, "__name__", "forward")
        )

    def undo(self) -> None:
        self._ours.stop()
        if self._module.__dict__.get("forward") is not self._ours:
            return
        if self._ours._own is None:
            del self._module.forward
        else:
            self._module.forward = self._ours._own
