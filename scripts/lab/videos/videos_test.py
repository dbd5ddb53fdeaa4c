"""Tests of policies, metrics, probes, records and the command, in tiny form on the CPU."""

import contextlib
import io
import json
import math
import os
import tempfile
import unittest
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
for package in ("safetensors", "torchmetrics"):
    pytest.importorskip(package)
import draftattention

from lab.model import generate
from lab.model.checkpoint import save_weights
from lab.model.flow import sample, schedule, seeded_noise, velocity
from lab.model.heads import Regions
from lab.model.judge import disc
from lab.model.masks.exact import video_mass
from lab.model.model import dense_attention
from lab.model.model_test import awake_model
from lab.model.policies import Policy, PolicyAttention
from lab.model.prompts import TEXT_TOKENS, draw_prompts
from lab.model.video import render
from lab.videos import __main__ as command
from lab.videos import configurations, contrast, feedback, metrics, motion, pictures, quality, speed, visible
from lab.videos.dense_path import DensePath
from lab.videos.probing import NAMES, Probe

GRID, REGION, STEPS = (2, 9, 17), (4, 8), 4


def small(policy="draft", sparsity=0.7, **changes):
    return Policy(policy, sparsity, region=REGION, **changes)


def kept_count(sparsity, entries):
    return min(max(math.ceil((1 - sparsity) * entries - 1e-6), 1), entries)


class Policies(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        tokens = GRID[0] * GRID[1] * GRID[2] + TEXT_TOKENS
        self.q, self.k, self.v = torch.randn(3, 2, 2, tokens, 16)
        self.regions = Regions(GRID, REGION, TEXT_TOKENS, "cpu")

    def hook(self, policy, **more):
        return PolicyAttention(policy, GRID, TEXT_TOKENS, STEPS, **more)

    def test_first_steps_are_dense(self):
        hook = self.hook(small(dense_steps=0.25))
        self.assertTrue(
            torch.equal(hook(self.q, self.k, self.v, layer=0, step=0), dense_attention(self.q, self.k, self.v))
        )
        self.assertFalse(
            torch.equal(hook(self.q, self.k, self.v, layer=0, step=1), dense_attention(self.q, self.k, self.v))
        )
        self.assertEqual(hook.calls, {"dense": 1, "sparse": 1})
        for share, first in ((0.0, 0), (0.25, 1), (0.3, 2), (0.5, 2), (1.0, 4)):
            self.assertEqual(self.hook(small(dense_steps=share)).first_sparse_step, first)

    def test_every_policy_keeps_its_number_of_blocks(self):
        entries = self.regions.video**2
        for policy in (small(), small(pool="max"), small(rule="logits"), small("random"), small("oracle")):
            mask = self.hook(policy).choose(self.q, self.k, self.v, 1, 2).mask
            self.assertEqual(mask.shape, (2, 2, self.regions.video, self.regions.video))
            self.assertEqual(set(mask.flatten(2).sum(-1).flatten().tolist()), {kept_count(0.7, entries)}, policy)

    def test_oracle_keeps_the_most_mass_and_draft_more_than_chance(self):
        smooth = self.q.clone()  # queries that look at their own region: what drafts are for
        smooth += 3 * self.regions.member[:, : self.regions.video] @ torch.randn(self.regions.video, 16)
        recall = {}
        for policy in (small(), small("oracle"), small("random")):
            mask = self.hook(policy).choose(smooth, smooth, smooth, 0, 2).mask
            recall[policy.name] = sum(
                (video_mass(smooth[c, h], smooth[c, h], self.regions) * mask[c, h]).sum()
                for c in range(2)
                for h in range(2)
            ).item()
        self.assertGreaterEqual(recall["oracle"], recall["draft"])
        self.assertGreater(recall["draft"], 1.5 * recall["random"])

    def test_random_masks_depend_on_seed_layer_and_step_alone(self):
        first = self.hook(small("random")).choose(self.q, self.k, self.v, 1, 2).mask
        self.assertTrue(torch.equal(first, self.hook(small("random")).choose(-self.q, self.v, self.k, 1, 2).mask))
        for seed, layer, step in ((1, 1, 2), (0, 0, 2), (0, 1, 3)):
            self.assertFalse(
                torch.equal(
                    first, self.hook(small("random", seed=seed)).choose(self.q, self.k, self.v, layer, step).mask
                )
            )

    def test_wrong_policies_are_refused(self):
        for wrong, words in (
            ({"name": "best"}, "policy: wanted one of dense, draft, oracle, .*svg2, found 'best'"),
            ({"name": "draft", "sparsity": 1.0}, "sparsity: wanted"),
            ({"name": "dense", "sparsity": 0.5}, "sparsity: wanted 0 for dense"),
            ({"name": "draft", "sparsity": 0.0}, "sparsity: wanted"),
            ({"name": "draft", "sparsity": 0.5, "heads": "some"}, "heads: wanted one of all, diffuse"),
            ({"name": "draft", "sparsity": 0.5, "dense_steps": 1.5}, "dense_steps: wanted"),
            ({"name": "draft", "sparsity": 0.5, "remainder": "mean"}, "remainder: wanted None or 'pooled' for draft"),
            ({"name": "svg", "sparsity": 0.5, "remainder": "pooled"}, "remainder: wanted None for svg, found 'pooled'"),
            ({"name": "sol_attn", "sparsity": 0.5}, "remainder: wanted 'pooled' for sol_attn, found None"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                Policy(**wrong)
        with self.assertRaisesRegex(ValueError, "heads: 'diffuse' wants to know"):
            self.hook(small(heads="diffuse"))

    def test_heads_that_are_left_out_keep_all_blocks(self):
        seen = {}
        for heads in ("all", "diffuse", "others"):

            def probe(q, k, v, o, mask, *, layer, step):
                seen[heads, layer] = mask.flatten(2).float().mean(2)[0].tolist()

            hook = self.hook(small(heads=heads, dense_steps=0.0), probe=probe, diffuse={(1, 0)})
            for layer in (0, 1):
                o = hook(self.q, self.k, self.v, layer=layer, step=0)
                for head in hook.dense_heads(layer, 2):  # by draftattention's dense attention, of another order of sums
                    dense = dense_attention(self.q, self.k, self.v)[:, head]
                    self.assertLessEqual((o[:, head] - dense).abs().max(), 1e-5)
        kept = kept_count(0.7, self.regions.video**2) / self.regions.video**2
        wanted = {
            ("all", 0): (kept, kept),
            ("all", 1): (kept, kept),
            ("diffuse", 0): (1, 1),
            ("diffuse", 1): (kept, 1),
            ("others", 0): (kept, kept),
            ("others", 1): (1, kept),
        }
        for place, shares in wanted.items():
            for found, share in zip(seen[place], shares):
                self.assertAlmostEqual(found, share, delta=1e-6)

    def test_the_oracle_by_row_keeps_the_most_mass_of_every_block_row(self):
        # Claim: each block row keeps the same number of blocks, and none that it leaves out has more mass than one that it
        # keeps.
        torch.manual_seed(5)
        q, k = torch.randn(2, 1, 2, 306 + TEXT_TOKENS, 16)
        hook = PolicyAttention(small("oracle", rule="row"), GRID, TEXT_TOKENS, STEPS)
        mask = hook.choose(q, k, k, 0, 3).mask[0]
        self.assertEqual(len(set(mask.sum(-1).flatten().tolist())), 1)
        for head in range(2):
            mass = video_mass(q[0, head], k[0, head], hook.regions("cpu"))
            kept = torch.where(mask[head], mass, torch.inf).amin(1)
            left = torch.where(mask[head], -torch.inf, mass).amax(1)
            self.assertTrue((kept >= left).all())

    def test_a_video_repeats_bit_for_bit_and_another_mask_is_another_video(self):
        model, prompts = awake_model(), draw_prompts(1, torch.Generator().manual_seed(3))

        def clip(policy):
            return generate.generate(model, prompts, [5], GRID, policy, steps=STEPS)

        self.assertTrue(torch.equal(clip(small()), clip(small())))
        self.assertFalse(torch.equal(clip(small()), clip(small(pool="max"))))
        self.assertTrue(torch.equal(clip(Policy()), sample(model, prompts, [5], GRID, STEPS)))


class Metrics(unittest.TestCase):
    def test_known_distances(self):
        torch.manual_seed(1)
        clip = torch.rand(3, 4, 32, 48) - 0.5  # of [-1, 1]: nothing is clipped
        # A shift by 0.2 is 0.1 of [0, 1]: 20 dB; float32 errors of a mean of 4,608 squares stay below 1e-4 of it.
        self.assertLessEqual(abs(metrics.psnr(clip + 0.2, clip) - 20.0), 1e-2)
        self.assertEqual(metrics.psnr(clip, clip), metrics.MOST_DB)
        self.assertLessEqual(abs(metrics.ssim(clip, clip) - 1), 1e-5)
        self.assertLess(metrics.ssim(clip + torch.randn_like(clip), clip), 0.9)
        broken = clip.clone()
        broken[0, 0, 0, 0] = math.nan
        self.assertFalse(metrics.psnr(broken, clip) >= 0)
        outside = clip.clone()
        outside[0] = 3.0  # clipped to 1
        self.assertLess(metrics.psnr(outside, clip), 20)

    def test_contrast_and_what_psnr_says_without_it(self):
        torch.manual_seed(3)
        dense = 0.3 * torch.randn(3, 4, 32, 48)
        washed, other = 0.4 * dense + 0.2, 0.3 * torch.randn(3, 4, 32, 48)
        self.assertAlmostEqual(contrast.contrast(washed, dense), 0.4, delta=0.01)  # little of the dense one is clipped
        # Its channels set right, a washed-out clip is the dense one to float32's rounding, and pure noise stays noise.
        self.assertGreater(metrics.psnr(contrast.matched(washed, dense), dense), 90)
        self.assertLess(metrics.psnr(contrast.matched(0.1 * other, dense), dense), metrics.psnr(0.1 * other, dense) - 1)
        for channel in range(3):
            found = contrast.matched(other, dense)[channel]
            self.assertAlmostEqual(found.mean().item(), dense[channel].mean().item(), delta=1e-5)
            self.assertAlmostEqual(found.std().item(), dense[channel].std().item(), delta=1e-5)

    def test_flops(self):
        model = awake_model()
        self.assertEqual(configurations.flops_share(model.config, GRID, TEXT_TOKENS, 1.0), 1.0)
        # By hand: 9 tokens of video and 1 of text: 100 pairs, of which 19 hold text; at a third of the others 46.
        self.assertAlmostEqual(configurations.attention_pairs(1 / 3, (1, 3, 3), 1), 0.46, delta=1e-12)
        config, tokens = model.config, 306 + TEXT_TOKENS
        linear = 2 * tokens * 2 * (4 * 32 * 32 + 8 * 32 * 32)
        attention = 4 * tokens**2 * 32 * 2
        wanted = (linear + attention * configurations.attention_pairs(0.5, GRID, TEXT_TOKENS)) / (linear + attention)
        self.assertAlmostEqual(configurations.flops_share(config, GRID, TEXT_TOKENS, 0.5), wanted, delta=1e-12)

    def test_configurations_are_all_different_and_hold_the_papers(self):
        chosen = configurations.configurations("wgmma", "mma")
        self.assertEqual(chosen[0], Policy(kernel="mma", dense_steps=0.0))
        self.assertEqual(len(chosen), len(set(chosen)))
        self.assertNotIn(configurations.REFERENCE, chosen)
        for wanted in (
            Policy("draft", 0.9, kernel="wgmma"),
            Policy("draft", 0.9, pool="max", kernel="wgmma"),
            Policy("draft", 0.9, region=(16, 16), kernel="wgmma"),
            Policy("draft", 0.9, dense_steps=0.0, kernel="wgmma"),
            Policy("random", 0.55, kernel="wgmma"),
        ):
            self.assertIn(wanted, chosen)


class Time(unittest.TestCase):
    def setUp(self):
        self.prompts = draw_prompts(3, torch.Generator().manual_seed(5), held_out=True)
        self.clips = render(self.prompts, 4, 96, 144)

    def test_flicker_is_what_the_camera_does_not_explain(self):
        # Given true clips, claim: little but interpolation is left (0.02). Frames that are brighter and darker by 0.05 in turn
        # differ by 0.1; a still picture under a moving camera does not follow it.
        for clip, prompt in zip(0.8 * self.clips, self.prompts):
            true = motion.flicker(clip, prompt)
            self.assertLess(true, 0.02)
            turns = torch.tensor([0.1, -0.1, 0.1, -0.1])[None, :, None, None]  # of [-1, 1]
            self.assertAlmostEqual(motion.flicker(clip + turns, prompt), 0.1, delta=0.01)
            self.assertGreater(motion.flicker(clip[:, :1].expand(-1, 4, -1, -1), prompt), 3 * true)
            self.assertEqual(motion.flicker(clip[:, :1], prompt), 0.0)
        broken = self.clips[0].clone()
        broken[:] = math.nan
        self.assertTrue(math.isnan(motion.flicker(broken, self.prompts[0])))

    def test_flicker_leaves_the_cut_out_alone(self):
        # Claim: what happens inside the cut-out does not count.
        prompt, clip = self.prompts[0], self.clips[0].clone()
        inside = disc(prompt[None], 4, 96, 144, "cpu")[0]
        noise = torch.rand(clip.shape, generator=torch.Generator().manual_seed(1)) - 0.5
        changed = motion.flicker(clip + noise * inside, prompt)
        self.assertAlmostEqual(changed, motion.flicker(clip, prompt), delta=1e-6)
        self.assertGreater(motion.flicker(clip + noise * (1 - inside), prompt), changed + 0.05)

    def test_flow_is_the_speed_in_pixels(self):
        if (find := motion.find_flow())[0] is None:
            self.skipTest(find[1])
        # Given a photograph whose camera pans right by 3 pixels a frame, claim: the fastest 5% move by that, to half a pixel.
        prompt = torch.tensor([[2, 0, -0.1, 0, 0.5, -0.1 + 3 * 3 / 144, 0, 0.5, -9, -9, -9, -9, 0.3]])
        self.assertAlmostEqual(find[0](render(prompt, 4, 96, 144)[0]), 3.0, delta=0.5)
        self.assertLess(find[0](self.clips[0][:, :1].expand(-1, 3, -1, -1)), 0.1)
        self.assertEqual(find[0](self.clips[0][:, :1]), 0.0)

    def test_colorvideovdp_knows_a_worse_clip(self):
        quality_of, why = visible.find_cvvdp("cpu")
        if quality_of is None:
            self.skipTest(why)
        clip = self.clips[0]
        noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(2))
        same, near, far = (quality_of(clip + share * noise, clip) for share in (0.0, 0.05, 0.5))
        self.assertAlmostEqual(same, 10.0, delta=1e-3)
        self.assertGreater(near, far + 1)
        self.assertLess(near, 10 - 1e-3)


class Feedback(unittest.TestCase):
    def path(self, model):
        """A dense path of 5 steps of a model(x, t, prompts, attention=, step=)."""
        times = schedule(5, 3.0)
        states = [seeded_noise([1, 2], (3, 2, 4, 4), "cpu")]
        for step in range(5):
            x = states[-1]
            states.append(x + (times[step + 1] - times[step]) * velocity(model, x, times[step], None, step=step))
        return SimpleNamespace(model=model, times=times, states=states, prompts=None, grid=(2, 1, 1))

    def test_growth_of_what_is_known(self):
        # Given a model that knows the clip, one that says the same velocity everywhere, and one that moves away from 0 at
        # the rate 1, claim: an error before step 2 is gone at the end; stays; grows by the product of 1 - dt.
        clip = torch.full((2, 3, 2, 4, 4), 0.5)
        known = self.path(lambda x, t, prompts, **_: (x - clip) / t.view(-1, 1, 1, 1, 1))
        still = self.path(lambda x, t, prompts, **_: torch.ones_like(x))
        away = self.path(lambda x, t, prompts, **_: -x)
        product = math.prod(1 - (after - before) for before, after in zip(away.times[2:], away.times[3:]))
        for path, wanted in ((known, 0.0), (still, 1.0), (away, product)):
            found = feedback.Disturbed(path).growth(configurations.REFERENCE, 2)
            self.assertEqual(len(found), 2)
            for one in found:
                self.assertAlmostEqual(one, wanted, delta=2e-4)  # float32: 1e-7 of a state, 2% of it the disturbance
        self.assertGreater(product, 1.5)

    def test_directions(self):
        torch.manual_seed(0)
        path = DensePath(
            awake_model(), draw_prompts(2, torch.Generator().manual_seed(3)), [1, 2], GRID, STEPS, 3.0, at=()
        )
        one = feedback.Disturbed(path)
        kinds = {policy: one.direction(policy, 2) for policy in (configurations.REFERENCE, small(dense_steps=0.0))}
        for found in kinds.values():
            self.assertTrue(torch.allclose(feedback.norms(found), torch.ones(2, dtype=torch.float64), atol=1e-5))
        first, second = (found.flatten(1).double() for found in kinds.values())
        self.assertLess((first * second).sum(1).abs().max().item(), 0.5)
        hook = PolicyAttention(small(dense_steps=0.0), GRID, TEXT_TOKENS, STEPS)
        sparse = sample(
            path.model,
            path.prompts,
            [1, 2],
            GRID,
            STEPS,
            3.0,
            attention=lambda q, k, v, layer, step: (
                hook(q, k, v, layer=layer, step=step) if step == 2 else dense_attention(q, k, v)
            ),
            stop_after=2,
        )
        wanted = sparse - path.states[3]
        wanted = wanted / feedback.norms(wanted).float().view(-1, 1, 1, 1, 1)
        self.assertLessEqual((wanted - kinds[small(dense_steps=0.0)]).abs().max().item(), 1e-3)

    def test_places(self):
        self.assertEqual([feedback.step_of(share, 30) for share in feedback.SHARES], [8, 15, 22])
        self.assertEqual([feedback.step_of(share, 2) for share in (0.0, 1.0)], [1, 1])


class Studies(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.out = os.path.join(self.folder, "videos.jsonl")

    def study(self, lpips=(None, "left out: no AlexNet"), cvvdp=(None, "left out: no cvvdp")):
        judges = quality.Judges(lpips, cvvdp, (None, "left out: no OpenCV"))
        setup = quality.Setup(clips=3, batch=2, grid=GRID, steps=STEPS, probe_clips=1)
        return quality.Study(
            awake_model(), "ab", setup, {"cpu": "any", "gpu": None}, {"commit": "abc"}, self.out, judges
        )

    def records(self):
        with open(self.out) as file:
            return [json.loads(line) for line in file]

    def test_records_are_whole_repeat_and_go_on(self):
        policies = [Policy(kernel="torch", dense_steps=0.0), small(), small("random")]
        said = []
        self.assertTrue(self.study().run(policies, say=said.append))
        found = self.records()
        videos = [one for one in found if one["experiment"] == "video"]
        self.assertEqual([one["config"]["policy"] for one in videos], ["dense", "dense", "draft", "random"])
        self.assertEqual([one["status"] for one in found], ["ok"] * len(found))
        self.assertEqual(videos[0]["metrics"]["repeat_max_abs"], 0.0)
        for one in videos[1:]:
            self.assertEqual((len(one["arrays"]["psnr"]), len(one["arrays"]["distance"])), (3, STEPS))
            self.assertAlmostEqual(one["metrics"]["psnr"], sum(one["arrays"]["psnr"]) / 3, delta=1e-9)
            self.assertIn("AlexNet", one["notes"]["lpips"])
            self.assertIn("no OpenCV", one["notes"]["flow_px"])
            self.assertNotIn("cvvdp", one["metrics"])
        # The dense clips' distance to the truth is of the same clips, not 0, and the true clips' flicker stands beside.
        self.assertAlmostEqual(videos[0]["metrics"]["psnr_truth"], videos[1]["metrics"]["psnr_truth"], delta=0.01)
        self.assertLess(videos[0]["metrics"]["psnr_truth"], 40)
        self.assertGreater(videos[0]["metrics"]["flicker_truth"], 0)
        # Dense attention in another order of sums: far nearer than any mask, and not the same bits.
        self.assertGreater(min(videos[1]["arrays"]["psnr"]), max(videos[2]["arrays"]["psnr"]) + 20)
        entries = Regions(GRID, REGION, TEXT_TOKENS, "cpu").video ** 2
        kept = kept_count(0.7, entries) / entries
        self.assertAlmostEqual(videos[2]["metrics"]["kept_share"], 0.25 + 0.75 * kept, delta=1e-6)
        self.assertLessEqual(videos[2]["arrays"]["distance"][0], 1e-6)  # a dense step, in a batch of another size
        self.assertGreater(videos[2]["arrays"]["distance"][1], 1e-4)
        self.assertEqual(len(videos[2]["arrays"]["one_step"]), STEPS - 1)
        heads = [one for one in found if one["experiment"] == "video_heads" and one["config"]["policy"] == "draft"]
        self.assertEqual(
            sorted((one["input"]["layer"], one["input"]["head"]) for one in heads),
            [(layer, head) for layer in range(2) for head in range(2)],
        )
        for name in NAMES:
            mean = sum(one["metrics"][name] for one in heads) / 4
            if name != "kept_share":
                self.assertAlmostEqual(videos[2]["metrics"][name], mean, delta=1e-9)

        self.assertTrue(self.study().run(policies, say=said.append))
        again = self.records()[len(found) :]
        self.assertEqual([one["config"]["policy"] for one in again], ["dense"])  # the dense clips alone
        self.assertFalse(self.study().run([*policies, small("oracle")], seconds=-1.0))
        other = os.path.join(self.folder, "other.jsonl")
        self.out, first = other, found
        self.study().run(policies, say=said.append)
        self.assertEqual([one.get("arrays") for one in self.records()], [one.get("arrays") for one in first])

    def test_dense_clips_that_differ_end_the_run(self):
        study, clips = self.study(), []

        def differs(*arguments, **named):
            clips.append(torch.full((1, 3, 2, 36, 68), float(len(clips))))
            return clips[-1], 1.0

        with mock.patch.object(quality.Study, "clips_of", differs), self.assertRaisesRegex(RuntimeError, "same bits"):
            study.make_dense()
        self.assertFalse(os.path.exists(self.out))

    def test_a_probe_measures_what_a_mask_kept(self):
        torch.manual_seed(2)
        regions = Regions(GRID, REGION, TEXT_TOKENS, "cpu")
        q, k, v = torch.randn(3, 1, 1, 306 + TEXT_TOKENS, 16)
        probe = Probe((1,), 1)
        probe.regions = regions
        full = torch.ones(1, 1, regions.video, regions.video, dtype=torch.bool)
        probe(q, k, v, dense_attention(q, k, v), full, layer=0, step=1)
        probe(q, k, v, dense_attention(q, k, v), full, layer=0, step=2)  # not a probed step
        self.assertEqual(len(probe.rows), 1)
        self.assertLessEqual(abs(probe.mean("attention_recall") - 1), 1e-5)
        self.assertEqual((probe.mean("output_rel_l2"), probe.mean("empty_rows_share")), (0.0, 0.0))
        none = torch.zeros_like(full)
        o = draftattention.block_attention(q, k, v, GRID, none, text_tokens=TEXT_TOKENS, region=REGION)
        probe(q, k, v, o, none, layer=1, step=1)
        text = torch.softmax(q @ k.transpose(-1, -2) / 4, -1)[0, 0, :306, 306:].sum(-1).mean().item()
        self.assertLessEqual(abs(probe.mean("attention_recall", layer=1) - text), 1e-5)
        self.assertEqual(probe.mean("empty_rows_share", layer=1), 1.0)
        self.assertGreater(probe.mean("output_rel_l2", layer=1), 0.1)

    def test_a_step_s_error_is_what_that_sparse_step_changes(self):
        study = self.study()
        study.make_dense()
        path = study.path
        self.assertEqual(sorted(path.spread), [(layer, head) for layer in range(2) for head in range(2)])
        blocks = path.regions.video
        self.assertTrue(all(1 <= value <= blocks + 1 for value in path.spread.values()))
        self.assertEqual(path.diffuse, {place for place, value in path.spread.items() if value > blocks / 2})
        with open(self.out) as file:
            self.assertEqual(json.loads(file.readline())["arrays"]["effective_blocks"], list(path.spread.values()))
        # By hand, from sampling runs in which one step alone is sparse. float32 states of order 1, steps of a tenth.
        model, prompts, seeds = study.model, study.prompts[:1], study.seeds[:1]
        dense, policy, wanted, total = path.states, small(dense_steps=0.5), [], 0
        self.assertTrue(torch.equal(dense[-1], sample(model, prompts, seeds, GRID, STEPS)))
        for at in range(2, STEPS):
            hook = PolicyAttention(small(dense_steps=0.0), GRID, TEXT_TOKENS, STEPS)

            def late(q, k, v, *, layer, step):
                return hook(q, k, v, layer=layer, step=step) if step == at else dense_attention(q, k, v)

            sparse = sample(model, prompts, seeds, GRID, STEPS, attention=late, stop_after=at)
            wanted.append(((sparse - dense[at + 1]).norm() / (dense[at + 1] - dense[at]).norm()).item())
            total = total + sparse - dense[at + 1]
            self.assertAlmostEqual(
                path.distance(at, sparse), ((sparse - dense[at + 1]).norm() / dense[at + 1].norm()).item(), delta=1e-6
            )
        both = torch.cat([dense[-1], -dense[-1]])
        self.assertEqual((path.distance(STEPS - 1, dense[-1]), path.distance(STEPS - 1, both)), (0.0, 0.0))
        path.states.append(both)  # two dense clips, and a batch of one
        self.assertEqual((path.distance(STEPS, dense[-1]), path.distance(STEPS, -dense[-1])), (0.0, 2.0))
        path.states.pop()
        found, added_up = path.errors(policy)
        self.assertEqual(len(found), len(wanted))
        for one, other in zip(found, wanted):
            self.assertLessEqual(abs(one - other), 1e-4)
            self.assertGreater(one, 1e-3)
        self.assertLessEqual(abs(added_up - (total.norm() / dense[-1].norm()).item()), 1e-5)
        every = Policy("draft", 1e-9, region=REGION)  # keeps every block
        self.assertLess(max(path.errors(every)[0]), 1e-4)

    def test_contrast_records(self):
        chosen = [small(sparsity=0.9), small("random", 0.9), small()]
        with mock.patch.object(contrast, "is_wanted", lambda policy: policy.sparsity == 0.9):
            self.assertFalse(self.study().run(chosen, seconds=-1.0))
            for _ in range(2):  # the second time there is nothing to do
                self.assertTrue(self.study().run(chosen, say=lambda text: None))
        found = [one for one in self.records() if one["experiment"] == "video_contrast"]
        self.assertEqual(
            [(one["experiment"], one["config"]["policy"]) for one in found],
            [("video_contrast", "draft"), ("video_contrast", "random")],
        )
        for one in found:
            self.assertEqual({len(values) for values in one["arrays"].values()}, {3})
            self.assertTrue(0 < one["metrics"]["contrast"] < 3)
            video = next(
                each for each in self.records() if each["experiment"] == "video" and each["config"] == one["config"]
            )
            self.assertEqual(one["arrays"]["psnr"], video["arrays"]["psnr"])
        every = [one for one in configurations.configurations() if contrast.is_wanted(one)]
        self.assertEqual(
            sorted((one.name, one.pool, one.rule) for one in every),
            sorted(
                [
                    ("draft", "avg", "softmax"),
                    ("draft", "avg", "row"),
                    ("draft", "max", "softmax"),
                    ("random", "avg", "softmax"),
                    ("oracle", "avg", "softmax"),
                    ("oracle", "avg", "row"),
                    ("draft", "avg", "logits"),
                    ("draft", "avg", "released"),
                ]
            ),
        )
        self.assertTrue(all(contrast.is_wanted(one) for one in configurations.systems() if one.sparsity == 0.9))

    def test_configurations_are_there_once_and_told_apart_by_their_records(self):
        every, systems = configurations.configurations("wgmma", "wgmma"), configurations.systems("wgmma")
        self.assertEqual(len(set(every)), len(every))
        every = list(dict.fromkeys([*every, *systems]))
        configs = [json.dumps(one.config(), sort_keys=True) for one in [configurations.REFERENCE, *every]]
        self.assertEqual(len(set(configs)), len(configs))
        self.assertEqual(len(set(systems)), len(systems))
        self.assertEqual(len(systems), 27)  # 4 of the draft and 5 others, at 3 sparsities
        for one in systems:
            self.assertEqual((one.dense_steps, one.region, one.heads), (0.25, (8, 16), "all"))
        configs = {one.name: one.config() for one in systems}
        self.assertEqual(configs["sol_attn"]["remainder"], "pooled")
        self.assertEqual(configs["svg"]["block_layout"], "raster or frame_last")
        self.assertEqual(configs["svg2"]["seed"], 0)
        self.assertNotIn("remainder", configs["adaspa"])
        self.assertEqual(len({one.describe() for one in every}), len(every))

    def test_videos_of_other_systems(self):
        """Given every one of them on a tiny grid, claim: records, with what their probes saw, and the budget's share."""
        chosen = [replace(one, region=REGION) for one in configurations.systems("torch") if one.sparsity == 0.8]
        self.assertTrue(self.study().run(chosen, say=lambda text: None))
        found = [one for one in self.records() if one["experiment"] == "video"][1:]
        self.assertEqual([one["config"]["policy"] for one in found], [one.name for one in chosen])
        entries = Regions(GRID, REGION, TEXT_TOKENS, "cpu").video ** 2
        for record, policy in zip(found, chosen):
            self.assertEqual(record["status"], "ok", policy)
            self.assertLessEqual(set(NAMES), set(record["metrics"]))
            if policy.name not in ("adaspa", "svg", "svg2") and policy.rule != "row":
                kept = kept_count(0.8, entries) / entries
                self.assertAlmostEqual(record["metrics"]["kept_share"], 0.25 + 0.75 * kept, delta=1e-6)
        psnr = {(one["config"]["policy"], one["config"].get("remainder")): one["metrics"]["psnr"] for one in found}
        self.assertEqual(len(set(psnr.values())), len(psnr))

    def test_pictures_are_of_different_scenes(self):
        prompts = torch.tensor([[5.0, 0.0], [5.0, 1.0], [3.0, 0.0], [5.0, 2.0]])
        self.assertEqual(pictures.of_scenes(prompts, 2), [0, 2])
        self.assertEqual(pictures.of_scenes(prompts, 3), [0, 2, 1])
        study = self.study()
        some, _ = study.clips_of(Policy(), places=[1])
        self.assertTrue(torch.allclose(some, study.clips_of(Policy())[0][1:2], atol=1e-4))

    def test_pictures(self):
        study = self.study()
        chosen = {"sheet": (Policy(), small(), small("random"))}
        with (
            mock.patch.object(pictures, "FIGURES", chosen),
            mock.patch.object(pictures, "draft", lambda *a, **b: small()),
        ):
            paths = pictures.draw(study, "torch", os.path.join(self.folder, "pictures"), "a command")
        from PIL import Image

        with Image.open(paths[0]) as sheet:
            self.assertEqual(sheet.text["command"], "a command")
            self.assertEqual(sheet.height, 4 * (16 + 36 + 3))
        with Image.open(paths[1]) as animation:
            self.assertEqual((animation.n_frames, animation.size), (2, (3 * 68 + 2 * 3, 36)))


class FakeEvent:
    """Stands for a CUDA event where there is no GPU: each one recorded is a millisecond after the last."""

    now = 0.0

    def __init__(self, enable_timing):
        self.at = None

    def record(self):
        FakeEvent.now += 1.0
        self.at = FakeEvent.now

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return end.at - self.at


class Times(unittest.TestCase):
    def test_a_clips_time_is_split_by_kind_of_call(self):
        prompt, layers = draw_prompts(1, torch.Generator().manual_seed(1))[0], 2
        with mock.patch.object(torch.cuda, "Event", FakeEvent):
            whole, calls, hook = speed.time_clip(awake_model(), small(kernel="torch"), GRID, prompt, steps=STEPS)
            self.assertEqual((len(calls["dense"]), len(calls["sparse"])), (layers, (STEPS - 1) * layers))
            self.assertEqual(set(calls["dense"] + calls["sparse"]), {1.0})
            self.assertEqual(whole, 2.0 * STEPS * layers + 1)  # two events a call, and one at the end
            self.assertEqual(speed.draft_ms(hook), 1.0)
            dense = speed.time_clip(awake_model(), Policy(), GRID, prompt, steps=STEPS)[1]
            self.assertEqual((len(dense["dense"]), len(dense["sparse"])), (STEPS * layers, 0))

    def test_records(self):
        with (
            tempfile.TemporaryDirectory() as folder,
            mock.patch.object(torch.cuda, "Event", FakeEvent),
            mock.patch.object(speed, "GRIDS", (GRID,)),
            mock.patch.object(speed, "STEPS", STEPS),
            mock.patch.object(
                speed,
                "policies",
                lambda kernel: [Policy(), Policy(kernel=kernel, dense_steps=0.0), small(kernel=kernel)],
            ),
        ):
            path = os.path.join(folder, "times.jsonl")
            for _ in range(2):  # the second time there is nothing to do
                speed.run(awake_model(), "torch", {"gpu": "any"}, {"commit": "abc"}, "ab", path, None)
            with open(path) as file:
                found = [json.loads(line) for line in file]
        self.assertEqual([one["config"]["policy"] for one in found], ["dense", "dense", "draft"])
        for one in found:
            metrics = one["metrics"]
            self.assertEqual(len(one["timing"]["samples_ms"]), 3)
            self.assertAlmostEqual(
                metrics["attention_ms"] + metrics["other_ms"], one["timing"]["median_ms"], delta=1e-9
            )
            self.assertEqual(metrics["dense_call_ms"], 1.0)
            self.assertEqual(metrics.get("sparse_call_ms"), 1.0 if one["config"]["policy"] == "draft" else None)
        self.assertEqual(found[0]["metrics"]["speedup_over_pytorch"], 1.0)


class Commands(unittest.TestCase):
    def test_generate_writes_frames_animation_and_options(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said:
            weights = os.path.join(folder, "w.safetensors")
            save_weights(weights, awake_model(), {})
            arguments = ["--weights", weights, "--out", os.path.join(folder, "clips"), "--policy", "draft", "--repeat"]
            arguments += "--grid 2x9x17 --prompts 1 --steps 4 --region 4x8 --sparsity 0.7 --beside dense".split()
            self.assertEqual(generate.main(arguments), 0)
            self.assertIn("agree bit for bit", said.getvalue())
            found = sorted(os.listdir(os.path.join(folder, "clips")))
            self.assertEqual(found, ["clip_000", "clip_000.gif", "clips.json"])
            self.assertEqual(
                sorted(os.listdir(os.path.join(folder, "clips", "clip_000"))), ["frame_000.png", "frame_001.png"]
            )
            with open(os.path.join(folder, "clips", "clips.json")) as file:
                self.assertEqual(json.load(file)["policy"]["region"], [4, 8])

    def test_bad_options_are_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            for arguments, words in (
                (["--parts", "quality,sound"], "--parts: wanted some of quality, speed, pictures"),
                (["--clips", "0"], "--clips, --batch: wanted at least 1"),
                (["--steps", "2"], "--steps: wanted at least 3"),
                (["--grid", "8x32"], "grid: wanted"),
                (["--lpips", os.path.join(folder, "none")], "LPIPS: .*none: not a file"),
                (["--weights", os.path.join(folder, "none")], "--weights: no such file"),
            ):
                with contextlib.redirect_stderr(io.StringIO()) as text:
                    self.assertEqual(command.main([*arguments, "--out", os.path.join(folder, "out")]), 2)
                self.assertRegex(text.getvalue(), rf"\Avideos: {words}.*\n\Z")
            self.assertFalse(os.path.exists(os.path.join(folder, "out")))
            for file, text, words in (
                ("videos.jsonl", "notes\n", "1: wanted one JSON object"),
                ("videos.jsonl", '{"schema": 3}\n', "1: schema: wanted 2, found 3"),
                ("video_times.jsonl", '{"schema": 2, "exp', "1: an incomplete last line"),
            ):
                path = os.path.join(folder, file)
                with open(path, "w") as stream:
                    stream.write(text)
                with contextlib.redirect_stderr(io.StringIO()) as said:
                    self.assertEqual(command.main(["--weights", os.path.join(folder, "none"), "--out", folder]), 2)
                self.assertRegex(said.getvalue(), rf"\Avideos: .*{file}:{words}.*\n\Z")
                with open(path) as stream:
                    self.assertEqual(stream.read(), text)
                os.unlink(path)
