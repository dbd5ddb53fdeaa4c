"""Timed attention calls: which call a record is of, which records stand for this project, and ratios between two.

A call is a shape, what its tensors hold, and the GPU that it ran on. The frame of timed records has a column `call`, the
call's place among all of them, the paper's shapes first, and the names that tables and plots have for it.
"""

import numpy as np

from .frame import TIMED, filled, rows, with_remainder

PAPER_SHAPES = {  # as the records name them: the model and resolution as the paper names them
    "wan_512p": ("Wan2.1", "512p"),
    "wan_768p": ("Wan2.1", "768p"),
    "hunyuan_768p": ("HunyuanVideo", "768p"),
}
PAPER_NAMES = {shape: " ".join(names) for shape, names in PAPER_SHAPES.items()}
OWN_KERNELS = ("wgmma", "mma", "wgmma_8bit", "wgmma_8bit_attend", "blas")
ELEMENT_BYTES = {"float32": 4, "float64": 8}  # the others have 2
PREFERRED = ("avg", "softmax", "8x16")  # the paper's pooling, rule and region
POLICIES = ("draft", "random", "uneven", "worst")
ORDERS = ("token", "region", "gather")
SIZES = ["heads", "frames", "height", "width", "text_tokens", "head_dim"]
CALL = ["rank", "shape", "data", "dump", "sha", "capture", *SIZES, "element", "gpu"]


def timed(records):
    """Every timed record, with what is known of its call. Dense ones have mask "dense" and sparsity 0."""
    cells = records.of(*TIMED)
    texts = {name: filled(cells[name], "") for name in ("kernel", "order", "part", "shape", "element", "gpu", "cpu")}
    cells = cells.assign(**texts, **{name: filled(cells[name], 0) for name in (*SIZES, "sparsity")})
    known = list(PAPER_SHAPES)
    cells = cells.assign(
        rank=[known.index(shape) if shape in known else len(known) for shape in cells["shape"]],
        data=[data or ("captured" if dump else "") for data, dump in zip(cells["data"], cells["dump"])],
        mask=cells["policy"].where(cells["sparsity"] != 0, "dense"),
    )
    names = [_names(cell) for cell in rows(cells)]
    for place, name in enumerate(("name", "size", "origin", "label", "bytes_moved")):
        cells[name] = [found[place] for found in names]
    cells["call"] = cells.groupby(CALL).ngroup()
    return cells


def _names(cell):
    """The paper's name of the shape, else heads x grid + text tokens; the size; what it was filled with; both, for rows of
    tables; bytes of q, k, v read once and o written once."""
    tokens = cell.frames * cell.height * cell.width + cell.text_tokens
    text = f" + {cell.text_tokens}" if cell.text_tokens else ""
    grid = f"{cell.heads} x {cell.frames}x{cell.height}x{cell.width}{text}"
    name = PAPER_NAMES.get(cell.shape, grid)
    dim = f" of {cell.head_dim}" if cell.head_dim not in (0, 128) else ""
    origin = f"captured ({cell.dump})" if cell.dump else f"random {cell.data}".strip()
    moved = 4 * cell.heads * tokens * cell.head_dim * ELEMENT_BYTES.get(cell.element, 2)
    return name, f"{cell.heads} x {tokens:,} tokens{dim}", origin, f"{name}, {origin}", moved


def calls(records, *experiments, remainder=""):
    """The timed records of these experiments with this remainder alone."""
    cells = with_remainder(records.once(timed), remainder)
    return cells[cells["experiment"].isin(experiments)]


def panel_titles(cells):
    """{call: a title of two lines}; calls of one name and data are told apart by dump, capture, element or GPU."""
    titles = {}
    each = cells.drop_duplicates("call")
    for call in rows(each):
        alike = each[(each["name"] == call.name) & (each["data"] == call.data)]
        parts = ("dump", "capture", "element", "gpu")
        extra = [text for part in parts if (alike[part] != (text := getattr(call, part))).any()]
        more = f"{call.size}, {call.data}" if call.data else call.size
        titles[call.call] = f"{call.name}\n{more}" + "".join(f"\n{_clipped(text)}" for text in extra[:1])
    return titles


def _clipped(text, most=40):
    return text if len(text) <= most else text[: most - 3] + "..."


def provenance(cells):
    """Device, commit and data of these cells, for captions: each is named once."""
    devices = _joined(gpu or cpu for gpu, cpu in zip(cells["gpu"], cells["cpu"]))
    commits, data = _joined(cells["commit"]), _joined(cells["origin"])
    return f"On {devices or 'a device not named'}, commit {commits or 'not named'}; data: {data or 'not named'}."


def _joined(texts):
    return ", ".join(sorted({text for text in texts if text}))


def paper_masks(cells):
    """The draft cells of one pooling, rule and region: the paper's where they were measured; and every other cell."""
    kinds = ["pool", "rule", "region"]
    drafts = cells["mask"] == "draft"
    found = list(cells[drafts][kinds].drop_duplicates().itertuples(index=False, name=None))
    if len(found) < 2:
        return cells
    best = min(found, key=lambda kind: (sum(a != b for a, b in zip(kind, PREFERRED)), kind))
    return cells[~drafts | (cells[kinds] == best).all(axis=1)]


def rank_of(kernel):
    """This project's kernels first, the fastest design first."""
    return (OWN_KERNELS.index(kernel) if kernel in OWN_KERNELS else len(OWN_KERNELS), kernel)


def kernels(cells):
    return sorted(set(cells["kernel"]), key=rank_of)


def of_main_kernel(cells):
    """The cells of the kernel that stands for this project: the first of `kernels`."""
    return cells[cells["kernel"] == kernels(cells)[0]] if len(cells) else cells


def main_order(cells):
    """Straight from token order where that was measured."""
    found = set(cells["order"])
    return next((name for name in ORDERS if name in found), min(found, default=""))


def newest(cells, *keys):
    """One row for each value of the keys."""
    return cells.sort_values("time", ascending=False, kind="stable").drop_duplicates(list(keys)).sort_index()


def ratio(above, below):
    """Medians' ratio, and the 10% and 90% quantiles of the ratio over all pairs of samples; None without times."""
    if not above.median_ms or not below.median_ms:
        return None
    samples = [np.array(cell.samples_ms or [cell.median_ms], dtype=float) for cell in (above, below)]
    low, high = np.quantile(np.divide.outer(*samples), [0.1, 0.9]).tolist()
    return above.median_ms / below.median_ms, low, high


def attention_flops(cell):
    """FLOPs over kept blocks, as the record's own rate counts them."""
    return cell.tflops_kept * 1e12 * cell.median_ms * 1e-3 if cell.tflops_kept and cell.median_ms else None
