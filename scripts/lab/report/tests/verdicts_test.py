"""Verdict rules on planted cases: each rule must be able to say every word that it claims to know."""

import os
import tempfile
import unittest
from unittest import mock

import matplotlib.pyplot as plt
import pandas as pd

from lab.report import frame, page, style
from lab.report.__main__ import PAPER_FOLDER
from lab.report.finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE
from lab.report.paper import Paper
from lab.report.parts import (
    every_head,
    figure_1,
    section_3_1,
    table_1_flops,
    table_4,
    table_5,
    theorem_3_3,
    theorem_3_5,
)
from lab.report.quality import over_prompts, spearman
from lab.report.tests import synthetic_flops
from lab.report.tests import synthetic_records as synthetic

PAPER = Paper(PAPER_FOLDER)


def drop(figure, _folder, stem):
    plt.close(figure)
    return stem


class Planted(unittest.TestCase):
    """Invented records, changed by a function, and the finding made from them."""

    def invented(self):
        return synthetic.generate(1, 2) + synthetic_flops.flops()

    def finding(self, make, change=lambda item: item, kinds=("bounds",)):
        items = [item for item in self.invented() if item["experiment"] in kinds]
        items = [changed for changed in map(change, items) if changed]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "planted.jsonl")
            synthetic.write(path, items)
            with mock.patch.object(style, "save", drop):  # the pictures are report_test.py's business
                return make(frame.load([path]), folder)


def of(part):
    """What Planted.finding makes of a part of the report."""
    return lambda loaded, folder: page.section(part, loaded, PAPER, folder)


def with_metrics(item, **metrics):
    return dict(item, metrics={**item["metrics"], **metrics})


def is_draft(item):
    return item["config"].get("policy") == "draft"


class Theorems(Planted):
    def test_3_3_loose_tight_violated_missing(self):
        self.assertEqual(self.finding(of(theorem_3_3)).verdict, CAVEAT)

        def tight(item):
            return with_metrics(item, tightness_3_3=0.8) if is_draft(item) else item

        self.assertEqual(self.finding(of(theorem_3_3), tight).verdict, CONFIRMED)

        def violated(item):
            hit = is_draft(item) and item["input"]["head"] == 1 and item["config"]["sparsity"] == 0.9
            return dict(with_metrics(item, check_3_3=0), status="failed", reason="a check_* flag is 0") if hit else item

        found = self.finding(of(theorem_3_3), violated)
        self.assertEqual(found.verdict, CONTRADICTED)
        self.assertIn(
            "fails on 8 of 112", found.measured
        )  # 2 pools x 4 rules of one head, of 2 heads x 8 x 7 sparsities
        self.assertEqual(self.finding(of(theorem_3_3), lambda item: None).measured, NOT_MEASURED)

    def test_3_5_vacuous_informative_violated(self):
        found = self.finding(of(theorem_3_5))
        self.assertEqual(found.verdict, CAVEAT)
        self.assertIn("vacuous on 100.0%", found.headline)

        def informative(item):
            trivial = item["metrics"]["trivial_bound"]
            return (
                with_metrics(item, bound_3_5=0.5 * trivial, vacuity_3_5=0.5, empty_rows=0) if is_draft(item) else item
            )

        found = self.finding(of(theorem_3_5), informative)
        self.assertEqual(found.verdict, CONFIRMED)
        steps = {row[0]: row for row in found.tables[1].rows}
        self.assertEqual(steps["Step 1: dropped mass"][-1], CONFIRMED)

        def violated(item):
            return with_metrics(item, check_3_5=0) if is_draft(item) and item["config"]["rule"] == "row" else item

        self.assertEqual(self.finding(of(theorem_3_5), violated).verdict, CONTRADICTED)

    def test_steps_are_judged_one_by_one(self):
        def violated(item):
            return with_metrics(item, check_step_2=0, step_2_max_ratio=1.5) if is_draft(item) else item

        steps = {row[0]: row for row in self.finding(of(theorem_3_5), violated).tables[1].rows}
        self.assertEqual(steps["Step 2: mass from delta"][2:], (112, 112, "largest mu_u / bound", 1.5, CONTRADICTED))
        self.assertEqual(steps["Step 1: dropped mass"][-1], CAVEAT)  # empty rows
        self.assertEqual(steps["Step 1: dropped mass"][2], 140)  # random and oracle masks count too


class Selection(Planted):
    def table_4(self, change=lambda item: item):
        return self.finding(of(table_4), change)

    def test_table_4_confirmed_contradicted_mixed_missing(self):
        found = self.table_4()
        self.assertEqual(found.verdict, CONFIRMED)
        self.assertIn("better in 2 of 2 heads", found.measured)

        def swapped(item):
            pool = {"avg": "max", "max": "avg"}.get(item["config"].get("pool"))
            return dict(item, config=dict(item["config"], pool=pool)) if pool else item

        self.assertEqual(self.table_4(swapped).verdict, CONTRADICTED)

        def more_error(item):
            return with_metrics(item, output_rel_l2=0.99) if item["config"].get("pool") == "avg" else item

        self.assertEqual(self.table_4(more_error).verdict, CAVEAT)
        self.assertEqual(
            self.table_4(lambda item: None if item["config"].get("pool") == "max" else item).verdict, NOT_TESTABLE
        )

    def test_table_4_wants_the_interval_over_prompts_too(self):
        # Given heads of two prompts on which average pooling has more recall and less error, in one by far: better on
        # every head, and yet the interval over two prompts holds 0.
        def of_two_prompts(item, gains):
            item = dict(item, input=dict(item["input"], prompt=f"prompt {item['input']['head']}"))
            gain = gains[item["input"]["head"]] if item["config"].get("pool") == "avg" else 0.0
            return with_metrics(item, attention_recall=0.4 + gain, output_rel_l2=0.5 - gain)

        alike = self.table_4(lambda item: of_two_prompts(item, (0.20, 0.21)))
        self.assertEqual(alike.verdict, CONFIRMED)
        self.assertIn("over 2 prompts", alike.measured)
        apart = self.table_4(lambda item: of_two_prompts(item, (0.01, 0.40)))
        self.assertEqual(apart.verdict, CAVEAT)
        self.assertIn("better in 2 of 2 heads", apart.measured)

    def test_table_5_confirmed_and_missing(self):
        def section(change=lambda item: item):
            return self.finding(of(table_5), change, ("regions",))

        self.assertEqual(section().verdict, CONFIRMED)

        def swapped(item):
            region = {(8, 16): [16, 16], (16, 16): [8, 16]}.get(tuple(item["config"]["region"]))
            return dict(item, config=dict(item["config"], region=region)) if region else item

        self.assertEqual(section(swapped).verdict, CONTRADICTED)
        self.assertEqual(
            section(lambda item: None if item["config"]["region"] == [16, 16] else item).verdict, NOT_TESTABLE
        )

    def test_regions_are_averaged_over_the_same_heads(self):
        def one_head_at_16x16(item):
            return None if item["config"]["region"] == [16, 16] and item["input"]["head"] == 1 else item

        found = self.finding(of(table_5), one_head_at_16x16, ("regions",))
        self.assertEqual({row[3] for row in found.tables[1].rows}, {1})

    def test_section_3_1(self):
        def section(change):
            return self.finding(of(section_3_1), change)

        def alike(item):
            return with_metrics(item, attention_recall=0.5) if is_draft(item) else item

        self.assertEqual(section(lambda item: item).verdict, CONTRADICTED)  # recall differs by more than 0.01
        self.assertEqual(section(alike).verdict, CAVEAT)  # one block more

        def counted_alike(item):
            return with_metrics(alike(item), kept_blocks=900)

        self.assertEqual(section(counted_alike).verdict, CONFIRMED)


class Flops(Planted):
    def test_figure_1(self):
        def figure(change=lambda item: item):
            return self.finding(of(figure_1), change, ("flops",))

        self.assertEqual(figure().verdict, CAVEAT)  # above 80% at 4 s already

        def late(item):
            share = 0.9 if item["config"].get("seconds", 0) >= 16 else 0.5
            return with_metrics(item, attention_share=share)

        self.assertEqual(figure(late).verdict, CONFIRMED)
        self.assertEqual(figure(lambda item: with_metrics(item, attention_share=0.7)).verdict, CONTRADICTED)
        self.assertEqual(figure(lambda item: None).verdict, NOT_TESTABLE)

    def test_table_1_pflops(self):
        def table(change=lambda item: item):
            return self.finding(of(table_1_flops), change, ("flops",))

        found = table()
        self.assertEqual(found.verdict, CONTRADICTED)
        self.assertNotIn("Attention", " ".join(found.why))

        def linear(item):
            return with_metrics(item, pflops_linear=item["metrics"].get("pflops_printed", 0))

        self.assertEqual(table(linear).verdict, CONFIRMED)

        def mistyped(item):
            return with_metrics(item, pflops_printed=300.0) if item["config"].get("sparsity") == 0.9 else item

        self.assertIn("HunyuanVideo 768p Ours 90%", " ".join(table(mistyped).why))


class Heads(Planted):
    def invented(self):
        return synthetic.generate(4, 3)

    def section(self, change=lambda item: item):
        return self.finding(of(every_head), change)

    def test_every_group_some_none_and_too_few(self):
        found = self.section()
        self.assertEqual(found.verdict, CONFIRMED)
        groups = [row[0] for row in found.tables[0].rows]
        self.assertEqual(groups[:6], ["all", "layer 0", "layer 3", "layer 6", "layer 9", every_head.THIRDS[0]])
        self.assertIn("better by both in 7 of 7 groups and in 12 of 12 heads", found.measured)

        def other_layers(item, layers):
            pool = {"avg": "max", "max": "avg"}.get(item["config"].get("pool"))
            if not pool or item["input"]["layer"] not in layers:
                return item
            return dict(item, config=dict(item["config"], pool=pool))

        some = self.section(lambda item: other_layers(item, {3}))
        self.assertEqual(some.verdict, CAVEAT)
        self.assertIn("It is not better in: layer 3", " ".join(some.why))
        self.assertEqual(self.section(lambda item: other_layers(item, {0, 3, 6, 9})).verdict, CONTRADICTED)
        self.assertEqual(self.section(lambda item: None if item["input"]["layer"] == 3 else item).verdict, NOT_TESTABLE)

    def test_thirds_are_by_the_oracle(self):
        table = self.section().tables[0]
        oracle = table.columns.index("mass in the best blocks")
        thirds = [row[oracle] for row in table.rows if row[0] in every_head.THIRDS]
        self.assertEqual(thirds, sorted(thirds, reverse=True))
        self.assertGreater(thirds[0], thirds[-1] + 0.05)


class Prompts(unittest.TestCase):
    def test_intervals_are_over_prompts_and_not_heads(self):
        # Given the means 1, 2, 3 of three prompts, with 1, 2 and 40 heads, claim: 2 +- 4.303 / sqrt(3), Student's t of two
        # degrees of freedom; of one prompt nothing.
        heads = [("a", 1.0)] + [("b", 1.5), ("b", 2.5)] + [("c", 3.0)] * 40
        pairs = pd.DataFrame([{"sha": "x", "prompt": prompt, "first": gain, "second": 0.0} for prompt, gain in heads])
        found = over_prompts(pairs)
        self.assertEqual((found["gain"], found["prompts"]), (2.0, 3))
        self.assertAlmostEqual(found["high"] - found["gain"], 4.30265 / 3**0.5, places=4)
        self.assertAlmostEqual(found["gain"] - found["low"], 4.30265 / 3**0.5, places=4)
        self.assertIsNone(over_prompts(pairs[pairs["prompt"] == "c"]))
        self.assertIsNone(over_prompts(pairs.assign(prompt=None)))


class Ranks(unittest.TestCase):
    def test_spearman(self):
        self.assertAlmostEqual(spearman([1, 2, 3, 4], [40, 30, 20, 10]), -1)
        self.assertAlmostEqual(spearman([1, 2, 2, 4], [1, 2, 2, 9]), 1)
        self.assertIsNone(spearman([1, 2], [1, 2]))
        self.assertIsNone(spearman([1, 1, 1], [1, 2, 3]))


if __name__ == "__main__":
    unittest.main()
