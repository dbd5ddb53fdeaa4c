"""The cost model in harness/ranks/README.md is what the records give."""

import math
import unittest

from lab.checks import ranks_cost


class RanksCost(unittest.TestCase):
    def test_the_readme_has_the_table_of_the_records(self):
        text = ranks_cost.README.read_text()
        self.assertEqual(text, ranks_cost.with_table(text), "run python3 -m lab.checks.ranks_cost")

    def test_another_table_is_seen(self):
        text = ranks_cost.README.read_text()
        self.assertNotEqual(text.replace("| 64 | 23 |", "| 64 | 22 |"), ranks_cost.with_table(text))
        with self.assertRaises(ValueError):
            ranks_cost.with_table("no table")

    def test_the_measured_numbers_are_those_of_the_run(self):
        a_head, record_bytes, heads, seconds = ranks_cost.measured()
        self.assertEqual(heads, 24)
        # Times of records are whole seconds: each end is off by less than one.
        self.assertLess(abs(a_head * (heads - 1) / seconds - 1), 0.005)  # (126,976 / 126,736)^2
        self.assertTrue(math.isfinite(record_bytes) and record_bytes > 1000)


if __name__ == "__main__":
    unittest.main()
