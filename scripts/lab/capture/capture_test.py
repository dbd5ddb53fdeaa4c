"""Tests of capturing diffusers' video pipelines into dumps, on tiny random models of the real classes."""

import os
import weakref
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")
import h5py
import numpy as np
from diffusers_cases import GRID, TEXT, VALID, hunyuan, numbers, text_mask, wan
from qkv_dump import from_bfloat16_bits

from lab.capture import capture
from lab.capture.cases import FP32, CaptureTest, output_error


class Captures(CaptureTest):
    def test_wan_in_both_branches(self):
        case, heads = wan(), [1, 0]
        before, latents = case.run(steps=3), []
        names = self.capture(
            case,
            lambda: latents.append(case.run(steps=3)),
            layers=[0, 2],
            at=[1, 2],
            heads=heads,
            branches=("cond", "uncond"),
            prompt="a cat",
            negative_prompt="blur",
        )
        self.assertTrue(torch.equal(latents[0], before))  # capturing changes nothing
        found = self.read()
        self.assertEqual(
            set(found),
            {
                f"layer{layer}_step{step}_{branch}"
                for layer in (0, 2)
                for step in (1, 2)
                for branch in ("cond", "uncond")
            },
        )
        self.assertEqual(names[:3], ["layer0_step1_cond", "layer2_step1_cond", "layer0_step1_uncond"])
        for its in found.values():
            self.assertEqual((its.frames, its.height, its.width, its.text_tokens), (*GRID, 0))
            self.assertEqual(its.q.shape, (2, 120, 32))
            self.assertEqual((its.steps, its.model, its.softmax_scale, its.model_heads), (3, "tiny", 32**-0.5, heads))
            self.assertEqual(its.prompt, {"cond": "a cat", "uncond": "blur"}[its.branch])
            self.assertEqual(its.timestep, case.pipeline.scheduler.timesteps[its.step].item())
            self.assertLessEqual(output_error(its, FP32), 1)
        first, second = found["layer0_step1_cond"], found["layer2_step1_cond"]
        swapped = mock.Mock(q=first.q, k=first.k, v=first.v, o=second.o, softmax_scale=first.softmax_scale)
        self.assertGreater(output_error(swapped, FP32), 1)

    def test_hunyuan_without_padding_in_both_kinds_of_blocks(self):
        case = hunyuan()
        self.capture(case, layers=[1, 2], at=[0])
        for its in self.read().values():
            self.assertEqual((its.text_tokens, its.q.shape), (VALID, (2, 120 + VALID, 32)))
            self.assertLessEqual(output_error(its, FP32), 1)
        more = case.embeds | {"prompt_attention_mask": text_mask([VALID + 1])}
        self.capture(case, lambda: case.run(steps=3, **more), layers=[1, 2], at=[0])
        its = self.read()["layer1_step0_cond"]
        short = {name: getattr(its, name)[:, :-1] for name in "qkvo"}  # a valid token that is left out is seen
        self.assertGreater(output_error(mock.Mock(softmax_scale=its.softmax_scale, **short), FP32), 1)

    def test_tokens_are_in_frame_row_column_order(self):
        # V of block 0, from each token's own patch of latents: sums of at most 64 products, thrice.
        case, at = wan(), numbers(1, 4, 2, 12, 20)
        model, (frames, height, width), time = case.transformer, GRID, torch.tensor([1000.0])
        self.capture(case, layers=[0], at=[0])
        stored = torch.from_numpy(self.read()["layer0_step0_cond"].v)
        with torch.no_grad():
            modulation = model.condition_embedder(time, numbers(1, 1, 16), None)[1]
            shift, scale = (model.blocks[0].scale_shift_table + modulation.unflatten(1, (6, -1)))[0, :2]
            tokens = [
                model.patch_embedding(at[:, :, f : f + 1, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]).flatten()
                for f in range(frames)
                for y in range(height)
                for x in range(width)
            ]
            v = model.blocks[0].attn1.to_v(model.blocks[0].norm1(torch.stack(tokens)) * (1 + scale) + shift)
        v = v.unflatten(1, (2, 32)).transpose(0, 1)
        tolerance = 3 * 64 * FP32 * v.abs().max().item()
        self.assertLessEqual((stored - v).abs().max().item(), tolerance)
        other = v.unflatten(1, GRID).transpose(2, 3).flatten(1, 3)  # (frame, column, row)
        self.assertGreater((stored - other).abs().max().item(), tolerance)

    def test_bfloat16_keeps_its_bits_and_output_may_be_left_out(self):
        case, seen = wan(), []
        case.transformer.bfloat16()
        add = capture.DumpWriter.add
        with mock.patch.object(
            capture.DumpWriter, "add", lambda self, name, *rows, **k: seen.append(rows) or add(self, name, *rows, **k)
        ):
            self.capture(case, heads=[1, 0])
        its = self.read()["layer0_step1_cond"]
        self.assertLessEqual(output_error(its, torch.finfo(torch.bfloat16).eps), 1)
        with h5py.File(self.out) as file:
            group = file["captures/layer0_step1_cond"]
            for name, tensor in zip("qkvo", seen[0]):
                self.assertEqual((tensor.dtype, group[name].attrs["dtype"]), (torch.bfloat16, "bfloat16"))
                self.assertTrue(np.array_equal(from_bfloat16_bits(group[name][:]), tensor.float().numpy()))
        self.capture(case, output=False)
        again = self.read()["layer0_step1_cond"]
        self.assertIsNone(again.o)
        self.assertTrue(np.array_equal(again.q[::-1], its.q))  # all heads, in the model's order

    def test_one_layer_is_held_at_a_time(self):
        case, held, alive, write = wan(), [], [], capture._Recorder.write

        def watched(self, name, call, branch, o):
            alive.append(sum(ref() is not None for ref in held))
            held.extend(weakref.ref(x) for x in (call.query, call.key, call.value, o, call))
            write(self, name, call, branch, o)
            alive_now.append(sum(ref() is not None for ref in held))

        alive_now = []
        with mock.patch.object(capture._Recorder, "write", watched):
            self.capture(case, layers=[0, 1, 2], at=[0, 1], branches=("cond", "uncond"))
        self.assertEqual((alive, alive_now), ([0] * 12, [5] * 12))  # nothing of earlier calls, and this one

    def test_true_guidance_has_two_branches(self):
        # The second pass is of the negative prompt: what it holds is what a run of that prompt alone begins with.
        case = hunyuan()
        other = {
            "prompt_embeds": numbers(1, TEXT, 16, seed=5),
            "pooled_prompt_embeds": numbers(1, 8, seed=6),
            "prompt_attention_mask": case.embeds["prompt_attention_mask"],
        }
        negative = {f"negative_{name}": value for name, value in other.items()}
        self.capture(
            case,
            lambda: case.run(steps=3, true_cfg_scale=3.0, **negative),
            layers=[1, 2],
            at=[0, 2],
            branches=("cond", "uncond"),
            prompt="a cat",
            negative_prompt="blur",
        )
        found = self.read()
        self.assertEqual(
            set(found),
            {
                f"layer{layer}_step{step}_{branch}"
                for layer in (1, 2)
                for step in (0, 2)
                for branch in ("cond", "uncond")
            },
        )
        for branch, embeds in (("cond", {}), ("uncond", other)):
            self.capture(case, lambda: case.run(steps=3, **embeds), layers=[1], at=[0])
            alone = self.read()["layer1_step0_cond"]
            its = found[f"layer1_step0_{branch}"]
            self.assertEqual((its.prompt, its.text_tokens), ({"cond": "a cat", "uncond": "blur"}[branch], VALID))
            self.assertTrue(np.array_equal(its.q, alone.q) and np.array_equal(its.o, alone.o))
        self.assertFalse(np.array_equal(found["layer1_step0_cond"].q, found["layer1_step0_uncond"].q))

    def test_steps_whose_timesteps_collide(self):
        # Given bfloat16, to which HunyuanVideo's pipeline rounds timesteps, and a shift at which neighbours collide.
        import diffusers

        case = hunyuan().to("cpu", torch.bfloat16)
        case.pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=17.0)
        self.capture(case, lambda: case.run(steps=50), layers=[0], at=[0, 1, 2, 3])
        found = self.read()
        self.assertEqual([(its.step, its.steps) for its in found.values()], [(step, 50) for step in range(4)])
        times = [its.timestep for its in found.values()]
        self.assertLess(len(set(times)), 4)
        self.assertFalse(np.array_equal(found["layer0_step0_cond"].q, found["layer0_step1_cond"].q))

    def test_stopping_after_the_last_capture(self):
        case, passes = wan(), []
        case.transformer.register_forward_pre_hook(lambda *_: passes.append(None))
        self.capture(case, lambda: case.run(steps=9), at=[0, 2], stop=True)
        self.assertEqual(len(passes), 2 * 2 + 1)
        self.assertEqual(set(self.read()), {"layer0_step0_cond", "layer0_step2_cond"})
        self.assertEqual(len(case.transformer.blocks[0].attn1._forward_hooks), 0)
        case.run(steps=1)


class Refusals(CaptureTest):
    def refused(self, message, case, run=None, kind=ValueError, **options):
        with self.assertRaisesRegex(kind, message):
            self.capture(case, run, **options)
        self.assertEqual(list(self.folder.iterdir()), [])
        case.run(steps=1)  # nothing stays behind in the model either

    def test_what_the_model_or_the_run_has_not(self):
        case = wan()
        self.refused("layers: wanted numbers from 0 to 2, found 3", case, layers=[0, 3])
        self.refused("heads: wanted different numbers from 0 to 1, found 2", case, heads=[0, 2])
        self.refused("layer0_step3_cond: wanted such a pass of the model, found 3 steps", case, at=[1, 3])
        self.refused(
            "layer0_step1_uncond: wanted such a pass of the model, found none",
            case,
            branches=["uncond"],
            run=lambda: case.run(steps=3, guidance_scale=1.0),
        )
        self.refused(
            "layer0_step2_uncond: wanted such a pass of the model, found none",
            case,
            at=[2],
            branches=["uncond"],
            run=lambda: case.run(steps=3, guidance_scale=1.0),
        )
        self.refused("layers, steps and branches: wanted some", case, at=[])
        self.refused("steps and branches: wanted some, from 0 on, of cond and uncond", case, branches=["both"])
        two = {"prompt_embeds": numbers(2, 7, 16), "negative_prompt_embeds": numbers(2, 7, 16)}
        self.refused(
            "layer0_step1_cond: wanted a batch of 1 video, found 2",
            case,
            lambda: case.run(steps=3, latents=numbers(2, 4, 2, 12, 20), **two),
        )

    def test_before_the_first_step_is_computed(self):
        # Given what cannot be had, claim: the model has not finished one pass (two where the branches differ).
        case, passes = wan(), []
        case.transformer.register_forward_hook(lambda *_: passes.append(None))

        def refused(message, finished=0, run=None, **options):
            passes.clear()
            with self.assertRaisesRegex(ValueError, message):
                self.capture(case, run, **options)
            self.assertEqual(len(passes), finished)

        refused("layer0_step3_cond: wanted such a pass of the model, found 3 steps", at=[1, 3])
        for options in ({"branches": ["uncond"]}, {"branches": ("cond", "uncond"), "at": [2]}):
            refused(
                "_uncond: wanted such a pass of the model, found none without guidance",
                run=lambda: case.run(steps=3, guidance_scale=1.0),
                **options,
            )
        two = {"prompt_embeds": numbers(2, 7, 16), "negative_prompt_embeds": numbers(2, 7, 16)}
        refused(
            "layer0_step2_cond: wanted a batch of 1 video, found 2",
            at=[2],
            run=lambda: case.run(steps=3, latents=numbers(2, 4, 2, 12, 20), **two),
        )
        case = hunyuan()
        case.transformer.register_forward_hook(lambda *_: passes.append(None))
        negative = {
            "negative_prompt_embeds": numbers(1, TEXT, 16),
            "negative_pooled_prompt_embeds": numbers(1, 8),
            "negative_prompt_attention_mask": text_mask([VALID + 2]),
            "true_cfg_scale": 3.0,
        }
        refused(
            "layer0_step2_uncond: wanted the grid and text tokens of layer0_step2_cond",
            finished=1,
            at=[2],
            run=lambda: case.run(steps=3, **negative),
            branches=("cond", "uncond"),
        )

    def test_where_a_dump_cannot_be_written(self):
        case, notes, folder = wan(), self.folder / "notes.txt", self.folder / "folder"
        notes.write_text("notes")
        folder.mkdir()
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        other = self.folder / "other.h5"
        with h5py.File(other, "w") as file:
            file.attrs["format"] = "another"
        before = other.read_bytes()
        for out, message in [
            (folder, "out: wanted a new file or a dump to replace, found a directory"),
            (pipe, "out: wanted a new file or a dump to replace, found no regular file"),
            (notes, "out: wanted a new file or a dump to replace, found a file that is none"),
            (other, "out: wanted a new file or a dump"),
            (self.folder / "nowhere" / "x.h5", "out: wanted a folder that can be written to"),
        ]:
            ran = []
            with self.assertRaisesRegex(ValueError, message):
                capture.capture_run(
                    case.pipeline, lambda: ran.append(None), out, layers=[0], at=[0], model="m", source="s"
                )
            self.assertEqual(ran, [])
        self.assertEqual((notes.read_text(), other.read_bytes()), ("notes", before))

    def test_captures_that_differ_in_text_tokens(self):
        case = hunyuan()
        negative = {
            "negative_prompt_embeds": numbers(1, TEXT, 16),
            "negative_pooled_prompt_embeds": numbers(1, 8),
            "negative_prompt_attention_mask": text_mask([VALID + 2]),
            "true_cfg_scale": 3.0,
        }
        message = r"layer0_step1_uncond: wanted the grid and text tokens of layer0_step1_cond, .* 5\), found .* 7\)"
        self.refused(message, case, lambda: case.run(steps=3, **negative), branches=["cond", "uncond"])

    def test_a_run_that_breaks_down_leaves_no_file(self):
        for error in (KeyError, KeyboardInterrupt):
            case = wan()

            def run():
                case.run(steps=3)
                raise error("behind the captures")

            self.refused("behind the captures", case, run, kind=error)
