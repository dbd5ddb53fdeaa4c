"""What is a record and what is not: one line that names the line and the field, for every kind of damage."""

import glob
import gzip
import json
import os
import tempfile
import unittest

from lab.report.tests import synthetic_records as synthetic
from lab.shared import record_file
from lab.shared.files import ROOT

DROPPED = object()


def record():
    return synthetic.record(
        "bounds",
        next(synthetic.heads())[0],
        synthetic.config("draft", "avg", "softmax", (8, 16), 0.9),
        {"attention_recall": 0.5},
        timing={"median_ms": 2.0, "samples_ms": [1.0, 2.0, 3.0]},
    )


def changed(path, value):
    """A record's line with the value at "part.name" replaced, or taken away if it is DROPPED."""
    made = json.loads(json.dumps(record()))
    *parts, name = path.split(".")
    holder = made
    for part in parts:
        holder = holder[part]
    if value is DROPPED:
        del holder[name]
    else:
        holder[name] = value
    return json.dumps(made).encode() + b"\n"


def problems(data):
    """[(line, problem)] of a file that holds these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.jsonl")
        with open(path, "wb") as stream:
            stream.write(data)
        return [(number, found) for number, _, found in record_file.read(path)]


class Fields(unittest.TestCase):
    def test_a_whole_record_has_no_problem(self):
        self.assertEqual(problems(changed("status", "ok")), [(1, None)])
        for value in ("not_applicable", 1, 0.25, -1e308, 5e-324):
            self.assertEqual(problems(changed("metrics.attention_recall", value)), [(1, None)], value)
        self.assertEqual(problems(changed("metrics", {})), [(1, None)])  # a time alone is something
        self.assertEqual(problems(changed("config.something_new", [{"of": "another"}])), [(1, None)])
        self.assertEqual(problems(changed("input.head", None)), [(1, None)])

    def test_every_field_is_named_with_what_was_wanted_and_found(self):
        for path, value, wanted, found in (
            ("schema", 3, "2", "3: a later version of the format"),
            ("schema", 99, "2", "99: a later version of the format"),
            ("schema", 0, "2", "0"),
            ("schema", 1, "2", "1: draftbench convert makes version 2 of it"),
            ("schema", True, "2", "true"),
            ("schema", 2.0, "2", "2.0"),
            ("schema", DROPPED, "2", "nothing"),
            ("metrics", DROPPED, "an object", "nothing"),
            ("run", 3, "text", "3"),
            ("experiment", "", "a name", '""'),
            ("input", [], "an object", "[]"),
            ("config", None, "an object", "null"),
            ("config", [1, 2], "an object", "[1, 2]"),
            ("config", DROPPED, "an object", "nothing"),
            ("metrics", "none", "an object", '"none"'),
            ("status", "fine", "ok, failed or skipped", '"fine"'),
            ("status", ["ok"], "ok, failed or skipped", '["ok"]'),
            ("reason", 3, "text", "3"),
            ("time", 3, "text", "3"),
            ("metrics.attention_recall", None, 'a finite number or "not_applicable"', "null"),
            ("metrics.attention_recall", "0.5", 'a finite number or "not_applicable"', '"0.5"'),
            ("metrics.attention_recall", True, 'a finite number or "not_applicable"', "true"),
            ("metrics.attention_recall", float("nan"), 'a finite number or "not_applicable"', "NaN"),
            ("metrics.attention_recall", 10**400, 'a finite number or "not_applicable"', "a number of 1329 bits"),
            ("config.sparsity", "0.9", "a number from 0 to below 1", '"0.9"'),
            ("config.sparsity", 1, "a number from 0 to below 1", "1"),
            ("config.sparsity", float("nan"), "a number from 0 to below 1", "NaN"),
            ("config.region", [8], "two whole numbers of at least 1", "[8]"),
            ("config.region[1]", [8, 0], "a whole number of at least 1", "0"),
            ("config.region[0]", [8.0, 16], "a whole number of at least 1", "8.0"),
            ("config.region", "8x16", "two whole numbers of at least 1", '"8x16"'),
            ("config.something_new", float("inf"), "a finite number", "Infinity"),
            ("input.head", "0", "a whole number of at least 0, or a list of them", '"0"'),
            ("input.head", -1, "a whole number of at least 0, or a list of them", "-1"),
            ("input.head[1]", [0, -1], "a whole number of at least 0", "-1"),
            ("input.grid.height", 0, "a whole number of at least 1", "0"),
            ("timing.samples_ms", [], "a list of numbers above 0", "[]"),
            ("timing.samples_ms[1]", [1, 0], "a number above 0", "0"),
            ("timing.median_ms", -2, "a finite number above 0", "-2"),
            ("machine.gpu", 5, "text", "5"),
        ):
            with self.subTest(path=path, value=str(value)[:20]):
                line = changed(path.partition("[")[0], value)
                self.assertEqual(problems(line), [(1, f"{path}: wanted {wanted}, found {found}")])

    def test_maps_are_square_and_alike(self):
        maps = {"draft_map": [[0.5, 0.5], [0.1, 0.9]], "block_mass": [[0.5, 0.5], [0.1, 0.9]], "mask": ["10", "01"]}
        self.assertEqual(problems(changed("arrays", maps)), [(1, None)])
        for name, rows, found in (
            ("mask", ["1x", "01"], "wanted rows of 0 and 1, found "),
            ("mask", ["10", "01", "11"], "wanted 2 rows of 2, found sides 2, 3"),
            ("block_mass", [[0.5], [0.1]], "wanted 2 rows of 2, found sides 1, 2"),
            ("draft_map", [], "wanted rows of finite numbers, found []"),
            ("draft_map[0][1]", [[0.5, None], [0.1, 0.9]], "wanted a finite number, found null"),
        ):
            [(_, problem)] = problems(changed("arrays", dict(maps, **{name.partition("[")[0]: rows})))
            self.assertTrue(problem.startswith(f"arrays.{name}: {found}"), problem)

    def test_messages_are_one_line_of_ascii_however_long_the_value(self):
        for value in ("a\nb\u2028\u65e5" * 100, ["x" * 1000], {"k" * 500: 1}):
            [(_, problem)] = problems(changed("status", value))
            self.assertTrue(problem.isascii() and problem.isprintable() and len(problem) < 160, problem)


class Lines(unittest.TestCase):
    whole = changed("status", "ok")

    def test_what_json_leaves_open_is_refused(self):
        for line, problem in (
            (b"[1, 2]\n", "wanted a record, found [1, 2]"),
            (b"notes\n", "wanted one JSON object, found none: Expecting value, column 1"),
            (b'{"a": 1} x\n', "wanted one JSON object, found none: Extra data, column 10"),
            (b"\xff\xfe\n", "wanted UTF-8, found byte 0xff in column 1"),
            (self.whole.replace(b'"ok"', b'"\xe9"'), "wanted UTF-8, found byte 0xe9 in column "),
            (self.whole.replace(b'"status"', b'"status": "failed", "status"'), "status: wanted one value, found 2"),
            (self.whole.replace(b'"avg"', b'"\\ud800"'), 'wanted Unicode text, found the lone surrogate "\\ud800"'),
            (self.whole.replace(b"0.9", b"9" * 5000), "wanted numbers of at most 4300 digits, found a longer one"),
            (
                self.whole.replace(b'"config": {', b'"config": {"x": ' + b"[" * 10**6 + b"]" * 10**6 + b", "),
                "config: wanted at most 32 levels of nesting, found more",
            ),
            (
                self.whole.replace(b'"config": {', b'"config": {"x": ' + b'{"a":' * 10**5),
                "config: wanted at most 32 levels of nesting, found more",
            ),
        ):
            with self.subTest(problem=problem):
                [(_, before), (number, found), (_, behind)] = problems(self.whole + line + self.whole)
                self.assertEqual((before, number, behind), (None, 2, None))
                self.assertEqual(found[: len(problem)], problem)

    def test_ends_of_lines_and_a_mark_of_byte_order_are_no_damage(self):
        data = b"\xef\xbb\xbf" + self.whole.replace(b"\n", b"\r\n") + self.whole.rstrip(b"\n")
        self.assertEqual(problems(data), [(1, None), (2, None)])
        self.assertEqual(problems(b""), [])

    def test_a_blank_line_is_no_record(self):
        for blank in (b"\n", b"\r\n", b"  \t\n"):
            [(_, before), (_, problem), (_, behind)] = problems(self.whole + blank + self.whole)
            self.assertEqual((before, behind), (None, None))
            self.assertIn("wanted one JSON object, found none", problem)

    def test_brackets_in_text_are_no_nesting(self):
        self.assertEqual(problems(changed("reason", "[" * 1000)), [(1, None)])

    def test_only_the_beginning_of_a_record_counts_as_incomplete(self):
        for cut in (1, 2, 10, 50, len(self.whole) - 3):
            self.assertEqual(problems(self.whole + self.whole[:cut]), [(1, None), (2, record_file.INCOMPLETE)], cut)
        cut_letter = changed("reason", "\u65e5").replace(b"\\u65e5", "\u65e5".encode())
        place = cut_letter.index("\u65e5".encode()) + 1
        self.assertEqual(problems(cut_letter[:place]), [(1, record_file.INCOMPLETE)])
        for line in (
            b"notes",
            b"[1,",
            b"{notes",
            b'{"a": 1}',
            b'{"a": tru}',
            b'{"a": ' + b"[" * 1000,
            b"\xff",
            self.whole[:50] + b"\n",
        ):
            [(_, problem)] = problems(line)
            self.assertNotIn(problem, (None, record_file.INCOMPLETE), line[:20])

    def test_no_file_no_regular_file_and_damage_are_told_apart(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.jsonl")
            self.assertEqual(record_file.read_all(path), [])
            with self.assertRaisesRegex(record_file.Malformed, "wanted a file of records, found a folder"):
                record_file.read_all(folder)
            with self.assertRaisesRegex(record_file.Malformed, "found no regular file"):
                record_file.read_all(os.devnull)
            with open(path, "wb") as stream:
                stream.write(self.whole)
            self.assertEqual(len(record_file.read_all(path)), 1)
            with open(path, "ab") as stream:
                stream.write(self.whole[:20])
            with self.assertRaisesRegex(record_file.Malformed, r"a\.jsonl:2: an incomplete last line"):
                record_file.read_all(path)


class Shipped(unittest.TestCase):
    def test_what_gzip_made_is_read_and_damage_of_it_refused(self):
        lines = b"".join(changed("input.head", head) for head in range(300))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "r.jsonl.gz")
            for bytes_of_file in (
                gzip.compress(lines),
                gzip.compress(lines) + gzip.compress(lines[: lines.index(b"\n")]),
            ):
                with open(path, "wb") as file:
                    file.write(bytes_of_file)
                found = list(record_file.read(path))
                self.assertEqual([problem for _, _, problem in found if problem], [])
                self.assertIn(len(found), (300, 301))
            whole = gzip.compress(lines)
            for damaged in (whole[:-9], whole[:200] + bytes([whole[200] ^ 0x55]) + whole[201:], b"{}\n"):
                with open(path, "wb") as file:
                    file.write(damaged)
                with self.assertRaisesRegex(record_file.Malformed, "r.jsonl.gz: wanted what gzip made, found damage"):
                    list(record_file.read(path))

    def test_every_record_of_results_is_well_formed(self):
        paths = glob.glob(os.path.join(ROOT, "results", "**", "*.jsonl"), recursive=True)
        self.assertGreater(len(paths), 5)
        for path in paths:
            self.assertGreater(len(record_file.read_all(path)), 0)


if __name__ == "__main__":
    unittest.main()
