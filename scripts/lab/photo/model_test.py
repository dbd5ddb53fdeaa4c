"""Tests of positions, the model, its weights and training, in tiny form on the CPU."""

import os
import tempfile
import unittest

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
from lab.model.flow import sample
from lab.model.model import dense_attention
from lab.model.rope import rotate
from lab.photo.checkpoint import load_weights, notes_of, save_weights, to_8_bits
from lab.photo.model import ModelConfig, PhotoDiT
from lab.photo.plan import Plan
from lab.photo.prompts import TEXT_TOKENS, draw_prompts
from lab.photo.rope import FULL, positions, rope_table
from lab.photo.train import Trainer

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
