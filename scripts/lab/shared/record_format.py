"""What a well-formed record is, for every Python reader of record files: harness/record/record.schema.json, interpreted.
Standard library only.

What is no record is never guessed at: `problem` says which field, what was wanted and what was found. record_file.py reads
files of records. harness/record/schema.cpp interprets the same file.
"""

import json
import os
import sys

from lab.shared.files import ROOT

SCHEMA_FILE = os.path.join(ROOT, "harness", "record", "record.schema.json")
SCHEMA = 2  # the version that is read and written
NOT_APPLICABLE = "not_applicable"  # a metric that is relative to nothing: no number, and no failure
LEAST_WHOLE, MOST_WHOLE = -(2**63), 2**64 - 1  # what 64 bits hold, with a sign or without
MAPS = ("draft_map", "block_mass", "mask")  # of one head: square, and of one size

LARGEST = sys.float_info.max
ROUNDED_TO_LARGEST = int(LARGEST) + 2**970 - 1  # the last whole number that rounds to a double


def is_number(value):
    if type(value) is int:
        return -ROUNDED_TO_LARGEST <= value <= ROUNDED_TO_LARGEST
    return type(value) is float and -LARGEST <= value <= LARGEST  # false for NaN


TYPES = {
    "integer": lambda value: type(value) is int and LEAST_WHOLE <= value <= MOST_WHOLE,
    "number": is_number,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
    "object": lambda value: type(value) is dict,
    "array": lambda value: type(value) is list,
    "null": lambda value: value is None,
}
KINDS = {  # Python's types of a JSON type
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
NUMBERS = (int, float)
LIMITS = {  # keyword: (what it concerns, whether a value keeps the limit)
    "minimum": (NUMBERS, lambda value, limit: value >= limit),
    "maximum": (NUMBERS, lambda value, limit: value <= limit),
    "exclusiveMinimum": (NUMBERS, lambda value, limit: value > limit),
    "exclusiveMaximum": (NUMBERS, lambda value, limit: value < limit),
    "minLength": ((str,), lambda value, limit: len(value) >= limit),
    "minItems": ((list,), lambda value, limit: len(value) >= limit),
    "maxItems": ((list,), lambda value, limit: len(value) <= limit),
}
READ = {"type", "const", "enum", "anyOf", "items", "properties", "additionalProperties", "required", "description"}
FOR_READERS = {"title", "$comment", "$schema", "$defs"}


def _equal(value, wanted):
    return type(value) is type(wanted) and value == wanted


def _no(value):
    return False


class Rule:
    """A schema, ready to be asked about many values."""

    def __init__(self, schema, definitions):
        if "$ref" in schema:
            schema = {**definitions[schema["$ref"].removeprefix("#/$defs/")], **schema}
            del schema["$ref"]
        if unknown := set(schema) - READ - FOR_READERS - set(LIMITS):
            raise ValueError(f"{SCHEMA_FILE}: unknown keywords {sorted(unknown)}")
        self.wanted = schema.get("description")
        names = schema.get("type", [])
        names = [names] if isinstance(names, str) else names
        self.types = [TYPES[name] for name in names]
        self.choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
        self.any_of = [Rule(part, definitions) for part in schema.get("anyOf", ())]
        self.limits = [(*LIMITS[name], schema[name]) for name in LIMITS if name in schema]
        self.items = Rule(schema["items"], definitions) if "items" in schema else None
        self.properties = {name: Rule(part, definitions) for name, part in schema.get("properties", {}).items()}
        others = schema.get("additionalProperties")
        self.others = Rule(others, definitions) if others else None
        self.required = schema.get("required", ())
        self.tests = {kind: self._tests_of(kind, name) for name in names for kind in KINDS[name]}
        self.otherwise = _no if self.tests else self.fits  # of other Python types

    def _tests_of(self, kind, name):
        """What a value of a Python type still has to pass, in one function for speed; None for nothing."""
        tests = [TYPES[name]] if name in ("integer", "number") else []
        limits = [(keeps, limit) for kinds, keeps, limit in self.limits if kind in kinds]
        if self.choices is not None or len(limits) > 1:
            tests = [self.fits]  # all of these
        elif limits:
            [(keeps, limit)] = limits
            tests.append(lambda value: keeps(value, limit))
        for rule in self.any_of:  # its alternatives are of different types
            if kind in rule.tests or kind in map(type, rule.choices or ()):
                tests.append(rule.tests.get(kind, rule.fits))
        tests = [test for test in dict.fromkeys(tests) if test is not None]
        if kind is dict and (self.properties or self.others or self.required):
            tests.append(self._members_are_fine)
        if kind is list and self.items:
            is_fine = self.items.is_fine
            tests.append(lambda value: all(map(is_fine, value)))
        if len(tests) < 2:
            return tests[0] if tests else None
        first, second = tests
        return lambda value: first(value) and second(value)

    def _members_are_fine(self, value):
        if any(value.get(name) is None for name in self.required):
            return False
        of, others = self.properties.get, self.others
        for name, each in value.items():
            rule = of(name, others)
            if rule is not None:  # is_fine, without a call for each number
                test = rule.tests.get(type(each), rule.otherwise)
                if test is not None and not test(each):
                    return False
        return True

    def is_fine(self, value):
        """Whether `problem` would find nothing, without looking for words."""
        test = self.tests.get(type(value), self.otherwise)
        return test is None or test(value)

    def fits(self, value):
        """The rules that concern the value itself, not its parts."""
        return (
            (not self.types or any(is_of_type(value) for is_of_type in self.types))
            and (self.choices is None or any(_equal(value, choice) for choice in self.choices))
            and (not self.any_of or any(rule.fits(value) for rule in self.any_of))
            and all(type(value) not in kinds or keeps(value, limit) for kinds, keeps, limit in self.limits)
        )

    def problem(self, value, where=""):
        """The first thing that is wrong with the value that stands at `where`; None without any."""
        if not self.fits(value):
            return f"{where}: wanted {self.wanted}, found {shown(value)}"
        if self.items and type(value) is list:
            for place, each in enumerate(value):
                if found := self.items.problem(each, f"{where}[{place}]"):
                    return found
        if type(value) is dict:
            prefix = f"{where}." if where else ""
            for name in self.required:
                if value.get(name) is None:
                    wanted = self.properties[name].wanted
                    return f"{prefix}{name}: wanted {wanted}, found {'null' if name in value else 'nothing'}"
            for name, each in value.items():
                rule = self.properties.get(name, self.others)
                if rule and (found := rule.problem(each, prefix + name_of(name))):
                    return found
        return None


def shown(value, most=60):
    """A value as a message shows it: on one line, in ASCII, not longer than `most`."""
    if isinstance(value, (dict, list)) and len(value) > 4:
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if type(value) is int and abs(value) > 10**most:
        return f"a number of {value.bit_length()} bits"
    text = json.dumps(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def name_of(key, most=60):
    text = json.dumps(key)[1:-1].replace('\\"', '"')
    return text if len(text) <= most else text[: most - 3] + "..."


def _record_rule():
    with open(SCHEMA_FILE, encoding="utf-8") as stream:
        schema = json.load(stream)
    return Rule(schema, schema["$defs"])


RECORD = _record_rule()


def problem(record):
    """What keeps this value from being a record, as "FIELD: wanted ..., found ..."; None if it is one."""
    if not isinstance(record, dict):
        return f"wanted a record, found {shown(record)}"
    version = record.get("schema")
    if type(version) is int and version > SCHEMA:
        return f"schema: wanted {SCHEMA}, found {shown(version)}: a later version of the format"
    if type(version) is int and version == 1:
        return f"schema: wanted {SCHEMA}, found 1: draftbench convert makes version {SCHEMA} of it"
    found = None if RECORD.is_fine(record) else RECORD.problem(record)
    return found or _bad_maps(record.get("arrays") or {})


def _plain(value):
    """Without members that are null; whole numbers as whole ones, whether they were written 0, 0.0 or -0.0, and those
    beyond 64 bits as doubles."""
    if type(value) is float and value.is_integer() and LEAST_WHOLE <= value < 2**64:
        return int(value)
    if type(value) is int and not LEAST_WHOLE <= value <= MOST_WHOLE:
        return float(value)
    if type(value) is dict:
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if type(value) is list:
        return [_plain(each) for each in value]
    return value


def identity(record):
    """Which cell a record is of, as text: records with the same identity measure the same thing on the same GPU, and the
    newest counts. A dump is known by its content, not by its name; other inputs by all that they say; a GPU matters
    where config.device is cuda. harness/record/record.hpp's cell_identity."""
    source, config = record.get("input") or {}, record.get("config") or {}
    if source.get("sha256"):
        source = {key: source.get(key) for key in ("sha256", "capture", "head")}
    gpu = (record.get("machine") or {}).get("gpu") if config.get("device") == "cuda" else None
    return json.dumps(_plain([record.get("experiment"), source, config, gpu]), sort_keys=True)


def _bad_maps(arrays):
    """What no schema says of maps that are rows already."""
    size = None
    for name in MAPS:
        rows = arrays.get(name)
        if rows is None:
            continue
        if name == "mask" and (wrong := next((row for row in rows if set(row) - {"0", "1"}), None)) is not None:
            return f"arrays.{name}: wanted rows of 0 and 1, found {shown(wrong)}"
        size = size or len(rows)
        lengths = {len(rows), *map(len, rows)}
        if lengths != {size}:
            return (
                f"arrays.{name}: wanted {size} rows of {size}, found sides {', '.join(map(str, sorted(lengths)[:4]))}"
            )
    return None
