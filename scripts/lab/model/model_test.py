"""Tests of positions, the model, its weights, training, capturing and heads, in tiny form on the CPU."""

import contextlib
import io
import os
import tempfile
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
from qkv_dump import read_dump

from lab.model.capture import calls_of, capture, error_limit, parse_selection, worst_output_error
from lab.model.capture import main as capture_command
from lab.model.checkpoint import load_weights, notes_of, save_weights, to_8_bits
from lab.model.flow import sample, schedule
from lab.model.heads import Regions, block_mass, describe, draft_map, kept_blocks, spread_out
from lab.model.masks.exact import video_mass
from lab.model.model import ModelConfig, PhotoDiT, dense_attention, patchify, unpatchify
from lab.model.plan import Plan
from lab.model.prompts import TEXT_TOKENS, draw_prompts, prompt_text
from lab.model.rope import FULL, positions, rope_table, rotate
from lab.model.train import Trainer

torch.set_num_threads(1)
TINY = ModelConfig(dim=32, heads=2, head_dim=16, layers=2, condition=16, time_features=16)
EPS = torch.finfo(torch.float32).eps


def awake_model():
    """A tiny model whose gates are open: fresh ones are the identity."""
    torch.manual_seed(0)
    model = PhotoDiT(TINY).eval().requires_grad_(False)
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

    def test_a_clip_stands_alike_at_every_grid(self):
        # Claim: the full grid counts its tokens, a coarser one has its tokens' middles in the same units, and the last
        # frame stands where the full grid's does.
        f, h, w = positions(FULL, "cpu")
        self.assertEqual([f.max().item(), h.max().item(), w.max().item()], [7, 31, 47])
        self.assertTrue(torch.equal(w[:3], torch.tensor([0.0, 1.0, 2.0])))
        f, h, w = positions((2, 16, 24), "cpu")
        self.assertEqual([f.max().item(), h.min().item(), w.max().item()], [7, 0.5, 46.5])

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
        prompt, t = draw_prompts(1, torch.Generator().manual_seed(2)), torch.tensor([0.5])
        out = model(video, t, prompt)
        self.assertEqual(out.shape, video.shape)
        self.assertFalse(torch.equal(out, model(video, t + 0.2, prompt)))
        for index in range(prompt.shape[1]):
            other = prompt.clone()
            other[0, index] = (other[0, index] + 1) % 3 if index < 2 else other[0, index] + 0.1
            self.assertFalse(torch.equal(out, model(video, t, other)), index)

    def test_an_unborn_model_guesses_by_the_noise_alone(self):
        # Given a network that is zero, claim: the guess of the clip is the best linear one, sigma^2 (1 - t) / variance of
        # what is seen, and the velocity takes the state there in one step: x - t v = clip.
        model, video = PhotoDiT(TINY), torch.randn(2, 3, 2, 8, 8)
        prompts, t = draw_prompts(2, torch.Generator().manual_seed(2)), torch.tensor([0.25, 1.0])
        clean = model.clean(video, t, prompts)
        self.assertLessEqual((clean[0] - 0.75 * 0.25 / (0.375**2 + 0.25**2) * video[0]).abs().max().item(), 8 * EPS)
        self.assertEqual(clean[1].abs().max().item(), 0)
        back = video - t.view(-1, 1, 1, 1, 1) * model(video, t, prompts)
        self.assertLessEqual((back - clean).abs().max().item(), 64 * EPS)

    def test_a_frame_is_modulated_by_its_own_camera(self):
        # Given attention that gives nothing, claim: what the prompt says of one frame changes that frame alone.
        model, video = awake_model(), torch.randn(1, 3, 3, 8, 8)
        for block in model.blocks:
            block.out.weight.zero_()
            block.out.bias.zero_()
        prompts = draw_prompts(1, torch.Generator().manual_seed(2))
        frames = model.condition(prompts, torch.tensor([0.5]), 3)

        class Fixed(torch.nn.Module):
            def forward(self, *_):
                return frames

        model.condition = Fixed()
        first = model(video, torch.tensor([0.5]), prompts)
        frames = frames.clone()
        frames[:, 1] += 1
        moved = (model(video, torch.tensor([0.5]), prompts) - first).abs().amax((0, 1, 3, 4))
        self.assertEqual(moved[[0, 2]].max().item(), 0)
        self.assertGreater(moved[1].item(), 1e-4)

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

    def test_weights_round_trip_in_8_bits(self):
        # Claim: each number is within half a step of its row's scale, small tensors are exact, and the notes are kept.
        model = awake_model()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "w.safetensors")
            save_weights(path, model, dict(steps="3"))
            loaded, notes = load_weights(path, "cpu"), notes_of(path)
            self.assertEqual(os.listdir(folder), ["w.safetensors"])
            save_weights(path, loaded, {})
            again = load_weights(path, "cpu")
        self.assertEqual(loaded.config, TINY)
        self.assertEqual(notes["steps"], "3")
        rounded = 0
        for name, value in model.state_dict().items():
            found = loaded.state_dict()[name]
            self.assertLessEqual(
                (again.state_dict()[name] - found).abs().max().item(), 4 * EPS * found.abs().max().item()
            )
            if value.ndim < 2 or value.numel() < 4096:
                self.assertTrue(torch.equal(found, value), name)
                continue
            rounded += 1
            step = value.flatten(1).abs().amax(1) / 127
            error = (found - value).flatten(1).abs().amax(1)
            self.assertTrue((error <= 0.5 * step * (1 + 1e-5)).all(), name)
            self.assertGreater(error.max().item(), 0, name)
        self.assertGreater(rounded, 2)

    def test_rows_of_zeros_have_8_bits_too(self):
        whole, scales = to_8_bits(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
        self.assertEqual(whole.tolist(), [[0, 0], [64, -127]])
        self.assertAlmostEqual(scales[1].item() * 127, 2.0)


def trainer(seed=0, **rates):
    torch.manual_seed(0)
    return Trainer(PhotoDiT(TINY), Plan("1@1x2x2*4"), seed, **rates)


class Training(unittest.TestCase):
    def test_a_sitting_is_a_function_of_its_seed(self):
        runs = [[run.train_step(0.1 * i).item() for i in range(4)] for run in (trainer(1), trainer(1), trainer(2))]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_every_parameter_has_one_optimizer(self):
        one = trainer()
        held = [id(p) for optimizer in one.optimizers for group in optimizer.param_groups for p in group["params"]]
        self.assertEqual(sorted(held), sorted(id(p) for p in one.model.parameters()))

    def test_the_loss_falls(self):
        # Given one batch seen again and again, claim: its loss halves.
        one = trainer(muon=0.02, adam=1e-2)
        batch = one.draw(one.plan.batch(0, 0), 0)
        one.draw = lambda *_: batch
        losses = [one.train_step(0.4).item() for _ in range(200)]
        self.assertLess(losses[-1], 0.5 * losses[0])

    def test_the_average_follows_the_model(self):
        one = trainer()
        start = [p.clone() for p in one.ema.parameters()]
        for _ in range(3):
            one.train_step(0.0)
        pairs = list(zip(start, one.ema.parameters(), one.model.parameters()))
        self.assertTrue(any(not torch.equal(first, mean) for first, mean, _ in pairs))
        self.assertTrue(any(not torch.equal(mean, last) for _, mean, last in pairs))


class Capturing(unittest.TestCase):
    def test_captured_qkv_reproduce_the_output(self):
        prompt = draw_prompts(1, torch.Generator().manual_seed(3))[0]
        wanted = {(0, 1): [1], (1, 2): [0]}
        calls = capture(awake_model(), prompt, 1, (2, 3, 5), wanted, steps=4)
        self.assertEqual(sorted(calls), [(0, 1), (1, 2)])
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
        with self.assertRaisesRegex(ValueError, "steps: wanted 0 to 3, found 4"):
            capture(awake_model(), prompt, 1, (1, 2, 2), {(0, 4): [0]}, steps=4)

    def test_a_dump_of_several_prompts(self):
        # Claim: captures are named by prompt, layer and step, hold the prompt that they ran with, and are the model's own
        # numbers rounded to bfloat16 where that is asked for.
        with tempfile.TemporaryDirectory() as folder:
            weights, out = os.path.join(folder, "w.safetensors"), os.path.join(folder, "run.h5")
            save_weights(weights, awake_model(), {})
            command = ["capture", "--weights", weights, "--grid", "2x3x5", "--prompts", "2", "--steps", "4"]
            command += ["--select", "0:1@1,1:0@2/1", "--element", "bfloat16", "--seed", "5", "--out", out]
            with mock.patch("sys.argv", command), contextlib.redirect_stdout(io.StringIO()):
                capture_command()
            found = {one.name: one for one in read_dump(out)}
            model = load_weights(weights, "cpu")
        self.assertEqual(sorted(found), ["prompt0_layer0_step1", "prompt1_layer0_step1", "prompt1_layer1_step2"])
        prompts = draw_prompts(2, torch.Generator().manual_seed(5), held_out=True)
        calls = capture(model, prompts[1], 6, (2, 3, 5), {(1, 2): [0]}, steps=4)
        one = found["prompt1_layer1_step2"]
        self.assertEqual((one.prompt, one.model_heads), (prompt_text(prompts[1]), [0]))
        for part in "qkv":
            rounded = calls[1, 2][part].to(torch.bfloat16).float().numpy()
            self.assertTrue((getattr(one, part) == rounded).all(), part)

    def test_selections(self):
        # Claim: an item alone stands for every step and prompt, @ and / for one, all for every head of every layer.
        def calls(text, prompts=2, at=(5, 9)):
            return calls_of(parse_selection(text), TINY, prompts, at)

        each = {(p, layer, s): [0, 1] for p in (0, 1) for layer in (0, 1) for s in (5, 9)}
        self.assertEqual(calls("all"), each)
        self.assertEqual(
            calls("1:0,0:1@7/1,1:0@3"),
            {(0, 1, 3): [0], (0, 1, 5): [0], (0, 1, 9): [0], (1, 0, 7): [1]}
            | {(1, 1, step): [0] for step in (3, 5, 9)},
        )
        self.assertEqual(calls("0:1,0:0", 1, (4,)), {(0, 0, 4): [1, 0]})
        for text, words in (
            ("1", "wanted all or LAYER:HEAD"),
            ("1:0@", "wanted all or LAYER:HEAD"),
            ("1:0,1:0", "each head once"),
            ("all,1:0@5/0", "each head once"),
            ("0:0,0:1,1:0", "same number"),
            ("5:0", "layers below 2"),
            ("0:2", "heads below 2"),
            ("0:0/2", "prompts below 2"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                calls(text)


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

    def test_chosen_heads_are_spread_out_evenly(self):
        # Given 6 heads with 10 to 60 effective blocks, each a mean of two rows, claim: of three groups of two the upper
        # head each; of six all, in order.
        rows = [
            dict(layer=layer, head=head, effective_blocks=10 * (1 + 2 * layer + head) + off)
            for layer in (2, 0, 1)
            for head in (1, 0)
            for off in (-30, 30)
        ]
        self.assertEqual(spread_out(rows, 3), [(0, 1), (1, 1), (2, 1)])
        self.assertEqual(spread_out(rows, 6), [(layer, head) for layer in range(3) for head in range(2)])
        self.assertEqual(spread_out(rows, 1), [(1, 1)])
        with self.assertRaisesRegex(ValueError, "wanted 1 to 6, found 7"):
            spread_out(rows, 7)
