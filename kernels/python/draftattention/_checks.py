"""Checks of a call's arguments, made before anything is launched, and how tensors are passed to the compiled module.
Every message names the argument, what was wanted and what was found."""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import numbers
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.utils.dlpack import to_dlpack

from . import _views

if TYPE_CHECKING:
    from . import _kernels

ELEMENTS = (torch.bfloat16, torch.float16)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _load() -> tuple[Any, str]:
    """The compiled module and "", or None and the reason why there is none."""
    name = f"{__package__}._kernels"
    try:
        return importlib.import_module(name), ""
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None, "draftattention was built without kernels, or for another Python"
    except ImportError as error:  # a missing CUDA library: PyTorch may be the build for CPUs
        warnings.warn(
            f"draftattention computes in PyTorch alone, as its kernels do not load: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None, f"draftattention's kernels do not load: {error}"


_COMPILED, _ABSENT = _load()


def has_kernels() -> bool:
    """Whether the compiled module is there."""
    return _COMPILED is not None


def why_absent() -> str:
    """Why it is not there."""
    return _ABSENT


def compiled() -> Any:
    """The compiled module. Raises RuntimeError if there is none."""
    if _COMPILED is None:
        raise RuntimeError(f"{_ABSENT}; draft_attention, draft_mask and block_attention compute in PyTorch instead")
    return _COMPILED


def refuse(name: str, wanted: object, found: object) -> ValueError:
    return ValueError(" ".join(f"{name}: wanted {wanted}, found {found}".splitlines()))  # a tensor prints several lines


def shape_text(shape: Sequence[object]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def require_strided(name: str, tensor: Any, wanted: str = "a torch.Tensor") -> None:
    """Requires a dense (strided) tensor. Raises TypeError if it is no tensor, ValueError if it is sparse or nested.
    PyTorch's own errors for those would not name the argument."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name}: wanted {wanted}, found {type(tensor).__name__}")
    if tensor.is_nested or tensor.layout != torch.strided:
        raise refuse(
            name,
            "a dense tensor",
            "a nested one (use torch.nested.to_padded_tensor)"
            if tensor.is_nested
            else f"one of layout {tensor.layout} (use .to_dense())",
        )


def require_tensor(
    name: str,
    tensor: Any,
    dtypes: Sequence[torch.dtype],
    shape: Sequence[int | str],
    device: torch.device | None = None,
    contiguous: bool = True,
) -> None:
    """Requires a dense tensor of one of `dtypes` and of this shape, without gradients, on `device` (None: any), and
    contiguous unless `contiguous` is False. An axis of `shape` that is a name may have any size from 1 on. Raises
    TypeError if it is no tensor, ValueError otherwise."""
    require_strided(name, tensor)
    if tensor.dtype not in dtypes:
        raise refuse(name, " or ".join(map(str, dtypes)), tensor.dtype)
    if tensor.dim() != len(shape):
        raise refuse(name, f"{len(shape)} axes, {shape_text(shape)}", f"{tensor.dim()}, {shape_text(tensor.shape)}")
    for found, wanted in zip(tensor.shape, shape):
        if isinstance(wanted, str) and found < 1:
            raise refuse(name, "no empty axis", f"0 {wanted} in {shape_text(tensor.shape)}")
        if isinstance(wanted, int) and found != wanted:
            raise refuse(name, f"shape {shape_text(shape)}", shape_text(tensor.shape))
    if contiguous and not tensor.is_contiguous():
        raise refuse(name, "a contiguous tensor", f"strides {tuple(tensor.stride())} (use .contiguous())")
    if device is not None and tensor.device != device:
        raise refuse(name, f"a tensor on {device}", tensor.device)
    if tensor.requires_grad and torch.is_grad_enabled():
        raise refuse(
            name,
            "a tensor without gradients, as there is no backward pass",
            "requires_grad=True (use torch.no_grad() or .detach())",
        )


def autocast(*tensors: Any) -> tuple[Any, ...]:
    """Casts as scaled_dot_product_attention does: if autocast is on, floating-point tensors other than float64 to
    autocast's type. Everything else is returned as it is."""

    def cast(tensor: Any) -> Any:
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or tensor.dtype == torch.float64:
            return tensor
        device = tensor.device.type
        # A graph can be traced through the second question alone, which other devices do not answer.
        available = torch.compiler.is_compiling() or torch.amp.is_autocast_available(device)
        if not available or not torch.is_autocast_enabled(device):
            return tensor
        return tensor.to(torch.get_autocast_dtype(device))

    return tuple(map(cast, tensors))


def require_no_out_in_graphs(out: Any) -> None:
    """Operators write to no tensor of the caller's."""
    if out is not None:
        raise refuse("out", "None in a compiled graph", "a tensor")


def an_operator_in_graphs(function: _Function) -> _Function:
    """Where torch.compile or torch.export traces a graph, a call of the function is a call of the operator of its name
    (_operators.py). Autocast's casts come before it, since graphs run without autocast."""

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        if not torch.compiler.is_compiling():
            return function(*args, **named)
        require_no_out_in_graphs(named.pop("out", None))
        given = autocast(*args)
        named = dict(zip(named, autocast(*named.values())))
        if "kernel" in named:
            named["kernel_name"] = named.pop("kernel")
        return getattr(torch.ops.draftattention, function.__name__)(*given, **named)

    return call  # type: ignore[return-value]


def head_group(name: str, rows: Any, axis: int, like: torch.Tensor, enable_gqa: bool, others: int | None = None) -> int:
    """How many heads of `like` share one head of `rows`, whose heads are on this axis: 1 unless `enable_gqa`. Raises
    ValueError if its number of heads does not divide that of `like`, or is not `others`. Checks nothing else."""
    if not isinstance(enable_gqa, bool):
        raise refuse("enable_gqa", "True or False", repr(enable_gqa))
    if (
        not isinstance(rows, torch.Tensor)
        or rows.dim() != like.dim()
        or rows.shape[axis] == like.shape[axis] == (others or like.shape[axis])
    ):
        return 1
    heads, found, shape = like.shape[axis], rows.shape[axis], shape_text(rows.shape)
    if enable_gqa and others is not None and found != others:
        raise refuse(name, f"k's number of heads, {others}", f"{found} heads in {shape}")
    divides = found >= 1 and heads % found == 0
    if enable_gqa and not divides:
        raise refuse(name, f"a number of heads that divides q's {heads}", f"{found} heads in {shape}")
    if divides and not enable_gqa:
        raise refuse(
            name,
            f"shape {shape_text(like.shape)}",
            f"{shape} (enable_gqa=True lets query heads share the heads of k and v)",
        )
    return heads // found if divides else 1


def require_rows(
    name: str, rows: Any, like: torch.Tensor | None = None, heads: int | None = None, strided: bool = False
) -> None:
    """Requires a tensor [heads, tokens, head_dim] of bfloat16 or float16 on a GPU; with `like`, one of the same type,
    device and shape, but of `heads` heads if that is given. It must be contiguous, or with `strided` of strides that
    the kernels take."""
    if like is None:
        require_tensor(name, rows, ELEMENTS, ("heads", "tokens", "head_dim"), contiguous=not strided)
    else:
        shape = (heads or like.shape[0], *like.shape[1:])
        require_tensor(name, rows, (like.dtype,), shape, like.device, contiguous=not strided)
    if strided and not _views.has_kernel_strides(rows):
        raise refuse(name, _views.STRIDES, f"strides {tuple(rows.stride())} (use .contiguous())")
    if like is None and rows.device.type != "cuda":
        raise refuse(name, "a tensor on a CUDA device", rows.device)


def require_shared_rows(q: Any, enable_gqa: bool, **others: Any) -> list[torch.Tensor]:
    """q and the others (k, v), of strides that the kernels take, checked, in autocast's type, and with a shared head
    repeated for each query head, since the kernels have no shared heads."""
    for name, its in {"q": q, **others}.items():
        require_strided(name, its)
    q, *rows = autocast(q, *others.values())
    require_rows("q", q, strided=True)
    heads, checked = None, [q]
    for name, its in zip(others, rows):
        group = head_group(name, its, 0, q, enable_gqa, heads)
        heads = q.shape[0] // group
        require_rows(name, its, like=q, heads=heads, strided=True)
        checked.append(its if group == 1 else its.repeat_interleave(group, dim=0))
    return checked


def require_apart(name: str, output: torch.Tensor, others: dict[str, torch.Tensor]) -> None:
    """Requires that what lies between the first and the last number of `output` in memory holds none of the others'
    numbers, nor the other way round: two parts of one tensor that alternate are refused too."""
    start, end = _views.extent(output)
    for other, tensor in others.items():
        first, last = _views.extent(tensor)
        if start < last and first < end:
            raise refuse(name, f"memory apart from {other}'s", "an overlap")


def _whole(name: str, numbers: Any, names: Sequence[str]) -> tuple[int, ...]:
    wanted = f"({', '.join(names)}), whole numbers from 1 on"
    try:
        given = tuple(numbers)
        found = tuple(operator.index(number) for number in given)
    except TypeError:
        raise refuse(name, wanted, repr(numbers)) from None
    if len(found) != len(names) or not all(1 <= number < 2**31 for number in found) or bool in map(type, given):
        raise refuse(name, wanted, repr(numbers))
    return found


def grid_of(grid: Any) -> tuple[int, int, int]:
    """(frames, height, width) as plain numbers. Raises ValueError."""
    frames, height, width = _whole("grid", grid, ("frames", "height", "width"))
    return frames, height, width


def region_of(region: Any) -> tuple[int, int]:
    """(height, width) as plain numbers. Raises ValueError."""
    height, width = _whole("region", region, ("height", "width"))
    return height, width


def regions_of(grid: Sequence[int], region: Sequence[int]) -> int:
    """How many regions a grid has."""
    return grid[0] * -(-grid[1] // region[0]) * -(-grid[2] // region[1])


def make_layout(heads: int, grid: Any, region: Any, text: int, head_dim: int) -> _kernels.Layout:
    """The call's layout. Raises ValueError for one that the kernels do not support."""
    return compiled().Layout(heads, *grid_of(grid), text, head_dim, *region_of(region))


def layout_of(name: str, rows: torch.Tensor, grid: Any, region: Any) -> _kernels.Layout:
    """The layout of a tensor [heads, tokens, head_dim]: tokens beyond the grid's are text."""
    heads, tokens, head_dim = rows.shape
    return make_layout(heads, grid, region, text_of(name, tokens, grid), head_dim)


def text_of(name: str, tokens: int, grid: Any, wanted: int | None = None) -> int:
    """How many of the `tokens` of `name` are text: those beyond the grid's. Raises ValueError if the grid has more
    tokens, or if `wanted` is given and is another number."""
    frames, height, width = grid_of(grid)
    video = frames * height * width
    if video > tokens:
        raise refuse("grid", f"at most the {tokens} tokens of {name}", f"{frames} x {height} x {width} = {video}")
    if wanted is not None and (
        isinstance(wanted, bool) or not isinstance(wanted, numbers.Integral) or wanted != tokens - video
    ):
        raise refuse(
            "text_tokens", f"{tokens - video}, which is {name}'s {tokens} tokens less the grid's {video}", repr(wanted)
        )
    return tokens - video


def require_choice(name: str, found: Any, choices: Sequence[str]) -> None:
    """Requires one of these words. Raises ValueError that lists them."""
    if not isinstance(found, str) or found not in choices:
        raise refuse(name, f"one of {', '.join(choices)}", found if isinstance(found, str) else repr(found))


def require_remainder(found: Any) -> None:
    """Requires None or "pooled". Raises ValueError."""
    if found is not None and not (isinstance(found, str) and found == "pooled"):
        raise refuse("remainder", "None or pooled", found if isinstance(found, str) else repr(found))


def number_of(name: str, wanted: str, found: Any, fits: Callable[[float], bool]) -> float:
    """`found` as a float. Raises ValueError unless it is a real number for which `fits` is true."""
    try:
        number = math.nan if isinstance(found, bool) or not isinstance(found, numbers.Real) else float(found)
    except OverflowError:
        number = math.nan
    if math.isnan(number) or not fits(number):
        raise refuse(name, wanted, repr(found))
    return number


def require_scores(name: str, bad: Sequence[int]) -> None:
    """Requires that no head has a NaN among its draft scores; `bad` are those that have. Raises ValueError."""
    if bad:
        raise refuse(
            name,
            "scores of numbers",
            f"NaN in heads {list(bad)}: q or k holds a NaN or infinities, or scores times the scale overflow",
        )


def checked_scale(scale: Any) -> float:
    """The caller's softmax scale. Raises ValueError unless it is positive and within float32, the type of scores: a
    larger one would turn them into NaN."""
    largest = torch.finfo(torch.float32).max
    return number_of(
        "scale", f"a finite number above 0, at most {largest:.4g}", scale, lambda number: 0.0 < number <= largest
    )


def scale_of(scale: float | None, layout: _kernels.Layout) -> float:
    """The caller's softmax scale, or 1 / sqrt(head_dim)."""
    return 1.0 / math.sqrt(layout.head_dim) if scale is None else checked_scale(scale)


def capsule(tensor: torch.Tensor) -> Any:
    """The tensor's memory as a DLPack capsule. to_dlpack, unlike Tensor.__dlpack__, does not make one stream wait for
    another. That is not needed: kernels run on PyTorch's current stream, as PyTorch's own work on the tensor does."""
    return to_dlpack(tensor.detach() if tensor.requires_grad else tensor)


@contextlib.contextmanager
def launching_on(device: torch.device) -> Iterator[int]:
    """Makes `device` the current one and gives the handle of its current stream."""
    with torch.cuda.device(device):
        yield torch.cuda.current_stream(device).cuda_stream
