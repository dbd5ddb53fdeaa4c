"""Whole pipelines at full size: videos put together by hand, and the verdicts of both parts on planted cases."""

import statistics

from lab.report.finding import CAVEAT, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE
from lab.report.parts import figure_4_pipelines, section_4_2_pipelines
from lab.report.pipelines import pipelines
from lab.report.tests import synthetic_gpu, synthetic_pipelines
from lab.report.tests.verdicts_test import Planted, of, with_metrics
from lab.shared.record_format import problem

KINDS = ("pipeline", "latency")
STEPS = synthetic_pipelines.STEPS_S
REST = sum(synthetic_pipelines.PARTS_S.values())


def is_steps(item, name=None):
    config = item["config"]
    return config.get("part") == "steps" and item["status"] == "ok" and name in (None, config["configuration"])


def is_steps_of_hunyuan(item):
    return item["experiment"] == "pipeline" and is_steps(item) and item["input"]["shape"] == "hunyuan_768p"


def slower(name, factor):
    """Steps of one configuration, and its complete runs, take so many times as long."""

    def change(item):
        if item["config"].get("configuration") != name or item["experiment"] != "pipeline":
            return item
        names = ("step_ms", "whole_s")
        return with_metrics(item, **{each: factor * item["metrics"][each] for each in names if each in item["metrics"]})

    return change


class Pipelines(Planted):
    @classmethod
    def setUpClass(cls):
        cls.items = synthetic_pipelines.generate()
        cls.items += synthetic_gpu.generate(("wan_768p", "hunyuan_768p"), (0.55, 0.6, 0.75, 0.8, 0.9))

    def invented(self):
        return self.items

    def figure(self, change=lambda item: item):
        return self.finding(of(figure_4_pipelines), change, KINDS)

    def text(self, change=lambda item: item):
        return self.finding(of(section_4_2_pipelines), change, KINDS)

    def table(self, found, name):
        (table,) = [table for table in found.tables if table.name == name]
        return [dict(zip(table.columns, row)) for row in table.rows]

    def test_the_records_are_well_formed(self):
        for item in synthetic_pipelines.generate():
            self.assertIsNone(problem(item))

    def test_a_video_is_its_steps_and_the_rest(self):
        rows = self.table(self.figure(), "pipelines")
        row = next(row for row in rows if (row["model"], row["configuration"]) == ("Wan2.1 14B 768p", "draft_75"))
        dense, sparse = STEPS["wan_768p"]["dense_ours"], STEPS["wan_768p"]["draft_75"]
        wanted = 13 * dense + 37 * sparse + REST
        self.assertAlmostEqual(row["video from timed steps (s)"], wanted)
        self.assertAlmostEqual(row["over diffusers' own (x)"], (50 * STEPS["wan_768p"]["dense_own"] + REST) / wanted)
        self.assertEqual((row["turns"], row["steps timed"], row["video in one run (s)"]), (2, 2, None))
        fp8 = next(row for row in rows if row["configuration"] == "draft_90_fp8")
        steps = STEPS["hunyuan_768p"]
        wanted = 13 * steps["dense_ours_fp8"] + 37 * steps["draft_90_fp8"] + REST  # dense steps in FP8, too
        self.assertAlmostEqual(fp8["video from timed steps (s)"], wanted)
        compiled = next(row for row in rows if row["configuration"] == "draft_90_compiled")
        wanted = 13 * steps["dense_ours_compiled"] + 37 * steps["draft_90_compiled"] + REST
        dense = 50 * steps["dense_ours_compiled"] + REST
        self.assertAlmostEqual(compiled["over it with compiled blocks (x)"], dense / wanted)

    def test_a_run_of_all_steps_counts_before_timed_ones(self):
        longer = lambda item: with_metrics(item, whole_s=1000.0) if item["config"].get("part") == "complete" else item
        rows = self.table(self.figure(longer), "pipelines")
        row = next(row for row in rows if (row["model"][:7], row["configuration"]) == ("Hunyuan", "draft_90"))
        self.assertEqual(row["video in one run (s)"], 1000.0)
        dense = 50 * STEPS["hunyuan_768p"]["dense_ours"] + REST
        self.assertAlmostEqual(row["over our dense kernel (x)"], dense / 1000.0)

    def test_parts_that_were_left_out_are_said(self):
        found = self.figure(lambda item: None if item["config"].get("part") in ("text", "file") else item)
        row = self.table(found, "pipelines")[0]
        self.assertEqual(row["left out"], "text, file")
        lost = self.figure(lambda item: None if is_steps(item, "dense_ours") else item)
        row = next(row for row in self.table(lost, "pipelines") if row["configuration"] == "draft_80")
        self.assertEqual((row["left out"], row["video from timed steps (s)"]), ("dense steps", None))

    def test_labels_are_reached_over_the_fastest_dense_video(self):
        found = self.figure()
        self.assertEqual(found.verdict, CAVEAT)
        rows = self.table(found, "figure_4_pipelines")
        self.assertEqual({row["which is"] for row in rows}, {"our dense kernel"})
        best = self.figure(slower("dense_best", 0.5))  # the fastest now, so that sparse videos gain less
        self.assertEqual(
            {row["which is"] for row in self.table(best, "figure_4_pipelines")}, {"diffusers' best backend"}
        )
        self.assertEqual(best.verdict, CONTRADICTED)
        self.assertIn("9 of 10 labels", found.headline)  # 1.94x at 90%, where 1.75 and 2.00 are printed
        below = self.figure(slower("draft_60", 2))
        self.assertIn("7 of 10 labels", below.headline)  # without both GPUs' labels at 60%
        self.assertEqual(below.verdict, CONTRADICTED)

    def test_what_was_not_measured_is_named(self):
        found = self.figure(lambda item: None if is_steps(item, "draft_55") else item)
        self.assertIn("Not measured: Wan2.1 768p at 55%", found.measured)
        self.assertEqual(
            self.figure(lambda item: None if item["experiment"] == "pipeline" else item).measured, NOT_MEASURED
        )
        small = lambda item: dict(item, input=item["input"] | {"shape": "wan_1.3b_768p"})
        self.assertEqual(self.figure(small).verdict, NOT_TESTABLE)

    def test_the_projections_error_is_said(self):
        found = self.figure()
        for row in self.table(found, "figure_4_pipelines"):
            ratio = row["projected (x)"] / row["measured over our dense kernel (x)"]
            self.assertAlmostEqual(row["projected by measured, less 1"], ratio - 1)
        self.assertIn("x projected", " ".join(found.why))
        without = self.figure(lambda item: None if item["experiment"] == "latency" else item)
        self.assertNotIn("x projected", " ".join(without.why))
        self.assertEqual({row["projected (x)"] for row in self.table(without, "figure_4_pipelines")}, {None})

    def test_a_profile_by_class(self):
        found = self.figure()
        row = self.table(found, "pipelines_profile")[0]
        kinds = [row[f"{words} (ms)"] for words in figure_4_pipelines.KINDS]
        self.assertAlmostEqual(sum(kinds), row["kernels (ms)"])
        self.assertIn("direct_copy_kernel_cuda (copies)", row["its kernels"])
        self.assertIn("launches 3 kernels: 27.0 ms, 0.8 ms of it copies", " ".join(found.why))

    def test_over_2x(self):
        found = self.text()
        self.assertEqual(found.verdict, CAVEAT)  # compiled: 1024 s by 484 s
        self.assertIn("768p on NVIDIA Synthetic: 1.94x over our dense kernel", found.measured)
        self.assertIn("with compiled blocks on NVIDIA Synthetic: 2.12x over our dense kernel", found.measured)
        plain = self.text(lambda item: None if is_steps(item, "draft_90_compiled") else item)
        self.assertEqual(plain.verdict, CONTRADICTED)  # 1104 s by 569 s
        self.assertIn("in one run", found.measured)
        self.assertIn("HunyuanVideo 13B 768p with FP8 linear layers", " ".join(found.why))
        self.assertEqual(self.text(slower("draft_90", 0.9)).verdict, CAVEAT)
        self.assertEqual(self.text(lambda item: None).verdict, NOT_TESTABLE)

    def test_gpus_are_apart(self):
        other = [dict(item, machine=item["machine"] | {"gpu": "Another"}) for item in synthetic_pipelines.generate()]
        other = [slower("draft_90", 5)(item) for item in other]
        self.items, kept = self.items + other, self.items
        try:
            found = self.finding(lambda loaded, _: pipelines(loaded), kinds=KINDS)
        finally:
            self.items = kept
        self.assertEqual(len(found), 4)
        steps = {each.gpu: each.videos["draft_90"].step_s for each in found if each.shape == "hunyuan_768p"}
        self.assertAlmostEqual(steps["Another"] / steps["NVIDIA Synthetic"], 5)

    def test_steps_on_several_gpus_are_apart(self):
        """Given steps of part "parallel", claim: they are in no video, and of a shape that has nothing else there is none."""
        steps = [item for item in synthetic_pipelines.generate() if is_steps(item)]
        several = [item | {"config": item["config"] | {"part": "parallel", "ranks": 2}} for item in steps]
        several = [with_metrics(item, step_ms=1.0) for item in several]
        several += [
            item | {"config": item["config"] | {"ranks": 1}}
            for item in several
            if item["config"]["configuration"] == "draft_90"
        ]
        several = [with_metrics(item, step_ms=1.8) if item["config"]["ranks"] == 1 else item for item in several]
        self.items, kept = self.items + several, self.items
        try:
            rows = self.table(self.figure(), "pipelines")
            self.assertIn("on 2, 1.80x; what they predict", " ".join(self.figure().why))
            alone = self.finding(
                lambda loaded, _: pipelines(loaded),
                lambda item: item if item["config"].get("part") == "parallel" else None,
                KINDS,
            )
        finally:
            self.items = kept
        self.assertEqual(rows, self.table(self.figure(), "pipelines"))
        self.assertEqual(alone, [])

    def test_passes_of_other_models_are_a_table_of_their_own(self):
        """Given one pass of another model, claim: it is in no video, its row has its times and speed-ups, and says why a
        configuration has none."""
        times = {"dense_own": 300.0, "dense_ours": 330.0, "draft_90": 100.0}
        given = {item["config"]["configuration"]: item for item in self.items if is_steps_of_hunyuan(item)}
        passes = []
        for name, ms in times.items():
            item = given[name] | {"config": {**given[name]["config"], "part": "pass"}}
            item |= {"input": {**item["input"], "shape": "another", "model": "Another 5B", "steps": 1}}
            passes.append(item | {"metrics": {"transformer_ms": ms, "prediction_rms": 1.0}})
        skipped = passes[0] | {"status": "skipped", "reason": "kernel wgmma: wants head_dim 64 or 128", "metrics": {}}
        skipped |= {"input": {**skipped["input"], "shape": "narrow", "model": "Narrow 1B"}}
        self.items, kept = self.items + [*passes, skipped], self.items
        try:
            found = self.figure()
            videos, rows = self.table(found, "pipelines"), self.table(found, "pipelines_passes")
        finally:
            self.items = kept
        self.assertEqual(videos, self.table(self.figure(), "pipelines"))
        self.assertNotIn("pipelines_passes", [table.name for table in self.figure().tables])
        by_model = {row["model"]: row for row in rows}
        row = by_model["Another 5B"]
        self.assertEqual((row["over diffusers' own (x)"], row["over our dense kernel (x)"]), (3.0, 3.3))
        self.assertEqual(row["left out"], "nothing")
        self.assertIn("head_dim 64 or 128", by_model["Narrow 1B"]["left out"])
        self.assertIn("Another 5B 3.00x.", " ".join(found.why))

    def test_turns_give_a_median(self):
        third = [
            with_metrics(item, step_ms=1e6) | {"config": item["config"] | {"turn": 3}}
            for item in self.items
            if item["experiment"] == "pipeline" and is_steps(item, "draft_80") and item["config"]["turn"] == 1
        ]
        self.items, kept = self.items + third, self.items
        try:
            rows = self.table(self.figure(), "pipelines")
        finally:
            self.items = kept
        row = next(row for row in rows if row["configuration"] == "draft_80")
        step_s = STEPS["hunyuan_768p"]["draft_80"]
        self.assertAlmostEqual(row["a step (s)"], statistics.median([0.99 * step_s, 1.01 * step_s, 1e3]))
