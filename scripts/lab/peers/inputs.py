"""One attention call: the tensors, the grid, and what a record says of them."""

import math
import os
import re
from dataclasses import dataclass, replace

import torch

from lab.shared.files import sha256_of

ELEMENT = torch.bfloat16
REGION = (8, 16)  # rows and columns of one frame: 128 tokens, the block of every sparse kernel here
BLOCK = REGION[0] * REGION[1]

# The paper's calls: heads and (frames, height, width); the text tokens that a shape named alone has.
SHAPES = {"wan_512p": (40, (21, 32, 48), 0), "wan_768p": (40, (21, 48, 80), 0), "hunyuan_768p": (24, (33, 48, 80), 256)}
SHAPE_PATTERN = re.compile(r"(\d+)x(\d+)x(\d+)x(\d+)(?:\+(\d+))?")


@dataclass(frozen=True)
class Call:
    """q, k, v: [heads, tokens, head_dim], contiguous, one device; video tokens in (frame, row, column) order, or in
    region order after reordered(); text tokens behind them."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    grid: tuple  # (frames, height, width)
    input: dict  # a record's `input`

    @property
    def heads(self):
        return self.q.shape[0]

    @property
    def tokens(self):
        return self.q.shape[1]

    @property
    def head_dim(self):
        return self.q.shape[2]

    @property
    def text(self):
        return self.tokens - math.prod(self.grid)

    @property
    def regions(self):
        """Regions of the video: edge regions are smaller, never left out."""
        frames, height, width = self.grid
        return frames * -(-height // REGION[0]) * -(-width // REGION[1])

    @property
    def text_blocks(self):
        return -(-self.text // BLOCK)

    @property
    def slices(self):
        """Slices of 128 tokens, the last one maybe shorter."""
        return -(-self.tokens // BLOCK)

    def reordered(self, reorder):
        """The same call with q, k and v passed through `reorder`."""
        return replace(self, q=reorder(self.q), k=reorder(self.k), v=reorder(self.v))


def parse_shape(text):
    """A name of SHAPES or HEADSxFRAMESxHEIGHTxWIDTH[+TEXT] -> (heads, grid, text tokens); None if it is neither."""
    if text in SHAPES:
        return SHAPES[text]
    found = SHAPE_PATTERN.fullmatch(text)
    if not found:
        return None
    heads, *grid = (int(number) for number in found.groups()[:4])
    if min(heads, *grid) < 1:
        raise ValueError(f"{text}: wanted heads, frames, height and width of at least 1")
    return heads, tuple(grid), int(found.group(5) or 0)


def shape_name(heads, grid, text):
    """The paper's name of a call with these heads and this grid, whatever its text; else HxFxHxW+T."""
    for name, (its_heads, its_grid, _) in SHAPES.items():
        if (its_heads, its_grid) == (heads, grid):
            return name
    return "x".join(str(number) for number in (heads, *grid)) + f"+{text}"


def random_call(name, head_dim, seed, device):
    """Normal q, k and v of the shape `name`, made on `device`. Raises ValueError for what is no shape."""
    shape = parse_shape(name)
    if shape is None:
        raise ValueError(f"{name}: wanted {', '.join(SHAPES)} or HEADSxFRAMESxHEIGHTxWIDTH[+TEXT]")
    heads, grid, text = shape
    generator = torch.Generator(device).manual_seed(seed)
    size = (heads, math.prod(grid) + text, head_dim)
    q, k, v = (torch.randn(size, dtype=ELEMENT, device=device, generator=generator) for _ in range(3))
    source = {"dump": None, "sha256": None, "capture": name, "head": None}
    return Call(q, k, v, grid, source | _extent(heads, grid, text, head_dim) | {"data": "normal", "seed": seed})


def dump_call(path, captures, heads, device):
    """The chosen captures and heads of a dump as one call, head after head; empty lists choose all.

    Key and value heads that several query heads share are repeated. Raises ValueError (qkv_dump.DumpError for the
    dump itself) with the file, the wanted and the found value.
    """
    import qkv_dump

    if not os.path.exists(path):
        raise ValueError(f"{path}: no such dump; a shape is {', '.join(SHAPES)} or HEADSxFRAMESxHEIGHTxWIDTH[+TEXT]")
    with qkv_dump.OpenDump(path) as dump:
        root = dump.root
        if root["causal"]:
            raise ValueError(f"{path}: wanted attention that is not causal, found a causal dump")
        grid, text = tuple(root[name] for name in ("frames", "height", "width")), root["text_tokens"]
        query_heads, key_heads, head_dim = dump.shape
        names = [name for name in dump.captures if not captures or name in captures]
        missing = [name for name in captures if name not in dump.captures]
        if missing or not names:
            there, asked = (", ".join(some) or "none" for some in (dump.captures, missing))
            raise ValueError(f"{path}: captures are {there}, found {asked}")
        stacks, layers, steps = {"q": [], "k": [], "v": []}, set(), set()
        for name in names:
            attributes = dump.captures[name]
            chosen = list(range(query_heads)) if not heads else sorted(set(heads))
            if chosen[-1] >= query_heads:
                raise ValueError(f"{path}: {name} has heads 0 to {query_heads - 1}, found {chosen[-1]}")
            scale = attributes["softmax_scale"]
            if not math.isclose(scale, head_dim**-0.5, rel_tol=1e-6):
                raise ValueError(f"{path}: {name}: softmax_scale: wanted 1/sqrt({head_dim}), found {scale}")
            layers.add(attributes["layer"])
            steps.add(attributes["step"])
            for kind, rows in stacks.items():
                sharing = 1 if kind == "q" else query_heads // key_heads
                for head in chosen:
                    rows.append(_load_head(dump, name, kind, head // sharing, device))
    q, k, v = (torch.stack(stacks.pop(kind)) for kind in ("q", "k", "v"))
    source = {
        "dump": os.path.basename(path),
        "sha256": sha256_of(path),
        "model": root["model"],
        "capture": "+".join(names),
        "head": sorted(set(heads)) if heads else None,
    }
    if len(names) == 1:
        source |= {"layer": layers.pop(), "step": steps.pop()}
    return Call(q, k, v, grid, source | _extent(q.shape[0], grid, text, q.shape[2]) | {"data": "captured"})


def _extent(heads, grid, text, head_dim):
    frames, height, width = grid
    return {
        "heads": heads,
        "grid": {"frames": frames, "height": height, "width": width},
        "text_tokens": text,
        "head_dim": head_dim,
        "shape": shape_name(heads, grid, text),
    }


def _load_head(dump, name, tensor, head, device):
    """[tokens, head_dim] in ELEMENT; bfloat16 goes straight, without a detour through float32."""
    import qkv_dump

    own = dump.head(name, tensor, head)
    is_bfloat16 = dump.element(name, tensor) == "bfloat16"
    rows = torch.from_numpy(own.view("int16") if is_bfloat16 else own).to(device)
    rows = rows.view(torch.bfloat16) if is_bfloat16 else rows.to(ELEMENT)
    if not torch.isfinite(rows).all():
        where = f"/captures/{name}/{tensor} head {head}"
        raise qkv_dump.DumpError(dump.path, where, "values that are finite in bfloat16", "NaN or Inf")
    return rows
