"""The whole report: same bytes on a rerun, no dead links, missing experiments said, failures shouted."""

import csv
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import unittest

from lab.report.__main__ import PAPER_FOLDER
from lab.report.tests import synthetic_flops, synthetic_gpu, synthetic_videos
from lab.report.tests import synthetic_records as synthetic
from lab.report.tests.quick import make
from lab.shared.files import ROOT

PROGRAM = [sys.executable, "-m", "lab.report"]


def run(folder, items, name="out"):
    path = os.path.join(folder, name + ".jsonl")
    synthetic.write(path, items)
    out = os.path.join(folder, name)
    result = subprocess.run([*PROGRAM, path, "--out", out], capture_output=True, text=True, check=False)
    with open(os.path.join(out, "report.md"), encoding="utf-8") as stream:
        return result, out, stream.read()


def digests(folder):
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as stream:
                found[os.path.relpath(path, folder)] = hashlib.sha256(stream.read()).hexdigest()
    return found


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.items = synthetic.generate(2, 3) + synthetic_flops.flops()
        cls.items += synthetic_gpu.generate(("hunyuan_768p",), (0.6, 0.9)) + synthetic_videos.generate()
        cls.result, cls.out, cls.text = run(cls.folder.name, cls.items)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_it_succeeds_quietly(self):
        self.assertEqual((self.result.returncode, self.result.stderr), (0, ""))
        self.assertNotIn("WARNING", self.text)

    def test_the_same_records_give_the_same_bytes(self):
        _, again, _ = run(self.folder.name, self.items, "again")
        first, second = digests(self.out), digests(again)
        self.assertEqual(sorted(first), sorted(second))
        self.assertEqual([name for name in first if first[name] != second[name]], [])

    def test_every_link_leads_somewhere(self):
        links = set(re.findall(r"\]\(((?:plots|tables)/[^)]+)\)", self.text))
        self.assertGreater(len(links), 30)
        self.assertEqual([link for link in links if not os.path.isfile(os.path.join(self.out, link))], [])
        stems = {os.path.splitext(link)[0] for link in links}  # some as a picture alone
        drawn = {"plots/" + name for name in os.listdir(os.path.join(self.out, "plots"))}
        self.assertEqual({os.path.splitext(name)[0] for name in drawn - links} - stems, set())
        headings = {
            re.sub(r"[^a-z0-9 _-]", "", line[3:].lower()).replace(" ", "-")
            for line in self.text.split("\n")
            if line.startswith("## ")
        }
        self.assertEqual(set(re.findall(r"\]\(#([^)]+)\)", self.text)) - headings, set())

    def test_every_part_of_the_paper_has_a_section_with_a_verdict(self):
        parts = (
            "Theorem 3.3",
            "Theorem 3.5",
            "Section 3.1",
            "Section 3.3",
            "Section 4.2",
            "Table 1",
            "Table 2",
            "Table 3",
            "Table 4",
            "Table 5",
            "Figure 1",
            "Figure 4",
            "Figure 5",
            "Figure 6",
            "Not in the paper",
        )
        for part in parts:
            self.assertRegex(
                self.text,
                rf"\n## {re.escape(part)}: [^#]*\*\*Verdict: (confirmed|confirmed with a caveat|contradicted|"
                r"not testable here)\.\*\*",
            )

    def test_the_numbers_are_those_of_the_records(self):
        cells = [
            item
            for item in self.items
            if item["experiment"] == "bounds"
            and item["config"].get("pool") == "max"
            and item["config"]["rule"] == "softmax"
            and item["config"]["sparsity"] == 0.9
        ]
        wanted = sum(item["metrics"]["attention_recall"] for item in cells) / len(cells)
        with open(os.path.join(self.out, "tables", "table_4_pooling.csv"), newline="", encoding="utf-8") as stream:
            row = next(row for row in csv.DictReader(stream) if row["sparsity"] == "0.9")
        self.assertEqual(int(row["heads"]), 6)
        # The same cells are in "regions" records with other invented noise in the error, but the same recall.
        self.assertAlmostEqual(float(row["mean recall, second"]), wanted, delta=1e-12)

    def test_provenance_is_shown(self):
        for text in ("synthetic.h5", "ab12cd34", "8 x 32 x 48 + 8 text", "Synthetic CPU", "commit 0123456789ab"):
            self.assertIn(text, self.text)
        self.assertNotIn(self.folder.name, self.text)
        for text in ("NVIDIA Synthetic", "flash_attention_4 (no module named flash_attn.cute)"):
            self.assertIn(text, self.text)
        with open(os.path.join(self.out, "tables", "gpu_runs.csv"), encoding="utf-8") as stream:
            self.assertIn("24 x 126,976 tokens", stream.read())

    def test_times_are_those_of_the_records(self):
        wanted = [item for item in self.items if item["experiment"] == "latency"]
        with open(os.path.join(self.out, "tables", "latency.csv"), newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        self.assertEqual(len(rows), len(wanted))
        times = sorted(item["timing"]["median_ms"] for item in wanted)
        self.assertEqual(sorted(float(row["median (ms)"]) for row in rows), times)
        for row in rows:
            self.assertEqual(
                [row[name] for name in ("GPU", "commit", "data", "SM clock after (MHz)", "throttled by")],
                ["NVIDIA Synthetic", "0123456789ab", "normal", "1515", "sw_power_cap"],
            )

    def test_a_clock_is_no_machine_of_its_own(self):
        (machines,) = [line for line in self.text.split("\n") if line.startswith("- Machines: ")]
        self.assertEqual(machines.count(";"), 1)  # two
        self.assertNotIn("mhz", machines)


class Incomplete(unittest.TestCase):
    def test_every_subset_of_experiments_gives_a_report(self):
        items = synthetic.generate(1, 1) + synthetic_flops.flops() + synthetic_gpu.generate(("wan_512p",), (0.9,))
        kinds = (("bounds",), ("regions",), ("maps",), ("latency",), ("overhead",), ("peers",), ("flops",))
        for kind in kinds:
            status, err, text, _ = make([item for item in items if item["experiment"] in kind])
            self.assertEqual((status, err), (0, ""), kind)
            self.assertIn("Not measured in these records.", text)
        self.assertIn("contradicted", text)  # the last one: flops alone

    def test_only_oracle_and_random(self):
        items = [item for item in synthetic.generate(1, 2) if item["config"].get("policy") != "draft"]
        status, err, text, _ = make(items)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("Table 4", text)

    def test_failures_are_loud_and_counted_nowhere(self):
        items = synthetic.generate(1, 2)
        lost = dict(items[0], status="failed", reason="out of memory")
        status, err, text, _ = make([lost, *items[1:], b'{"experiment": "bou'])
        self.assertEqual((status, err.count("\n")), (1, 1))
        self.assertIn("WARNING: 1 failed records, 1 unreadable lines", text)
        self.assertIn("out of memory", text)
        self.assertLess(text.index("WARNING"), text.index("## Verdicts"))
        self.assertIn("FAILED record", err)

    def test_latency_records_find_their_section(self):
        source = next(synthetic.heads())[0]
        timed = synthetic.record(
            "latency",
            source,
            {
                "policy": "draft",
                "pool": "avg",
                "rule": "softmax",
                "region": [8, 16],
                "sparsity": 0.9,
                "device": "cuda",
                "kernel": "attend_wgmma",
            },
            {},
            timing={"median_ms": 50.9, "p10_ms": 50.1, "p90_ms": 51.2, "tflops_kept": 390.0},
        )
        _, _, text, tables = make([timed])
        self.assertEqual(tables["measured"], [])  # a timed call is none of the studied captures
        self.assertIn("attend_wgmma", text[text.index("## Figure 4") :])
        self.assertIn("captured (synthetic.h5)", text)

    def test_a_missing_file_is_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            result = subprocess.run(
                [*PROGRAM, os.path.join(folder, "none.jsonl"), "--out", folder],
                capture_output=True,
                text=True,
                check=False,
            )
        self.assertEqual(result.returncode, 2)
        self.assertEqual(len(result.stderr.strip().split("\n")), 1)


class PaperTables(unittest.TestCase):
    def test_rows_and_sources(self):
        rows = {}
        for name in ("table1", "table2", "table4", "table5", "figure4", "claims"):
            with open(os.path.join(PAPER_FOLDER, name + ".csv"), newline="", encoding="utf-8") as stream:
                rows[name] = list(csv.DictReader(stream))
            self.assertTrue(all(row["source"] and None not in row for row in rows[name]), name)
        self.assertEqual([len(rows[name]) for name in ("table1", "table2", "table4", "table5")], [19, 3, 2, 2])
        # The ablations' first rows repeat Table 1's row of 90% sparsity.
        main = next(row for row in rows["table1"] if row["method"] == "Ours" and row["sparsity_percent"] == "90")
        for name in ("table4", "table5"):
            self.assertEqual(rows[name][0]["psnr_db"], main["psnr_db"])


class OneLine(unittest.TestCase):
    def call(self, *arguments, **environment):
        return subprocess.run(
            [*PROGRAM, *arguments], capture_output=True, text=True, check=False, env=os.environ | environment
        )

    def test_bad_usage_is_one_line(self):
        for arguments in ((), ("a.jsonl",), ("a.jsonl", "--out", "x", "--frob\n1")):
            done = self.call(*arguments)
            self.assertEqual((done.returncode, done.stdout, len(done.stderr.splitlines())), (2, "", 1), done.stderr)
            self.assertTrue(done.stderr.startswith("report: "), done.stderr)

    def test_a_home_that_cannot_be_written_says_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.jsonl")
            synthetic.write(path, synthetic.generate(1, 1)[:2])
            done = self.call(
                path,
                "--out",
                os.path.join(folder, "out"),
                HOME="/dev/null",
                XDG_CONFIG_HOME="/dev/null",
                XDG_CACHE_HOME="/dev/null",
                MPLCONFIGDIR="/dev/null/none",
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""))


class OwnFiles(unittest.TestCase):
    """What no report wrote is kept, and nothing is written beside it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.records, self.out = os.path.join(folder.name, "a.jsonl"), os.path.join(folder.name, "out")
        synthetic.write(self.records, synthetic.generate(1, 1)[:2])

    def put(self, name, text):
        path = os.path.join(self.out, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path

    def report(self):
        return subprocess.run([*PROGRAM, self.records, "--out", self.out], capture_output=True, text=True)

    def refused(self, path):
        before = digests(self.out)
        done = self.report()
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (2, 1), done.stderr)
        self.assertIn(path, done.stderr)
        self.assertEqual(digests(self.out), before)

    def test_notes_are_kept(self):
        for text in ("my own notes\n", "", "# DraftAttention, measured by hand\n"):
            self.refused(self.put("report.md", text))

    def test_tables_and_plots_without_a_report_are_kept(self):
        self.put("tables/heads.csv", "mine\n")
        self.refused(os.path.join(self.out, "tables"))

    def test_a_report_is_replaced(self):
        self.put("notes.md", "mine\n")
        self.put("report.md", "# DraftAttention, measured\n\nold\n")
        done = self.report()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.report().returncode, 0)
        with open(os.path.join(self.out, "report.md"), encoding="utf-8") as stream:
            self.assertNotIn("\nold\n", stream.read())

    def test_the_shipped_report_is_one(self):
        from lab.report import page

        page.require_own(ROOT / "results")


if __name__ == "__main__":
    unittest.main()
