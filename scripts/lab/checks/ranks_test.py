"""Ranks of mpirun share a run: the same records whatever their number is; a rank, mpirun or both may be killed at any time,
and the next run goes on with nothing lost and nothing doubled; what is wrong is said once.

RANKS_KILLS=50 kills more often than the usual 5 times."""

import collections
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import pytest

from lab.checks.program import PROGRAM

MPIRUN = shutil.which("mpirun")
if MPIRUN is None:
    pytest.skip("no mpirun: install openmpi-bin and libopenmpi-dev", allow_module_level=True)
if not os.path.exists(os.path.join(os.path.dirname(PROGRAM), "libdraft_mpi.so")):
    pytest.skip(f"{PROGRAM} was built without MPI", allow_module_level=True)

KILLS = int(os.environ.get("RANKS_KILLS", "5"))
COMMANDS = {  # of one small dump, some cells each
    "run": ["--sparsity", "0.5", "--region", "8x16"],
    "bounds": ["--sparsity", "0.5,0.9", "--pool", "avg", "--rule", "softmax"],
    "policies": ["--sparsity", "0.75", "--policy", "draft,oracle,svg,random", "--calls", "--masks"],
}
ENVIRONMENT = {
    **os.environ,
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",  # more ranks than cores
    "OMPI_MCA_hwloc_base_binding_policy": "none",
}


def identity(record):
    return json.dumps([record["experiment"], record["input"]["capture"], record["input"]["head"], record["config"]])


def content(record):
    """All that does not depend on when it was measured, and how warm the GPU was."""
    kept = {key: value for key, value in record.items() if key not in ("run", "time")}
    kept["machine"] = {key: value for key, value in kept["machine"].items() if key not in ("sm_clock_mhz", "power_w")}
    return kept


def problems(records, wanted):
    """What is lost, doubled or different in `records`, against `wanted`."""
    counts = collections.Counter(map(identity, records))
    by_cell = {identity(record): content(record) for record in records}
    found = [f"doubled: {cell}" for cell, count in counts.items() if count > 1]
    for record in wanted:
        cell = identity(record)
        if cell not in by_cell:
            found.append(f"lost: {cell}")
        elif by_cell[cell] != content(record):
            found.append(f"different: {cell}")
    found += [f"not asked for: {cell}" for cell in set(by_cell) - set(map(identity, wanted))]
    return found


def ranks_of(launcher):
    """{rank: process id} of the ranks that a running mpirun has started."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
            with open(f"/proc/{name}/environ", "rb") as file:
                variables = dict(each.partition(b"=")[::2] for each in file.read().split(b"\0"))
        except OSError:  # it has ended
            continue
        if parent == launcher and b"OMPI_COMM_WORLD_RANK" in variables:
            found[int(variables[b"OMPI_COMM_WORLD_RANK"])] = int(name)
    return found


def is_running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Ranks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def command(self, count, *arguments, program=PROGRAM):
        return ([] if count == 0 else [MPIRUN, "-n", str(count)]) + [program, *arguments]

    def call(self, count, *arguments, status=0, **more):
        """On `count` ranks; 0: without mpirun."""
        command = self.command(count, *arguments, **more)
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env=ENVIRONMENT, timeout=300, check=False
        )
        self.assertEqual(done.returncode, status, f"{command}: {done.stdout}{done.stderr}")
        return done

    def dump(self, grid="2x8x16", heads=4, name="small.h5"):
        shape = ["--grid", grid, "--heads", str(heads), "--head-dim", "64", "--text", "3"]
        self.call(0, "generate", "iid", "--out", name, *shape)
        return name

    def text(self, name):
        with open(self.path(name)) as file:
            return file.read()

    def records(self, name):
        return [json.loads(line) for line in self.text(name).splitlines()]

    def test_records_and_tables_are_the_same_whatever_the_number_of_ranks(self):
        dump = self.dump()
        for command, options in COMMANDS.items():
            table = self.call(0, command, dump, *options, "--out", f"{command}.jsonl").stdout
            wanted = self.records(f"{command}.jsonl")
            self.assertEqual(len({record["input"]["head"] for record in wanted}), 4)
            for count in (1, 2, 3):
                out = f"{command}{count}.jsonl"
                done = self.call(count, command, dump, *options, "--out", out)
                found = self.records(out)
                self.assertEqual(problems(found, wanted), [], f"{command} on {count} ranks")
                self.assertEqual(done.stdout, table, f"{command} on {count} ranks")
                self.assertEqual(len({record["run"] for record in found}), 1, "one run, one id")
            again = self.call(2, command, dump, *options, "--out", out)  # nothing is left to do
            self.assertEqual(self.records(out), found)
            self.assertEqual(again.stdout, table)

    def test_verify_is_shared_too(self):
        dump = self.dump(heads=20)
        verify = ["verify", dump, "--blocks", "2", "--sparsity", "0.9", "--rule", "softmax", "--out"]
        alone = subprocess.run(self.command(0, *verify, "v.jsonl"), capture_output=True, text=True, cwd=self.folder)
        if alone.returncode == 2 and "GPU" in alone.stderr:
            self.assert_said_once(self.call(2, *verify, "v.jsonl", status=2), "verify: ", "GPU")
            self.assertFalse(os.path.exists(self.path("v.jsonl")))
            self.skipTest("no GPU: whether verify's records are the same on 1, 2 and 3 ranks is not tested")
        self.assertEqual(alone.returncode, 0, alone.stderr)
        for count in (1, 2, 3):
            done = self.call(count, *verify, f"v{count}.jsonl")
            self.assertEqual(problems(self.records(f"v{count}.jsonl"), self.records("v.jsonl")), [])
            self.assertEqual(done.stdout, alone.stdout)

    def test_the_comparison_can_fail(self):
        dump = self.dump(heads=2)
        self.call(0, "bounds", dump, *COMMANDS["bounds"], "--out", "r.jsonl")
        records = self.records("r.jsonl")
        self.assertEqual(problems(records, records), [])
        self.assertEqual([each.split(":")[0] for each in problems(records[1:], records)], ["lost"])
        self.assertEqual([each.split(":")[0] for each in problems([*records, records[0]], records)], ["doubled"])
        self.assertEqual([each.split(":")[0] for each in problems(records, records[1:])], ["not asked for"])
        other = json.loads(json.dumps(records))
        other[0]["metrics"]["attention_recall"] += 1e-15
        self.assertEqual([each.split(":")[0] for each in problems(other, records)], ["different"])

    def assert_said_once(self, done, *says):
        lines = [line for line in done.stderr.splitlines() if line.startswith("draftbench: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        for part in says:
            self.assertIn(part, lines[0])
        self.assertEqual(done.stdout, "")

    def test_what_is_wrong_is_said_once(self):
        dump = self.dump()
        out = ["--out", "r.jsonl"]
        for arguments, says in [
            (["bounds", dump, *out, "--sparsity", "1.5"], ["--sparsity", "1.5"]),
            (["bounds", "missing.h5", *out], ["missing.h5"]),
            (["bounds", dump, *out, "--heads", "9"], ["--heads", "9"]),
            (["bounds", dump, "--out", "no/such/folder/r.jsonl"], ["no/such/folder"]),
            (["frobnicate"], ["frobnicate"]),
            (["compare", "a.jsonl", "b.jsonl"], ["compare: wanted one process, found 3", "verify"]),
            (["generate", "iid", "--out", "other.h5"], ["generate: wanted one process, found 3"]),
        ]:
            with self.subTest(arguments=arguments):
                self.assert_said_once(self.call(3, *arguments, status=2), *says)
        self.assertEqual(os.listdir(self.folder), ["small.h5"])
        help_text = self.call(0, "bounds", "--help").stdout
        self.assertEqual(self.call(2, "bounds", "--help").stdout, help_text)

    def test_a_program_whose_mpi_is_missing_says_so_once(self):
        dump = self.dump()
        alone = shutil.copy(PROGRAM, self.path("draftbench"))
        self.assert_said_once(self.call(2, "bounds", dump, status=2, program=alone), "2 processes", "MPI")
        self.call(0, "bounds", dump, *COMMANDS["bounds"], "--quiet", program=alone)

    def stop(self, launcher, kind, random_numbers):
        """Ends a running launch in one of several ways."""
        ranks = ranks_of(launcher.pid)
        if kind == "a rank" and ranks:
            os.kill(ranks[random_numbers.choice(sorted(ranks))], signal.SIGKILL)
        elif kind == "the first rank" and 0 in ranks:
            os.kill(ranks[0], signal.SIGKILL)
        elif kind == "mpirun":
            launcher.kill()
        else:
            launcher.send_signal(signal.SIGTERM if kind == "SIGTERM" else signal.SIGINT)
        launcher.wait(timeout=30)
        deadline = time.monotonic() + 5
        while any(map(is_running, ranks.values())):
            self.assertLess(time.monotonic(), deadline, f"{kind}: a rank lives on")
            time.sleep(0.02)

    def test_kills_lose_nothing_and_double_nothing(self):
        dump = self.dump(grid="2x32x32", heads=12)
        command = ["bounds", dump, "--sparsity", "0.5,0.9", "--pool", "avg", "--rule", "softmax", "--quiet", "--out"]
        self.call(0, *command, "serial.jsonl")
        wanted = self.records("serial.jsonl")
        seed = random.randrange(10**6)
        random_numbers = random.Random(seed)
        kinds = ["a rank", "mpirun", "the first rank", "SIGINT", "SIGTERM"]
        killed = collections.Counter()
        part_way = 0  # kills that found some records, but not all
        for number in range(KILLS):
            out = f"killed{part_way}.jsonl"  # one file until it is complete
            kind = kinds[number % len(kinds)]
            before = self.text(out) if os.path.exists(self.path(out)) else ""
            before = before[: before.rfind("\n") + 1]
            count = random_numbers.choice((2, 3))
            launcher = subprocess.Popen(
                self.command(count, *command, out),
                cwd=self.folder,
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # Some time after the first new record, or before it.
            delay = random_numbers.choice((0.0, random_numbers.uniform(0.0, 0.5)))
            deadline = time.monotonic() + (random_numbers.uniform(0.2, 0.8) if delay == 0.0 else 60)
            while time.monotonic() < deadline and launcher.poll() is None:
                if os.path.exists(self.path(out)) and os.path.getsize(self.path(out)) > len(before):
                    break
                time.sleep(0.002)
            time.sleep(delay)
            if launcher.poll() is None:
                self.stop(launcher, kind, random_numbers)
                killed[kind] += 1
            after = self.text(out) if os.path.exists(self.path(out)) else ""
            with self.subTest(seed=seed, number=number, kind=kind):
                self.assertTrue(after.startswith(before), "a finished record is lost")
                lines = after[: after.rfind("\n") + 1].splitlines()
                self.assertEqual([p for p in problems(map_json(lines), wanted) if not p.startswith("lost")], [])
            if len(lines) == len(wanted):  # it was too late: the next kill has a new file
                part_way += 1
            elif lines:
                killed["part-way"] += 1
        for number in range(part_way + 1):
            self.call(random_numbers.choice((0, 2, 3)), *command, f"killed{number}.jsonl")
            self.assertEqual(problems(self.records(f"killed{number}.jsonl"), wanted), [], f"seed {seed}, {killed}")
        self.assertGreaterEqual(sum(killed[kind] for kind in kinds), KILLS // 2, f"seed {seed}: {killed}")
        print(f"seed {seed}: {dict(killed)}, {part_way + 1} files")


def map_json(lines):
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    unittest.main()
