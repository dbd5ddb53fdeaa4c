"""Tests of what attends: names, what is not there, the switch within a video, diffusers' backends."""

import dataclasses
import math
import os
import tempfile
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")
import draftattention
from diffusers.models import attention_dispatch

from lab.pipelines import backends, cases, configurations, pipeline, running
from lab.pipelines.cases import CPU, opened
from lab.pipelines.shapes import SHAPES
from lab.pipelines.stopwatch import Clock

torch.set_num_threads(1)  # the tensors are tiny: threads would wait for each other


class Names(unittest.TestCase):
    def test_names_say_all(self):
        found = configurations.parse("draft_75_pooled_8bit_fp8")
        policy = found.policy
        self.assertEqual((policy.sparsity, policy.remainder, policy.kernel), (0.75, "pooled", "wgmma_8bit"))
        self.assertEqual((found.fp8, found.dense, found.policy.dense_steps), (True, "dense_ours_fp8", 0.25))
        self.assertEqual(configurations.parse("dense_own").dense, "dense_own")
        found = configurations.parse("draft_90_fp8_compiled")
        self.assertEqual((found.compiled, found.dense), (True, "dense_ours_fp8_compiled"))
        for shape in SHAPES.values():
            for name in configurations.usual(shape):
                self.assertEqual(configurations.parse(name).name, name)

    def test_other_names_are_refused(self):
        for name in (
            "",
            "dense",
            "draft_0",
            "draft_100",
            "draft_90_fp8_8bit",
            "draft_90_compiled_fp8",
            "dense_own_8bit",
            "dense_ours_pooled",
        ):
            with self.assertRaisesRegex(ValueError, "wanted dense_own, .* found"):
                configurations.parse(name)

    def test_layers_over_the_text_s_padding_stay_as_they_are(self):
        """Given Wan's real class and rows of zeros as the text's padding, claim: chosen layers are linear and in the blocks, and
        none of them is given a row of zeros; without the exception some are."""
        transformer = pipeline.transformer_of(cases.WAN, CPU, torch.float32)
        zeros, chosen = [], []
        for name, module in transformer.named_modules():
            if not isinstance(module, torch.nn.Linear):
                continue
            if configurations.is_over_video(name, cases.WAN):
                chosen.append(name)
            hook = lambda _, inputs, name=name: zeros.append(name) if (inputs[0] == 0).all(-1).any() else None
            module.register_forward_pre_hook(hook)
        config = transformer.config
        text = torch.zeros(1, 4, config.text_dim)
        text[:, 0] = 1.0
        with torch.no_grad():
            transformer(torch.randn(1, config.in_channels, 2, 8, 8), torch.tensor([500]), text, return_dict=False)
        self.assertTrue(chosen and all(name.startswith("blocks.") for name in chosen))
        self.assertTrue(any(name.endswith(".attn2.to_k") for name in zeros))
        self.assertFalse(set(zeros) & set(chosen))

    def test_what_is_not_there_is_unavailable(self):
        for name, why in (("draft_90_8bit", "no kernel wgmma_8bit"), ("dense_best", "own attention is the best")):
            with self.assertRaisesRegex(configurations.Unavailable, why):
                configurations.kernel_of(configurations.parse(name), CPU, None)
        with mock.patch.dict("sys.modules", {"torchao.quantization": None, "torchao": None}):
            with self.assertRaisesRegex(configurations.Unavailable, "not installed: .*torchao"):
                configurations.quantise_linears(torch.nn.Linear(2, 2), cases.WAN)
        self.assertIsNone(configurations.why_unavailable(ValueError("q: wanted more")))
        self.assertEqual(configurations.why_unavailable(ValueError("kernel: mma wants more")), "kernel: mma wants more")

    def test_linear_layers_come_back(self):
        """From FP8 to bfloat16 the weights are made anew, from the same seed; also where quantising gave up on the way."""
        bench = opened(cases.HUNYUAN)
        weight = lambda: bench.pipeline.transformer.transformer_blocks[0].attn.to_q.weight
        before = weight().clone()

        def quantise(transformer, shape):
            transformer.transformer_blocks[0].attn.to_q.weight.data.mul_(2)

        def give_up(transformer, shape):
            quantise(transformer, shape)
            raise configurations.Unavailable("torchao: no")

        with mock.patch.object(configurations, "quantise_linears", quantise):
            bench.linears(True)
            bench.linears(True)  # once only
        self.assertTrue(torch.equal(weight(), 2 * before))
        bench.linears(False)
        self.assertTrue(torch.equal(weight(), before))
        with mock.patch.object(configurations, "quantise_linears", give_up):
            with self.assertRaises(configurations.Unavailable):
                bench.linears(True)
        self.assertTrue(bench.rebuilds(configurations.parse("dense_own")))
        bench.linears(False)
        self.assertTrue(torch.equal(weight(), before))
        self.assertEqual(len(bench.run(stop_after=1).steps), 1)

    def test_compiled_blocks(self):
        """Claim: a configuration's graphs are made once, before what is timed, also those of a dense one that shares them;
        others run without."""
        bench, ran = opened(cases.WAN), []

        def denoise(*arguments, **more):
            ran.append({block._compiled_call_impl is not None for block in bench.pipeline.transformer.blocks})
            return run(*arguments, **more)

        run = running.denoise
        with mock.patch.object(running, "denoise", denoise):
            for name in ("draft_90_compiled", "dense_ours_compiled", "draft_90"):
                bench.turn(configurations.parse(name, "torch"), 1, 1)
        self.assertEqual(ran, [{True}, {True}, {True}, {False}])
        wanted = [config["compiled"] for config, _ in bench.recorder.written]
        self.assertEqual(wanted, ["blocks", "blocks", "no"])

    def test_graphs_are_made_for_one_size(self):
        """Claim: the graphs of a second shape, too, are of its own size, not of any; control: they are of any size where
        those of the first stay."""
        given, compile_block = [], torch.nn.Module.compile

        def seen(graph, inputs):
            given.append(inputs)
            return graph.forward

        def any_size():
            """Whether graphs of a larger shape, made after those of a small one, are for any size."""
            given.clear()
            for shape in (cases.WAN, dataclasses.replace(cases.WAN, name="wider", width=2 * cases.WIDTH)):
                opened(shape).turn(configurations.parse("dense_ours_compiled", "torch"), 1, 1)
            return any(isinstance(one, torch.SymInt) for inputs in given for one in inputs)

        self.addCleanup(torch.compiler.reset)
        with mock.patch.object(
            torch.nn.Module, "compile", lambda block, **more: compile_block(block, backend=seen, **more)
        ):
            self.assertFalse(any_size())
            self.assertEqual(len(given), 2)
            with mock.patch.object(torch.compiler, "reset", lambda: None):
                self.assertTrue(any_size())

    def test_a_video_is_dense_first_and_sparse_then(self):
        bench = opened(cases.WAN)
        seen, attend = [], draftattention.draft_attention

        def noted(*rows, **options):
            seen.append(options["sparsity"])
            return attend(*rows, **options)

        with mock.patch.object(draftattention, "draft_attention", noted):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "video")
                self.assertTrue(
                    bench.complete(configurations.parse("draft_90", "torch"), path, lambda: 1e9, False, 1.0)
                )
                self.assertEqual(os.listdir(folder), [])
        calls = cases.WAN.layers * cases.WAN.passes
        self.assertEqual(seen, [0.0] * (2 * calls) + [0.9] * (4 * calls))
        config, metrics = bench.recorder.written[-1]
        self.assertEqual(
            (config["dense_by"], metrics["dense_step_count"], metrics["steps_timed"]), ("dense_ours", 2, 6)
        )
        self.assertGreaterEqual(metrics["whole_s"], metrics["steps_s"] + metrics["vae_s"])


class Backends(unittest.TestCase):
    def test_the_fastest_right_one_is_taken(self):
        trials = [
            backends.Trial("native", 5.0, 0.0),
            backends.Trial("right", 3.0, 0.004),
            backends.Trial("eight_bit", 1.0, 0.05),
            backends.Trial("nan", 0.5, math.nan),
            backends.Trial("gone", refused="not installed"),
        ]
        self.assertEqual(backends.best_of(trials), "right")
        self.assertIn("left_out", trials[2].noted())
        self.assertEqual(trials[4].noted(), {"refused": "not installed"})

    def test_none_is_tried_that_downloads(self):
        found = {trial.name: trial for trial in backends.trials(cases.HUNYUAN, 9, Clock("cpu"), CPU, torch.float32)}
        self.assertFalse([name for name in found if "hub" in name])
        self.assertTrue(found["native"].counts)
        self.assertTrue(found["flash"].refused and found["flex"].refused)

    def test_a_wrong_output_does_not_count(self):
        dispatch = attention_dispatch.dispatch_attention_fn

        def wrong(*rows, backend=None, **more):
            return dispatch(*rows, backend=backend, **more) * (1.1 if backend == "_native_flash" else 1)

        with mock.patch.object(attention_dispatch, "dispatch_attention_fn", wrong):
            found = {each.name: each for each in backends.trials(cases.WAN, 9, Clock("cpu"), CPU, torch.float32)}
        self.assertFalse(found["_native_flash"].counts)
        self.assertAlmostEqual(found["_native_flash"].disagreement, 0.1, places=3)

    def test_later_models_keep_their_own(self):
        """set_attention_backend changes the default of the whole process; taking() gives it back."""
        active = attention_dispatch._AttentionBackendRegistry.get_active_backend
        transformer = opened(cases.HUNYUAN).pipeline.transformer
        processors = {name: each for name, each in transformer.attn_processors.items()}
        before = active()[0]
        with backends.taking(transformer, "_native_math"):
            self.assertEqual(active()[0].value, "_native_math")
            kinds = {
                name: each._attention_backend
                for name, each in processors.items()
                if hasattr(each, "_attention_backend")
            }
            self.assertEqual(
                {kind.value for name, kind in kinds.items() if "block" in name and "embed" not in name},
                {"_native_math"},
            )
        self.assertEqual(active()[0], before)
        self.assertEqual({getattr(each, "_attention_backend", None) for each in processors.values()}, {None})
