"""The explorer's data: of each head whose maps the records have, the draft map, the true block mass and every mask."""

import base64

import numpy as np

from lab.report.foreign import plain
from lab.report.frame import HEAD, rows
from lab.shared.record_format import MAPS, is_number

from .store import as_text, record_link, shortened

SHOWN = (
    "attention_recall",
    "attention_recall_p05",
    "attention_recall_min",
    "output_rel_l2",
    "output_psnr",
    "empty_rows",
)


def encoded(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def packed_mask(rows_of_bits):
    """Bits of all rows one after the other, eight a byte, the first in the highest."""
    bits = np.array([[int(mark) for mark in row] for row in rows_of_bits], dtype=np.uint8)
    return encoded(np.packbits(bits))


def mask_name(cell):
    """What the explorer calls who chose the blocks."""
    if cell.policy != "draft":
        return plain(cell.policy)
    return f"draft, {plain(cell.pool or 'avg')} pooling, rule {plain(cell.rule)}"


def heads(maps, masks):
    """[head]: where it is from, its grid, both maps as float32, and its masks with their numbers. maps: cells of `maps`
    with all three maps; masks: cells with arrays.mask."""
    found = {}
    for cell in rows(maps):
        if not all(name in cell.arrays for name in MAPS) or not cell.region or not cell.height or not cell.width:
            continue
        height, width = cell.config["region"]
        found[tuple(getattr(cell, name) for name in HEAD), cell.region] = {
            "dump": plain(cell.dump),
            "capture": plain(cell.capture),
            "head": cell.head,
            "layer": cell.layer,
            "step": cell.step,
            "prompt": plain(cell.prompt or ""),
            "grid": [cell.frames, cell.height, cell.width],
            "region": [height, width],
            "regions": [cell.frames, -(-cell.height // height), -(-cell.width // width)],
            "text": cell.metrics.get("mass_text"),
            "blocks": cell.metrics.get("effective_blocks"),
            "draft": encoded(np.array(cell.arrays["draft_map"], dtype="<f4")),
            "mass": encoded(np.array(cell.arrays["block_mass"], dtype="<f4")),
            "link": record_link(cell),
            "masks": {mask_name(cell): {as_text(cell.sparsity): _mask(cell)}},
        }
    for cell in rows(masks):
        head = found.get((tuple(getattr(cell, name) for name in HEAD), cell.region))
        if head and cell.arrays.get("mask") and cell.sparsity is not None and not cell.config.get("block_layout"):
            head["masks"].setdefault(mask_name(cell), {})[as_text(cell.sparsity)] = _mask(cell)
    order = sorted(found.values(), key=lambda head: (head["dump"], head["capture"], head["head"]))
    for head in order:
        head["masks"] = {
            name: dict(sorted(head["masks"][name].items(), key=lambda item: float(item[0])))
            for name in _names(head["masks"])
        }
    return order


def _names(masks):
    """The paper's draft first, the ends of the scale next."""
    first = ["draft, avg pooling, rule softmax", "oracle", "random"]
    return [name for name in first if name in masks] + sorted(set(masks) - set(first))


def _mask(cell):
    metrics = {name: shortened(value) for name in SHOWN if is_number(value := cell.metrics.get(name))}
    return {"bits": packed_mask(cell.arrays["mask"]), "metrics": metrics, "link": record_link(cell)}
