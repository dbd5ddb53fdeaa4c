"""Verdict rules of the timed experiments on planted cases: every word that a rule knows, and runs kept apart."""

import unittest

from lab.report.finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE
from lab.report.parts import balance, figure_4, peers, section_3_3, section_4_2, sustained, table_3
from lab.report.tests import synthetic_gpu
from lab.report.tests.verdicts_test import Planted, of, with_metrics


class Timed(Planted):
    @classmethod
    def setUpClass(cls):
        cls.items = synthetic_gpu.generate(("wan_768p", "hunyuan_768p"), (0.55, 0.6, 0.75, 0.8, 0.9))

    def invented(self):
        return self.items


def slower(item, factor):
    """The same record with all times multiplied."""
    times = {name: item["timing"][name] * factor for name in ("median_ms", "p10_ms", "p90_ms")}
    times["samples_ms"] = [value * factor for value in item["timing"]["samples_ms"]]
    return dict(item, timing={**item["timing"], **times})


def other_run(item):
    return dict(item, run="another")


def at(item, **wanted):
    known = {**item["config"], "shape": item["input"]["shape"]}
    return all(known.get(name) == value for name, value in wanted.items())


class EndToEnd(Timed):
    def figure(self, change=lambda item: item):
        return self.finding(of(figure_4), change, ("latency",))

    def text(self, change=lambda item: item):
        return self.finding(of(section_4_2), change, ("latency",))

    def projected(self, speedup, **where):
        return lambda item: (
            with_metrics(item, projected_speedup=speedup)
            if "projected_speedup" in item["metrics"] and at(item, **where)
            else item
        )

    def test_figure_4(self):
        found = self.figure()
        self.assertEqual(found.verdict, CAVEAT)  # a projection confirms no more than that
        self.assertIn("10 of 10", found.headline)
        self.assertIn("This is a projection", found.measured)
        self.assertIn("NVIDIA Synthetic", found.measured)
        below = self.figure(self.projected(1.1))
        self.assertEqual(below.verdict, CONTRADICTED)
        self.assertIn("0 of 10", below.headline)
        between = self.figure(self.projected(1.8, shape="hunyuan_768p", sparsity=0.9))  # H100 1.75, A100 2.00
        self.assertEqual((between.verdict, "9 of 10" in between.headline), (CAVEAT, True))
        self.assertEqual(self.figure(lambda item: None).measured, NOT_MEASURED)

    def test_a_label_is_reached_from_half_a_unit_of_its_last_digit(self):
        for speedup, reached in ((1.7451, "10 of 10"), (1.7449, "9 of 10")):
            only = self.projected(speedup, shape="hunyuan_768p", sparsity=0.9, order="token")
            rows = self.figure(only).tables[0].rows
            row = next(row for row in rows if row[:3] == ("HunyuanVideo 768p", 0.9, "H100"))
            self.assertEqual(row[7], "yes" if reached == "10 of 10" else "no", speedup)

    def test_the_lowest_projection_of_a_shape_counts(self):
        captured = [
            dict(item, input=dict(item["input"], dump="a.h5", sha256="1" * 64, data="captured"))
            for item in map(self.projected(1.0), self.items)
            if at(item, shape="hunyuan_768p", sparsity=0.9, order="token", kernel="wgmma", policy="draft")
        ]
        self.items, kept = self.items + captured, self.items
        try:
            self.assertIn("8 of 10", self.figure().headline)
        finally:
            self.items = kept

    def test_what_was_not_measured_is_named(self):
        found = self.figure(lambda item: None if at(item, sparsity=0.55) else item)
        self.assertIn("Not measured: Wan2.1 768p at 55%", found.measured)
        self.assertIn("8 of 8", found.headline)

        def elsewhere(item):
            metrics = {name: value for name, value in item["metrics"].items() if not name.startswith("projected")}
            return dict(item, metrics=metrics, input=dict(item["input"], shape="40x21x48x80"))

        found = self.figure(elsewhere)
        self.assertEqual(found.verdict, NOT_TESTABLE)
        self.assertIn("None of them is of a model and sparsity of the figure", found.measured)
        self.assertEqual([table.name for table in found.tables], ["latency"])

    def test_over_2x(self):
        self.assertEqual(self.text().verdict, CAVEAT)
        exactly = self.text(self.projected(2.0))
        self.assertEqual(exactly.verdict, CONTRADICTED)  # "over"
        self.assertIn("with sparse attention in no time", " ".join(exactly.why))
        self.assertEqual(self.text(lambda item: None).verdict, NOT_TESTABLE)


class Overhead(Timed):
    def table(self, change=lambda item: item, kinds=("latency", "overhead")):
        return self.finding(of(table_3), change, kinds)

    def scaled(self, factor, *parts):
        return lambda item: slower(item, factor) if item["config"].get("part") in parts else item

    def test_table_3(self):
        found = self.table()
        self.assertEqual(found.verdict, CAVEAT)  # the draft alone is below 0.55%, with moving it is not
        self.assertEqual(self.table(self.scaled(0.01, "reorder", "restore")).verdict, CONFIRMED)
        self.assertEqual(self.table(self.scaled(3, "draft")).verdict, CONTRADICTED)
        self.assertEqual(self.table(lambda item: None).measured, NOT_MEASURED)

    def test_without_a_projection_the_share_of_attention_may_only_confirm(self):
        self.assertEqual(self.table(kinds=("overhead",)).verdict, NOT_TESTABLE)
        cheap = self.scaled(0.001, "draft", "reorder", "restore")
        self.assertEqual(self.table(cheap, ("overhead",)).verdict, CONFIRMED)

    def test_the_paper_s_shape_and_sparsity_are_needed(self):
        for change in (
            lambda item: None if at(item, shape="hunyuan_768p") else item,
            lambda item: None if at(item, sparsity=0.9) else item,
        ):
            found = self.table(change)
            self.assertEqual(found.verdict, NOT_TESTABLE)
            self.assertIn("None of them is of the paper's shape", found.measured)

    def test_the_share_is_that_of_the_video(self):
        # 60 layers x 50 steps, three quarters of them sparse.
        found = self.table()
        draft = next(row for row in found.tables[0].rows if "Hunyuan" in row[0] and row[1:3] == (0.9, "draft"))
        video = next(
            item["metrics"]["projected_sparse_s"]
            for item in self.items
            if item["experiment"] == "latency"
            and at(item, shape="hunyuan_768p", sparsity=0.9, order="token", policy="draft", kernel="wgmma")
        )
        self.assertAlmostEqual(draft[7], 0.75 * 3000 * draft[3] * 1e-3 / video, delta=1e-9 * draft[7])


class Orders(Timed):
    def section(self, change=lambda item: item):
        return self.finding(of(section_3_3), change, ("latency",))

    def test_section_3_3(self):
        def gather(factor):
            return lambda item: slower(item, factor) if at(item, order="gather") else item

        self.assertEqual(self.section(gather(2)).verdict, CONTRADICTED)
        self.assertEqual(self.section(gather(0.5)).verdict, CONFIRMED)

        def mixed(item):
            return slower(item, 2 if item["config"]["sparsity"] > 0.7 else 0.5) if at(item, order="gather") else item

        self.assertEqual(self.section(mixed).verdict, CAVEAT)
        self.assertEqual(self.section(lambda item: None).measured, NOT_MEASURED)

    def test_runs_are_not_mixed(self):
        found = self.section(lambda item: other_run(item) if at(item, order="gather") else item)
        self.assertEqual(found.verdict, NOT_TESTABLE)
        self.assertEqual({row[5] for row in found.tables[0].rows}, {None})

    def test_the_cost_is_the_difference_of_medians(self):
        rows = self.section().tables[0].rows
        for row in rows:
            self.assertAlmostEqual(row[6], row[5] - row[3], delta=1e-9 * row[5])
            self.assertLessEqual(row[8], row[7])
            self.assertLessEqual(row[7], row[9])


class Balance(Timed):
    def balance(self, change=lambda item: item):
        return self.finding(of(balance), change, ("latency",))

    def test_load_balance(self):
        def slow(policy):
            return lambda item: with_metrics(item, rate_over_dense=0.5) if at(item, policy=policy) else item

        self.assertEqual(self.balance().verdict, CONFIRMED)
        self.assertEqual(self.balance(slow("worst")).verdict, CAVEAT)
        for policy in ("draft", "random", "uneven"):
            self.assertEqual(self.balance(slow(policy)).verdict, CONTRADICTED)
        without = self.balance(lambda item: None if at(item, policy="worst") else item)
        self.assertEqual(without.verdict, CAVEAT)
        self.assertIn("Not measured: worst", without.measured)
        self.assertEqual(self.balance(lambda item: item if at(item, policy="draft") else None).measured, NOT_MEASURED)


class Sustained(Timed):
    def rate(self, change=lambda item: item):
        names = ("latency", "latency_sustained")
        return self.finding(of(sustained), change, names)

    def test_sustained_rate(self):
        def with_share(share, experiment="latency_sustained"):
            return lambda item: (
                with_metrics(item, rate_over_dense=share)
                if item["experiment"] == experiment and at(item, sparsity=0.9, shape="hunyuan_768p")
                else item
            )

        self.assertEqual(self.rate(with_share(0.9)).verdict, CONFIRMED)
        self.assertEqual(self.rate(with_share(0.89)).verdict, CAVEAT)
        self.assertEqual(self.rate(with_share(0.79)).verdict, CONTRADICTED)
        self.assertEqual(self.rate(with_share(0.5, "latency")).verdict, CONFIRMED)  # single calls are not judged here
        without = self.rate(lambda item: None if item["experiment"] == "latency_sustained" else item)
        self.assertEqual(without.measured, NOT_MEASURED)

    def test_rows_hold_both_kinds_of_samples(self):
        rows = self.rate().tables[0].rows
        self.assertEqual(len(rows), 2 * 4)
        for row in rows:
            self.assertAlmostEqual(row[5], 1 / (1.03 if row[1] else 1.01), delta=1e-9)
        alone = self.rate(lambda item: None if item["experiment"] == "latency" else item).tables[0].rows
        self.assertEqual({row[4] for row in alone}, {None})


class Peers(Timed):
    def peers(self, change=lambda item: item):
        return self.finding(of(peers), change, ("peers",))

    def test_peers(self):
        def peer(factor, **where):
            return lambda item: slower(item, factor) if at(item, **where) and item["timing"] else item

        found = self.peers()
        self.assertEqual(found.verdict, CONFIRMED)
        self.assertIn("flash_attention_4 (no module named flash_attn.cute)", found.measured)
        self.assertIn("flash_attention_4", found.pictures[0][1])
        self.assertEqual(self.peers(peer(0.5, kernel="flash_attention_3")).verdict, CONTRADICTED)
        only_dense = self.peers(peer(0.1, kernel="flex_attention", sparsity=0.0))
        self.assertEqual(only_dense.verdict, CAVEAT)  # faster, but not wherever it ran
        nearly = self.peers(peer(697 / 716 * 0.999, kernel="flash_attention_3"))  # within the samples' spread
        self.assertEqual(nearly.verdict, CAVEAT)
        self.assertEqual(self.peers(lambda item: None).measured, NOT_MEASURED)

    def test_a_later_run_leaves_an_earlier_one_its_own_kernel(self):
        """Given our kernel again in a later run, alone and twice as fast, claim: the earlier run's ratios stay."""
        before = self.peers().tables[0].rows
        ours = [item for item in self.items if item["experiment"] == "peers" and at(item, kernel="wgmma")]
        later = [slower(other_run(item) | {"time": "2099-01-01T00:00:00Z"}, 0.5) for item in ours]
        self.items, kept = self.items + later, self.items
        try:
            found = self.peers().tables[0].rows
        finally:
            self.items = kept
        ratios = lambda rows: sorted(row[9] for row in rows if row[9] is not None)
        self.assertEqual(ratios(found), ratios(before))
        self.assertEqual(len(found), len(before) + len(later))

    def test_eight_bits_are_set_against_eight_bits(self):
        def with_narrow(*added):
            """The finding with wgmma's records once more as those of each (kernel, factor on its times, quantising)."""
            ours = [item for item in self.items if item["experiment"] == "peers" and at(item, kernel="wgmma")]
            narrow = [
                slower(
                    {**item, "config": {**item["config"], "kernel": name, "operands": "fp8", "quantising": when}},
                    factor,
                )
                for name, factor, when in added
                for item in ours
            ]
            self.items, kept = self.items + narrow, self.items
            try:
                return self.peers()
            finally:
                self.items = kept

        def ratios(found, kernel):
            return {round(row[9], 9) for row in found.tables[0].rows if row[2] == kernel}

        found = with_narrow(("fast", 0.7, "timed"))  # nobody of ours has eight bits: it counts against the main kernel
        self.assertEqual((found.verdict, ratios(found, "fast")), (CONTRADICTED, {0.7}))
        self.assertIn("fast (quantising in its time; set against wgmma).", " ".join(found.why))
        self.assertIn("count like all others", found.rule)
        self.assertIn("operands", found.tables[0].columns)
        found = with_narrow(("fast", 0.7, "timed"), ("bare", 0.6, "untimed"), ("wgmma_8bit", 0.5, "timed"))
        self.assertEqual((found.verdict, ratios(found, "fast"), ratios(found, "bare")), (CONFIRMED, {1.4}, {1.2}))
        self.assertIn("over that of wgmma and wgmma_8bit,", found.measured)
        self.assertEqual(ratios(found, "flash_attention_3"), ratios(self.peers(), "flash_attention_3"))
        other = ("wgmma_8bit_bare", 0.55, "untimed")  # not one of ours by its name: a rival
        found = with_narrow(("fast", 0.7, "timed"), ("wgmma_8bit", 0.8, "timed"), other)
        self.assertEqual(found.verdict, CONTRADICTED)
        self.assertNotIn("operands", self.peers().tables[0].columns)
        self.assertNotIn("8-bit", self.peers().rule)

    def test_what_is_known_of_a_kernel_is_said_once(self):
        notes = {
            "kernel": "dense alone.",
            "package": "fa",
            "version": "3.1",
            "install": "pip install fa",
            "reference": "wgmma",
        }
        found = self.peers(lambda item: dict(item, notes=notes) if at(item, kernel="flash_attention_3") else item)
        self.assertIn("flash_attention_3: dense alone; fa 3.1; install: pip install fa.", " ".join(found.why))
        self.assertEqual(" ".join(found.why).count("pip install fa"), 1)

    def test_only_one_run_is_compared(self):
        found = self.peers(lambda item: item if at(item, kernel="wgmma") else other_run(item))
        self.assertEqual(found.verdict, NOT_TESTABLE)
        self.assertEqual({row[9] for row in found.tables[0].rows}, {None})
        found = self.peers(lambda item: other_run(item) if at(item, kernel="cudnn") else item)
        self.assertEqual({row[2] for row in found.tables[0].rows if row[9] is None}, {"wgmma", "mma", "cudnn"})

    def test_the_ratio_is_their_time_over_ours(self):
        row = next(row for row in self.peers().tables[0].rows if row[2] == "cudnn")
        self.assertAlmostEqual(row[9], 716 / 612, delta=1e-12)
        self.assertTrue(row[10] < row[9] < row[11])


if __name__ == "__main__":
    unittest.main()
