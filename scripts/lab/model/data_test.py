"""Tests of prompts, the clips of photographs, the plan and the flow times."""

import math
import unittest

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")
from lab.model.photographs import CUT_OUTS, HEIGHT, SCENES, SIDE, WIDTH, photographs
from lab.model.plan import Plan, learning_rate, parse_grid
from lab.model.prompts import (
    NUMBERS,
    SECTOR,
    VALUES,
    draw_prompts,
    is_held_out,
    pan_angle,
    parse_prompt,
    prompt_text,
    sector_of,
)
from lab.model.train import draw_times
from lab.model.video import camera_at, cut_out_at, frame_times, render

SIZE = dict(frames=4, height=64, width=96)


def prompt(scene=0, cut_out=0, **numbers):
    """A still camera on the middle of a scene, the cut-out out of the frame, but for what is given; [1, 13]."""
    still = dict.fromkeys(NUMBERS, 0.0) | dict(camera_width0=0.8, camera_width1=0.8, cut_out_radius=0.3)
    still |= dict(cut_out_x0=-5.0, cut_out_x1=-5.0)
    return torch.tensor([[scene, cut_out, *(still | numbers).values()]])


class Photographs(unittest.TestCase):
    def test_every_scene_and_cut_out_is_a_picture_of_its_own(self):
        scenes, cut_outs = photographs()
        self.assertEqual(scenes.shape, (len(SCENES), 3, HEIGHT, WIDTH))
        self.assertEqual(cut_outs.shape, (len(CUT_OUTS), 3, SIDE, SIDE))
        for pictures in (scenes, cut_outs):
            self.assertLessEqual(pictures.abs().max().item(), 1)
            self.assertGreater(pictures.flatten(1).std(1).min().item(), 0.1)
            apart = torch.cdist(pictures.flatten(1), pictures.flatten(1)) / pictures[0].numel() ** 0.5
            self.assertGreater((apart + 9 * torch.eye(len(pictures))).min().item(), 0.1)


class Prompts(unittest.TestCase):
    def test_training_and_held_out_prompts_never_meet(self):
        for held_out in (False, True):
            drawn = draw_prompts(300, torch.Generator().manual_seed(3), held_out)
            self.assertEqual(drawn.shape, (300, VALUES))
            self.assertTrue((is_held_out(drawn) == held_out).all())
            self.assertEqual(set(drawn[:, 0].tolist()), set(range(len(SCENES))))
            apart = torch.remainder(pan_angle(drawn) - sector_of(drawn[:, 0]) + math.pi, 2 * math.pi) - math.pi
            self.assertEqual((apart.abs() < SECTOR / 2).all().item(), held_out)

    def test_training_pans_everywhere_but_in_the_sector(self):
        # Given 3,000 training prompts, claim: in each of 14 shares of the other 315 degrees there are some, half of what even
        # ones would give at least.
        drawn = draw_prompts(3000, torch.Generator().manual_seed(8))
        around = torch.remainder(pan_angle(drawn) - sector_of(drawn[:, 0]) - SECTOR / 2, 2 * math.pi)
        counts = torch.histc(around.float(), 14, 0.0, 2 * math.pi - SECTOR)
        self.assertEqual(counts.sum().item(), 3000)
        self.assertGreater(counts.min().item(), 3000 / 14 / 2)

    def test_the_camera_stays_inside_its_picture(self):
        drawn = draw_prompts(200, torch.Generator().manual_seed(4))
        x, y, width = camera_at(drawn, frame_times(9))
        self.assertLessEqual((torch.maximum(x.abs(), y.abs()) + width).max().item(), 1 + 1e-6)

    def test_a_prompt_is_its_words(self):
        for one in draw_prompts(20, torch.Generator().manual_seed(5)):
            self.assertTrue(torch.equal(parse_prompt(prompt_text(one)), one))

    def test_bad_prompts_are_refused(self):
        good = prompt_text(prompt()[0])
        for text, words in (
            ("chelsea", "prompt: wanted SCENE"),
            (good.replace("astronaut", "dog"), "scene: wanted one of astronaut"),
            (good.replace("dahlia", "dog"), "cut-out: wanted one of"),
            (good.replace("camera_x0=0", "camera_x0=nan"), "prompt: wanted SCENE"),
            (good.replace("camera_x0", "camera_q0"), "prompt: wanted SCENE"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                parse_prompt(text)


class Video(unittest.TestCase):
    def test_a_prompt_determines_its_clip(self):
        drawn = draw_prompts(3, torch.Generator().manual_seed(1))
        together = render(drawn, **SIZE)
        self.assertEqual(together.shape, (3, 3, 4, 64, 96))
        self.assertLessEqual(together.abs().max().item(), 1 + 1e-6)
        alone = torch.cat([render(drawn[i : i + 1], **SIZE) for i in range(3)])
        self.assertLessEqual((together - alone).abs().max().item(), 1e-3)  # places differ in their last bits

    def test_the_whole_photograph_is_seen_from_the_middle(self):
        # Given a camera that sees all, claim: the frame is the photograph, averaged down; flipped it is not.
        clip = render(prompt(scene=2, camera_width0=1.0, camera_width1=1.0), frames=1, height=64, width=96)[0, :, 0]
        wanted = torch.nn.functional.avg_pool2d(photographs()[0][2:3], 5)[0]
        self.assertLess((clip - wanted).abs().mean().item(), 0.03)
        self.assertGreater((clip.flip(2) - wanted).abs().mean().item(), 0.1)

    def test_a_pan_moves_the_picture_the_other_way(self):
        # Given a camera of half-width 0.5 that moves right by a tenth of a picture's half, claim: what it sees moves left
        # by a tenth of a frame's width, 9.6 pixels of 96.
        clip = render(prompt(2, camera_width0=0.5, camera_width1=0.5, camera_x1=0.1), frames=2, height=64, width=96)[0]
        errors = [(clip[:, 1, :, :-20] - clip[:, 0, :, s : s - 20 or None]).abs().mean().item() for s in range(20)]
        self.assertIn(min(range(20), key=errors.__getitem__), (9, 10))

    def test_the_cut_out_is_a_disc_with_a_rim_where_the_prompt_says(self):
        shown = dict(cut_out_x0=0.0, cut_out_x1=0.5, cut_out_y1=0.25, cut_out_radius=0.4)
        with_it, without = render(prompt(**shown), **SIZE)[0], render(prompt(), **SIZE)[0]
        changed = ((with_it - without).abs().amax(0) > 1e-6).float()
        for frame, (x, y) in enumerate(zip(*(value[0] for value in cut_out_at(prompt(**shown), frame_times(4))))):
            rows, columns = changed[frame].nonzero().float().mean(0)
            self.assertAlmostEqual(columns.item(), (x.item() + 1) * 48 - 0.5, delta=0.6)
            self.assertAlmostEqual(rows.item(), (y.item() + 1) * 32 - 0.5, delta=0.6)
            self.assertAlmostEqual(changed[frame].sum().item(), math.pi * (0.4 * 32) ** 2, delta=60)
        self.assertGreater(with_it[:, 0, 32, 60].min().item(), 0.9)  # 12.5 of 12.8 pixels from the middle: the rim

    def test_every_number_changes_the_clip(self):
        base = draw_prompts(1, torch.Generator().manual_seed(7))
        clip = render(base, **SIZE)
        for index in range(VALUES):
            other = base.clone()
            other[0, index] = (other[0, index] + 1) % 3 if index < 2 else other[0, index] + 0.1
            self.assertGreater((render(other, **SIZE) - clip).abs().mean().item(), 1e-3, index)


class Plans(unittest.TestCase):
    def test_stages_follow_the_time_and_turns_the_step(self):
        plan = Plan("0.25@8x16x24*32,0.75@8x32x48*8+8x16x24*32")
        self.assertEqual(plan.batch(7, 0.2).grid, (8, 16, 24))
        self.assertEqual(plan.batch(7, 0.2).clips, 32)
        self.assertEqual([plan.batch(step, 0.3).clips for step in range(4)], [8, 32, 8, 32])
        self.assertEqual(plan.batch(4, 1.5).clips, 8)  # a step that ends late

    def test_bad_plans_are_refused(self):
        for text, words in (("x", "SHARE@GRID"), ("0.5@1x2x3*4", "add up to 1"), ("1@1x2x3*0", "SHARE@GRID")):
            with self.assertRaisesRegex(ValueError, words):
                Plan(text)

    def test_grids(self):
        self.assertEqual(parse_grid("8x32x48"), (8, 32, 48))
        for text in ("0x2x3", "8x32", "8x32x48x1", "8 x 32 x 48", "ax2x3"):
            with self.assertRaisesRegex(ValueError, "grid: wanted FRAMESxHEIGHTxWIDTH"):
                parse_grid(text)

    def test_learning_rate_rises_stays_and_falls(self):
        self.assertAlmostEqual(learning_rate(0, 0.0), 0.01)
        self.assertEqual([learning_rate(step, spent) for step, spent in ((99, 0.1), (500, 0.5))], [1.0, 1.0])
        self.assertAlmostEqual(learning_rate(900, 0.75), 0.505)
        self.assertAlmostEqual(learning_rate(1000, 1.1), 0.01)


class Times(unittest.TestCase):
    def test_they_are_mostly_noisy_and_never_clean(self):
        # Given 4,096 times, claim: three quarters logit-normal bent by 3 (median 0.75), one quarter even (median 0.5):
        # the median of both lies between, within 4 deviations of a median of that many.
        t = draw_times(4096, torch.Generator().manual_seed(1))
        self.assertTrue(((t > 0) & (t <= 1)).all())
        self.assertGreater(t.median().item(), 0.65)
        self.assertLess(t.median().item(), 0.76)
        self.assertGreater((t > 0.9).float().mean().item(), 0.1)
