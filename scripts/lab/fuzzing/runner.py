"""Runs the program on damaged input, with limits, and judges what it did. Knows nothing of what the input is."""

import collections
import json
import multiprocessing
import os
import random
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import Protocol

from lab.shared.records import make_record

ACCEPTED, REFUSED, VIOLATION = "accepted", "refused", "violation"
# What a library says of itself, without a word on what was wanted where: no message for a user.
BARE = re.compile(r"draftbench: (std::\w+|sto[dil]+|basic_\w+|vector::\w+|map::at|\[json\.exception[^:]*|.*_M_\w+.*)$")
CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]")
MOST_OUTPUT = 1 << 22  # bytes kept of each stream


@dataclass(frozen=True)
class Limits:
    seconds: float = 5.0
    bytes: int = 1_000_000_000


@dataclass(frozen=True)
class Outcome:
    kind: str  # accepted, refused or violation
    reason: str  # the line of a refusal, or what is wrong
    seconds: float = 0.0
    bytes: int = 0  # peak resident memory, also of the processes that the program started


@dataclass(frozen=True)
class Case:
    """One damaged input: the commands to run on it, each a list of arguments, and how it was made."""

    commands: list
    recipe: str
    notes: list = field(default_factory=list)


class Subject(Protocol):
    """What is damaged. `prepare` is called once, `case` for every index, in any process and any order."""

    name: str

    def prepare(self, folder: str, program: str) -> None: ...

    def case(self, rng: random.Random, folder: str) -> Case: ...

    def notes(self, case: Case, outcomes: list) -> list: ...


def run(command, folder, limits):
    """(exit status, stdout, stderr, seconds, peak bytes); the status is None where it was stopped at the limit, twice: what
    loops does so again, what a busy machine kept waiting does not."""
    found = _run_once(command, folder, limits)
    return _run_once(command, folder, limits) if found[0] is None else found


def _run_once(command, folder, limits):
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    streams = {process.stdout: bytearray(), process.stderr: bytearray()}
    deadline = started + limits.seconds
    late = False
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and not late:
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                piece = os.read(key.fd, 1 << 16)
                if not piece:
                    selector.unregister(key.fileobj)
                elif len(streams[key.fileobj]) < MOST_OUTPUT:
                    streams[key.fileobj] += piece
            late = time.monotonic() >= deadline
    pid, status, usage = os.wait4(process.pid, 0 if not late and _ends(process.pid, deadline) else os.WNOHANG)
    if pid == 0:
        late = True
        os.killpg(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    out, err = (bytes(streams[stream]) for stream in (process.stdout, process.stderr))
    process.stdout.close()
    process.stderr.close()
    return (None if late else process.returncode), out, err, time.monotonic() - started, usage.ru_maxrss * 1024


def _ends(pid, deadline):
    """Whether the process ends before the deadline; leaves its status to be waited for."""
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.001)
    return True


def judge(status, out, err, seconds, peak, limits, fine=(0,)):
    """What the program did with one input: `fine` are the exit statuses that accept it."""

    def violation(reason):
        return Outcome(VIOLATION, reason, seconds, peak)

    if status is None:
        return violation(f"not done in {limits.seconds:g} s")
    if status < 0:
        return violation(f"ended by {signal.Signals(-status).name}")
    if peak > limits.bytes:
        return violation(f"more than {limits.bytes / 1e6:.0f} MB")
    if CONTROL.search(out + err):
        return violation("control characters on the terminal")
    lines = err.decode(errors="replace").splitlines()
    if status == 2 and len(lines) != 1:
        return violation(f"refused with {len(lines)} lines on stderr for 1")
    if status == 2 and BARE.match(lines[0]):
        return violation(f"bare words of a library: {lines[0]}")
    if status == 2:
        return Outcome(REFUSED, lines[0], seconds, peak)
    if status not in fine:
        return violation(f"exit status {status}")
    return Outcome(ACCEPTED, "", seconds, peak)


class Fuzz:
    """Cases of one subject and seed against one program."""

    def __init__(self, subject, seed, program, limits=Limits()):
        self.subject, self.seed, self.program, self.limits = subject, seed, os.path.abspath(program), limits

    def one(self, index, folder):
        """Makes the case of this index in a folder and runs it: (case, outcomes by command)."""
        case = self.subject.case(random.Random(f"{self.subject.name} {self.seed} {index}"), folder)
        outcomes = []
        for command in case.commands:
            if isinstance(command, dict) and "by" in command:  # the subject runs and judges this one itself
                outcomes.append(self.subject.judge(command, folder, self.limits))
                continue
            arguments, fine = (command["arguments"], command["fine"]) if isinstance(command, dict) else (command, (0,))
            done = run([self.program, *arguments], folder, self.limits)
            outcomes.append(judge(*done, self.limits, fine))
        return case, outcomes

    def many(self, indices, jobs):
        """Yields (index, case, outcomes, notes), in no order."""
        global _current
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            self.subject.prepare(folder, self.program)
            _current = (self, folder)
            with multiprocessing.get_context("fork").Pool(jobs) as pool:
                yield from pool.imap_unordered(_in_worker, indices, chunksize=8)


_current = None  # of this process and the workers that it forks


def _in_worker(index):
    fuzz, root = _current
    folder = os.path.join(root, str(os.getpid()))
    os.makedirs(folder, exist_ok=True)
    case, outcomes = fuzz.one(index, folder)
    notes = fuzz.subject.notes(case, outcomes)
    for entry in os.scandir(folder):
        shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
    return index, case, outcomes, notes


def summary(fuzz, results, seconds):
    """One record of a whole run. An outcome counts by case: the worst over its commands."""
    outcomes, notes, reasons, violations = (collections.Counter(), collections.Counter(), collections.Counter(), [])
    slowest, most = 0.0, 0
    count = 0
    for index, case, found, said in results:
        count += 1
        kinds = [outcome.kind for outcome in found]
        outcomes[next(kind for kind in (VIOLATION, REFUSED, ACCEPTED) if kind in kinds)] += 1
        notes.update(said)
        slowest = max(slowest, *(outcome.seconds for outcome in found))
        most = max(most, *(outcome.bytes for outcome in found))
        for command, outcome in zip(case.commands, found):
            if outcome.kind == VIOLATION:
                reasons[outcome.reason] += 1
                violations.append({"index": index, "command": command, "reason": outcome.reason, "recipe": case.recipe})
    about = json.loads(subprocess.run([fuzz.program, "about"], capture_output=True, check=True).stdout)
    config = {"seed": fuzz.seed, "count": count, "seconds_limit": fuzz.limits.seconds, "bytes_limit": fuzz.limits.bytes}
    metrics = {
        **{kind: outcomes[kind] for kind in (ACCEPTED, REFUSED, VIOLATION)},
        "slowest_seconds": round(slowest, 3),
        "most_bytes": most,
        "seconds": round(seconds, 1),
    }
    where = about["machine"], about["build"]
    status, most_notes = "failed" if violations else "ok", dict(notes.most_common(20))
    record = make_record(f"fuzz_{fuzz.subject.name}", {}, config, metrics, *where, status, notes=most_notes)
    record["violations"] = sorted(violations, key=lambda v: v["index"])[:100]
    if violations:
        record["reason"] = "; ".join(f"{times} times: {reason}" for reason, times in reasons.most_common(20))
    return record
