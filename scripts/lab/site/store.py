"""Every record as data of the site: one file an experiment, column by column, compressed, read where a page asks for it.

Pages opened from disk may load scripts and nothing else. So a file of data is a script that hands one text over: base64 of
gzip of JSON. Texts are numbers of a list; numbers have SIGNIFICANT digits, and the record's file and line for all of them.
"""

import base64
import gzip
import json
from urllib.parse import quote

import pandas as pd

from lab.dataset.flat import flat, in_order
from lab.report.foreign import plain
from lab.report.frame import rows
from lab.shared.record_format import MAPS, is_number

SIGNIFICANT = 9
GROUPS = ("input", "config", "metrics", "timing", "arrays", "machine", "build", "notes")
# What links of pages filter by, as tables of the report name it, and where the record stands.
INDEX = (
    "file",
    "line",
    "experiment",
    "status",
    "model",
    "resolution",
    "seconds",
    "dump",
    "sha",
    "capture",
    "layer",
    "step",
    "head",
    "policy",
    "pool",
    "rule",
    "region",
    "remainder",
    "sparsity",
    "configuration",
    "kernel",
    "order",
    "part",
    "gpu",
    "commit",
    "call",
    "choice",
    "variant",
    "report",
)


def restored(value):
    """A value for pages: text as it stood in the record, since pages put it in as text, never as markup."""
    if isinstance(value, str):
        return value if value.isascii() else plain(value)  # stand-ins are beyond ASCII
    if isinstance(value, dict):
        return {restored(key): restored(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [restored(each) for each in value]
    return shortened(value)


def shortened(value):
    return float(f"{value:.{SIGNIFICANT}g}") if isinstance(value, float) else value


def script(name, value):
    """The text of a script that hands a value to site.js under a name."""
    packed = gzip.compress(json.dumps(value, separators=(",", ":"), allow_nan=False).encode(), 9, mtime=0)
    return f'site.packed("{name}","{base64.b64encode(packed).decode()}");\n'


def fields_of(cell):
    """{field: value} of one record, maps left out: the explorer of heads has them."""
    groups = {name: getattr(cell, name) for name in GROUPS}
    groups["arrays"] = {name: value for name, value in cell.arrays.items() if name not in MAPS}
    groups["metrics"] = cell.metrics | {name: "not_applicable" for name in cell.not_applicable}
    found = {restored(name): restored(value) for name, value in flat(groups).items()}
    return found | {name: plain(text) for name in ("reason", "time", "run") if (text := getattr(cell, name))}


def _column(values):
    """{"n": numbers}, {"t": list of texts, "i": numbers of these} or {"v": values}; null where a record has none."""
    present = [value for value in values if value is not None]
    if all(map(is_number, present)):
        return {"n": values}
    if all(isinstance(value, str) for value in present):
        texts = {text: number for number, text in enumerate(dict.fromkeys(present))}
        return {"t": list(texts), "i": [None if value is None else texts[value] for value in values]}
    return {"v": values}


def index_of(cells):
    """The INDEX columns of the cells as texts, None where a record has none; with their shards."""
    texts = {name: pd.Categorical(_texts(cells[name])) for name in ("shard", *INDEX)}
    return pd.DataFrame(texts, index=cells.index)


def shards(cells):
    """{name of a shard: {"count", "index": {column: values}, "fields": {field: values}}}."""
    found = {}
    for name, group in cells.groupby("shard"):
        each = [fields_of(cell) for cell in rows(group)]
        fields = in_order({field for row in each for field in row})
        found[name] = {
            "count": len(group),
            "index": {column: _column(_texts(group[column])) for column in INDEX},
            "fields": {field: _column([row.get(field) for row in each]) for field in fields},
        }
    return found


def as_text(value):
    """A value as links and filters have it: 0.9, and 0 for 0.0."""
    return f"{value:g}" if is_number(value) else plain(str(value))


def _texts(values):
    """None where a record has none, "" included."""
    return [None if value is None or value == "" else as_text(value) for value in values]


def record_link(cell):
    """Where the page of records shows this one."""
    return f"records.html#in={quote(cell.shard)}&id={quote(f'{cell.file}:{cell.line}')}"


def records_link(index, chosen):
    """Where the page of records shows these rows of index_of, chosen by {column: text}; one record itself; "" of none."""
    if len(index) == 0:
        return ""
    if len(index) == 1:
        return record_link(next(index.itertuples()))
    names = quote(",".join(sorted(set(index["shard"]))), safe=",")
    return f"records.html#in={names}" + "".join(f"&{name}={quote(text, safe='')}" for name, text in chosen.items())
