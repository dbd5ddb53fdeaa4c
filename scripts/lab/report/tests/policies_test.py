"""The section on policies: its verdict's words on planted records, the names of variants, and what the table shows."""

import unittest

from lab.report.finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE
from lab.report.parts import policies
from lab.report.tests.synthetic_records import GRID, record
from lab.report.tests.verdicts_test import Planted, of

HEADS, BLOCKS = 6, 96 * 96


def cell(head, policy, recall, error, sparsity=0.9, choosing=0.0, **config):
    """A record of `policies`; every second head has a prompt of its own."""
    source = {
        "dump": "planted.h5",
        "sha256": "ab12cd34" * 8,
        "capture": "layer0_step8",
        "layer": 0,
        "step": 8,
        "steps": 30,
    }
    source |= {
        "model": "planted",
        "head": head,
        "grid": GRID,
        "text_tokens": 8,
        "head_dim": 128,
        "prompt": f"{head // 2}",
    }
    chosen = {"policy": policy, "region": [8, 16], "device": "cpu", "kernel": "reference"}
    chosen |= {"sparsity": sparsity} if sparsity is not None else {"budget": "released"}
    chosen |= {"pool": "avg", "rule": "softmax"} if policy == "draft" else {}
    metrics = {"attention_recall": recall, "output_rel_l2": error, "kept_blocks": 922, "total_blocks": BLOCKS}
    metrics |= {"attention_recall_p05": recall / 2, "attention_recall_min": recall / 4, "empty_rows": 0}
    return record("policies", source, chosen | config, metrics | {"choosing_flops_share": choosing})


def heads(policy, recall, error, slope=0.001, **more):
    """One record a head; `slope` makes heads differ, so that intervals are no points."""
    return [cell(head, policy, recall + slope * head, error - slope * head, **more) for head in range(HEADS)]


BASE = heads("draft", 0.7, 0.25) + heads("oracle", 0.8, 0.15, choosing=0.5) + heads("random", 0.1, 0.9)


class Policies(Planted):
    def found(self, more=(), base=None):
        self.planted = [*(BASE if base is None else base), *more]
        return self.finding(of(policies), kinds=("policies",))

    def invented(self):
        return self.planted

    def test_worse_rivals_confirm(self):
        found = self.found(heads("quest", 0.6, 0.3))
        self.assertEqual(found.verdict, CONFIRMED)
        self.assertIn("0 of 1 other policies", found.headline)

    def test_a_better_rival_contradicts(self):
        found = self.found(heads("quest", 0.6, 0.3) + heads("xattention", 0.75, 0.2, choosing=0.06))
        self.assertEqual(found.verdict, CONTRADICTED)
        self.assertIn("1 of 2 other policies", found.headline)
        self.assertIn("xattention", found.measured)
        self.assertIn("none chooses for less than 1%", " ".join(found.why))

    def test_better_by_one_alone_or_not_surely_is_a_caveat(self):
        self.assertEqual(self.found(heads("quest", 0.75, 0.3)).verdict, CAVEAT)
        shaky = [cell(head, "quest", 0.72, 0.25 + (0.1 if head < 2 else -0.1)) for head in range(HEADS)]
        self.assertEqual(self.found(shaky).verdict, CAVEAT)

    def test_own_forms_are_no_rivals(self):
        better = heads("draft", 0.75, 0.2, rule="row") + heads("draft", 0.7, 0.1, remainder="pooled")
        found = self.found(better + heads("quest", 0.6, 0.3))
        self.assertEqual(found.verdict, CONFIRMED)
        names = [row[0] for row in found.tables[0].rows]
        self.assertEqual(names[0], "draft + remainder")
        self.assertIn("draft, rule row", names)
        self.assertIn("from 0.247 to 0.0975", " ".join(found.why))

    def test_without_the_draft_nothing_is_judged(self):
        found = self.found(base=heads("quest", 0.6, 0.3))
        self.assertEqual((found.verdict, found.measured), (NOT_TESTABLE, NOT_MEASURED))
        self.assertEqual(self.found(base=[]).verdict, NOT_TESTABLE)

    def test_released_masks_stand_beside_equal_budgets(self):
        found = self.found(heads("quest", 0.6, 0.3) + heads("quest", 0.9, 0.1, sparsity=None))
        columns = found.tables[0].columns
        row = next(row for row in found.tables[0].rows if row[0] == "quest")
        self.assertAlmostEqual(row[columns.index("as released: output error")], 0.0975)
        self.assertAlmostEqual(row[columns.index("as released: blocks kept")], 922 / BLOCKS)
        self.assertEqual(row[columns.index("better than the draft by both")], "0 of 6")


if __name__ == "__main__":
    unittest.main()
