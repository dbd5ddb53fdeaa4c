"""Verdict rules of the videos on planted cases, the intervals, and clips of several sets kept apart."""

import statistics
import unittest
from unittest import mock

from lab.report import parts
from lab.report.finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE
from lab.report.tests import synthetic_videos
from lab.report.tests.verdicts_test import Planted, of, with_metrics
from lab.report.videos import Choice, Videos, choice_of, draft, interval


def moved(item, gain, **where):
    """The record with `gain` dB more in every clip, if its configuration is as said."""
    if item["experiment"] != "video" or any(item["config"].get(name) != value for name, value in where.items()):
        return item
    if "lpips" not in item.get("arrays", {}):
        return item
    psnr = [value + gain for value in item["arrays"]["psnr"]]
    ssim = [value + 0.01 * gain for value in item["arrays"]["ssim"]]
    lpips = [value - 0.015 * gain for value in item["arrays"]["lpips"]]
    changed = with_metrics(item, psnr=statistics.mean(psnr), ssim=statistics.mean(ssim), lpips=statistics.mean(lpips))
    return dict(changed, arrays={**item["arrays"], "psnr": psnr, "ssim": ssim, "lpips": lpips})


def without_lpips(item):
    if "lpips" not in item.get("arrays", {}):
        return item
    return dict(
        item, arrays={name: item["arrays"][name] for name in ("psnr", "ssim")}, notes={"lpips": "left out: no weights"}
    )


class Clips(Planted):
    @classmethod
    def setUpClass(cls):
        cls.items = synthetic_videos.generate()

    def invented(self):
        return self.items

    def of_videos(self, make, change=lambda item: item):
        return self.finding(make, change, ("video", "video_heads", "video_contrast", "video_feedback"))

    def videos(self, change=lambda item: item):
        return self.of_videos(lambda loaded, folder: Videos(loaded), change)


class Truth(Clips):
    def section(self, gain=None):
        """gain: dB to the true clips that the draft's clips have over the dense ones, by clip."""
        dense = next(item for item in self.items if "repeat_max_abs" in item["metrics"])["arrays"]["psnr_truth"]

        def change(item):
            if gain is None or item["config"].get("policy") != "draft" or "psnr" not in item.get("arrays", {}):
                return item
            return dict(item, arrays={**item["arrays"], "psnr_truth": [a + gain(i) for i, a in enumerate(dense)]})

        return self.of_videos(of(parts.truth_videos), change)

    def test_worse_better_another_and_missing(self):
        found = self.section()
        self.assertEqual(found.verdict, CONFIRMED)
        self.assertIn("Random blocks lose", found.measured)
        self.assertEqual(found.tables[0].rows[0][0], "dense")
        self.assertEqual(self.section(lambda i: 0.5).verdict, CONTRADICTED)
        self.assertIn("a loss of -0.50 [-0.50, -0.50] dB", self.section(lambda i: 0.5).measured)
        self.assertEqual(self.section(lambda i: 0.5 * (-1) ** i).verdict, CAVEAT)

        def without(item):
            arrays = {name: value for name, value in item.get("arrays", {}).items() if name != "psnr_truth"}
            return dict(item, arrays=arrays) if "arrays" in item else item

        self.assertEqual(self.of_videos(of(parts.truth_videos), without).verdict, NOT_TESTABLE)


class Verdicts(Clips):
    def table(self, number, change=lambda item: item):
        part = {1: parts.table_1_videos, 4: parts.table_4_videos, 5: parts.table_5_videos}[number]
        return self.of_videos(of(part), change)

    def test_table_1(self):
        found = self.table(1)
        self.assertEqual(found.verdict, CAVEAT)
        self.assertIn("above random at 3 of 3", found.headline)
        self.assertIn("it falls from each sparsity to the next", found.measured)
        self.assertIn("LPIPS [95%]", found.tables[0].columns)
        self.assertFalse(any("LPIPS" in text for text in found.why))
        self.assertEqual(found.tables[0].rows[0][:5], ("dense, wgmma", 0.0, None, None, "55.00 [55.00, 55.00]"))
        drafted = next(row for row in found.tables[0].rows if row[:2] == ("draft avg", 0.9))
        self.assertEqual(drafted[7], "0.500 [0.300, 0.700]")
        # Three of six heads at 0.2, three at 0.8: of a binomial of 6 the 2.5% quantile is 1, and (5 0.2 + 0.8) / 6 = 0.3.
        without = self.table(1, without_lpips)
        self.assertNotIn("LPIPS [95%]", without.tables[0].columns)
        self.assertTrue(any("LPIPS: left out" in text for text in without.why))
        worse = self.table(1, lambda item: moved(item, 20, policy="random", sparsity=0.9))
        self.assertEqual(worse.verdict, CONTRADICTED)
        flat = self.table(1, lambda item: moved(item, 30, policy="draft", sparsity=0.9))
        self.assertIn("does not fall everywhere", flat.measured)
        self.assertEqual(self.table(1, lambda item: None).measured, NOT_MEASURED)

    def test_tables_4_and_5(self):
        for number, where in ((4, {"pool": "max"}), (5, {"region": [16, 16]})):
            self.assertEqual(self.table(number).verdict, CONFIRMED)
            self.assertEqual(self.table(number, lambda item: moved(item, 9, **where)).verdict, CONTRADICTED)
            self.assertEqual(self.table(number, without_lpips).verdict, CONFIRMED)

            def blurred(item):  # nearer to the dense one by PSNR and SSIM, farther by LPIPS
                changed = moved(item, 30, **where)
                return (
                    dict(item, arrays={**item["arrays"], "lpips": changed["arrays"]["lpips"]})
                    if changed is not item
                    else item
                )

            self.assertEqual(self.table(number, blurred).verdict, CAVEAT)
            half = self.table(
                number,
                lambda item: (
                    without_lpips(item)
                    if item["config"].get("pool") == "avg" and item["config"]["region"] == [8, 16]
                    else item
                ),
            )
            self.assertNotIn("LPIPS", half.measured)
            own = {4: 2.5, 5: 0.9}[number]
            self.assertEqual(self.table(number, lambda item: moved(item, own, **where)).verdict, CAVEAT)
            self.assertEqual(self.table(number, lambda item: None).measured, NOT_MEASURED)

    def test_dense_first_steps(self):
        def steps(change=lambda item: item):
            return self.of_videos(of(parts.section_4_1), change)

        self.assertEqual(steps().verdict, CONFIRMED)
        self.assertEqual(steps(lambda item: moved(item, 15, dense_steps=0.0, policy="draft")).verdict, CONTRADICTED)
        without = steps(lambda item: None if item["config"]["dense_steps"] == 0.0 else item)
        self.assertEqual(without.measured, NOT_MEASURED)

    def test_rules(self):
        def rules(change=lambda item: item):
            return self.of_videos(of(parts.rules_videos), change)

        self.assertEqual(rules().verdict, CONTRADICTED)  # row is 0.8 dB better
        self.assertEqual(rules(lambda item: moved(item, -0.8, rule="row")).verdict, CONFIRMED)
        self.assertEqual(rules(lambda item: moved(item, -0.29, rule="row")).verdict, CAVEAT)
        self.assertEqual(
            rules(lambda item: item if item["config"].get("rule") == "softmax" else None).verdict, NOT_TESTABLE
        )

    def test_diffuse_heads(self):
        def heads(change=lambda item: item):
            return self.of_videos(of(parts.diffuse_heads), change)

        self.assertEqual(heads().verdict, CONFIRMED)
        self.assertIn("3 of 6 heads are diffuse", heads().measured)
        self.assertEqual(
            [row[0] for row in heads().tables[1].rows],
            [
                "draft avg, logits",
                "draft avg",
                "draft avg, released",
                "draft avg, row",
                "draft avg, in the diffuse heads alone",
                "draft avg, row, in the diffuse heads alone",
                "draft avg, in the other heads alone",
                "draft avg, row, in the other heads alone",
            ],
        )
        self.assertRegex(heads().why[-1], r"Rule row against softmax: \+0\.[78]\d dB \[.*in the diffuse .* in all\.")
        whole = heads(lambda item: None if item["config"].get("heads") else item)
        self.assertEqual(len(whole.tables), 1)

        def better(item):
            drafted = item["config"].get("rule") == "softmax" and item["experiment"] == "video_heads"
            return with_metrics(item, output_rel_l2=0.01) if drafted else item

        self.assertEqual(heads(better).verdict, CONTRADICTED)
        self.assertIn("in 3 of 3", heads().headline)

        def once(item):  # in one head alone the draft is no better than chance
            drafted = item["config"].get("rule") == "softmax" and item["experiment"] == "video_heads"
            return with_metrics(item, output_rel_l2=0.01) if drafted and item["input"]["head"] else item

        self.assertEqual(heads(once).verdict, CAVEAT)
        self.assertIn("in 1 of 3", heads(once).headline)
        self.assertEqual(
            heads(lambda item: None if item["config"]["policy"] == "random" else item).verdict, NOT_TESTABLE
        )

    def test_recall_against_psnr(self):
        def found(change=lambda item: item):
            return self.of_videos(of(parts.recall_and_psnr), change)

        self.assertEqual(found().verdict, CONFIRMED)
        self.assertIn("No two configurations", found().why[0])
        self.assertIn("one step's error 0.996", found().measured)
        self.assertEqual(
            [row[0] for row in found().tables[1].rows], ["draft avg, logits", "draft avg, row", "draft avg"]
        )
        self.assertRegex(
            found().why[-1], r"draft avg, logits \+0\.[67]\d and -0\.\d\d dB \(contrast 0\.60\); draft avg, row "
        )

        def bare(item):  # what logits gains is not contrast
            if item["experiment"] != "video_contrast" or item["config"].get("rule") != "logits":
                return item
            return dict(item, arrays={**item["arrays"], "psnr_matched": [one + 5 for one in item["arrays"]["psnr"]]})

        self.assertIn("Contrast does not explain all", found(bare).why[-1])
        self.assertRegex(
            found().why[-2], r"at 90%: draft avg 0.19 and 0.65 \(3.4 times\); .*; random .* blocks' clips, 0.73\.$"
        )
        self.assertEqual(len(found().pictures), 2)

        def turned(item):
            recall = item["metrics"].get("attention_recall")
            return with_metrics(item, attention_recall=1 - recall) if recall and item["experiment"] == "video" else item

        self.assertEqual(found(turned).verdict, CONTRADICTED)
        self.assertIn("makes the better videos", found(turned).why[0])

    def test_whole_videos(self):
        def times(change=lambda item: item):
            return self.finding(of(parts.video_times), change, ("video_time",))

        self.assertEqual(times().verdict, CAVEAT)
        self.assertIn("33x48x80", times().measured)
        # 8 of 30 steps are dense; by hand for the share of the synthetic records' smaller grid.
        tokens = 21 * 32 * 48
        share = 3e-7 * tokens**2 / (3e-7 * tokens**2 + 0.05 * tokens)
        self.assertIn(f"in 22 of 30 steps would give {1 / (1 - 22 / 30 * share):.2f}x", times().why[0])
        self.assertTrue(
            any("at 90% a sparse call takes" in text and ", 10%;" in text for text in times().why), times().why
        )
        slow = times(
            lambda item: with_metrics(item, speedup_over_dense=0.9) if item["config"]["policy"] == "draft" else item
        )
        self.assertEqual(slow.verdict, CONTRADICTED)
        self.assertEqual(times(lambda item: None).measured, NOT_MEASURED)


class Errors(Clips):
    """Rule logits has the larger error of the heads and 0.4 dB less than softmax, as planted."""

    def section(self, *gains, of_other=None):
        """gains: dB more for logits; of_other: the same for a second model, which is there if this is a number."""

        def change(item, gain=0.0):
            for each in gains:
                gain += each
            return moved(item, gain, policy="draft", rule="logits", sparsity=0.9)

        if of_other is None:
            return self.of_videos(of(parts.errors_in_videos), change)
        own = self.items
        other = [
            dict(item, input={**item["input"], "model": "other"}) for item in own if item["experiment"] != "video_time"
        ]
        with mock.patch.object(type(self), "items", own + other):
            return self.of_videos(
                of(parts.errors_in_videos),
                lambda item: change(item, of_other if item["input"]["model"] == "other" else 0.0),
            )

    def test_confirmed_contradicted_and_one_model_each(self):
        found = self.section()
        self.assertEqual(found.verdict, CONFIRMED)
        self.assertIn("in 2 of 2 cases", found.headline)
        self.assertEqual(self.section(3.0).verdict, CONTRADICTED)
        both = self.section(of_other=3.0)
        self.assertEqual(both.verdict, CAVEAT)
        self.assertIn("in 2 of 4 cases", both.measured)
        self.assertIn("other with 25% of the steps dense: logits is 2.7", both.measured)
        self.assertEqual(self.section(of_other=0.0).verdict, CONFIRMED)
        self.assertEqual({row[0] for row in both.tables[0].rows}, {"photodit", "other"})

    def test_what_becomes_of_a_disturbance(self):
        found = self.section()
        self.assertTrue(any("Noise dies out" in text for text in found.why), found.why)
        self.assertEqual([row[1:3] for row in found.tables[1].rows][:2], [("masks, rule softmax", 8), ("noise", 8)])
        self.assertTrue(found.tables[1].rows[0][4].startswith(("4.0", "3.9")), found.tables[1].rows[0])

        def loud(item):  # noise that grows as what masks change does
            if item["experiment"] != "video_feedback":
                return item
            return dict(item, arrays={"growth": [4.0 for _ in item["arrays"]["growth"]]})

        self.assertFalse(any("Noise dies out" in text for text in self.of_videos(of(parts.errors_in_videos), loud).why))
        without = self.of_videos(
            of(parts.errors_in_videos), lambda item: None if item["experiment"] == "video_feedback" else item
        )
        self.assertEqual((without.verdict, len(without.tables)), (CONFIRMED, 1))
        self.assertEqual(self.of_videos(of(parts.errors_in_videos), lambda item: None).measured, NOT_MEASURED)


class Sets(Clips):
    def test_the_newest_of_equally_many_clips_is_looked_at(self):
        def newer(item):
            wanted = item["config"].get("pool") == "max"
            return dict(item, input={**item["input"], "first_seed": 7}, time="2040-01-01T00:00:00Z") if wanted else item

        self.assertIsNotNone(self.videos(newer).get(draft(0.9, pool="max")))
        self.assertIsNone(self.videos(newer).get(draft(0.9)))

        def fewer(item):
            changed = newer(item)
            return changed if changed is item else dict(changed, input={**changed["input"], "clips": 16})

        self.assertIsNotNone(self.videos(fewer).get(draft(0.9)))

    def test_clips_of_another_set_are_not_mixed(self):
        def other(item):
            wanted = item["config"].get("pool") == "max"
            return dict(item, input={**item["input"], "first_seed": 7}) if wanted else item

        videos = self.videos(other)
        self.assertEqual(videos.sets, 2)
        self.assertIsNone(videos.get(draft(0.9, pool="max")))
        self.assertIsNotNone(videos.get(draft(0.9)))
        self.assertIsNotNone(videos.rounding)
        self.assertEqual(videos.reference.metrics["repeat_max_abs"], 0.0)

    def test_contrast_of_another_set_is_left_out(self):
        def other(item):
            return dict(item, input={**item["input"], "clips": 16}) if item["experiment"] == "video_contrast" else item

        self.assertEqual(len(self.videos().washed), 3)
        self.assertEqual(len(self.videos(other).washed), 0)

    def test_labels_tell_configurations_apart(self):
        videos = self.videos()
        labels = [(choice.label, choice.sparsity) for choice in videos.choices()]
        self.assertEqual(len(labels), len(set(labels)))
        self.assertEqual(choice_of(videos.get(Choice("random", 0.9))), Choice("random", 0.9))


class Intervals(unittest.TestCase):
    def test_known_cases(self):
        self.assertEqual(interval([2.0, 2.0, 2.0]), (2.0, 2.0, 2.0))
        self.assertEqual(interval([5.0]), (5.0, 5.0, 5.0))
        values = [float(i % 7) for i in range(70)]
        middle, low, high = interval(values)
        self.assertEqual((middle, interval(values)), (3.0, (middle, low, high)))  # the same at every call
        # The standard error is 2 / sqrt(70) of a population with standard deviation 2; 95% is 1.96 of it. The
        # bootstrap's own noise at 10,000 resamples is a few percent of the half width.
        half = 1.96 * 2 / 70**0.5
        self.assertLessEqual(abs((high - low) / 2 - half), 0.06 * half)
        self.assertTrue(low < middle < high)

    def test_nan_shows(self):
        self.assertFalse(interval([1.0, float("nan"), 2.0])[0] <= 3.0)


if __name__ == "__main__":
    unittest.main()
