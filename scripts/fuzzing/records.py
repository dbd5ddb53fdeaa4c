"""Files of records, damaged by bytes and by structure: compared both ways, continued by a run, and made a report of."""

import json
import os
import random
import signal
import subprocess
import sys
import time

from fuzzing.runner import ACCEPTED, REFUSED, VIOLATION, Case, Outcome, judge, run

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCES = (  # file under results/, experiments, lines of each
    ("records.jsonl", ("bounds", "pooling", "regions"), 3),
    ("records.jsonl", ("maps",), 2),
    ("records.jsonl", ("flops",), 8),
    ("gpu/latency.jsonl", ("latency", "latency_sustained"), 3),
    ("gpu/overhead.jsonl", ("overhead",), 6),
    ("gpu/peers.jsonl", ("peers",), 5),
    ("gpu/verify.jsonl", ("verify",), 2),
    ("video/videos.jsonl", ("video", "video_heads", "video_contrast"), 3),
    ("video/video_times.jsonl", ("video_time",), 4),
)
OWN = ["regions", "tiny.h5", "--region", "4x4,4x8", "--sparsity", "0.5", "--heads", "0", "--threads", "1"]
REPORT_SECONDS = 60.0
MARKUP = "<script>alert(1)</script>"
TEXTS = (
    MARKUP, "a|b|c", "```", "`x`", "[x](http://y)", "![x](y)", "**x** __y__ ~~z~~", "$\\frac{1}{0}$", "$", "\\", "\n# x\n", "\r",
    "\t", "\x00", "\x1b[31mred", "\u202eabc", "\u2028", "=1+1", "@x", "-", "", " ", "x" * 400, "\u65e5\u672c\u8a9e", "\U0001f600",
    "\ufeff", "0.9", "nan", "not_applicable", "draft", "avg", "dense", "../../x", "/", "&amp;", "\u00e9", "\U000f0041", "%s{0}",
)
NUMBERS = (0, -1, 1, 0.9, 0.5, -0.0, 1e308, -1e308, 5e-324, 1e-300, 2**31, 2**53, 2**63, 2**64, 10**30, 0.1 + 0.2)
LITERALS = (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1" + b"0" * 400, b"9" * 5000, b"-1e999", b"1.", b"01", b"+1", b"tru")


def hostile(rng):
    """A value that is seldom what stood there."""
    kind = rng.randrange(8)
    if kind < 2:
        return rng.choice(TEXTS)
    if kind < 5:
        return rng.choice(NUMBERS)
    return rng.choice((None, True, False, [], {}, [8], [8, 16, 1], ["8", "16"], [[[]]], {"a": {"b": []}}, [1e308] * 3))


def places(value, found=()):
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
        shallow = [(record, name) for name in record] + [(part, name) for part in record.values() if isinstance(part, dict) for name in part]
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
        return b'{"' + name + b'":' + rng.choice((b"1", b'"ok"', b"{}", b"null")) + b"," + line[1:], f"{kind} {name.decode()}"
    return line.replace(b'"input":{', b'"input":{"x":"\\ud800",', 1).replace(b'"input": {', b'"input": {"x":"\\ud800",', 1), kind


def change_bytes(rng, data):
    """One change of a whole file's bytes; (file, what was done)."""
    if not data:
        return b"\xef\xbb\xbf", "mark of byte order alone"
    place = rng.randrange(len(data))
    kind = rng.choice(("flip", "flip", "cut", "insert", "remove", "double", "crlf", "bom", "blank", "tail", "empty", "noise"))
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
        "tail": lambda: data + rng.choice((b"{", b'{"schema": 1', b"notes", b"\x00" * 100, b"\xff\xfe")),
        "empty": lambda: b"",
        "noise": lambda: rng.randbytes(rng.choice((1, 100, 5000))),
    }
    return made[kind](), kind


def small_maps(record):
    """The record with its maps cut to 4 x 4, which make pictures as whole ones do."""
    for name, rows in record.get("arrays", {}).items():
        if rows and isinstance(rows[0], (list, str)):
            record["arrays"][name] = [row[:4] for row in rows[:4]]
    return record


def load_seeds():
    """{name: lines} out of the shipped records: what they are, in few lines."""
    seeds = {}
    for file, experiments, count in SOURCES:
        with open(os.path.join(ROOT, "results", file), "rb") as stream:
            records = [json.loads(line) for line in stream]
        for experiment in experiments:
            found = [record for record in records if record["experiment"] == experiment]
            step = max(1, len(found) // count)
            seeds[experiment] = [json.dumps(small_maps(record)).encode() for record in found[::step][:count]]
    return seeds


class Records:
    name = "records"

    def prepare(self, folder, program):
        """The seeds, and what is needed in every process that is forked from this one: a dump, and the report's modules."""
        self.program, self.folder = program, folder
        self.seeds = load_seeds()
        self.dump = os.path.join(folder, "tiny.h5")
        shape = ["--grid", "2x8x8", "--heads", "1", "--head-dim", "8"]
        for command in (["generate", "block-smooth", "--out", "tiny.h5", *shape], [*OWN, "--out", "own.jsonl"]):
            subprocess.run([program, *command], cwd=folder, check=True, capture_output=True)
        with open(os.path.join(folder, "own.jsonl"), "rb") as stream:
            self.seeds["own"] = stream.read().splitlines()
        import report
        from reporting import document, style  # noqa: F401: imported once, and not in every fork

        self.report, self.style = report, style

    def case(self, rng, folder):
        name = rng.choice([*self.seeds, "own"])
        lines, said = list(self.seeds[name]), [name]
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            place, kind = rng.randrange(len(lines)), rng.random()
            if kind < 0.55:
                try:
                    record = json.loads(lines[place])
                    said.append(f"line {place + 1}: {change_structure(rng, record)}")
                    lines[place] = json.dumps(record, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
                except (ValueError, RecursionError):
                    pass  # an earlier change left no JSON
            elif kind < 0.75:
                lines[place], what = change_text(rng, lines[place])
                said.append(f"line {place + 1}: {what}")
            elif kind < 0.85:
                other = rng.choice(list(self.seeds))
                lines[place] = rng.choice(self.seeds[other])
                said.append(f"line {place + 1}: one of {other}")
            elif kind < 0.9:
                cut = rng.randrange(len(lines[place]) + 1)
                lines[place] = lines[place][:cut] + rng.choice(self.seeds[name])[cut:]
                said.append(f"line {place + 1}: spliced at {cut}")
        data = b"\n".join(lines) + b"\n"
        if len(said) == 1 or rng.random() < 0.25:
            data, what = change_bytes(rng, data)
            said.append(what)
        for file, content in (("mutant.jsonl", data), ("seed.jsonl", b"\n".join(self.seeds[name]) + b"\n"), ("out.jsonl", data)):
            with open(os.path.join(folder, file), "wb") as stream:
                stream.write(content)
        os.symlink(self.dump, os.path.join(folder, "tiny.h5"))
        commands = [
            {"arguments": ["compare", "seed.jsonl", "mutant.jsonl"], "fine": (0, 1)},
            {"arguments": ["compare", "mutant.jsonl", "seed.jsonl"], "fine": (0, 1)},
            {"arguments": [*OWN, "--out", "out.jsonl"], "fine": (0, 1), "by": "continued"},
            {"arguments": ["report.py", "mutant.jsonl"], "by": "reported", "whole": rng.random() < 0.1},
        ]
        return Case(commands, "; ".join(said))

    def judge(self, command, folder, limits):
        """What the runner does not know how to judge."""
        return getattr(self, command["by"])(command, folder, limits)

    def continued(self, command, folder, limits):
        """A run that goes on with a file: it is refused as it is, or every whole line of it is still there."""
        path = os.path.join(folder, "out.jsonl")
        with open(path, "rb") as stream:
            before = stream.read()
        done = run([self.program, *command["arguments"]], folder, limits)
        outcome = judge(*done, limits, command["fine"])
        with open(path, "rb") as stream:
            after = stream.read()
        if outcome.kind == REFUSED and after != before:
            return Outcome(VIOLATION, "a refused --out file was changed", outcome.seconds, outcome.bytes)
        whole = before.split(b"\n")[:-1]
        if outcome.kind == ACCEPTED and after.split(b"\n")[: len(whole)] != whole:
            return Outcome(VIOLATION, "a whole line of --out is gone", outcome.seconds, outcome.bytes)
        return outcome

    def reported(self, command, folder, limits):
        """The report of the mutant, by a fork of this process; if not a whole one, with coarse pictures, which are made in
        the same way and written in a fraction of the time."""
        started, words = time.monotonic(), os.path.join(folder, "words")
        child = os.fork()
        if child == 0:
            if not command["whole"]:
                self.style.save = self._coarse
            os._exit(self._make_report(folder, words))
        status, usage = _wait(child, started + REPORT_SECONDS)
        seconds, peak = time.monotonic() - started, usage.ru_maxrss * 1024
        if status is None:
            return Outcome(VIOLATION, f"report: not done in {REPORT_SECONDS:g} s", seconds, peak)
        with open(words, "rb") as stream:
            err = stream.read()
        return self._judge_report(status, err, folder, seconds, peak)

    def _coarse(self, figure, folder, stem):
        self.style.make_drawable(figure)
        figure.savefig(os.path.join(folder, f"{stem}.png"), dpi=15)
        self.style.plt.close(figure)
        return stem

    def _make_report(self, folder, words):
        """The exit status; 70 for an exception that reached the top."""
        descriptor = os.open(words, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = open(os.devnull, "w"), open(2, "w", closefd=False)
        try:
            out = os.path.join(folder, "report")
            return self.report.main([os.path.join(folder, "mutant.jsonl"), "--out", out])
        except BaseException as error:  # noqa: BLE001: whatever it is, it is what is looked for
            place = error.__traceback__
            while place.tb_next:
                place = place.tb_next
            where = f"{os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}"
            sys.stderr.write(f"{type(error).__name__} at {where}: {str(error)!r:.200}\n")
            return 70
        finally:
            sys.stderr.flush()

    def _judge_report(self, status, err, folder, seconds, peak):
        def violation(reason):
            return Outcome(VIOLATION, f"report: {reason}", seconds, peak)

        lines = err.decode(errors="replace").splitlines()
        if status < 0:
            return violation(f"ended by {signal.Signals(-status).name}")
        if status not in (0, 1, 2):
            return violation(lines[-1] if lines else f"exit status {status}")
        if len(lines) != (status != 0):
            return violation(f"{len(lines)} lines on stderr with exit status {status}: {' / '.join(lines)[:200]}")
        out = os.path.join(folder, "report")
        if status == 2:
            return violation("refused, and something was written") if os.path.exists(out) else Outcome(REFUSED, lines[0], seconds, peak)
        left = [name for name in os.listdir(out) if name not in ("report.md", "plots", "tables")]
        if left:
            return violation(f"left {left[0]} behind")
        with open(os.path.join(out, "report.md"), encoding="utf-8") as stream:
            if "<script" in stream.read():
                return violation("markup out of a record is in the report")
        return Outcome(ACCEPTED, "", seconds, peak)

    def notes(self, case, outcomes):
        """How each reader took it."""
        names = ("compare with", "compare to", "continue", "report")
        return [f"{name}: {outcome.kind}" for name, outcome in zip(names, outcomes)]


def _wait(child, deadline):
    """(exit status, usage) of a fork; the status is None where it had to be stopped."""
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            return None, os.wait4(child, 0)[2]
        time.sleep(0.005)


def subject():
    return Records()
