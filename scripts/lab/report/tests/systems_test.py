"""The sections on other systems' videos and on the pooled remainder: each verdict on planted records."""

import random
import unittest

from lab.report.finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE
from lab.report.parts import remainder, systems_videos
from lab.report.tests import synthetic_records, synthetic_videos
from lab.report.tests.verdicts_test import Planted, of

CLIPS = 12
SPARSITIES = (0.6, 0.9)
OTHERS = ("svg", "svg2", "adaspa", "xattention")


def clips_of(policy, sparsity, gain, config=None, **changes):
    """The records of one configuration, `gain` dB nearer to the dense clips than its kind is by itself."""
    for item in synthetic_videos.video(CLIPS, random.Random(3), policy, sparsity, **changes):
        if item["experiment"] == "video":
            for name, step in (("psnr", gain), ("ssim", 0.011 * gain), ("lpips", -0.015 * gain)):
                item["arrays"][name] = [value + step for value in item["arrays"][name]]
                item["metrics"][name] += step
        else:
            item["metrics"]["attention_recall"] += 0.01 * gain
            item["metrics"]["output_rel_l2"] -= 0.01 * gain
        yield dict(item, config=item["config"] | (config or {}))


def filmed(gains):
    """Dense clips, the draft at both sparsities, and these systems: {name: dB over the draft}."""
    yield from (item for item in synthetic_videos.generate(CLIPS) if "repeat_max_abs" in item["metrics"])
    for sparsity in SPARSITIES:
        yield from clips_of("draft", sparsity, 0.0)
        for name, gain in gains.items():
            if name == "remainder":
                yield from clips_of("draft", sparsity, gain, {"remainder": "pooled"})
            else:
                yield from clips_of(name, sparsity, gain)


class Systems(Planted):
    def found(self, gains):
        self.planted = list(filmed(gains))
        return self.finding(of(systems_videos), kinds=("video", "video_heads"))

    def invented(self):
        return self.planted

    def test_a_worse_svg_confirms_a_better_one_contradicts(self):
        found = self.found({"svg": -3.0})
        self.assertEqual(found.verdict, CONFIRMED)
        self.assertIn("draft +3.", found.headline)
        self.assertIn("+6.28 dB at 60%", found.claim)
        self.assertIn("Worse: svg", " ".join(found.why))
        self.assertEqual(self.found({"svg": 2.0}).verdict, CONTRADICTED)
        self.assertEqual(self.found({"svg": 0.0}).verdict, CAVEAT)

    def test_others_alone_are_no_verdict_on_svg(self):
        found = self.found({"adaspa": 2.0})
        self.assertEqual((found.verdict, found.measured), (NOT_TESTABLE, NOT_MEASURED))

    def test_every_system_has_its_row(self):
        found = self.found({name: -place for place, name in enumerate(OTHERS, 1)} | {"remainder": 1.0})
        names = {row[1] for row in found.tables[0].rows}
        self.assertLessEqual(set(OTHERS), names)
        self.assertTrue(any("pooled" in name for name in names))
        self.assertIn("PSNR goes with recall by 1 and with less output error by 1", " ".join(found.why))


def bound(head, sparsity, error, pooled, **metrics):
    source, _ = next(pair for pair in synthetic_records.heads() if pair[1] == head)
    config = synthetic_records.config("draft", "avg", "softmax", (8, 16), sparsity)
    checks = {flag: 1 for flag in remainder.CHECKS} | {metric: 0.2 for _, metric in remainder.CHECKS.values()}
    found = (
        {"output_rel_l2": error, "bound_remainder": 3.0, "bound_sharp_mu": 4.0} | (checks if pooled else {}) | metrics
    )
    config |= {"remainder": "pooled"} if pooled else {}
    return synthetic_records.record("bounds", source, config, found)


class Remainder(Planted):
    def found(self, error_with=0.2, **metrics):
        self.planted = [bound(head, 0.9, 0.3, False) for head in range(4)]
        self.planted += [bound(head, 0.9, error_with, True, **metrics) for head in range(4)]
        return self.finding(of(remainder), kinds=("bounds",))

    def invented(self):
        return self.planted

    def test_less_error_and_bounds_that_hold_confirm(self):
        found = self.found()
        self.assertEqual(found.verdict, CONFIRMED)
        self.assertIn("4 masks of 4 heads", found.measured)
        self.assertIn("75.0% of what the dropped mass alone allows", found.measured)
        self.assertIn("error 0.3 to 0.2", found.headline)

    def test_more_error_is_a_caveat_and_a_violated_bound_contradicts(self):
        self.assertEqual(self.found(error_with=0.4).verdict, CAVEAT)
        self.assertEqual(self.found(check_remainder_radii=0).verdict, CONTRADICTED)

    def test_masks_without_one_are_not_its_business(self):
        self.planted = [bound(head, 0.9, 0.3, False) for head in range(4)]
        found = self.finding(of(remainder), kinds=("bounds",))
        self.assertEqual((found.verdict, found.measured), (NOT_TESTABLE, NOT_MEASURED))


if __name__ == "__main__":
    unittest.main()
