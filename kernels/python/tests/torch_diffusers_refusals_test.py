"""What draft attention in diffusers' models takes for padding, and what it refuses."""

import math
import types
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from diffusers_cases import numbers, wan
from draftattention import _interception, _tokens
from draftattention.diffusers import apply_draft_attention, intercept_self_attention


class Refusals(unittest.TestCase):
    def test_arguments(self):
        model, pipeline = (case := wan()).transformer, case.pipeline
        processors = dict(model.attn_processors)
        for message, target, options in [
            ("model: wanted a WanTransformer3DModel, .* found Linear", torch.nn.Linear(1, 1), {"steps": 4}),
            ("layers: wanted numbers from 0 to 2, found 3", pipeline, {"layers": [0, 3]}),
            ("layers: wanted numbers from 0 to 2, found none", pipeline, {"layers": []}),
            ("dense_steps: wanted a share from 0 to 1, found 1.5", pipeline, {"dense_steps": 1.5}),
            ("dense_steps: .* found nan", pipeline, {"dense_steps": math.nan}),
            ("steps: wanted the schedule's length for a transformer.* found None", model, {}),
            ("steps: wanted .*, None for a pipeline, found 4", pipeline, {"steps": 4}),
            ("steps: .* found 0", model, {"steps": 0}),
            ("steps: .* found True", model, {"steps": True}),
            ("steps: .* found 4.0", model, {"steps": 4.0}),
            ("steps: .* found '4'", model, {"steps": "4"}),
            ("layers: wanted numbers from 0 to 2, found '012'", pipeline, {"layers": "012"}),
            ("layers: .* found 1$", pipeline, {"layers": 1}),
            (r"layers: wanted numbers from 0 to 2, found tensor\(1\)$", pipeline, {"layers": torch.tensor(1)}),
            (r"layers: .* found tensor\(\[\[0\], +\[1\]\]\)$", pipeline, {"layers": torch.tensor([[[0], [1]]])}),
            ("layers: .* found True", pipeline, {"layers": [True]}),
            ("layers: .* found 1.0", pipeline, {"layers": [1.0]}),
            ("layers: .* found -1", pipeline, {"layers": [-1]}),
            ("dense_steps: .* found '0.25'", pipeline, {"dense_steps": "0.25"}),
            ("dense_steps: .* found True", pipeline, {"dense_steps": True}),
            ("sparsity: .* found nan", pipeline, {"sparsity": math.nan}),
            ("sparsity: .* found 1000", pipeline, {"sparsity": 10**400}),
            ("pool: .* found mean", pipeline, {"pool": "mean"}),
            ("region: wanted .* found None", pipeline, {"region": None}),
            ("region: wanted .* found \\(0, 16\\)", pipeline, {"region": (0, 16)}),
            ("region: wanted .* found \\(True, 16\\)", pipeline, {"region": (True, 16)}),
            ("kernel: wanted one of auto, torch.* found 3", pipeline, {"kernel": 3}),
            (
                "pipeline: wanted one with a scheduler, found None",
                types.SimpleNamespace(scheduler=None, transformer=model),
                {},
            ),
            ("model: wanted a pipeline with a transformer", types.SimpleNamespace(scheduler=1, transformer=None), {}),
            ("model: wanted .* found NoneType", None, {"steps": 4}),
            (
                "model: wanted .* found Sequential with 2 of them",
                torch.nn.Sequential(model, wan().transformer),
                {"steps": 4},
            ),
            ("sparsity: wanted at least 0 and below 1, found 1", pipeline, {"sparsity": 1}),
            ("rule: wanted one of", pipeline, {"rule": "best"}),
            ("remainder: wanted None or pooled, found mean", pipeline, {"remainder": "mean"}),
            ("region: wanted", pipeline, {"region": (0, 4)}),
        ]:
            with self.assertRaisesRegex(ValueError, message) as caught:
                apply_draft_attention(target, **options)
            self.assertNotIn("\n", str(caught.exception))
            self.assertEqual(model.attn_processors, processors)
        with self.assertRaises((ValueError, RuntimeError)):  # RuntimeError: no kernels were built
            apply_draft_attention(pipeline, kernel="fast")
        with apply_draft_attention(pipeline), self.assertRaisesRegex(ValueError, "attention: wanted .*remove"):
            apply_draft_attention(pipeline)
        self.assertEqual(model.attn_processors, processors)

    def test_any_default_device_and_layers_of_a_tensor(self):
        case = wan()
        case.run(steps=1)
        with torch.device("meta"):
            control = apply_draft_attention(case.pipeline, layers=torch.tensor([2, 0], device="cpu"), dense_steps=0)
        case.run(steps=1)
        control.remove()
        self.assertEqual((control.calls, control.sparse_calls), (4, 4))
        with apply_draft_attention(case.pipeline, layers=iter([1, 2])) as control:
            case.run(steps=1)
        self.assertEqual(control.calls, 4)

    def test_arguments_of_the_forward_pass(self):
        """Given one that is missing or is no tensor of numbers, claim: it is named, and no step is counted."""
        model = wan().transformer
        rows = {
            "hidden_states": numbers(1, 4, 2, 12, 20),
            "timestep": torch.tensor([500.0]),
            "encoder_hidden_states": numbers(1, 7, 16),
        }
        nested = torch.nested.nested_tensor([torch.tensor([500.0])])
        left_out, seen = object(), []

        def attend(call):
            seen.append((call.model.step, call.model.nth))
            return call.dense()

        with torch.no_grad(), intercept_self_attention(model, attend, layers=[0], steps=1):
            for name, value, kind, message in [
                ("timestep", 500.0, TypeError, "timestep: wanted a torch.Tensor, found float"),
                ("timestep", None, TypeError, "timestep: wanted a torch.Tensor, found NoneType"),
                ("timestep", left_out, TypeError, "timestep: wanted a torch.Tensor, found no such argument"),
                ("timestep", torch.tensor([math.nan]), ValueError, "timestep: wanted finite numbers, found nan"),
                ("timestep", torch.tensor([math.inf]), ValueError, "timestep: wanted finite numbers, found inf"),
                ("timestep", nested, ValueError, "timestep: wanted a dense tensor, found a nested one"),
                ("hidden_states", left_out, TypeError, "hidden_states: wanted .*, found no such argument"),
                ("hidden_states", [1.0], TypeError, "hidden_states: wanted a torch.Tensor, found list"),
                (
                    "hidden_states",
                    numbers(4, 20),
                    ValueError,
                    r"hidden_states: wanted 5 axes, \[batch entries, chan"
                    r"nels, frames, height, width\], found 2, \[4, 20\]",
                ),
                (
                    "hidden_states",
                    numbers(1, 4, 2, 12, 20).to_sparse(),
                    ValueError,
                    "hidden_states: wanted a dense tensor, found one of layout torch.sparse_coo",
                ),
            ]:
                given = {key: x for key, x in (rows | {name: value}).items() if x is not left_out}
                with self.subTest(message), self.assertRaisesRegex(kind, message):
                    model(**given)
                positional = [given[key] for key in rows if key in given]
                if len(positional) == 3:
                    with self.subTest(message, positional=True), self.assertRaisesRegex(kind, message):
                        model(*positional)
            self.assertEqual(seen, [])
            model(**rows)
            model(*rows.values())
        self.assertEqual(seen, [(0, 0), (0, 1)])

    def test_masks_that_are_no_padding_behind_the_text(self):
        valid = _tokens.valid_tokens
        mask = torch.arange(6) < torch.tensor([[4], [6]])
        self.assertEqual(valid(mask[:, None, None], 2, 6), (4, 6))
        self.assertEqual(valid(mask[:1, None, None], 2, 6), (4, 4))
        self.assertEqual(valid(None, 2, 6), (6, 6))
        for wrong, found in [
            (~mask[:, None, None], "a valid token behind a masked one"),
            (mask[:, None, None].float(), "torch.float32"),
            (mask[:, None], r"torch.bool \[2, 1, 6\]"),
            (mask[:, None, None].expand(2, 1, 6, 6), r"torch.bool \[2, 1, 6, 6\]"),
        ]:
            with self.assertRaisesRegex(ValueError, rf"attn_mask: wanted bool \[2, 1, 1, 6\], .*, found {found}"):
                valid(wrong, 2, 6)

    def test_calls_that_are_no_self_attention_of_the_grid(self):
        case = wan()
        with apply_draft_attention(case.pipeline):
            for processor in case.transformer.attn_processors.values():
                processor._parallel_config = "sharded"
            with self.assertRaisesRegex(ValueError, "parallel_config: wanted one of diffusers, or None, found sharded"):
                case.run()
        with (
            apply_draft_attention(case.transformer, steps=1),
            self.assertRaisesRegex(RuntimeError, "a block's call by its transformer, found one on its own"),
        ):
            case.transformer.blocks[0].attn1(numbers(1, 120, 64))

    def test_processors_that_dispatch_nothing(self):
        class Own:
            def __call__(self, attn, hidden_states, *rest):
                return hidden_states

        case = wan()
        case.transformer.blocks[1].attn1.set_processor(Own())
        message = f"wanted diffusers >=0.35,<1 .*, found Own of diffusers {diffusers.__version__}"
        with self.assertRaisesRegex(ImportError, message):
            apply_draft_attention(case.pipeline)
        self.assertFalse(
            any(isinstance(p, _interception.InterceptedProcessor) for p in case.transformer.attn_processors.values())
        )
        with (
            mock.patch.dict(Own.__call__.__globals__, dispatch_attention_fn=torch.add),
            apply_draft_attention(case.pipeline),
            self.assertRaisesRegex(RuntimeError, "called by Own, found none"),
        ):
            case.run()
