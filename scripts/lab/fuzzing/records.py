"""Files of records, damaged by bytes and by structure: compared both ways, continued by a run, and made a report of."""

import json
import os
import signal
import subprocess
import sys
import time

from lab.fuzzing.record_changes import change_bytes, change_structure, change_text
from lab.fuzzing.runner import ACCEPTED, REFUSED, VIOLATION, Case, Outcome, judge, run
from lab.shared.files import ROOT

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
        from lab.report import __main__ as report
        from lab.report import page, style  # noqa: F401  imported once, and not in every fork

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
        for file, content in (
            ("mutant.jsonl", data),
            ("seed.jsonl", b"\n".join(self.seeds[name]) + b"\n"),
            ("out.jsonl", data),
        ):
            with open(os.path.join(folder, file), "wb") as stream:
                stream.write(content)
        os.symlink(self.dump, os.path.join(folder, "tiny.h5"))
        commands = [
            {"arguments": ["compare", "seed.jsonl", "mutant.jsonl"], "fine": (0, 1)},
            {"arguments": ["compare", "mutant.jsonl", "seed.jsonl"], "fine": (0, 1)},
            {"arguments": [*OWN, "--out", "out.jsonl"], "fine": (0, 1), "by": "continued"},
            {"arguments": ["report", "mutant.jsonl"], "by": "reported", "whole": rng.random() < 0.1},
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
        except BaseException as error:  # noqa: BLE001  whatever it is, it is what is looked for
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
            if os.path.exists(out):
                return violation("refused, and something was written")
            return Outcome(REFUSED, lines[0], seconds, peak)
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
