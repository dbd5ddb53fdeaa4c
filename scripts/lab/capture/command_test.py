"""Tests of the command, on a tiny random pipeline."""

import argparse
import contextlib
import io
import subprocess
import sys
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")
from diffusers_cases import GRID, hunyuan, wan

from lab.capture import __main__ as command
from lab.capture import pipelines
from lab.capture.cases import CaptureTest, output_error


class Command(CaptureTest):
    def run_command(self, *arguments):
        given = ["--prompt", "a cat", "--out", str(self.out), "--device", "cpu"]
        given += "--height 96 --width 160 --frames 5 --steps 3 --layers 0,2 --at 1".split()
        with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
            try:
                status = command.main([*given, *arguments])
            except SystemExit as left:
                status = left.code
        return status, errors.getvalue().splitlines()

    def tiny_pipeline(self):
        """Of parts that can be saved: with encoder, tokenizer and decoder."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

        words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "cat": 3}, unk_token="<unk>"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        return diffusers.WanPipeline(
            tokenizer=PreTrainedTokenizerFast(
                tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
            ),
            text_encoder=UMT5EncoderModel(
                UMT5Config(vocab_size=4, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
            ),
            vae=diffusers.AutoencoderKLWan(
                base_dim=8,
                z_dim=4,
                dim_mult=[1, 1, 1, 1],
                num_res_blocks=1,
                latents_mean=[0.0] * 4,
                latents_std=[1.0] * 4,
            ),
            transformer=wan().transformer,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        )

    def test_from_a_folder_to_a_dump(self):
        folder = self.folder / "tiny-wan"
        self.tiny_pipeline().save_pretrained(folder)
        status, errors = self.run_command("--model", str(folder), "--branch", "both", "--stop-after-last-capture")
        self.assertEqual(status, 0, errors)
        found = self.read()
        self.assertEqual(set(found), {f"layer{n}_step1_{branch}" for n in (0, 2) for branch in ("cond", "uncond")})
        for its in found.values():
            self.assertLessEqual(output_error(its, torch.finfo(torch.bfloat16).eps), 1)
            self.assertEqual((its.model, its.frames, its.height, its.width), ("tiny-wan", *GRID))
            self.assertIn("WanPipeline, FlowMatchEulerDiscreteScheduler, 160x96 pixels, 5 frames, 3 steps", its.source)
            self.assertNotIn(str(self.folder), its.source)
        self.out.unlink()
        for options, message in [
            (["--layers", "9"], "layers: wanted numbers from 0 to 2, found 9"),
            (["--heads", "2"], "heads: wanted different numbers from 0 to 1, found 2"),
            (["--guidance", "1", "--branch", "both"], "--guidance: wanted a scale above 1"),
            (["--true-guidance", "3"], "--true-guidance: wanted a pipeline with embedded"),
            (["--device", "abacus"], "--device: wanted a device"),
        ]:
            with contextlib.ExitStack() as stack:
                if "--device" not in options:  # the configuration says it: no weights are loaded
                    stack.enter_context(mock.patch.object(pipelines, "load", side_effect=AssertionError))
                status, errors = self.run_command("--model", str(folder), *options)
            self.assertEqual((status, self.out.exists()), (2, False))
            self.assertTrue(errors[-1].startswith(f"capture: {message}"), errors[-1])

    def test_bad_options(self):
        for options, message in [
            (["--at", "3"], "argument --at: wanted steps from 0 to 2, found 3"),
            (["--layers", "1,a"], "argument --layers: wanted numbers from 0 on, found 1,a"),
            (["--guidance", "nan"], "argument --guidance: wanted a finite number, found nan"),
            (["--seed", "1e3"], "argument --seed: wanted a whole number from 0"),
            (["--prompt", "\udcff"], "argument --prompt: wanted UTF-8, found other bytes"),
            (["--true-guidance", "1"], "argument --true-guidance: wanted a scale above 1"),
            (["--out", str(self.folder)], "out: wanted a new file or a dump to replace, found a directory"),
            (["--out", "nowhere/x.h5"], "argument --out: wanted a file in a folder that exists"),
            (["--model", str(self.folder)], "--model: wanted a diffusers pipeline, found"),
        ]:
            status, errors = self.run_command("--model", "none", *options)
            self.assertEqual(status, 2)
            self.assertIn(message, errors[-1])

    def test_what_a_pipeline_is_called_with(self):
        given = "--model x --layers 0 --at 0 --height 96 --guidance 3".split()
        options = command.parse([*given, "--prompt", "a cat", "--out", str(self.out)])
        call = pipelines.arguments(hunyuan().pipeline, options)
        call.pop("generator")
        self.assertEqual(
            call,
            {
                "prompt": "a cat",
                "height": 96,
                "num_inference_steps": 50,
                "guidance_scale": 3.0,
                "output_type": "latent",
            },
        )
        guided = argparse.Namespace(**(vars(options) | {"true_guidance": 2.0, "branches": ("cond", "uncond")}))
        call = pipelines.arguments(hunyuan().pipeline, guided)
        self.assertEqual((call["true_cfg_scale"], call["negative_prompt"]), (2.0, ""))
        unguided = argparse.Namespace(**(vars(options) | {"guidance": 1.0, "branches": ("cond", "uncond")}))
        with self.assertRaisesRegex(ValueError, "--guidance: wanted a scale above 1, .* found 1"):
            pipelines.arguments(wan().pipeline, unguided)
        for changed in ({"negative_prompt": "blur"}, {"branches": ("cond", "uncond")}):
            wrong = argparse.Namespace(**(vars(options) | changed))
            self.assertIsInstance(pipelines.arguments(wan().pipeline, wrong), dict)
            with self.assertRaisesRegex(ValueError, "--branch: wanted .* found HunyuanVideoPipeline"):
                pipelines.arguments(hunyuan().pipeline, wrong)

    def test_without_diffusers(self):
        program = (
            "import sys; sys.modules['diffusers'] = None; from lab.capture import __main__ as command; "
            "sys.exit(command.main(sys.argv[1:]))"
        )
        arguments = ["--model", "x", "--out", str(self.out), "--layers", "0", "--at", "0", "--prompt", "x"]
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(
            done.stderr, r"\Acapture: needs PyTorch, diffusers, transformers, h5py and draftattention: .*\n\Z"
        )
