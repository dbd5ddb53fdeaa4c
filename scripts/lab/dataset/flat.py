"""Records as flat rows: a field is the path to a value, "config.sparsity"; lists stay lists.

What a field means, its unit and which direction is better stand where the format is defined: the titles of
harness/record/record.schema.json, and harness/record/metrics.json.
"""

import json
from collections import Counter

from lab.shared.metrics import METRICS
from lab.shared.record_format import SCHEMA_FILE

FIRST = ("file", "line", "experiment", "status", "reason", "time", "run", "schema")  # then the others by name
UNITS = {"_ms": "ms", "_mhz": "MHz", "_w": "W", "_gb": "GB", "_s": "s", "seconds": "s", "bytes": "bytes"}  # of endings
OTHER_UNITS = {"timing.tflops_kept": "TFLOP/s", "timing.l2_flush": "bytes", "config.seconds": "s"}
BETTER = {"timing.median_ms": "lower", "timing.tflops_kept": "higher"}
OF_PROGRAMS = {  # fields that programs of lab add and the format does not name
    "arrays.blocks_judged": "block rows that were judged",
    "build.cudnn": "version of cuDNN",
    "build.torch": "version of PyTorch",
    "config.bytes_limit": "memory that a reader may use",
    "config.count": "damaged files that were tried",
    "config.disturbed_by": "what the dense run's state was moved by",
    "config.filter": "which tests ran",
    "config.probe_steps": "steps whose attention is measured",
    "config.seconds_limit": "processor time that a reader may use",
    "config.size": "of the disturbance (relative L2)",
    "config.step": "after which the state was disturbed",
    "config.suite": "which tests",
    "config.tool": "of compute-sanitizer, or none",
    "metrics.accepted": "damaged files that were read",
    "metrics.failed": "tests that failed",
    "metrics.most_bytes": "most memory that a reader used",
    "metrics.passed": "tests that passed",
    "metrics.refused": "damaged files that were refused",
    "metrics.seconds": "time of the run",
    "metrics.skipped": "tests that were skipped",
    "metrics.slowest_seconds": "most processor time of a reader",
    "metrics.tests": "tests that ran",
    "metrics.tool_errors": "errors that the tool reported",
    "metrics.tool_warnings": "warnings that the tool reported",
    "metrics.violation": "readers that did something else than read or refuse",
    "violations": "what these did",
}
OF_FILES = {"file": "the file of records, below the folder of results", "line": "the record's line in it, from 1 on"}


def flat(record):
    """{field: value} of a record, objects taken apart, without what is null."""
    found = {}
    _take_apart(found, "", record)
    return found


def _take_apart(found, prefix, value):
    for key, each in value.items():
        if isinstance(each, dict):
            _take_apart(found, f"{prefix}{key}.", each)
        elif each is not None:
            found[prefix + key] = each


def in_order(fields):
    """Who a record is before what it measured; the rest by name."""
    return [name for name in FIRST if name in fields] + sorted(set(fields) - set(FIRST))


def _meanings():
    """{field: meaning} of the format's fields."""
    with open(SCHEMA_FILE, encoding="utf-8") as stream:
        schema = json.load(stream)
    found = {}

    def walk(prefix, rules):
        for name, rule in rules.get("properties", {}).items():
            if "title" in rule:
                found[prefix + name] = rule["title"]
            walk(f"{prefix}{name}.", rule)

    walk("", schema)
    return found | OF_PROGRAMS | OF_FILES


MEANINGS = _meanings()


def unit_of(field):
    """Its unit, or ""."""
    group, _, name = field.rpartition(".")
    if group in ("metrics", "arrays"):
        name = "psnr" if name == "psnr_matched" else name
        return METRICS[name].get("unit", "") if name in METRICS else _by_ending(name)
    return OTHER_UNITS.get(field) or _by_ending(name)


def _by_ending(name):
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "")


def meaning_of(field):
    """What it means, or "": of a field that the format does not name."""
    group, _, name = field.rpartition(".")
    if field in MEANINGS:
        return MEANINGS[field]
    if group in ("metrics", "arrays"):
        return METRICS.get(name, {}).get("label", "")
    if field.startswith("notes."):
        return "a remark of the program that measured"
    return ""


def better_of(field):
    """ "higher", "lower" or ""."""
    group, _, name = field.rpartition(".")
    return METRICS.get(name, {}).get("better", "") if group == "metrics" else BETTER.get(field, "")


def type_of(values):
    """The narrowest type of the dictionary that holds all values."""
    kinds = {type(value) for value in values}
    if kinds <= {bool}:
        return "boolean"
    if kinds <= {int}:
        return "integer"
    if kinds <= {int, float}:
        return "number"
    if kinds <= {list}:
        return "list"
    return "text"


DICTIONARY = ("field", "type", "unit", "better", "records", "meaning")


def dictionary(rows):
    """[(field, type, unit, better, records that have it, meaning)] of the fields that rows have."""
    values: dict = {}
    for row in rows:
        for field, value in row.items():
            values.setdefault(field, []).append(value)
    return [
        (field, type_of(found), unit_of(field), better_of(field), len(found), meaning_of(field))
        for field, found in ((field, values[field]) for field in in_order(values))
    ]


def experiments(rows):
    """{experiment: records}"""
    return dict(sorted(Counter(row["experiment"] for row in rows).items()))
