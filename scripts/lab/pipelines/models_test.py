"""Tests of shapes, random weights, embeddings and steps, on tiny models of the real classes."""

import os
import tempfile
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")
from lab.pipelines import cases, configurations, pipeline, running, text, weights
from lab.pipelines.cases import opened
from lab.pipelines.shapes import SHAPES

torch.set_num_threads(1)  # the tensors are tiny: threads would wait for each other


class Shapes(unittest.TestCase):
    def test_grids_are_the_papers(self):
        grids = {name: shape.grid for name, shape in SHAPES.items()}
        self.assertEqual(grids["hunyuan_768p"], (33, 48, 80))
        self.assertEqual((grids["wan_768p"], grids["wan_512p"]), ((21, 48, 80), (21, 32, 48)))
        self.assertEqual([SHAPES[name].dense_steps for name in SHAPES], [13] * len(SHAPES))

    def test_models_have_the_released_sizes(self):
        """On the meta device: parameters are counted, none is held."""
        for name, wanted in (("hunyuan_768p", 12.82e9), ("wan_768p", 14.29e9), ("wan_1.3b_768p", 1.42e9)):
            shape = SHAPES[name]
            with mock.patch.object(weights, "randomise", lambda module, seed: None):
                found = weights.parameters(pipeline.transformer_of(shape, "meta", torch.bfloat16))
            self.assertAlmostEqual(found / wanted, 1, delta=0.005, msg=name)


class Weights(unittest.TestCase):
    def rms(self, shape, scale=1.0):
        bench = opened(shape)
        with torch.no_grad():
            for parameter in bench.pipeline.transformer.parameters():
                parameter.mul_(scale)
        return bench.run(stop_after=2).prediction_rms

    def test_what_comes_out_is_of_the_size_of_what_goes_in(self):
        """Latents are standard normal; weights keep sizes, and a residual stream of a few blocks grows by their root."""
        for shape in cases.TINY.values():
            self.assertTrue(0.2 < self.rms(shape) < 5, shape.name)
            larger = self.rms(shape, 30.0)
            self.assertFalse(0.2 < larger < 5, f"{shape.name}: {larger}")  # the check can fail

    def test_a_seed_is_all(self):
        first, again, other = (
            weights.build(lambda: torch.nn.Linear(8, 8), "cpu", torch.bfloat16, seed) for seed in (1, 1, 2)
        )
        self.assertTrue(torch.equal(first.weight, again.weight))
        self.assertFalse(torch.equal(first.weight, other.weight))
        self.assertEqual((first.weight.dtype, float(first.bias.abs().sum())), (torch.bfloat16, 0.0))
        self.assertEqual(torch.get_default_dtype(), torch.float32)

    def test_what_the_class_wants_in_float32_is(self):
        made = pipeline.transformer_of(cases.WAN, "cpu", torch.bfloat16)
        self.assertEqual(made.blocks[0].scale_shift_table.dtype, torch.float32)
        self.assertEqual(made.blocks[0].attn1.to_q.weight.dtype, torch.bfloat16)


class Text(unittest.TestCase):
    def test_random_embeddings_have_the_encoders_shapes(self):
        for shape in cases.TINY.values():
            found = text.encode(shape, text.encoding_pipeline(shape, "cpu", torch.float32), "cpu")
            drawn = text.random_embeddings(shape, "cpu", torch.float32)
            self.assertEqual(found.valid, drawn.valid)
            self.assertTrue(10 < found.valid < shape.text_length, found.valid)
            self.assertEqual(found.given.keys(), drawn.given.keys())
            for name, x in found.given.items():
                self.assertEqual(x.shape, drawn.given[name].shape, name)
                self.assertTrue(torch.isfinite(x).all() and x.abs().sum() > 0, name)


class Steps(unittest.TestCase):
    def test_steps_are_counted_and_their_parts_are_within(self):
        for shape in cases.TINY.values():
            bench = opened(shape)
            steps = bench.run(stop_after=3).steps
            self.assertEqual([step.passes for step in steps], [shape.passes] * 3)
            for step in steps:
                self.assertTrue(0 < step.scheduler_ms + step.transformer_ms <= step.whole_ms, step)
            self.assertNotIn("step", vars(bench.pipeline.scheduler))  # nothing stays behind
            self.assertEqual(len(bench.run().steps), shape.steps)


class Sittings(unittest.TestCase):
    """A video that is made in several sittings is the one of a single run, bit by bit."""

    def made(self, shape, sittings):
        """(record's metrics, last latents) of a video; each of the sittings has time for so many steps."""
        bench, seen, decode = opened(shape), [], running.decode

        def watched(shape, pipeline, embeddings, clock, latents):
            seen.append(latents)
            return decode(shape, pipeline, embeddings, clock, latents)

        configuration = configurations.parse("draft_60", "torch")
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(running, "decode", watched):
            for number, steps in enumerate(sittings, 1):
                asked = iter([1e9] * (steps - 1) + [0.0])
                left_s = lambda: next(asked, 1e9 if number == len(sittings) else 0.0)
                whole = bench.complete(configuration, os.path.join(folder, "video"), left_s, False, 1.0)
                self.assertEqual(whole, number == len(sittings))
                bench = self.again(shape, bench)
        return bench.recorder.written[-1][1], seen[-1]

    def again(self, shape, bench):
        """A new process's bench, which goes on with the same records."""
        found = opened(shape)
        found.recorder = bench.recorder
        return found

    def test_the_same_video(self):
        for shape in cases.TINY.values():
            whole, latents = self.made(shape, [99])
            parts, again = self.made(shape, [1, 3, 99])  # one dense; the second, and two sparse; the rest
            self.assertEqual((whole["steps_timed"], parts["steps_timed"]), (6, 6))
            self.assertTrue(torch.equal(latents, again), shape.name)
            self.assertGreater(latents.abs().sum(), 0)

    def test_a_schedulers_state_is_part_of_it(self):
        """The check can fail: without it Wan's scheduler, which looks back, makes another video."""
        whole, latents = self.made(cases.WAN, [99])
        with mock.patch.object(running, "_state_of", lambda scheduler: {"_step_index": scheduler.step_index}):
            _, again = self.made(cases.WAN, [3, 99])
        self.assertFalse(torch.equal(latents, again))

    def test_anothers_video_is_refused(self):
        bench = opened(cases.WAN)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "video")
            bench.complete(configurations.parse("draft_60", "torch"), path, lambda: 0.0, False, 1.0)
            with self.assertRaisesRegex(ValueError, "wanted the video of tiny_wan, draft_90, 6 steps, found that of"):
                bench.complete(configurations.parse("draft_90", "torch"), path, lambda: 0.0, False, 1.0)
