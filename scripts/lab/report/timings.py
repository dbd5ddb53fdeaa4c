"""Timed attention calls: which call and run a record belongs to, and ratios between records of one run."""

from dataclasses import dataclass

PAPER_SHAPES = {  # as the records name them: the model and resolution as the paper names them
    "wan_512p": ("Wan2.1", "512p"),
    "wan_768p": ("Wan2.1", "768p"),
    "hunyuan_768p": ("HunyuanVideo", "768p"),
}
OWN_KERNELS = ("wgmma", "mma", "blas")
ELEMENT_BYTES = {"float32": 4, "float64": 8}  # the others have 2
PREFERRED = {"pool": "avg", "rule": "softmax", "region": "8x16"}  # the paper's
POLICIES = ("draft", "random", "uneven", "worst")
ORDERS = ("token", "region", "gather")


@dataclass(frozen=True, order=True)
class Call:
    """One attention call: its shape, what its tensors hold, and the GPU that it ran on."""

    rank: int  # the paper's shapes first
    shape: str
    data: str
    dump: str
    sha: str
    capture: str
    heads: int
    frames: int
    height: int
    width: int
    text: int
    head_dim: int
    element: str
    gpu: str

    @property
    def tokens(self):
        return self.frames * self.height * self.width + self.text

    @property
    def name(self):
        """The paper's name of the shape, else heads x grid + text tokens."""
        if self.shape in PAPER_SHAPES:
            return " ".join(PAPER_SHAPES[self.shape])
        return f"{self.heads} x {self.frames}x{self.height}x{self.width}" + (f" + {self.text}" if self.text else "")

    @property
    def size(self):
        dim = f" of {self.head_dim}" if self.head_dim not in (0, 128) else ""
        return f"{self.heads} x {self.tokens:,} tokens{dim}"

    @property
    def label(self):
        """For rows of tables: the shape, and what it was filled with."""
        return f"{self.name}, {self.source}"

    @property
    def source(self):
        return f"captured ({self.dump})" if self.dump else f"random {self.data}".strip()

    @property
    def minimum_bytes(self):
        """q, k, v read once and o written once."""
        return 4 * self.heads * self.tokens * self.head_dim * ELEMENT_BYTES.get(self.element, 2)


def call_of(cell):
    source = cell.input
    grid = cell.grid
    shape = source.get("shape") or ""
    return Call(
        list(PAPER_SHAPES).index(shape) if shape in PAPER_SHAPES else len(PAPER_SHAPES),
        shape,
        source.get("data") or ("captured" if cell.dump else ""),
        cell.dump or "",
        cell.sha,
        source.get("capture") or "",
        source.get("heads") or 0,
        grid.get("frames") or 0,
        grid.get("height") or 0,
        grid.get("width") or 0,
        source.get("text_tokens") or 0,
        source.get("head_dim") or 0,
        cell.config.get("element") or "",
        cell.machine.get("gpu") or "",
    )


def by_call(cells):
    """[(call, its cells)], the paper's shapes first."""
    calls = {}
    for cell in cells:
        calls.setdefault(call_of(cell), []).append(cell)
    return sorted(calls.items())


def panel_titles(calls):
    """A title of two lines a call; calls of one name and data are told apart by dump, capture or GPU."""
    titles = {}
    for call in calls:
        alike = [other for other in calls if other != call and (other.name, other.data) == (call.name, call.data)]
        extra = [
            getattr(call, part)
            for part in ("dump", "capture", "element", "gpu")
            if any(getattr(other, part) != getattr(call, part) for other in alike)
        ]
        more = f"{call.size}, {call.data}" if call.data else call.size
        titles[call] = f"{call.name}\n{more}" + "".join(f"\n{clipped(text)}" for text in extra[:1])
    return titles


def clipped(text, most=40):
    return text if len(text) <= most else text[: most - 3] + "..."


def kernel(cell):
    return cell.config.get("kernel") or ""


def order(cell):
    return cell.config.get("order") or ""


def policy(cell):
    return "dense" if not cell.sparsity else cell.policy


def is_dense(cell):
    return policy(cell) == "dense"


def median_ms(cell):
    return cell.timing.get("median_ms")


def same_run(first, second):
    return bool(first.run) and first.run == second.run


def commit(cell):
    """Short; "+" marks a build with uncommitted changes."""
    return str(cell.build.get("commit") or "")[:12] + ("+" if cell.build.get("dirty") else "")


def provenance(cells):
    """Device, commit and data of these cells, for captions: each is named once."""
    devices = _joined(cell.machine.get("gpu") or cell.machine.get("cpu") for cell in cells)
    commits = _joined(commit(cell) for cell in cells)
    data = _joined(call_of(cell).source for cell in cells)
    return f"On {devices or 'a device not named'}, commit {commits or 'not named'}; data: {data or 'not named'}."


def _joined(texts):
    return ", ".join(sorted({text for text in texts if text}))


def mask_key(cell):
    return (cell.pool, cell.rule, cell.region)


def paper_masks(cells):
    """The draft cells of one pooling, rule and region: the paper's where they were measured; and every other cell."""
    keys = {mask_key(cell) for cell in cells if policy(cell) == "draft"}
    if len(keys) < 2:
        return list(cells)
    wanted = min(keys, key=lambda key: (sum(a != b for a, b in zip(key, PREFERRED.values())), key))
    return [cell for cell in cells if policy(cell) != "draft" or mask_key(cell) == wanted]


def kernels(cells):
    """Kernels by name: this project's first, the fastest design first."""
    names = {kernel(cell) for cell in cells}
    return sorted(names, key=lambda name: (OWN_KERNELS.index(name) if name in OWN_KERNELS else len(OWN_KERNELS), name))


def main_kernel(cells):
    """The kernel whose numbers stand for this project: the first of `kernels`."""
    return kernels(cells)[0] if cells else None


def main_order(cells):
    """Straight from token order where that was measured."""
    found = {order(cell) for cell in cells}
    return next((name for name in ORDERS if name in found), min(found, default=""))


def choose(cells, **wanted):
    """Cells whose kernel, order, policy, sparsity, or other entries of config are as wanted."""
    return [cell for cell in cells if all(_value(cell, name) == value for name, value in wanted.items())]


def one(cells, **wanted):
    """The newest such cell, or None."""
    return max(choose(cells, **wanted), key=lambda cell: cell.time, default=None)


def _value(cell, name):
    if name == "policy":
        return policy(cell)
    if name == "sparsity":
        return cell.sparsity or 0
    return cell.config.get(name)


def sparsities(cells):
    return sorted({cell.sparsity or 0 for cell in cells})


def quantile(values, share):
    """By linear interpolation between order statistics."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def ratio(numerator, denominator):
    """Medians' ratio, and the 10% and 90% quantiles of the ratio over all pairs of samples; None without times."""
    above, below = median_ms(numerator), median_ms(denominator)
    if not above or not below:
        return None
    pairs = [
        a / b
        for a in numerator.timing.get("samples_ms") or [above]
        for b in denominator.timing.get("samples_ms") or [below]
    ]
    return above / below, quantile(pairs, 0.1), quantile(pairs, 0.9)


def attention_flops(cell):
    """FLOPs over kept blocks, as the record's own rate counts them."""
    rate, time = cell.timing.get("tflops_kept"), median_ms(cell)
    return rate * 1e12 * time * 1e-3 if rate and time else None
