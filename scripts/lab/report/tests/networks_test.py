"""The section on other architectures: its verdict's words on planted records, and that videos' sections do not see them."""

import unittest

from lab.report.finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE
from lab.report.parts import networks
from lab.report.quality import Quality
from lab.report.tests.synthetic_records import record
from lab.report.tests.verdicts_test import Planted, of

HEADS = 4


def cell(experiment, head, policy, recall, error, pool="avg", region=(4, 4), step=0, **more):
    source = {"dump": "picture.h5", "sha256": "cd34ab12" * 8, "model": "a picture's network", "capture": f"step{step}"}
    source |= {"layer": 0, "step": step, "head": head, "grid": {"frames": 1, "height": 32, "width": 32}}
    source |= {"text_tokens": 0, "head_dim": 32} | more.pop("source", {})
    config = {"policy": policy, "region": list(region), "sparsity": 0.9, "device": "cpu", "kernel": "reference"}
    config |= {"pool": pool, "rule": more.pop("rule", "softmax")} if policy == "draft" else {}
    config |= {"remainder": "pooled"} if more.pop("remainder", False) else {}
    metrics = {"attention_recall": recall, "output_rel_l2": error, "kept_blocks": 410, "total_blocks": 4096}
    metrics |= {"check_3_3": 1, "tightness_3_3": 0.2, "check_3_5": 1, "vacuity_3_5": 1.4, "delta_scaled": 9.0}
    made = record(experiment, source, config, metrics | more.pop("metrics", {}))
    return made | more


def heads(experiment, policy, recall, error, **more):
    """`recall` and `error` of the first head; each further one has 0.01 more, so that intervals are no points."""
    return [cell(experiment, head, policy, recall + 0.01 * head, error + 0.01 * head, **more) for head in range(HEADS)]


def study(draft=0.6, largest=0.5, error=0.3):
    found = heads("bounds", "draft", draft, error) + heads("bounds", "draft", largest, 0.4, pool="max")
    found += heads("bounds", "draft", draft, error / 2, remainder=True)
    return found + heads("bounds", "oracle", 0.8, 0.2) + heads("bounds", "random", 0.1, 0.9)


class Networks(Planted):
    planted: list = []

    def found(self, planted):
        self.planted = planted
        return self.finding(of(networks), kinds=("bounds", "policies", "regions"))

    def invented(self):
        return self.planted

    def test_average_pooling_and_the_draft_ahead_confirm(self):
        found = self.found(study())
        self.assertEqual(found.verdict, CONFIRMED)
        self.assertIn("20 masks of 4 heads, bounds violated in 0", found.measured)
        # (0.6 - 0.1) / (0.8 - 0.1), the same in every head.
        self.assertIn("the draft goes 0.714 (0.714 to 0.714) of the way", found.measured)
        self.assertIn("on 4 heads a pooled remainder takes it from 0.315 to 0.165 (less in 4)", found.measured)

    def test_max_pooling_ahead_is_a_caveat(self):
        found = self.found(study(largest=0.7))
        self.assertEqual(found.verdict, CAVEAT)
        self.assertIn("max pooling keeps more than average pooling in the mean", " ".join(found.why))

    def test_an_error_above_that_of_random_blocks_is_said(self):
        found = self.found(study(error=1.2))
        self.assertIn("recall does not tell the error", " ".join(found.why))
        self.assertNotIn("recall does not tell the error", " ".join(self.found(study()).why))

    def test_a_violated_bound_contradicts(self):
        planted = study()
        planted[0] |= {"status": "failed", "reason": "a check_* flag is 0"}
        planted[0]["metrics"] = planted[0]["metrics"] | {"check_3_3": 0}
        self.assertEqual(self.found(planted).verdict, CONTRADICTED)

    def test_nothing_measured(self):
        found = self.found([])
        self.assertEqual((found.verdict, found.measured), (NOT_TESTABLE, NOT_MEASURED))

    def test_a_network_without_its_ends_or_a_second_head_is_not_judged(self):
        whole = study()
        for planted in (
            [one for one in whole if one["config"]["policy"] != "random"],
            [one for one in whole if one["input"]["head"] == 0],
            [one for one in whole if one["config"].get("pool") != "max"],
        ):
            found = self.found(planted)
            self.assertEqual((found.verdict, found.measured), (NOT_TESTABLE, NOT_MEASURED))

    def test_policies_and_regions_have_tables(self):
        planted = study()
        for experiment, region in (("policies", (4, 4)), ("regions", (4, 4)), ("regions", (8, 8))):
            for policy, error in (("draft", 0.3), ("oracle", 0.2), ("random", 0.9), ("quest", 0.25)):
                planted += heads(experiment, policy, 0.5, error, region=region, source={"causal": True})
        found = self.found(planted)
        tables = {table.name: table for table in found.tables}
        self.assertEqual(sorted(tables), ["networks", "networks_language", "networks_policies", "networks_regions"])
        self.assertEqual([row[0] for row in tables["networks_policies"].rows], ["oracle", "quest", "draft", "random"])
        self.assertEqual([row[1] for row in tables["networks_regions"].rows], ["4x4", "8x8"])
        self.assertIn("quest has less error than the draft", " ".join(found.why))

    def test_a_network_with_several_steps_has_a_table_of_them(self):
        planted = study() + [
            one | {"input": one["input"] | {"step": 1, "capture": "step1"}} for one in study(draft=0.4, error=0.5)
        ]
        found = self.found(planted)
        tables = {table.name: table for table in found.tables}
        self.assertEqual(
            [row[:3] for row in tables["networks_steps"].rows],
            [("a picture's network", step, HEADS) for step in (0, 1)],
        )
        self.assertIn("in the steps 0, 1 from pure noise downwards, the draft keeps 61.5%, 41.5%", " ".join(found.why))
        self.assertIn("The draft's output error is 0.315, 0.515, with a pooled", " ".join(found.why))
        self.assertNotIn("broader", " ".join(found.why))  # the oracle keeps the same
        # Records that tell the noise level.
        for one in planted:
            one["input"] = one["input"] | {"timestep": 80.0 if one["input"]["step"] == 0 else 0.5}
            if one["config"]["policy"] == "oracle" and one["input"]["step"] == 1:
                one["metrics"] = one["metrics"] | {"attention_recall": one["metrics"]["attention_recall"] - 0.1}
        found = self.found(planted)
        steps = next(table for table in found.tables if table.name == "networks_steps")
        self.assertEqual(steps.columns[:3], ["network", "step", "noise level"])
        self.assertEqual([row[1:3] for row in steps.rows], [(0, 80.0), (1, 0.5)])
        self.assertIn("at the noise levels 80, 0.5, the draft keeps 61.5%, 41.5%", " ".join(found.why))
        self.assertIn("with less noise attention is broader", " ".join(found.why))

    def test_videos_sections_do_not_see_them(self):
        """Negative control: on eight frames the same records are the video's."""
        self.planted = study()
        self.assertFalse(self.finding(lambda loaded, _: Quality(loaded)))
        grid = {"grid": {"frames": 8, "height": 32, "width": 32}}
        self.planted = [one | {"input": one["input"] | grid} for one in study()]
        self.assertTrue(self.finding(lambda loaded, _: Quality(loaded)))
        self.assertEqual(self.found(self.planted).verdict, NOT_TESTABLE)


if __name__ == "__main__":
    unittest.main()
