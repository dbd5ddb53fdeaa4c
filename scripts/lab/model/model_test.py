"""Tests of RoPE, the model, sampling, resuming and capturing, in tiny form on the CPU."""

import os
import tempfile
import unittest

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
from lab.model.capture import capture, error_limit, parse_selection, worst_output_error
from lab.model.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from lab.model.flow import sample, schedule
from lab.model.heads import Regions, block_mass, describe, draft_map, kept_blocks
from lab.model.model import MiniDiT, ModelConfig, dense_attention, patchify, unpatchify
from lab.model.plan import Plan
from lab.model.policies import video_mass
from lab.model.prompts import TEXT_TOKENS, draw_prompts
from lab.model.rope import rope_table, rotate
from lab.model.train import Trainer

torch.set_num_threads(1)
TINY = ModelConfig(dim=32, heads=2, head_dim=16, layers=2)
EPS = torch.finfo(torch.float32).eps


def awake_model():
    """A tiny model whose gates are open: fresh ones are the identity."""
    torch.manual_seed(0)
    model = MiniDiT(TINY).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


class Rope(unittest.TestCase):
    def test_it_is_a_rotation(self):
        # Claim: norms are kept, to a few roundings of head_dim terms.
        torch.manual_seed(0)
        cos, sin = rope_table((2, 3, 4), TEXT_TOKENS, 128, "cpu")
        x = torch.randn(1, 2, 24 + TEXT_TOKENS, 128)
        turned = rotate(x, cos, sin)
        ratio = turned.norm(dim=-1) / x.norm(dim=-1)
        self.assertLessEqual((ratio - 1).abs().max().item(), 128 * EPS)
        self.assertGreater((turned - x)[:, :, 1:24].abs().max().item(), 0.1)
        self.assertTrue(torch.equal(turned[:, :, 24:], x[:, :, 24:]))  # text is not rotated

    def test_logits_depend_on_relative_position_only(self):
        # Given the same q and k at every token, q k^T between two tokens is a function of their (df, dh, dw).
        torch.manual_seed(0)
        grid = (3, 4, 5)
        cos, sin = rope_table(grid, 0, 128, "cpu")
        q, k = (torch.randn(1, 1, 1, 128).expand(1, 1, 60, 128) for _ in range(2))
        logits = (rotate(q, cos, sin) @ rotate(k, cos, sin).transpose(2, 3)).view(3, 4, 5, 3, 4, 5)
        error = (logits[:-1, :-1, :-1, :-1, :-1, :-1] - logits[1:, 1:, 1:, 1:, 1:, 1:]).abs().max().item()
        self.assertLessEqual(error, 2 * 128 * EPS * q[0, 0, 0].norm().item() * k[0, 0, 0].norm().item())
        self.assertGreater((logits - logits[0, 0, 0, 0, 0, 0]).abs().max().item(), 0.1)  # and it does vary


class Model(unittest.TestCase):
    def test_patchify_has_an_inverse(self):
        video = torch.randn(2, 3, 2, 8, 12)
        tokens = patchify(video, 4)
        self.assertEqual(tokens.shape, (2, 12, 48))
        self.assertTrue(torch.equal(unpatchify(tokens, (2, 2, 3), 4, 3), video))
        self.assertTrue(
            torch.equal(tokens[0, 4].view(3, 4, 4), video[0, :, 0, 4:, 4:8])
        )  # (frame, height, width) order
        with self.assertRaisesRegex(ValueError, "4 divides"):
            patchify(torch.zeros(1, 3, 1, 6, 8), 4)

    def test_the_prompt_and_the_time_matter(self):
        model, video = awake_model(), torch.randn(1, 3, 2, 8, 8)
        prompt, t = torch.zeros(1, TEXT_TOKENS, dtype=torch.int64), torch.tensor([0.5])
        out = model(video, t, prompt)
        self.assertEqual(out.shape, video.shape)
        self.assertFalse(torch.equal(out, model(video, t, prompt + 1)))
        self.assertFalse(torch.equal(out, model(video, t + 0.2, prompt)))

    def test_the_attention_hook_sees_every_call_and_can_replace_it(self):
        seen = []

        def hook(q, k, v, *, layer, step):
            seen.append((step, layer, tuple(q.shape)))
            return dense_attention(q, k, v)

        model, prompt = awake_model(), draw_prompts(1, torch.Generator().manual_seed(0))
        dense = sample(model, prompt, [1], (1, 3, 5), steps=3)
        hooked = sample(model, prompt, [1], (1, 3, 5), steps=3, attention=hook)
        self.assertTrue(torch.equal(dense, hooked))
        self.assertEqual(seen, [(s, n, (1, 2, 15 + TEXT_TOKENS, 16)) for s in range(3) for n in range(2)])
        none = sample(
            model, prompt, [1], (1, 3, 5), steps=3, attention=lambda q, k, v, layer, step: torch.zeros_like(v)
        )
        self.assertFalse(torch.equal(dense, none))

    def test_sampling_twice_gives_the_same_bits(self):
        model, prompts = awake_model(), draw_prompts(2, torch.Generator().manual_seed(0))
        first, again, other = (sample(model, prompts, seeds, (2, 2, 3), steps=4) for seeds in ([1, 2], [1, 2], [3, 2]))
        self.assertTrue(torch.equal(first, again))
        self.assertFalse(torch.equal(first[0], other[0]))

    def test_the_schedule_goes_from_noise_to_clip(self):
        times = schedule(30, 3.0)
        self.assertEqual((len(times), times[0], times[-1]), (31, 1.0, 0.0))
        self.assertTrue(all(a > b for a, b in zip(times, times[1:])))
        self.assertAlmostEqual(times[15], 0.75)  # 3 x 0.5 / (1 + 2 x 0.5)

    def test_weights_round_trip_to_bfloat16(self):
        model = awake_model()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "w.safetensors")
            save_weights(path, model, {})
            loaded = load_weights(path, "cpu")
        self.assertEqual(loaded.config, TINY)
        for name, value in model.state_dict().items():
            self.assertTrue(torch.equal(loaded.state_dict()[name], value.bfloat16().float()), name)


class Training(unittest.TestCase):
    def test_a_resumed_run_is_the_unbroken_run(self):
        plan = Plan("6@2x2x3*3")
        unbroken = Trainer(TINY, plan, "cpu", seed=1)
        losses = [unbroken.train_step().item() for _ in range(6)]
        first = Trainer(TINY, plan, "cpu", seed=1)
        resumed_losses = [first.train_step().item() for _ in range(3)]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "c.pt")
            save_checkpoint(path, **first.state())
            second = Trainer(TINY, plan, "cpu", seed=1)
            second.load(load_checkpoint(path, "cpu"))
            self.assertEqual(os.listdir(folder), ["c.pt"])
        resumed_losses += [second.train_step().item() for _ in range(3)]
        self.assertEqual(losses, resumed_losses)
        for part in ("model", "ema"):
            for name, value in getattr(unbroken, part).state_dict().items():
                self.assertTrue(torch.equal(value, getattr(second, part).state_dict()[name]), name)
        with self.assertRaisesRegex(ValueError, "wanted seed 2"):
            Trainer(TINY, plan, "cpu", seed=2).load(first.state())

    def test_the_loss_falls(self):
        # Given one batch seen again and again, claim: its loss halves.
        trainer = Trainer(TINY, Plan("400@1x2x2*4"), "cpu", peak=1e-2)
        batch = trainer.draw(0)
        trainer.draw = lambda step: batch
        losses = [trainer.train_step().item() for _ in range(200)]
        self.assertLess(losses[-1], 0.5 * losses[0])


class Capturing(unittest.TestCase):
    def test_captured_qkv_reproduce_the_output(self):
        calls = capture(
            awake_model(), torch.zeros(TEXT_TOKENS, dtype=torch.int64), 1, (2, 3, 5), {0: [1], 1: [0]}, [1, 2], steps=4
        )
        self.assertEqual(sorted(calls), [(0, 1), (0, 2), (1, 1), (1, 2)])
        for arrays in calls.values():
            self.assertEqual(arrays["q"].shape, (1, 30 + TEXT_TOKENS, 16))
            self.assertLessEqual(worst_output_error(**arrays), error_limit(arrays["q"]))
            # Negative control: another query order is noticed, and so is NaN.
            self.assertGreater(
                worst_output_error(arrays["q"].flip(1), *(arrays[n] for n in "kvo")), error_limit(arrays["q"])
            )
            broken = arrays["o"].clone()
            broken[0, 0, 0] = float("nan")
            self.assertFalse(worst_output_error(*(arrays[n] for n in "qkv"), broken) <= 1)

    def test_selections(self):
        self.assertEqual(parse_selection("1:0,3:2"), {1: [0], 3: [2]})
        for text, words in (("1", "LAYER:HEAD"), ("1:0,1:0", "again"), ("1:0,1:1,2:0", "same number")):
            with self.assertRaisesRegex(ValueError, words):
                parse_selection(text)
        with self.assertRaisesRegex(ValueError, "layers below 2"):
            capture(awake_model(), torch.zeros(TEXT_TOKENS, dtype=torch.int64), 1, (1, 2, 2), {5: [0]}, [0])


class Heads(unittest.TestCase):
    def test_block_mass_is_the_full_map_summed(self):
        # Given a ragged grid with text, claim: chunked block sums equal those of the whole softmax.
        torch.manual_seed(0)
        regions = Regions((2, 3, 5), (2, 3), 4, "cpu")
        q, k = torch.randn(34, 16), torch.randn(34, 16)
        p = torch.softmax(q @ k.T / 4, dim=-1)
        mass = block_mass(q, k, regions, rows=7)
        self.assertEqual(mass.shape, (9, 9))
        for row in (0, 3, 8):
            for column in (1, 8):
                block = p[regions.ids == row][:, regions.ids == column].sum(1).mean()
                self.assertAlmostEqual(mass[row, column].item(), block.item(), delta=100 * EPS)
        self.assertLessEqual((mass.sum(1) - 1).abs().max().item(), 100 * EPS)

    def test_video_mass_weighs_regions_by_their_tokens(self):
        # Given attention that is the same everywhere, on a grid with regions of 4, 2 and 1 tokens and text: from region i
        # to j goes the share n_i n_j / (video * tokens) of all video queries' attention, exact but for 9 terms' rounding.
        regions = Regions((1, 3, 3), (2, 2), 2, "cpu")
        sizes = regions.sizes[:-1]
        self.assertEqual(sizes.tolist(), [4, 2, 2, 1])
        mass = video_mass(torch.zeros(11, 8), torch.randn(11, 8), regions)
        wanted = sizes[:, None] * sizes[None] / (9 * 11)
        self.assertLessEqual((mass - wanted).abs().max().item(), 16 * EPS)
        self.assertAlmostEqual(mass.sum().item(), 9 / 11, delta=100 * EPS)

    def test_one_hot_heads_are_told_apart(self):
        # Given keys that are one-hot codes of the frame, or of the place: all mass there.
        regions = Regions((3, 4, 4), (2, 2), 0, "cpu")
        frame, place = regions.frame_and_place()
        for code, column in ((frame, "same_frame"), (place, "same_position")):
            q = 200 * torch.nn.functional.one_hot(code[regions.ids], 16).float()
            row = describe(q, q, regions, 0.25, torch.Generator().manual_seed(0))
            self.assertAlmostEqual(row["same_region"] + row[column], 1.0, delta=1e-5)
            self.assertAlmostEqual(
                sum(row[n] for n in ("same_region", "same_frame", "same_position", "text", "elsewhere")), 1, delta=1e-5
            )
            self.assertAlmostEqual(row["effective_blocks"], 4 if column == "same_frame" else 3, delta=1e-3)
            self.assertGreaterEqual(row["recall_oracle"] + 1e-6, max(row["recall_average"], row["recall_random"]))

    def test_pooling_and_keeping(self):
        regions = Regions((1, 2, 4), (2, 2), 1, "cpu")
        q, k = torch.randn(9, 16), torch.randn(9, 16)
        left = regions.ids == 0
        scores = (
            torch.stack([q[left].mean(0), q[regions.ids == 1].mean(0)])
            @ torch.stack([k[left].mean(0), k[regions.ids == 1].mean(0)]).T
        )
        self.assertLessEqual(
            (draft_map(q, k, regions, "average") - torch.softmax(scores / 4, -1)).abs().max().item(), 100 * EPS
        )
        self.assertEqual(
            kept_blocks(torch.arange(20.0).view(4, 5), 0.1).flatten().nonzero().flatten().tolist(), [18, 19]
        )
        with self.assertRaisesRegex(ValueError, "average or max"):
            draft_map(q, k, regions, "median")
