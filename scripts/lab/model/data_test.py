"""Tests of prompts, procedural video and the plan."""

import unittest

import pytest

torch = pytest.importorskip("torch")
from lab.model.plan import Plan, parse_grid
from lab.model.prompts import FIELDS, VALUES, draw_prompts, is_held_out, parse_prompt
from lab.model.video import render

SIZE = dict(frames=4, height=64, width=96)


class Prompts(unittest.TestCase):
    def test_training_and_held_out_prompts_never_meet(self):
        for held_out in (False, True):
            drawn = draw_prompts(100, torch.Generator().manual_seed(3), held_out)
            self.assertEqual(drawn.shape, (100, len(FIELDS)))
            self.assertTrue((is_held_out(drawn) == held_out).all())
            self.assertTrue(((drawn >= 0) & (drawn < VALUES)).all())

    def test_bad_prompts_are_refused(self):
        self.assertEqual(parse_prompt(",".join("3" * 16)).tolist(), [3] * 16)
        for text in ("1,2", ",".join("9" * 16), "a"):
            with self.assertRaisesRegex(ValueError, "prompt: wanted 16"):
                parse_prompt(text)


class Video(unittest.TestCase):
    def setUp(self):
        self.prompt = draw_prompts(1, torch.Generator().manual_seed(0))

    def test_the_same_seed_gives_the_same_clip(self):
        first, again = (render(self.prompt, [5], **SIZE) for _ in range(2))
        self.assertEqual(first.shape, (1, 3, 4, 64, 96))
        self.assertTrue(torch.equal(first, again))
        self.assertFalse(torch.equal(first, render(self.prompt, [6], **SIZE)))

    def test_a_clip_does_not_depend_on_its_batch(self):
        prompts = draw_prompts(3, torch.Generator().manual_seed(1))
        together = render(prompts, [1, 2, 3], **SIZE)
        alone = torch.cat([render(prompts[i : i + 1], [i + 1], **SIZE) for i in range(3)])
        # Claim: the same up to a few roundings; an edge of slope 1 a pixel multiplies them by about 100 pixels.
        self.assertLessEqual((together - alone).abs().max().item(), 1000 * torch.finfo(torch.float32).eps)

    def test_every_field_changes_the_clip(self):
        # Given middle values everywhere (no field hides another), claim: changing any one field moves the mean
        # absolute difference well off zero.
        base = torch.full((1, len(FIELDS)), 4)
        clip = render(base, [5], **SIZE)
        for index, name in enumerate(FIELDS):
            other = base.clone()
            other[0, index] = 1
            self.assertGreater((render(other, [5], **SIZE) - clip).abs().mean().item(), 1e-3, name)

    def test_clips_move_and_are_sharp(self):
        moving = torch.full((1, len(FIELDS)), 4)
        clip = render(moving, [5], **SIZE)
        self.assertTrue(torch.isfinite(clip).all())
        self.assertGreater((clip[:, :, 1:] - clip[:, :, :-1]).abs().mean().item(), 0.02)
        # Claim: neighbouring pixels differ by more than a third of the range somewhere.
        self.assertGreater((clip[..., 1:] - clip[..., :-1]).abs().max().item(), 0.6)

    def test_seeds_and_prompts_must_match(self):
        with self.assertRaisesRegex(ValueError, "one seed a prompt"):
            render(self.prompt, [1, 2], **SIZE)


class Plans(unittest.TestCase):
    def test_stages_and_turns(self):
        plan = Plan("2@1x2x3*4,3@1x2x3*4+5x6x7*8")
        self.assertEqual(plan.steps, 5)
        self.assertEqual([plan.batch(i).grid for i in range(5)], [(1, 2, 3)] * 3 + [(5, 6, 7), (1, 2, 3)])
        with self.assertRaisesRegex(ValueError, "below 5"):
            plan.batch(5)

    def test_bad_plans_are_refused(self):
        for text in ("", "5", "5@1x2*3", "5@1x2x3", "x@1x2x3*4"):
            with self.assertRaises(ValueError, msg=text):
                Plan(text)
        with self.assertRaisesRegex(ValueError, "8x32x48"):
            parse_grid("0x2x3")

    def test_learning_rate_rises_stays_and_falls(self):
        plan = Plan("2000@1x2x3*4")
        rates = [plan.learning_rate(step, 1.0) for step in (0, 299, 1000, 1650, 1999)]
        self.assertAlmostEqual(rates[0], 1 / 300)
        self.assertEqual(rates[1:3], [1.0, 1.0])
        self.assertAlmostEqual(rates[3], 0.5)
        self.assertAlmostEqual(rates[4], 0.05)
