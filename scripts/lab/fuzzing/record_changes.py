"""How a file of records is damaged: values, keys, text and bytes. Every change depends on the random numbers alone."""

import json

MARKUP = "<script>alert(1)</script>"
TEXTS = (
    MARKUP,
    "a|b|c",
    "```",
    "`x`",
    "[x](http://y)",
    "![x](y)",
    "**x** __y__ ~~z~~",
    "$\\frac{1}{0}$",
    "$",
    "\\",
    "\n# x\n",
    "\r",
    "\t",
    "\x00",
    "\x1b[31mred",
    "\u202eabc",
    "\u2028",
    "=1+1",
    "@x",
    "-",
    "",
    " ",
    "x" * 400,
    "\u65e5\u672c\u8a9e",
    "\U0001f600",
    "\ufeff",
    "0.9",
    "nan",
    "not_applicable",
    "draft",
    "avg",
    "dense",
    "../../x",
    "/",
    "&amp;",
    "\u00e9",
    "\U000f0041",
    "%s{0}",
)
NUMBERS = (0, -1, 1, 0.9, 0.5, -0.0, 1e308, -1e308, 5e-324, 1e-300, 2**31, 2**53, 2**63, 2**64, 10**30, 0.1 + 0.2)
LITERALS = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e400",
    b"1" + b"0" * 400,
    b"9" * 5000,
    b"-1e999",
    b"1.",
    b"01",
    b"+1",
    b"tru",
)


def hostile(rng):
    """A value that is seldom what stood there."""
    kind = rng.randrange(8)
    if kind < 2:
        return rng.choice(TEXTS)
    if kind < 5:
        return rng.choice(NUMBERS)
    return rng.choice((None, True, False, [], {}, [8], [8, 16, 1], ["8", "16"], [[[]]], {"a": {"b": []}}, [1e308] * 3))


def places(value):
    """Every (container, key) below a value."""
    stack, found = [value], []
    while stack:
        each = stack.pop()
        items = each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ()
        for key, below in items:
            found.append((each, key))
            stack.append(below)
    return found


def like(rng, value):
    """An odd value of the same kind, which may well be one that a reader has to take."""
    if isinstance(value, str):
        return rng.choice(TEXTS)
    if isinstance(value, bool) or value is None:
        return rng.choice((True, False, None))
    if isinstance(value, int):
        return rng.choice((0, 1, 2, 3, 7, 8, 16, 1000, 2**31, 2**53, 2**64 - 1))
    if isinstance(value, float):
        return rng.choice((0.0, 1.0, 0.5, 0.9, 1e-3, 1e3, 5e-324, 1e30, 1.7e308, -1.0, -1e300, 0.9999999999999999))
    if isinstance(value, list) and value:
        return rng.choice((value[:1], value * 2, value[::-1], [like(rng, each) for each in value]))
    return value


def change_within(rng, record):
    """Several changes of a record that mostly leave it well-formed; says which."""
    said = []
    for _ in range(rng.choice((1, 2, 5, 20))):
        holder, key = rng.choice(places(record) or [({"x": 1}, "x")])
        part = record.get("metrics")
        if rng.random() < 0.4 and isinstance(part, dict) and part:
            holder, key = part, rng.choice(list(part))
        kind = rng.choice(("like", "like", "nothing", "drop"))
        if kind == "nothing" and holder is part:
            holder[key] = "not_applicable"
        elif kind == "drop" and isinstance(holder, dict) and holder is not record:
            del holder[key]
        else:
            holder[key] = like(rng, holder[key])
        said.append(f"{kind} {key!r:.20}")
    return ", ".join(said)


def change_structure(rng, record):
    """One change of a record; says which."""
    if rng.random() < 0.5:
        return change_within(rng, record)
    if not (found := places(record)):
        return "nothing to change"
    holder, key = rng.choice(found)
    if rng.random() < 0.4:  # the keys at the top and right below it decide most
        shallow = [(record, name) for name in record]
        shallow += [(part, name) for part in record.values() if isinstance(part, dict) for name in part]
        holder, key = rng.choice(shallow or found)
    kind = rng.choice(("drop", "replace", "replace", "replace", "rename", "retype", "add", "copy"))
    if kind == "drop":
        del holder[key]
    elif kind == "replace":
        holder[key] = hostile(rng)
    elif kind == "retype":
        old = holder[key]
        holder[key] = str(old) if not isinstance(old, str) else {"text": old}
    elif kind == "copy":
        other, name = rng.choice(found)
        holder[key] = json.loads(json.dumps(other[name])) if name in other or isinstance(other, list) else None
    elif isinstance(holder, dict):
        name = rng.choice(TEXTS)
        holder[name] = holder.pop(key) if kind == "rename" else hostile(rng)
    return f"{kind} {key!r:.40}"


def change_text(rng, line):
    """One change of a line's bytes that keeps it looking like JSON; (line, what was done)."""
    marks = [place for place, letter in enumerate(line) if letter in b":,[{"]
    if not marks:
        return line, "nothing to change"
    place = rng.choice(marks) + 1
    kind = rng.choice(("literal", "deep", "twice", "surrogate"))
    if kind == "literal":
        end = place
        while end < len(line) and line[end] not in b",]}":
            end += 1
        return line[:place] + rng.choice(LITERALS) + line[end:], kind
    if kind == "deep":
        depth = rng.choice((10, 60, 70, 900, 20_000, 1_000_000))
        opened, closed = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
        depth = min(depth, 200_000) if closed == b"}" else depth
        inner = opened * depth + b"1" + (closed * depth if rng.random() < 0.7 else b"")
        return b'{"config":' + inner + b"," + line[1:], f"{kind} {depth}"
    if kind == "twice":
        name = rng.choice((b"status", b"schema", b"config", b"metrics", b"x"))
        return b'{"' + name + b'":' + rng.choice((b"1", b'"ok"', b"{}", b"null")) + b"," + line[
            1:
        ], f"{kind} {name.decode()}"
    return line.replace(b'"input":{', b'"input":{"x":"\\ud800",', 1).replace(
        b'"input": {', b'"input": {"x":"\\ud800",', 1
    ), kind


def change_bytes(rng, data):
    """One change of a whole file's bytes; (file, what was done)."""
    if not data:
        return b"\xef\xbb\xbf", "mark of byte order alone"
    place = rng.randrange(len(data))
    kind = rng.choice(
        ("flip", "flip", "cut", "insert", "remove", "double", "crlf", "bom", "blank", "tail", "empty", "noise")
    )
    if kind == "flip":
        return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :], f"{kind} {place}"
    if kind == "cut":
        return data[:place], f"{kind} {place}"
    if kind == "insert":
        piece = bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 8))))
        return data[:place] + piece + data[place:], f"{kind} {place}"
    if kind == "remove":
        return data[:place] + data[place + rng.choice((1, 10, 300)) :], f"{kind} {place}"
    if kind == "double":
        return data[:place] + data[max(0, place - rng.choice((5, 200))) :], f"{kind} {place}"
    made = {
        "crlf": lambda: data.replace(b"\n", b"\r\n"),
        "bom": lambda: b"\xef\xbb\xbf" + data,
        "blank": lambda: data.replace(b"\n", b"\n\n  \n"),
        "tail": lambda: data + rng.choice((b"{", b'{"schema": 2', b"notes", b"\x00" * 100, b"\xff\xfe")),
        "empty": lambda: b"",
        "noise": lambda: rng.randbytes(rng.choice((1, 100, 5000))),
    }
    return made[kind](), kind
