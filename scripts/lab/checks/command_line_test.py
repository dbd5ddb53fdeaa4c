"""What a user of `draftbench` sees: exit statuses, one clear line for bad input, nothing half-written, runs
that continue after a kill."""

import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
import unittest
import unittest.mock

from lab.checks.program import PROGRAM

SUBCOMMANDS = (
    "run inspect bounds pooling regions flops generate verify latency overhead show compare list about".split()
)


class CommandLine(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def call(self, *arguments, status=0):
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, cwd=self.folder.name, timeout=300)
        self.assertEqual(done.returncode, status, f"{arguments}: {done.stdout}{done.stderr}")
        return done

    def dump(self, kind="block-smooth", name="small.h5", grid="2x8x16", heads=2):
        self.call(
            "generate", kind, "--out", name, "--grid", grid, "--heads", str(heads), "--head-dim", "64", "--text", "3"
        )
        return name

    def refused(self, *arguments, says):
        """Exit status 2, one line on stderr with each of `says`, nothing on stdout, no new file."""
        before = sorted(os.listdir(self.folder.name))
        done = self.call(*arguments, status=2)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        for part in says:
            self.assertIn(part, lines[0])
        self.assertEqual(done.stdout, "")
        self.assertEqual(sorted(os.listdir(self.folder.name)), before)

    def text(self, name):
        with open(self.path(name)) as file:
            return file.read()

    def records(self, name):
        return [json.loads(line) for line in self.text(name).splitlines()]

    def test_help_of_each_subcommand_shows_an_example(self):
        for subcommand in SUBCOMMANDS:
            text = self.call(subcommand, "--help").stdout
            self.assertIn("Example: draftbench " + subcommand, text)

    def test_bad_usage_is_one_line_and_status_2(self):
        dump = self.dump()
        self.refused("frobnicate", says=["frobnicate"])
        self.refused(says=["subcommand"])
        self.refused("bounds", says=["DUMP"])
        self.refused("bounds", "missing.h5", says=["missing.h5"])
        out = ["--out", "r.jsonl"]
        self.refused("bounds", dump, *out, "--sparsity", "1.5", says=["--sparsity", "1.5"])
        self.refused("bounds", dump, *out, "--sparsity", "half", says=["--sparsity", "half"])
        self.refused("bounds", dump, *out, "--pool", "median", says=["--pool", "avg", "max", "median"])
        self.refused("bounds", dump, *out, "--rule", "top", says=["--rule", "released", "top"])
        self.refused("bounds", dump, *out, "--region", "8by16", says=["--region", "8by16"])
        self.refused("bounds", dump, *out, "--device", "tpu", says=["--device", "cpu", "tpu"])
        self.refused("bounds", dump, *out, "--heads", "7", says=["--heads", "7"])
        self.refused("bounds", dump, *out, "--capture", "layer9", says=["layer9"])
        self.refused("bounds", dump, "--out", "no/such/folder/r.jsonl", says=["no/such/folder"])
        with open(self.path("text.h5"), "w") as file:
            file.write("not a dump")
        self.refused("run", "text.h5", *out, says=["text.h5", "HDF5"])

    def test_every_experiment_writes_records_and_a_table(self):
        dump = self.dump()
        for experiment, cells in (("bounds", 10), ("pooling", 6), ("regions", 3)):
            out = experiment + ".jsonl"
            region = [] if experiment == "bounds" else ["--region", "4x8"]
            done = self.call(experiment, dump, "--sparsity", "0.5", "--out", out, *region)
            records = self.records(out)
            self.assertEqual(len(records), 2 * cells, experiment)
            self.assertTrue(all(r["status"] == "ok" and r["experiment"] == experiment for r in records))
            for key in ("schema", "input", "config", "metrics", "machine", "build", "time"):
                self.assertIn(key, records[0])
            self.assertIn("0.5", done.stdout)
            self.assertGreater(len(done.stdout.splitlines()), 2)

    def test_run_gives_what_the_single_experiments_give(self):
        dump = self.dump()
        options = ["--sparsity", "0.75", "--region", "4x8,8x16"]
        self.call("run", dump, "--out", "all.jsonl", "--quiet", *options)
        together = {json.dumps([r["experiment"], r["input"], r["config"]]): r for r in self.records("all.jsonl")}
        for experiment in ("bounds", "pooling", "regions"):
            self.call(experiment, dump, "--out", experiment, "--quiet", *options)
            for record in self.records(experiment):
                same = together.pop(json.dumps([record["experiment"], record["input"], record["config"]]))
                for name, value in record["metrics"].items():
                    # A finer common partition sums the same numbers in another order.
                    self.assertAlmostEqual(value, same["metrics"][name], delta=1e-10 * (1 + abs(value)), msg=name)
        self.assertEqual({json.loads(key)[0] for key in together}, {"maps"})

    def test_a_repeated_run_repeats_nothing(self):
        dump = self.dump()
        command = ["pooling", dump, "--sparsity", "0.5", "--out", "r.jsonl", "--quiet"]
        self.call(*command)
        first = self.text("r.jsonl")
        self.call(*command)
        self.assertEqual(self.text("r.jsonl"), first)
        self.call("pooling", dump, "--sparsity", "0.5,0.75", "--out", "r.jsonl", "--quiet")
        self.assertTrue(self.text("r.jsonl").startswith(first))
        self.assertEqual(len(self.records("r.jsonl")), 2 * 2 * 6)

    def test_a_run_reads_its_own_records_whatever_a_dump_numbers(self):
        import h5py  # only this test and a few others need it

        from lab.shared import record_file

        dump = self.dump()
        with h5py.File(self.path(dump), "r+") as file:
            for capture in file["captures"].values():
                capture.attrs.update(
                    {"layer": -1, "step": -(2**63), "steps": 2**63 - 1, "model_heads": [-5, 2**63 - 1]}
                )
        command = ["bounds", dump, "--rule", "row", "--sparsity", "0.5", "--out", "r.jsonl", "--quiet"]
        self.call(*command)
        first = self.text("r.jsonl")
        self.assertEqual(self.records("r.jsonl")[0]["input"]["layer"], -1)
        self.call(*command)
        self.assertEqual(self.text("r.jsonl"), first)
        self.call("compare", "r.jsonl", "r.jsonl")
        self.assertEqual(len(record_file.read_all(self.path("r.jsonl"))), len(first.splitlines()))

    def test_the_same_share_is_the_same_cell(self):
        dump = self.dump()
        command = ["bounds", dump, "--rule", "row", "--out", "r.jsonl", "--quiet", "--sparsity"]
        self.call(*command, "-0")
        first = self.text("r.jsonl")
        self.assertNotIn("-0.0", first)
        for sparsity in ("0", "-0.0", "0.0,-0.0"):
            self.call(*command, sparsity)
            self.assertEqual(self.text("r.jsonl"), first)

    def test_a_capture_with_a_comma_can_be_chosen(self):
        import h5py

        dump = self.dump()
        with h5py.File(self.path(dump), "r+") as file:
            [name] = list(file["captures"])
            file.copy("captures/" + name, "captures/a,b")
            file.copy("captures/" + name, "captures/a")

        def chosen(*arguments):
            lines = self.call("inspect", dump, *arguments).stdout.splitlines()
            return [line.split()[0] for line in lines if line.startswith(("a ", "a,b ", name + " "))]

        self.assertEqual(set(chosen("--capture", "a,b")), {"a,b"})
        self.assertEqual(set(chosen("--capture", "a," + name)), {"a", name})
        self.assertEqual(set(chosen("--capture", "a,b", "--capture", "a")), {"a", "a,b"})
        self.refused("inspect", dump, "--capture", "a,c", says=["c"])
        self.refused("inspect", dump, "--capture", "a,", says=["wanted"])

    def test_a_fifo_is_no_file_of_records(self):
        os.mkfifo(self.path("fifo"))
        self.write(
            "good.jsonl",
            [{"schema": 2, "experiment": "x", "input": {}, "config": {}, "metrics": {"a": 1}, "status": "ok"}],
        )
        for names in (("fifo", "good.jsonl"), ("good.jsonl", "fifo")):
            self.refused("compare", *names, says=["fifo", "wanted a file, found a FIFO"])

    def test_a_killed_run_continues_where_it_stopped(self):
        dump = self.dump(grid="4x16x32", heads=8)
        command = [PROGRAM, "run", dump, "--out", "r.jsonl", "--quiet"]
        running = subprocess.Popen(command, cwd=self.folder.name)
        deadline = time.time() + 120
        while running.poll() is None and time.time() < deadline:
            if os.path.exists(self.path("r.jsonl")) and os.path.getsize(self.path("r.jsonl")) > 0:
                break
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        running.wait()
        with open(self.path("r.jsonl"), "ab") as file:
            file.write(b'{"schema": 2, "experiment": "bou')  # what a kill within a write leaves
        kept = self.text("r.jsonl").splitlines()[:-1]
        self.call(*command[1:])
        records = self.records("r.jsonl")
        self.assertEqual(self.text("r.jsonl").splitlines()[: len(kept)], kept)
        keys = [json.dumps([r["experiment"], r["input"], r["config"]]) for r in records]
        self.assertEqual(len(keys), len(set(keys)))
        self.call("run", dump, "--out", "whole.jsonl", "--quiet")
        self.assertEqual(len(records), len(self.records("whole.jsonl")))
        self.assertLess(len(kept), len(records))

    def test_an_error_relative_to_nothing_is_not_applicable(self):
        import h5py  # only these two tests need it

        dump = self.dump(kind="iid", name="zero.h5")
        with h5py.File(self.path(dump), "r+") as file:
            for capture in file["captures"].values():
                capture["v"][...] = 0  # the relative output error is 0 / 0
        table = self.call("pooling", dump, "--sparsity", "0.5", "--out", "r.jsonl").stdout
        self.assertIn("n/a", table)
        self.assertNotIn("nan", table)
        for record in self.records("r.jsonl"):
            self.assertEqual(record["status"], "ok")
            for name in ("output_rel_l2", "output_rel_l1", "output_cosine", "output_psnr"):
                self.assertEqual(record["metrics"][name], "not_applicable")
            self.assertLess(record["metrics"]["attention_recall"], 1)

    def test_logits_that_no_double_holds_are_refused(self):
        import h5py
        import numpy as np

        dump = self.path(self.dump(kind="iid", name="large.h5"))
        with h5py.File(dump, "r+") as file:
            for capture in file["captures"].values():
                for name, factor in (("q", 1e160), ("k", 1e160), ("v", 1.0)):
                    rows = np.random.default_rng(1).standard_normal(capture[name].shape) * factor
                    del capture[name]
                    capture.create_dataset(name, data=rows)
        done = self.call("pooling", "large.h5", "--sparsity", "0.5", "--out", "r.jsonl", "--quiet", status=2)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        for says in ("large.h5", "head 0", "q and k", "float64"):
            self.assertIn(says, done.stderr)

    def test_a_damaged_dump_is_refused_by_every_command(self):
        dump = self.dump()
        with open(self.path(dump), "rb") as file:
            sound = file.read()
        at = sound.index(b"timestep\0")
        for name, content in (
            ("name", sound[: at + 4] + b"\0" + sound[at + 5 :]),
            ("cut", sound[: len(sound) // 2]),
            ("type", sound[: at + 16] + b"\x0f" + sound[at + 17 :]),
        ):
            with open(self.path(name + ".h5"), "wb") as file:
                file.write(content)
            for command in ("inspect", "bounds", "pooling", "regions", "run", "verify", "latency", "overhead"):
                out = [] if command == "inspect" else ["--out", "none.jsonl"]
                known = command in ("verify", "latency", "overhead")  # which may miss a GPU first
                self.refused(command, name + ".h5", *out, says=[] if known else [name + ".h5"])

    def test_names_of_a_dump_are_shown_escaped(self):
        import h5py  # only this test and a few others need it

        dump = self.dump()
        name, model = "\x1b[31mX\u202e", "a\nb\x9b2J"
        with h5py.File(self.path(dump), "r+") as file:
            file.move("captures/" + next(iter(file["captures"])), "captures/" + name)
            file.attrs["model"] = model
            file["captures"][name].attrs["prompt"] = "two\nlines\u200b"
        odd = self.path("caf\udce9\x1b.h5")  # bytes that are no UTF-8
        os.rename(self.path(dump), odd)
        done = subprocess.run([PROGRAM, "inspect", odd], capture_output=True, cwd=self.folder.name, timeout=300)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        text = done.stdout.decode()
        self.assertTrue(all(line.isprintable() for line in text.split("\n")), text)
        for escaped in ("caf\\xe9\\x1b.h5", "\\x1b[31mX\\u202e", "a\\nb\\u009b2J", "two\\nlines\\u200b"):
            self.assertIn(escaped, text)
        self.call("bounds", odd, "--rule", "row", "--sparsity", "0.5", "--heads", "0", "--quiet", "--out", "r.jsonl")
        record = self.records("r.jsonl")[0]
        self.assertEqual((record["input"]["dump"], record["input"]["capture"]), ("caf\\xe9\\x1b.h5", name))
        self.refused("bounds", odd, "--capture", "other", says=["\\x1b[31mX\\u202e"])

    def test_worst_cases_pass(self):
        for kind in ("iid", "peaked", "constant", "adversarial", "empty-rows"):
            dump = self.dump(kind, kind + ".h5", grid="2x9x20")
            self.call("run", dump, "--out", kind + ".jsonl", "--quiet", "--sparsity", "0.5,0.9", "--region", "4x8,8x16")
            self.assertTrue(all(r["status"] == "ok" for r in self.records(kind + ".jsonl")))

    def write(self, name, records):
        with open(self.path(name), "w") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        return name

    def test_show_shows_what_is_wanted(self):
        self.call("pooling", self.dump(), "--sparsity", "0.5,0.75", "--out", "a.jsonl", "--quiet")
        records = self.records("a.jsonl")
        wanted = [r for r in records if r["config"]["policy"] == "draft" and r["config"]["sparsity"] == 0.75]
        self.assertGreater(len(records), len(wanted))
        where = ["--where", "policy=draft,sparsity=0.75"]
        lines = self.call("show", "a.jsonl", *where, "--columns", "head,pool,attention_recall").stdout.splitlines()
        self.assertEqual(lines[0].split(), ["head", "pool", "attention_recall"])
        self.assertEqual(lines[-1], f"{len(wanted)} of {len(records)} records")
        for line, record in zip(lines[1:-1], wanted, strict=True):
            head, pool, recall = line.split()
            self.assertEqual([int(head), pool], [record["input"]["head"], record["config"]["pool"]])
            self.assertAlmostEqual(float(recall), record["metrics"]["attention_recall"], delta=5e-4)
        usual = self.call("show", "a.jsonl").stdout
        for name in ("experiment", "head", "policy", "sparsity", "attention_recall"):
            self.assertIn(name, usual.splitlines()[0].split())
        self.assertIn(f"... and {len(records) - 2} more", self.call("show", "a.jsonl", "--rows", "2").stdout)
        whole = self.call(
            "show", "--lines", "--where", "policy=draft", *where[:1], "sparsity=0.75", "a.jsonl"
        ).stdout.splitlines()
        self.assertEqual([json.loads(line) for line in whole], wanted)
        twice = self.write("twice.jsonl", [*records, dict(records[0], run="again")])  # a later one takes its place
        self.assertEqual(len(self.call("show", twice, "--lines").stdout.splitlines()), len(records))
        self.assertIn("0 of ", self.call("show", "a.jsonl", "--where", "sparsity>0.75", status=1).stdout)

    def test_show_refuses_bad_input(self):
        self.call("pooling", self.dump(), "--sparsity", "0.5", "--out", "a.jsonl", "--quiet")
        open(self.path("empty.jsonl"), "w").close()
        for names, says in [
            ([], ["FILE"]),
            (["none.jsonl"], ["none.jsonl", "No such file"]),
            (["empty.jsonl"], ["empty.jsonl", "wanted records, found none"]),
            (["a.jsonl", "--where", "polcy=draft"], ["none has 'polcy'"]),
            (["a.jsonl", "--columns", "recall"], ["none has 'recall'"]),
            (["a.jsonl", "--where", "policy"], ["--where: wanted FIELD=VALUE", "found 'policy'"]),
            (["a.jsonl", "--where", "sparsity<x"], ["wanted a number behind <, found 'x'"]),
            (["a.jsonl", "--rows", "-1"], ["--rows: wanted a whole number from 0", "'-1'"]),
        ]:
            self.refused("show", *names, says=says)

    def test_compare_finds_what_became_worse(self):
        self.call("pooling", self.dump(), "--sparsity", "0.5,0.75", "--out", "old.jsonl", "--quiet")
        records = self.records("old.jsonl")
        for record in records:
            record["metrics"]["kernel_rel_l2"] = 0.001
            record["timing"] = {"samples_ms": [2.0, 2.01, 2.02, 2.03, 2.04], "median_ms": 2.02}
        old = self.write("old.jsonl", records)
        summary = "24 cells compared, 24 with latency: 0 worse, 0 changed, 0 better; 0 only in OLD, 0 only in NEW\n"
        same = self.call("compare", old, old).stdout
        self.assertTrue(same.endswith("\n" + summary), same)
        self.assertRegex(
            same.splitlines()[-2], r"^latency: a change of 1\.0\d\d would have been found; all cells together: 1\.000"
        )
        new = self.write("new.jsonl", reversed(records))
        self.assertEqual(self.call("compare", old, new, "--strict").stdout, same)
        worse = json.loads(json.dumps(records))
        worse[3]["metrics"]["kernel_rel_l2"] = 0.004
        worse[5]["timing"]["samples_ms"] = [3.0, 3.01, 3.02, 3.03, 3.04]
        worse[7].update(status="failed", reason="a check_* flag is 0")
        worse[9]["metrics"]["attention_recall"] += 1e-6
        new = self.write("new.jsonl", worse)
        lines = self.call("compare", old, new, status=1).stdout.splitlines()
        self.assertEqual([line.split()[0] for line in lines[1:5]], ["worse", "worse", "worse", "changed"])
        self.assertRegex(lines[1], r"status +ok +failed +- ")
        self.assertIn("a check_* flag is 0", lines[1])
        self.assertRegex(lines[2], r"/0 .*kernel_rel_l2 +0\.001 +0\.004 +4$")
        self.assertRegex(lines[3], r"median_ms +2\.02 +3\.02 +1\.495$")
        self.assertIn("3 worse, 1 changed, 0 better", lines[-1])
        self.assertEqual(self.call("compare", old, new, "--quiet", status=1).stdout, "")
        self.assertIn("... and 3 more", self.call("compare", old, new, "--rows", "1", status=1).stdout)
        options = ["--accuracy-ratio", "5", "--latency-ratio", "2", "--metric-tolerance", "1e-3"]
        self.assertIn("1 worse, 0 changed", self.call("compare", old, new, *options, status=1).stdout)
        part = self.write("part.jsonl", records[:10])
        self.assertIn("only in OLD: 14 cells (pooling 14)", self.call("compare", old, part).stdout)
        self.call("compare", old, part, "--strict", status=1)
        self.assertIn("14 only in NEW", self.call("compare", part, old, "--strict").stdout)
        skipped = self.write("skipped.jsonl", [record | {"status": "skipped"} for record in records])
        self.call("compare", old, skipped, status=1)
        self.assertIn("24 changed", self.call("compare", old, skipped, "--allow-skipped").stdout)

    def test_compare_refuses_bad_input(self):
        cell = {"schema": 2, "experiment": "x", "input": {"sha256": "ab"}, "config": {}, "metrics": {}, "status": "ok"}
        old = self.write("good.jsonl", [cell])
        self.write("other.jsonl", [cell | {"experiment": "y"}])
        with open(self.path("text.jsonl"), "w") as file:
            file.write(json.dumps(cell) + "\nhello\n")
        open(self.path("empty.jsonl"), "w").close()
        self.refused("compare", old, says=["NEW"])
        self.refused("compare", old, "none.jsonl", says=["none.jsonl", "No such file"])
        self.refused("compare", old, "text.jsonl", says=["text.jsonl", "line 2"])
        self.refused("compare", old, "other.jsonl", says=["good.jsonl", "other.jsonl", "none in both"])
        self.refused("compare", old, "empty.jsonl", says=["empty.jsonl", "none in both"])
        for option in ("--accuracy-ratio", "--latency-ratio"):
            for value in ("0.9", "nan", "inf", "often"):
                self.refused("compare", old, old, option, value, says=[option, "at least 1", value])
        for option in ("--accuracy-floor", "--metric-tolerance"):
            self.refused("compare", old, old, option, "nan", says=[option, "at least 0", "nan"])
        for rows in ("-1", "1e3", ""):
            self.refused(
                "compare", old, old, "--rows", rows, says=["--rows: wanted a whole number from 0", f"'{rows}'"]
            )
        self.refused("compare", old, old, "--quiet=3", says=["--quiet"])
        self.refused("bounds", self.dump(), "--sparsity", "0.5,,0.9", says=["--sparsity", "found ''"])

    def test_about_prints_machine_and_build(self):
        about = json.loads(self.call("about").stdout)
        self.assertEqual(sorted(about), ["build", "machine"])
        self.assertGreaterEqual(about["machine"]["cores"], 1)
        self.assertIsNone(about["machine"]["gpu"])
        for key in ("commit", "dirty", "compiler", "flags", "cuda"):
            self.assertIn(key, about["build"])
        self.dump()
        self.call("pooling", "small.h5", "--sparsity", "0.5", "--out", "r.jsonl", "--quiet")
        self.assertEqual({key: self.records("r.jsonl")[0][key] for key in about}, about)
        self.refused("about", "--device", "tpu", says=["--device", "cuda", "tpu"])
        with unittest.mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=""):  # the same on every machine
            self.refused("about", "--device", "cuda", says=["about --device cuda", "no GPU"])

    def test_a_remainder_is_refused_where_no_sweep_has_it(self):
        for command in ("bounds", "policies"):
            self.refused(command, self.dump(), "--remainder", "mean", says=["--remainder", "none or pooled", "'mean'"])
        self.refused("regions", self.dump(), "--remainder", "pooled", says=["--remainder"])
        on_gpu = ("bounds", self.dump(), "--remainder", "none,pooled", "--device", "cuda")
        self.refused(*on_gpu, says=["bounds: --remainder pooled wants --device cpu", "found --device cuda"])

    def test_without_a_gpu_cuda_is_refused_in_one_line(self):
        dump = self.dump()
        with unittest.mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=""):
            for command in ("bounds", "pooling", "regions", "run"):
                self.refused(command, dump, "--device", "cuda", "--out", "none.jsonl", says=["--device cuda", "no GPU"])
            self.refused("verify", dump, "--out", "none.jsonl", says=["verify", "no GPU"])
            for command in ("latency", "overhead"):
                self.refused(command, dump, "--out", "none.jsonl", says=[command, "no GPU"])
                self.refused(command, "wan_512p", "--out", "none.jsonl", says=[command, "no GPU"])

    def test_bad_options_of_timing_are_refused_before_anything_runs(self):
        for command in ("latency", "overhead"):
            self.refused(command, says=["CALL"])
            self.refused(command, "wan_512p", "--samples", "0", says=["--samples", "0"])
            self.refused(command, "wan_512p", "--warmup", "-1", says=["--warmup"])
            self.refused(command, "wan_512p", "--element", "float32", says=["--element", "float32", "bfloat16"])
            self.refused(command, "wan_512p", "--sparsity", "1", says=["--sparsity", "1"])
        self.refused("latency", "wan_512p", "--order", "token,sideways", says=["--order", "sideways", "gather"])
        for value in ("-1", "nan", "60001"):
            self.refused(
                "latency", "wan_512p", "--sustain", value, says=["--sustain: wanted a number from 0 to 60000", value]
            )
        for call in ("0x1x1x1", "none.h5", "wan"):
            self.refused("latency", call, says=["CALL", "no such file", "wanted wan_512p", call])
        self.refused("verify", "none.h5", "--blocks", "-1", says=["--blocks: wanted a whole number from 0", "'-1'"])
        self.refused("latency", "wan_512p", "--policy", "best", says=["--policy", "best", "uneven"])

    def test_examples_in_help_parse(self):
        """Each example's options exist: the file or the GPU that it wants may be missing here, nothing else."""
        for subcommand in SUBCOMMANDS:
            text = self.call(subcommand, "--help").stdout
            example = next(line for line in text.splitlines() if "Example:" in line).split("Example:")[1]
            words = shlex.split(example)[1:]
            done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, cwd=self.folder.name)
            missing = (".h5", "old.jsonl", "bounds.jsonl", "no GPU")
            allowed = done.returncode == 0 or any(thing in done.stderr for thing in missing)
            self.assertTrue(allowed, f"{example}: {done.stderr}")
