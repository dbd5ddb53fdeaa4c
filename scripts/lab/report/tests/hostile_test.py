"""The report over records from elsewhere: refused in one line with nothing written, or made, with their text inert."""

import os
import tempfile
import unittest

from lab.report.tests import synthetic_flops, synthetic_gpu, synthetic_videos
from lab.report.tests import synthetic_records as synthetic
from lab.report.tests.quick import make, report_of

MARKUP = "<script>alert(1)</script> [x](http://y) |`$\\frac{1}{0}$\n# heading\u202e"
NOTHING = "not_applicable"


def some(experiment="bounds", count=1, **changes):
    """Records of one experiment, with entries of config replaced."""
    items = [item for item in synthetic.generate(1, 2) if item["experiment"] == experiment][:count]
    return [dict(item, config={**item["config"], **changes}) for item in items]


def every_kind():
    """Records of every experiment, of few sparsities."""
    items = [item for item in synthetic.generate(1, 1) if item["config"].get("sparsity") in (0.6, 0.9)]
    items += synthetic_flops.flops() + synthetic_gpu.generate(("wan_512p",), (0.9,))
    return items + [item for item in synthetic_videos.generate() if item["config"].get("sparsity", 0) in (0, 0.6, 0.9)]


class Refusals(unittest.TestCase):
    def refused(self, items, message):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out")
            status, err, text, _ = make(items, out)
            self.assertEqual((status, err, text), (2, f"report: {message}\n", ""))
            self.assertFalse(os.path.exists(out), "nothing is written for a refused input")

    def test_file_line_and_field_are_named(self):
        self.refused(
            [*some(), dict(some()[0], schema=99)],
            "a.jsonl:2: schema: wanted 2, found 99: a later version of the format",
        )
        self.refused(some(sparsity="0.9"), 'a.jsonl:1: config.sparsity: wanted a number from 0 to below 1, found "0.9"')
        self.refused(
            [*some(region=[8]), *some(region=[8])],
            "a.jsonl:1: config.region: wanted two whole numbers of at least 1, found [8] (and 1 more such lines)",
        )
        self.refused([b"notes\n"], "a.jsonl:1: wanted one JSON object, found none: Expecting value, column 1")
        self.refused(
            [b"\n\n"],
            "a.jsonl:1: wanted one JSON object, found none: Expecting value, column 2 (and 1 more such lines)",
        )
        self.refused([b"\xef\xbb\xbf"], "a.jsonl:1: wanted one JSON object, found none: Expecting value, column 1")

    def test_nothing_is_no_report(self):
        for items in ([], [b""]):
            with tempfile.TemporaryDirectory() as folder:
                status, err, _, _ = make(items, os.path.join(folder, "out"))
                self.assertEqual((status, err.count("\n")), (2, 1))
                self.assertIn("nothing to report: no record in ", err)

    def test_what_is_no_file_is_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            for path in (folder, os.devnull, os.path.join(folder, "none\n.jsonl")):
                status, err, _, _ = report_of(path, os.path.join(folder, "out"))
                self.assertEqual((status, err.count("\n")), (2, 1), path)
            taken = os.path.join(folder, "taken")
            with open(taken, "w", encoding="utf-8") as stream:
                stream.write("a file")
            status, err, _, _ = make(some(), taken)
            self.assertEqual((status, err.count("\n")), (2, 1))

    def test_an_older_report_stays_as_it_is(self):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out")
            _, _, before, _ = make(some(), out)
            status, _, after, _ = make([b"{}\n"], out)
            self.assertEqual((status, after), (2, before))
            self.assertIn("# DraftAttention, measured", before)


class Failures(unittest.TestCase):
    def test_a_failed_record_is_exit_status_1_and_one_line(self):
        lost = [
            dict(item, status="failed", reason=f"out of\nmemory {place}") for place, item in enumerate(some(count=2))
        ]
        status, err, text, _ = make(lost + some("regions"))
        self.assertEqual((status, err.count("\n")), (1, 1))
        self.assertIn("FAILED records: 2, the first: a.jsonl:1: bounds: synthetic.h5", err)
        self.assertIn("out of\\nmemory 0", err)
        self.assertEqual(text.count("- FAILED "), 2)
        self.assertEqual(make(some("regions"))[:2], (0, ""))

    def test_a_last_line_that_is_cut_is_exit_status_1(self):
        status, err, text, _ = make([*some(), b'{"schema": 2, "experim'])
        self.assertEqual((status, err), (1, "report: unreadable: a.jsonl:2: an incomplete last line\n"))
        self.assertIn("UNREADABLE a.jsonl:2", text)


class Text(unittest.TestCase):
    """Names, reasons and models out of records are text, and nothing else."""

    def everywhere(self, text):
        """Records of every kind with this text in every place that holds text."""

        def put(value, path=()):
            if isinstance(value, dict):
                return {key: put(each, (*path, key)) for key, each in value.items()}
            keep = {"experiment", "status", "policy", "part", "order", "shape", "mask"}
            return text if isinstance(value, str) and path[0] != "arrays" and not keep & set(path) else value

        return [put(item) for item in every_kind()]

    def test_markup_is_escaped_in_every_section(self):
        status, err, text, tables = make([*self.everywhere(MARKUP), *some("regions", 4)])
        self.assertEqual((status, err), (0, ""))
        self.assertGreater(text.count("&lt;script&gt;"), 20)
        for live in ("<script", r"(?<!\\)\]\(http", r"(?<!\\)\|`", r"(?<!\\)\$\\frac", "\n# heading", "\u202e"):
            self.assertNotRegex(text, live)
        names = {row["dump"] for row in tables["all_measurements"]}
        self.assertEqual(names, {MARKUP.replace("\n", "\\n").replace("\u202e", "\\u202e"), "synthetic.h5"})

    def test_formulas_of_a_spreadsheet_begin_with_an_apostrophe(self):
        item = some()[0]
        _, _, _, tables = make([dict(item, input=dict(item["input"], dump="=1+1"))])
        self.assertEqual(tables["measured"][0]["dump"], "'=1+1")

    def test_long_names_and_any_letters_make_a_report(self):
        for text in ("x" * 400, "\u65e5\u672c\u8a9e \U0001f600", "\u00fcber-\u03b4"):
            item = some("maps")
            status, err, _, tables = make(self.everywhere(text) + item)
            self.assertEqual((status, err), (0, ""), text)
            self.assertIn(text, {row["dump"] for row in tables["all_measurements"]})


class Unusual(unittest.TestCase):
    """Well-formed records of which little can be said."""

    def test_one_record_of_each_kind_alone(self):
        items = every_kind()
        for experiment in sorted({item["experiment"] for item in items}):
            with self.subTest(experiment=experiment):
                one = next(item for item in items if item["experiment"] == experiment)
                status, err, text, _ = make([one])
                self.assertEqual((status, err), (0, ""))
                self.assertIn(f"Records: 1 {experiment}.", text)

    def test_any_metric_may_be_missing_or_relative_to_nothing(self):
        items = every_kind()
        names = sorted({name for item in items for name in item["metrics"]})
        self.assertGreater(len(names), 60)
        for start in (0, 1):  # every other one: each way of lacking them is a whole report
            lacking = set(names[start::2])
            for value in (None, NOTHING):
                changed = [
                    dict(
                        item,
                        metrics={
                            name: value if name in lacking else each
                            for name, each in item["metrics"].items()
                            if value or name not in lacking
                        },
                    )
                    for item in items
                ]
                status, err, _, _ = make(changed)
                self.assertEqual((status, err), (0, ""), (value, sorted(lacking)))

    def test_every_metric_relative_to_nothing(self):
        items = [dict(item, metrics=dict.fromkeys(item["metrics"], NOTHING)) for item in synthetic.generate(1, 1)]
        status, err, text, _ = make(items)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("- Relative to nothing, n/a in tables: attention_recall in ", text)

    def test_all_skipped(self):
        items = [dict(item, status="skipped", reason="no GPU", metrics={}) for item in some(count=3)]
        status, err, text, _ = make(items)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("Skipped: 3 records: no GPU.", text)

    def test_numbers_at_the_ends_of_their_range(self):
        items = every_kind()
        for value in (1.7e308, -1.7e308, 5e-324):
            changed = [dict(item, metrics=dict.fromkeys(item["metrics"], value)) for item in items]
            status, err, _, _ = make(changed)
            self.assertEqual((status, err), (0, ""), value)


class NotApplicable(unittest.TestCase):
    """A metric that is relative to nothing: n/a in tables, in no mean, and said."""

    def quality(self, nothing_on):
        """Average and max pooling on two heads; output errors are 0.1 to 0.4, but relative to nothing on these heads."""
        items = []
        for source, head in synthetic.heads(1, 2):
            for pool, error in (("avg", 0.1 + 0.1 * head), ("max", 0.3 + 0.1 * head)):
                metrics = {
                    "attention_recall": 1 - error,
                    "output_rel_l2": NOTHING if head in nothing_on else error,
                    "output_cosine": 0.5,
                    "empty_rows": 0,
                    "kept_blocks": 4,
                    "total_blocks": 16,
                }
                config = synthetic.config("draft", pool, "softmax", (8, 16), 0.9)
                items.append(synthetic.record("pooling", source, config, metrics))
        return make(items)

    def test_means_are_those_of_the_other_heads(self):
        _, _, text, tables = self.quality(nothing_on={1})
        rows = {row["blocks chosen by"]: row for row in tables["quality_by_sparsity"]}
        means = [float(row["mean output error (rel. L2)"]) for row in rows.values()]
        for found, wanted in zip(sorted(means), (0.1, 0.3)):
            self.assertAlmostEqual(found, wanted, delta=1e-15)
        self.assertIn("better in 2 of 2 heads (recall) and 1 of 1 (error)", text)
        self.assertIn("in no mean, interval or plot: output_rel_l2 in 2 of 4 records.", text)
        self.assertEqual(
            sorted(row["output_rel_l2"] for row in tables["all_measurements"]), ["0.1", "0.3", "n/a", "n/a"]
        )

    def test_without_any_there_is_no_verdict_and_it_is_said(self):
        _, _, text, tables = self.quality(nothing_on={0, 1})
        section = text[text.index("## Table 4: average") :].split("\n## ")[0]
        self.assertIn("not testable here", section)
        self.assertIn("output_rel_l2 in 4 of 4 records", section)

    def test_with_all_there_nothing_is_said(self):
        _, _, text, _ = self.quality(nothing_on=set())
        self.assertNotIn("elative to nothing", text)
        self.assertIn("better in 2 (recall) and 2 (error) of 2 heads", text)

    def test_a_check_is_neither_passed_nor_failed(self):
        items = some(count=2)
        self.assertIn("The bound fails on 0 of 2 records.", make(items)[2])
        items[0]["metrics"].update(check_3_3=NOTHING, tightness_3_3=NOTHING, check_3_5=NOTHING)
        _, _, text, tables = make(items)
        self.assertIn("The bound fails on 0 of 1 records. Relative to nothing, so neither passed nor failed", text)
        self.assertIn("check_3_3 in 1 of 2 records", text)
        step = next(row for row in tables["theorem_3_5_steps"] if row["step"].startswith("Step 3"))
        self.assertEqual((step["masks"], step["violations"]), ("1", "0"))


class WholeNumbers(unittest.TestCase):
    def test_beyond_64_bits_are_drawn_as_doubles(self):
        items = every_kind()
        changed = 0
        for item in items:
            rows = (item.get("arrays") or {}).get("draft_map")
            if rows:
                rows[0][0], changed = 10**25, changed + 1
            for name in ("pflops_reconstructed", "output_rel_l2", "projected_speedup"):
                if name in item["metrics"]:
                    item["metrics"][name], changed = 2**64 + 1, changed + 1
        self.assertGreater(changed, 10)
        status, err, text, _ = make(items)
        self.assertEqual((status, err), (0, ""))
        self.assertGreater(len(text), 1000)


if __name__ == "__main__":
    unittest.main()
