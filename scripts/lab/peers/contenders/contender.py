"""What a contender is, and what those that know blocks of 128 tokens alone have in common."""

import importlib.metadata
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..inputs import BLOCK
from ..masks import full_mask, why_not_slices, with_text

NO_REORDERING = "tensors stand in region order before: reordering is not timed, which favours this kernel"
UNWRITTEN = "rows that keep nothing are not this kernel's: they are set to 0 after the clock stops"
STRIDED = "tensors [heads, tokens, head_dim] are passed as strided views, without copies"
TIMED, UNTIMED = "timed", "untimed"  # quantising: in the time, or before the clock starts


class Unsupported(Exception):
    """What a contender cannot do."""


@dataclass(frozen=True)
class Case:
    """Dense (sparsity 0), or a draft mask."""

    sparsity: float = 0.0
    rule: str = ""
    pool: str = ""
    mask: torch.Tensor | None = None  # [heads, regions, regions], bool
    lists: Any = None  # the project's own kept-block lists of `mask`


@dataclass(frozen=True)
class Prepared:
    """A call that is ready. run() is timed; output(what it returned) -> [heads, tokens, head_dim] is not; notes: what is
    known of the kernel only where it runs."""

    run: Callable
    output: Callable = lambda result: result
    notes: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """A kernel. prepare(call, case) -> a Prepared, or a function without arguments whose result is the output; the
    call's tensors stand in `order`."""

    name: str
    order: str  # "token" or "region"
    sparse: bool  # whether it takes block masks
    prepare: Callable
    note: str
    package: str = ""  # the installed distribution's name
    module: str = ""  # what is imported, if that is not `package`
    install: str = ""  # the line that installs or builds it
    operands: str = ""  # of its products, if they are narrower than the call's tensors: "fp8", ...
    quantising: str = ""  # of such operands: TIMED or UNTIMED
    ours: bool = False

    def version(self):
        """Of the installed package; "" if it is not there. A module's own word is asked last: some have a wrong one."""
        if not self.package:
            return ""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            module = sys.modules.get(self.module or self.package)
            return "" if module is None else str(getattr(module, "__version__", "unknown"))


def slices_of(call, case):
    """The case's mask over slices of 128 tokens in region order, [heads, slices, slices]. Raises Unsupported."""
    if case.mask is None:
        return full_mask(call)
    if why := why_not_slices(call):
        raise Unsupported(why)
    return with_text(case.mask, call.text_blocks)


def require_whole_slices(call):
    """Raises Unsupported unless 128 divides the call's tokens."""
    if call.tokens % BLOCK:
        raise Unsupported(f"wanted tokens that {BLOCK} divides, found {call.tokens}")


def batch_of_one(call):
    """q, k, v: [1, heads, tokens, head_dim]."""
    return tuple(x[None] for x in (call.q, call.k, call.v))


def tokens_first(call):
    """q, k, v: views [1, tokens, heads, head_dim]."""
    return tuple(x.transpose(0, 1)[None] for x in (call.q, call.k, call.v))


def empty_rows_are_zero(prepared, mask, tokens):
    """`prepared` for a kernel that leaves rows which keep nothing under [heads, slices, slices] unwritten, or divides
    by 0 there: its output gets 0 in them, not timed. Without such rows: `prepared` itself."""
    empty = ~mask.any(-1)
    if not empty.any():
        return prepared
    rows = empty.repeat_interleave(BLOCK, 1)[:, :tokens, None]
    return replace(
        prepared,
        output=lambda result: prepared.output(result).masked_fill(rows, 0),
        notes=prepared.notes | {"empty_rows": UNWRITTEN},
    )


def first(result):
    """What some versions return alone and others in front of a tuple."""
    return result[0] if isinstance(result, tuple) else result
