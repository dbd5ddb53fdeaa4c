"""Captures from every text-to-video pipeline that draftattention knows, on tiny random models of the real classes."""

import argparse

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")
import numpy as np
from diffusers_cases import text_mask
from model_cases import CASES
from model_pipelines import CASES_OF_PIPELINES, PipelineCase, transformer

from lab.capture import pipelines
from lab.capture.cases import FP32, CaptureTest, output_error


def different(a, b):
    """Whether more than another order of float32 sums is between them: that is far less than 2^-12 of the largest."""
    return np.abs(a - b).max() > 2.0**-12 * np.abs(b).max()


class Models(CaptureTest):
    def test_grid_text_and_branches(self):
        """Given a run with guidance, claim: both branches' captures have the grid and the valid text, their output is
        attention of their q, k and v, and the one of the prompt is what a run of it alone has."""
        for name, make in CASES_OF_PIPELINES.items():
            with self.subTest(name):
                case = make()
                options = {"layers": [0, 1], "at": [0, 2], "branches": ("cond", "uncond"), "heads": [1]}
                self.capture(case, **options)
                found = self.read()
                self.assertEqual(len(found), 8)
                for its in found.values():
                    shape = (its.frames, its.height, its.width, its.text_tokens)
                    self.assertEqual(shape, (*case.grid, case.text))
                    self.assertEqual((its.steps, its.model_heads), (3, [1]))
                    self.assertLessEqual(output_error(its, FP32), 1)
                self.capture(case, lambda: case.run_alone(steps=3), layers=[0, 1], at=[0], heads=[1])
                for layer in (0, 1):
                    alone = self.read()[f"layer{layer}_step0_cond"]
                    cond, uncond = (found[f"layer{layer}_step0_{branch}"] for branch in ("cond", "uncond"))
                    self.assertFalse(different(cond.o, alone.o))
                    # The first attention of a model whose text is in cross-attention has not seen the prompt.
                    if layer or case.text:
                        self.assertTrue(different(uncond.o, alone.o))
                    else:
                        self.assertFalse(different(uncond.o, alone.o))

    def test_two_videos_and_branches_that_differ(self):
        case = CASES_OF_PIPELINES["cogvideox"]()
        two = {name: x.repeat(2, *[1] * (x.dim() - 1)) for name, x in case.given.items() if isinstance(x, torch.Tensor)}
        with self.assertRaisesRegex(ValueError, "layer0_step1_cond: wanted a batch of 1 video, found 2"):
            self.capture(case, lambda: case.run(steps=3, **two))
        with self.assertRaisesRegex(ValueError, "wanted a batch of 1 video, found 2"):
            self.capture(case, lambda: case.run(steps=3, guidance_scale=1.0, **two))
        for name in ("cogvideox", "mochi"):
            case = CASES_OF_PIPELINES[name]()
            with self.assertRaisesRegex(
                ValueError, "layer0_step1_uncond: wanted such a pass .*found none without guidance"
            ):
                self.capture(case, lambda case=case: case.run_alone(steps=3), branches=["uncond"])
        more = {"negative_prompt_attention_mask": text_mask([7]).bool()}
        with self.assertRaisesRegex(ValueError, r"wanted the grid and text tokens of .*, .* [57]\), found .* [57]\)"):
            self.capture(case, lambda: case.run(steps=3, **more), branches=["cond", "uncond"])
        self.capture(case, lambda: case.run(steps=3, **more), branches=["uncond"])
        self.assertEqual(next(iter(self.read().values())).text_tokens, 7)

    def test_conditions_are_the_dump_s_text(self):
        """Given Framepack's history, claim: the grid is that of clean frames and video; history, image and text follow,
        though history stands first in the model."""
        case = CASES["framepack_one"]()
        model = case.transformer().float()

        class Loop:
            """A denoising loop of one step over a bare transformer, with what a pipeline has."""

            transformer, num_timesteps, current_timestep = model, 1, None

            class scheduler:  # noqa: N801  an attribute
                timesteps, step_index, begin_index, num_inference_steps = torch.tensor([500.0]), 0, 0, 1

        def run():
            given = case.given | {"hidden_states": case.given["hidden_states"].float()}
            with torch.no_grad():
                model(**given, return_dict=False)

        self.capture(PipelineCase(Loop(), {}, "embedded"), run, layers=[0, 1], at=[0])
        for its in self.read().values():
            self.assertEqual((its.frames, its.height, its.width), (4, 6, 10))
            self.assertEqual(its.text_tokens, 2 * 3 + 3 * 5 + 3 + 5)
            self.assertLessEqual(output_error(its, FP32), 1)

    def test_what_a_pipeline_wants_and_takes(self):
        options = argparse.Namespace(
            prompt="a cat",
            negative_prompt=None,
            height=None,
            width=None,
            frames=None,
            steps=3,
            guidance=None,
            true_guidance=None,
            seed=0,
            branches=("cond",),
        )
        for name, make in CASES_OF_PIPELINES.items():
            with self.subTest(name):
                self.assertEqual(pipelines.arguments(make().pipeline, options)["prompt"], "a cat")
        options.guidance = 5.0
        with self.assertRaisesRegex(ValueError, "takes guidance_scale, found HunyuanVideo15Pipeline"):
            pipelines.arguments(CASES_OF_PIPELINES["hunyuan_video_15"]().pipeline, options)
        import diffusers

        animate = diffusers.WanAnimatePipeline(None, None, None, None, None, None, transformer("wan_animate"))
        with self.assertRaisesRegex(
            ValueError, "needs a prompt alone, found WanAnimatePipeline, which wants image, pose"
        ):
            pipelines.arguments(animate, options)
