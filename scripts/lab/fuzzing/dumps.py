"""Damaged dumps: small ones of every layout, filter and element type, changed byte by byte or through h5py."""

import functools
import os
import random
import resource
import signal

from qkv_dump import DumpError, read_dump  # here: a fork that imports them takes twice as long

from lab.fuzzing import dump_changes, dump_seeds
from lab.fuzzing.runner import ACCEPTED, VIOLATION, Case

FILE = "mutant.h5"
COMMANDS = [  # (how often, arguments, exit statuses that accept); a damaged number may fail a check
    (84, ["inspect", FILE, "--check"], (0,)),
    (4, ["inspect", FILE], (0,)),
    (
        3,
        ["run", FILE, "--sparsity", "0.5", "--region", "8x16", "--quiet", "--threads", "1", "--out", "r.jsonl"],
        (0, 1),
    ),
    (3, ["bounds", FILE, "--sparsity", "0.5", "--rule", "row", "--quiet", "--threads", "1"], (0, 1)),
    (2, ["pooling", FILE, "--sparsity", "0.5", "--region", "8x16", "--quiet", "--threads", "1"], (0, 1)),
    (2, ["regions", FILE, "--sparsity", "0.5", "--region", "8x16", "--quiet", "--threads", "1"], (0, 1)),
    (1, ["verify", FILE, "--quiet"], (0, 1)),
    (1, ["latency", FILE, "--quiet"], (0, 1)),
]
READER_SECONDS = 10  # of the processor, for Python's reader


class Dumps:
    name = "dumps"

    def __init__(self):
        self._folder = None

    def prepare(self, folder, program):
        """Writes the sound dumps that all others are made from."""
        self._folder = os.path.join(folder, "seeds")
        os.makedirs(self._folder, exist_ok=True)
        dump_seeds.write(self._folder)

    @functools.cached_property
    def _seeds(self):
        """{name: (bytes, offsets of those that are no captured numbers)}"""
        seeds = {}
        for name in sorted(os.listdir(self._folder)):
            path = os.path.join(self._folder, name)
            with open(path, "rb") as file:
                seeds[name] = file.read(), dump_seeds.structure_offsets(path)
        return seeds

    def case(self, rng, folder):
        name = rng.choice(sorted(self._seeds))
        content, structure = self._seeds[name]
        path = os.path.join(folder, FILE)
        if rng.random() < 0.12:
            with open(path, "wb") as file:
                file.write(content)
            recipe = dump_changes.change_through_h5py(rng, path)
        else:
            other, _ = self._seeds[rng.choice(sorted(self._seeds))]
            changed, recipe = dump_changes.change_bytes(rng, content, structure, other)
            with open(path, "wb") as file:
                file.write(changed)
        _, arguments, fine = rng.choices(COMMANDS, [often for often, *_ in COMMANDS])[0]
        return Case([{"arguments": arguments, "fine": fine}], f"{name}: {recipe}")

    def notes(self, case, outcomes):
        """What Python's reader makes of a dump that the program reads in whole."""
        arguments = case.commands[0]["arguments"]
        if outcomes[0].kind == VIOLATION or arguments != ["inspect", FILE, "--check"]:
            return []
        if outcomes[0].kind != ACCEPTED and not _sampled(case):
            return []
        return [f"{outcomes[0].kind}; by Python's reader {_python_reader(os.path.join(self._current_folder(), FILE))}"]

    def _current_folder(self):
        return os.path.join(os.path.dirname(self._folder), str(os.getpid()))


def _sampled(case):
    """One refused case of eight: Python's reader takes as long as the program."""
    return random.Random(case.recipe).random() < 1 / 8


def _python_reader(path):
    """accepted, refused, or what became of it; in a process of its own, because HDF5 may end that."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (READER_SECONDS, READER_SECONDS))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            try:
                for _ in read_dump(path):
                    pass
                status = 0
            except DumpError:
                status = 2
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "accepted", 2: "refused", 3: "an exception"}.get(status) or signal.Signals(-status).name


def subject():
    return Dumps()
