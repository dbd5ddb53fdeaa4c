"""Wrappers around a model, and attention processors set over draft attention."""

import unittest
import warnings

import pytest

torch = pytest.importorskip("torch")
transformer_wan = pytest.importorskip("diffusers.models.transformers.transformer_wan")

from diffusers_cases import SPARSE, one_pass, processors, wan
from draftattention._interception import InterceptedProcessor
from draftattention.diffusers import apply_draft_attention


class Peft(torch.nn.Module):
    """As PEFT nests a model: PeftModel.base_model.model, and attributes that lead through."""

    def __init__(self, model):
        super().__init__()
        self.base_model = torch.nn.Module()
        self.base_model.model = model

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_model").model, name)

    def forward(self, *args, **kwargs):
        return self.base_model.model(*args, **kwargs)


class Wrapped(torch.nn.Module):
    """As DistributedDataParallel and FSDP hold a model."""

    def __init__(self, model, name="module"):
        super().__init__()
        self.add_module(name, model)
        self.inner = [model]

    def forward(self, *args, **kwargs):
        return self.inner[0](*args, **kwargs)


def eager(model):
    return torch.compile(model, backend="eager")


class Wrappers(unittest.TestCase):
    def setUp(self):
        torch._dynamo.reset()

    def test_of_any_depth_are_unwrapped(self):
        ways = {
            "DataParallel": torch.nn.DataParallel,
            "DDP": Wrapped,
            "PEFT": Peft,
            "compiled": eager,
            "FSDP": lambda model: Wrapped(model, "_fsdp_wrapped_module"),
            "three": lambda model: torch.nn.DataParallel(Wrapped(Peft(model))),
            "compiled within": lambda model: Wrapped(eager(model)),
            "compiled around": lambda model: eager(Peft(model)),
        }
        plain = wan().transformer
        with apply_draft_attention(plain, steps=1, **SPARSE):
            wanted = one_pass(plain)
        for name, wrap in ways.items():
            with self.subTest(name):
                model = wrap(wan().transformer)
                before = one_pass(model)
                with apply_draft_attention(model, steps=1, **SPARSE) as control:
                    self.assertTrue(torch.allclose(one_pass(model), wanted, atol=1e-5))
                    self.assertEqual((control.sparse_calls, control.active), (3, True))
                self.assertTrue(torch.equal(one_pass(model), before))
                self.assertFalse(torch.allclose(before, wanted, atol=1e-5))

    def test_within_a_pipeline(self):
        case = wan()
        case.pipeline.transformer = eager(case.transformer)
        with apply_draft_attention(case.pipeline, region=(4, 4)) as control:
            case.run(steps=4)
        self.assertEqual((control.calls, control.dense_calls), (24, 6))

    def test_compiled_after_it_was_applied_and_compiled_in_place(self):
        case = wan()
        with apply_draft_attention(case.pipeline, region=(4, 4)) as control:
            case.pipeline.transformer = eager(case.transformer)
            case.run(steps=4)
            self.assertEqual((control.calls, control.active), (24, True))
        case = wan()
        case.transformer.compile(backend="eager")
        case.run(steps=1)  # compiled before there was a hook
        with apply_draft_attention(case.pipeline, region=(4, 4)) as control:
            case.run(steps=4)
            self.assertEqual((control.calls, control.dense_calls), (24, 6))


class Replaced(unittest.TestCase):
    def test_a_processor_that_is_set_over_ours_is_noticed(self):
        case = wan()
        control = apply_draft_attention(case.pipeline, region=(4, 4))
        self.assertTrue(control.active)
        self.assertIn("active, 0 calls", repr(control))
        case.transformer.blocks[1].attn1.set_processor(transformer_wan.WanAttnProcessor())
        self.assertFalse(control.active)
        self.assertIn("not active", repr(control))
        message = r"no longer acts in layers \[1\], where WanAttnProcessor was set .*remove\(\)"
        with self.assertWarnsRegex(RuntimeWarning, message) as seen:
            case.run(steps=4)
        self.assertEqual(len([its for its in seen.warnings if "draftattention" in str(its.message)]), 1)
        self.assertEqual(control.calls, 4 * 2 * 2)
        case.transformer.set_attn_processor(transformer_wan.WanAttnProcessor())
        with self.assertWarnsRegex(RuntimeWarning, r"layers \[0, 1, 2\]"):
            case.run(steps=1)
        control.remove()
        self.assertFalse(control.active)
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            case.run(steps=1)

    def test_ours_put_back_after_it_was_removed(self):
        case = wan()
        before = case.run()
        control = apply_draft_attention(case.pipeline, dense_steps=0, region=(4, 4))
        ours = dict(case.transformer.attn_processors)
        control.remove()
        case.transformer.set_attn_processor(ours)  # what some of diffusers' own functions do, such as unfusing
        self.assertTrue(torch.equal(case.run(), before))
        with apply_draft_attention(case.pipeline, dense_steps=0, region=(4, 4)) as control:
            self.assertFalse(torch.equal(case.run(), before))
        self.assertTrue(torch.equal(case.run(), before))
        self.assertFalse(any(isinstance(p, InterceptedProcessor) for p in processors(case.transformer)))

    def test_another_transformer_in_the_pipeline(self):
        case, other = wan(), wan()
        with apply_draft_attention(case.pipeline) as control:
            mine, case.pipeline.transformer = case.pipeline.transformer, other.transformer
            self.assertFalse(control.active)
            case.pipeline.transformer = mine
            self.assertTrue(control.active)

    def test_fused_projections(self):
        case = wan()
        with apply_draft_attention(case.pipeline, sparsity=0.0, dense_steps=0) as control:
            before = case.run(steps=2)
            case.transformer.fuse_qkv_projections()
            fused = case.run(steps=2)
            case.transformer.unfuse_qkv_projections()
        self.assertTrue(torch.allclose(fused, before, rtol=1e-4, atol=1e-4))
        self.assertEqual((control.calls, control.dense_calls), (24, 0))
