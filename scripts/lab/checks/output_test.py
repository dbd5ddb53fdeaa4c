"""What `draftbench` does to the files it writes and reads: nothing of the user's is overwritten, output that cannot be
written is said, and records of any content are compared or refused in one line."""

import fcntl
import json
import os
import resource
import signal
import subprocess
import tempfile
import unittest
import zlib

import h5py

from lab.checks.program import PROGRAM

RECORD = {
    "schema": 2,
    "experiment": "latency",
    "input": {"sha256": "ab", "capture": "c", "head": 0},
    "config": {"kernel": "mma", "device": "cuda", "region": [8, 16], "sparsity": 0.9},
    "metrics": {"kernel_rel_l2": 0.001, "check_3_5": 1.0, "kept_share": 0.1},
    "status": "ok",
}


def closed(*streams):
    """For preexec_fn: a program that starts with these descriptors closed."""
    return lambda: [os.close(stream) for stream in streams]


class Output(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def call(self, *arguments, status=0, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        done = subprocess.run([PROGRAM, *arguments], cwd=self.folder, timeout=120, text=True, **options)
        self.assertEqual(done.returncode, status, f"{arguments}: {done.stdout}{done.stderr}")
        return done

    def refused(self, *arguments, says, **options):
        done = self.call(*arguments, status=2, **options)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for part in says:
            self.assertIn(part, done.stderr)
        self.assertTrue(done.stderr.isprintable() or done.stderr[:-1].isprintable(), repr(done.stderr))

    def dump(self, name="small.h5"):
        self.call("generate", "block-smooth", "--out", name, "--grid", "2x8x16", "--text", "3")
        return name

    def write(self, name, *records):
        with open(self.path(name), "w") as file:
            file.writelines((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records)
        return name

    # --- files that are not ours ---

    def test_what_is_no_record_file_is_left_alone(self):
        whole = json.dumps(RECORD).encode() + b"\n"
        for content in (
            b"notes",
            b"notes\n",
            b'{\n "a": 1\n}\n',
            b"a,b\n1,2",
            b"\x89HDF\r\n\x1a\n",
            b"{}",
            b"\n",
            b"\0",
            b'{"schema": 3, "experiment": "x"',
            whole + b"x",
            whole + b'{"title": "x',
            whole + b"\0\0",
            json.dumps(RECORD | {"schema": 3}).encode() + b"\n",
            json.dumps([RECORD]).encode(),
        ):
            with open(self.path("n.txt"), "wb") as file:
                file.write(content)
            os.utime(self.path("n.txt"), (1, 1))
            self.refused("flops", "--out", "n.txt", says=["n.txt: line "])
            with open(self.path("n.txt"), "rb") as file:
                self.assertEqual(file.read(), content)
            self.assertEqual(os.stat(self.path("n.txt")).st_mtime, 1)
        self.call("flops", "--quiet", "--out", "all.jsonl")
        with open(self.path("all.jsonl")) as file:
            measured = len(file.readlines())
        for content in (b"", whole, whole[:1], whole[:33], whole + whole[:50], whole[:-1]):
            with open(self.path("r.jsonl"), "wb") as file:
                file.write(content)
            self.call("flops", "--quiet", "--out", "r.jsonl")
            with open(self.path("r.jsonl")) as file:
                self.assertEqual(len([json.loads(line) for line in file]), measured + (len(content) >= len(whole) - 1))

    def test_generate_replaces_dumps_alone(self):
        dump = self.dump()
        self.dump()
        for name, content in (
            ("n.txt", b"notes"),
            ("r.jsonl", json.dumps(RECORD).encode()),
            ("x.h5", b"\x89HDF\r\n\x1a\n"),
        ):
            with open(self.path(name), "wb") as file:
                file.write(content)
            self.refused("generate", "iid", "--out", name, says=[name, "wanted a new file or a dump to replace"])
            with open(self.path(name), "rb") as file:
                self.assertEqual(file.read(), content)
        os.mkfifo(self.path("fifo"))
        self.refused("generate", "iid", "--out", "fifo", says=["fifo", "no regular file"])
        self.refused("generate", "iid", "--out", "/dev/null", says=["/dev/null", "no regular file"])
        self.refused("generate", "iid", "--out", "", says=["--out", "the name of a file"])
        self.assertEqual(sorted(os.listdir(self.folder)), sorted(["fifo", "n.txt", "r.jsonl", dump, "x.h5"]))

    def test_generate_follows_links(self):
        dump = self.dump()
        os.symlink(dump, self.path("link"))
        os.symlink("nothing.h5", self.path("dangling"))
        self.call("generate", "iid", "--out", "link", "--grid", "1x2x2", "--head-dim", "4")
        self.call("generate", "iid", "--out", "dangling", "--grid", "1x2x2", "--head-dim", "4")
        self.assertTrue(os.path.islink(self.path("link")) and os.path.islink(self.path("dangling")))
        for name in (dump, "nothing.h5"):
            self.assertIn("iid", self.call("inspect", name).stdout)

    # --- output that cannot be written ---

    def test_a_dump_on_a_full_disk(self):
        dump = self.dump()
        with open(self.path(dump), "rb") as file:
            before = file.read()

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

        for name in (dump, "new.h5"):
            self.refused(
                "generate", "iid", "--out", name, "--grid", "4x16x32", "--head-dim", "64", says=[name], preexec_fn=limit
            )
        with open(self.path(dump), "rb") as file:
            self.assertEqual(file.read(), before)
        self.assertEqual(os.listdir(self.folder), [dump])

    def test_a_head_too_large_to_be_measured_is_refused_as_input(self):
        self.call("generate", "iid", "--out", "d.h5", "--grid", "1x8x16", "--head-dim", "4", "--dtype", "float64")
        with h5py.File(self.path("d.h5"), "r+") as file:
            for capture in file["captures"].values():
                capture["q"][...] = capture["k"][...] = 1e200
        done = self.call("bounds", "d.h5", "--out", "r.jsonl", "--quiet", status=2)
        self.assertRegex(
            done.stderr, r"\Adraftbench: d\.h5[^\n]*wanted[^\n]*\n\Z|\Adraftbench: d\.h5[^\n]*must[^\n]*\n\Z"
        )
        self.assertNotIn("not foreseen", done.stderr)
        self.assertEqual(done.stderr.count("d.h5"), 1)

    def test_a_sparse_file_gets_no_more_time(self):
        """A loop in damaged metadata ends in seconds, however large the file claims to be."""
        dump = self.dump()
        with open(self.path(dump), "r+b") as file:
            file.truncate(1 << 40)
        self.call("inspect", dump)  # sound all the same

    @unittest.skipIf("asan" in PROGRAM, "AddressSanitizer keeps freed memory")
    def test_large_heads_of_a_small_dump_fit_in_a_gigabyte(self):
        """A tensor of a head has 0.27 GB, and 0.54 GB as float64: 0.8 GB in all with one tensor, 1.9 GB with three."""
        self.call("generate", "iid", "--out", "d.h5", "--grid", "1x8192x16", "--head-dim", "1")
        with h5py.File(self.path("d.h5"), "r+") as file:
            for capture in file["captures"].values():
                for tensor in "qkv":
                    del capture[tensor]
                    made = capture.create_dataset(
                        tensor, (1, 2**17, 2**9), "f4", chunks=(1, 2**15, 2**9), compression=9
                    )
                    zeros = zlib.compress(bytes(2**26), 9)
                    for token in range(0, 2**17, 2**15):
                        made.id.write_direct_chunk((0, token, 0), zeros)
        self.assertLess(os.path.getsize(self.path("d.h5")), 10**6)
        process = subprocess.Popen([PROGRAM, "inspect", "d.h5", "--check"], cwd=self.folder, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)  # of the program and of its reader, the larger one
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        self.assertLess(1024 * usage.ru_maxrss, 10**9)

    def test_stdout_that_is_full(self):
        dump = self.dump()
        old = self.write("old.jsonl", RECORD)
        for command in (
            ["list"],
            ["about"],
            ["--help"],
            ["bounds", "--help"],
            ["inspect", dump],
            ["compare", old, old],
            ["compare", old, old, "--json"],
            ["flops"],
            ["pooling", dump, "--sparsity", "0.5"],
        ):
            with open("/dev/full", "w") as full:
                self.refused(*command, says=["stdout cannot be written: No space left on device"], stdout=full)
        with open("/dev/full", "w") as full:
            self.call("compare", old, old, "--quiet", stdout=full)
            self.call("flops", "--quiet", stdout=full, stderr=full)
            self.call("nothing", stdout=full, stderr=full, status=2)

    def test_streams_that_are_closed(self):
        dump = self.dump()
        self.refused("list", says=["stdout cannot be written"], preexec_fn=closed(1))
        for streams in ((0,), (1,), (2,), (1, 2), (0, 1, 2)):
            out = f"r{streams}.jsonl"
            self.call("pooling", dump, "--sparsity", "0.5", "--quiet", "--out", out, preexec_fn=closed(*streams))
            with open(self.path(out)) as file:
                self.assertEqual({json.loads(line)["experiment"] for line in file}, {"pooling"})
            self.call("flops", "--out", out, preexec_fn=closed(*streams), status=2 if 1 in streams else 0)
            with open(self.path(out)) as file:
                self.assertEqual({json.loads(line)["status"] for line in file}, {"ok"})
        self.call("frobnicate", preexec_fn=closed(1, 2), status=2)

    def test_out_that_is_no_file(self):
        dump = self.dump()
        os.mkfifo(self.path("fifo"))
        os.mkdir(self.path("folder"))
        os.symlink("nowhere/file", self.path("link"))
        command = ["pooling", dump, "--sparsity", "0.5", "--out"]
        self.refused(*command, "fifo", says=["fifo", "wanted a file, found a FIFO"])
        self.refused(*command, "/dev/full", says=["/dev/full", "found a device"])
        self.refused(*command, "folder", says=["folder", "Is a directory"])
        self.refused(*command, "link", says=["link", "No such file or directory"])
        self.refused(*command, "", says=["--out", "wanted the name of a file, found ''"])
        self.refused(*command[:-1], "--out=", says=["--out"])
        self.refused(*command, "a" * 300, says=["File name too long"])
        self.refused(*command, dump, says=[dump + ": line 1"])
        with open(self.path("both"), "w") as both:
            self.refused(*command, "both", says=["both", "stdout goes there"], stdout=both)
        with open(self.path("held"), "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.refused(*command, "held", says=["held", "is being written by another run"])
        self.assertEqual(sorted(os.listdir(self.folder)), sorted(["both", "fifo", "folder", "held", "link", dump]))

    def test_a_full_disk_leaves_whole_records(self):
        dump = self.dump()
        command = ["pooling", dump, "--sparsity", "0.5", "--quiet", "--out", "r.jsonl"]
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))  # the dump's reader may have more
        self.refused(*command, says=["r.jsonl: a record cannot be written: File too large"], preexec_fn=limit)
        with open(self.path("r.jsonl")) as file:
            kept = [json.loads(line) for line in file]
        self.assertGreater(len(kept), 0)
        self.call(*command)
        with open(self.path("r.jsonl")) as file:
            self.assertEqual([json.loads(line) for line in file][: len(kept)], kept)
        self.refused(
            "pooling",
            dump,
            "--sparsity",
            "0.5",
            "--out",
            "none.jsonl",
            says=["none.jsonl"],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard)),
        )
        self.assertFalse(os.path.exists(self.path("none.jsonl")))
        self.refused(
            "inspect",
            dump,
            "--check",
            says=["small.h5", "ulimit -f"],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        )

    # --- records from elsewhere ---

    def test_records_of_any_content_are_compared_or_refused(self):
        old = self.write("old.jsonl", RECORD)

        def with_part(part, **values):
            return json.dumps(RECORD | {part: RECORD[part] | values})

        text = json.dumps(RECORD)
        for line, says in (
            (json.dumps(RECORD | {"schema": 3}), "schema: wanted 2, which this version reads, found the later 3"),
            (json.dumps(RECORD | {"schema": "1"}), 'schema: wanted 2, found "1"'),
            (json.dumps({k: v for k, v in RECORD.items() if k != "schema"}), "schema: wanted 2, found no such key"),
            (json.dumps(RECORD | {"config": None}), "config: wanted an object, found null"),
            (json.dumps(RECORD | {"config": [1]}), "config: wanted an object, found a list of 1"),
            (with_part("config", sparsity="0.9"), 'config.sparsity: wanted a number from 0 to below 1, found "0.9"'),
            (with_part("config", sparsity=float("nan")), "config.sparsity: wanted JSON, found 'NaN'"),
            (with_part("config", region=[8]), "config.region: wanted two whole numbers"),
            (with_part("metrics", kept_share=None), "metrics.kept_share: wanted a finite number"),
            (with_part("metrics", kept_share="1"), "metrics.kept_share: wanted a finite number"),
            (with_part("metrics", kept_share=10**400), "metrics.kept_share: wanted a number that float64 holds"),
            (text.replace('"mma"', '{"a":' * 10**6 + "1" + "}" * 10**6), "wanted at most 32 levels, found more"),
            (text.replace('"mma"', "[" * 10**6), "wanted at most 32 levels, found more"),
            (text.replace('"mma"', '"mma", "kernel": "blas"'), "config.kernel: wanted one such member, found two"),
            (
                text.replace('"kept_share"', '"a\\u001b[31m|<script>\\n"').replace(" 0.1}", " null}"),
                "metrics.a\\x1b[31m|<script>\\n: wanted",
            ),
            ("{}", "schema: wanted 2, found no such key"),
            ("null", "wanted one JSON object, found null"),
            ("", "wanted one JSON object"),
            (text[:50], "line 2"),
            (text + text, "line 2"),
        ):
            new = self.write("new.jsonl", RECORD, line)
            for pair in ((old, new), (new, old)):
                self.refused("compare", *pair, says=["new.jsonl: line 2: ", says])
            self.refused("flops", "--out", "new.jsonl", says=["new.jsonl: line 2: ", says])

    def test_control_characters_are_shown_escaped(self):
        named = RECORD | {"input": RECORD["input"] | {"capture": "c\x1b[31m\n|<b>"}, "reason": "bad\x07"}
        worse = named | {"status": "failed", "metrics": RECORD["metrics"] | {"a\x1b": 1}}
        old, new = self.write("old.jsonl", named), self.write("new.jsonl", worse)
        shown = self.call("compare", old, new, status=1).stdout
        self.assertNotIn("\x1b", shown)
        self.assertNotIn("\x07", shown)
        self.assertIn("c\\x1b[31m\\n|<b>", shown)
        self.assertIn("bad\\x07", shown)

    def test_a_long_line_and_many_records(self):
        with open(self.path("long.jsonl"), "wb") as file:
            file.write(b'{"schema": 2, "experiment": "')
            file.truncate(2**30)  # NUL bytes, and no end
        limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))  # beside the libraries' own pages
        limited = {} if "asan" in PROGRAM else {"preexec_fn": limit}  # AddressSanitizer reserves terabytes
        old = self.write("old.jsonl", RECORD)
        self.refused(
            "compare", "long.jsonl", old, says=["long.jsonl: line 1: wanted at most 268435456 bytes"], **limited
        )
        many = self.write("many.jsonl", *(RECORD | {"input": {"sha256": "ab", "head": i}} for i in range(10**5)))
        self.assertIn("100000 cells compared", self.call("compare", many, many).stdout)

    # --- gates ---

    def test_a_gate_that_compares_nothing_fails(self):
        benchmark = '{"context": {"date": "x"}, "benchmarks": [{"name": "a", "real_time": 1.0, "time_unit": "ms"}]}'
        first = self.write("first.json", benchmark)
        self.refused("compare", first, first, says=["first.json: line 1: schema: wanted 2, found no such key"])
        nothing = self.write("nothing", "{}")
        self.refused("compare", nothing, nothing, says=["nothing: line 1"])
        empty = self.write("empty")
        self.refused("compare", empty, empty, says=["found 0 and 0 cells, none in both"])
        skipped = self.write("skipped", RECORD | {"status": "skipped", "reason": "x"})
        self.refused("compare", skipped, skipped, says=["found 1 in both, without a metric or a latency"])
        bare = self.write("bare", RECORD | {"metrics": {}})
        self.refused("compare", bare, bare, says=["found 1 in both, without a metric or a latency"])
        self.refused("compare", bare, self.write("full", RECORD), says=["found 1 in both"])
        other = self.write("other", RECORD | {"experiment": "bounds"})
        self.refused("compare", bare, other, says=["none in both"])

    def test_metrics_that_are_not_applicable(self):
        for name, lost in (("kernel_rel_l2", "worse"), ("kept_share", "changed"), ("check_3_5", "worse")):
            for before, after, verdict in (
                ("not_applicable", "not_applicable", None),
                (1.0, "not_applicable", lost),
                ("not_applicable", 1.0, "changed"),
            ):
                old, new = (
                    self.write(side, RECORD | {"metrics": {name: value}})
                    for side, value in (("old", before), ("new", after))
                )
                done = self.call("compare", old, new, "--json", status=1 if verdict == "worse" else 0)
                self.assertEqual(
                    [finding["verdict"] for finding in json.loads(done.stdout)["findings"]],
                    [verdict] if verdict else [],
                )
                self.call("compare", old, new, "--strict", status=1 if verdict else 0)

    def test_latency_for_programs(self):
        def cells(slower):
            return [
                RECORD
                | {
                    "input": {"sha256": "ab", "head": head},
                    "machine": {"gpu": "A"},
                    "timing": {"samples_ms": [(1 + 0.001 * ((7 * i + head) % 10)) * slower(head) for i in range(10)]},
                }
                for head in range(12)
            ]

        old = self.write("old.jsonl", *cells(lambda head: 1.0))
        new = self.write("new.jsonl", *cells(lambda head: 1.08 if head else 1.3))
        done = self.call("compare", old, new, "--json", status=1)
        found = json.loads(done.stdout)
        self.assertEqual(
            [(f["metric"], f["verdict"]) for f in found["findings"]],
            [("common_drift", "worse"), ("median_ms", "worse")],
        )
        self.assertAlmostEqual(found["drift"]["ratio"], 1.08, delta=0.005)
        self.assertEqual([cell["change"] for cell in found["latency"]].count("slower"), 1)
        for cell in found["latency"]:
            self.assertTrue(1.05 <= cell["detectable"] < 1.1, cell)
        text = self.call("compare", old, new, status=1).stdout
        self.assertIn("11 cells together", text)
        self.assertRegex(text, r"latency: a change of 1\.0\d\d would have been found")
