"""Models in use: copies of them, wrappers around them, attention processors set over draft attention, and what hooks and
casts of diffusers do to them.
Usage, with draftattention's folder on PYTHONPATH: python3 -m unittest discover -v -s kernels/python/tests"""

import copy
import io
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import unittest
import warnings
from unittest import mock

from wanted import wanted

torch = wanted("torch", "PyTorch")
diffusers = wanted("diffusers")
transformer_wan = wanted("diffusers.models.transformers.transformer_wan", "diffusers")

from diffusers.models.transformers.transformer_wan import dispatch_attention_fn
from draftattention import _dropin
from draftattention._interception import InterceptedProcessor
from draftattention.diffusers import apply_draft_attention, intercept_self_attention

from diffusers_cases import hunyuan, numbers, wan

SPARSE = dict(sparsity=0.7, region=(4, 4), dense_steps=0)


def one_pass(model, dtype=torch.float32):
    with torch.no_grad():
        return model(hidden_states=numbers(1, 4, 2, 12, 20).to(dtype), timestep=torch.tensor([900.0]),
                     encoder_hidden_states=numbers(1, 7, 16).to(dtype), return_dict=False)[0]


def processors(model):
    return [block.attn1.processor for block in model.blocks]


class Copies(unittest.TestCase):
    def test_a_copy_is_the_model_without_draft_attention(self):
        """Given a model in use, claim: what deepcopy, pickle, torch.save and an average of models make is the model as it
        was, to the bit, which stays so after remove(); the original goes on, and a warning says so once."""
        def saved(model):
            file = io.BytesIO()
            torch.save(model, file)
            file.seek(0)
            return torch.load(file, weights_only=False)

        def averaged(model):
            return torch.optim.swa_utils.AveragedModel(model).module

        ways = [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), saved, averaged]
        ways += [lambda model, p=p: pickle.loads(pickle.dumps(model, protocol=p)) for p in range(6)]
        for number, way in enumerate(ways):
            model = wan().transformer
            before = one_pass(model)
            control = apply_draft_attention(model, steps=1, **SPARSE)
            sparse, calls = one_pass(model), control.calls
            with self.subTest(number), self.assertWarnsRegex(RuntimeWarning, r"a copy of this model.*remove\(\)") as seen:
                other = way(model)
            self.assertEqual(len(seen.warnings), 1)
            self.assertTrue(torch.equal(one_pass(other), before))
            self.assertEqual(control.calls, calls)
            self.assertTrue(torch.equal(one_pass(model), sparse))
            self.assertFalse(torch.equal(sparse, before))
            with apply_draft_attention(other, steps=1, **SPARSE) as its:  # it can be used as any other model
                self.assertTrue(torch.equal(one_pass(other), sparse))
                self.assertEqual((its.calls, control.calls), (calls, 2 * calls))
            control.remove()
            self.assertTrue(torch.equal(one_pass(other), before))
            self.assertTrue(torch.equal(one_pass(model), before))
            for its in (model, other):
                self.assertFalse(any(isinstance(p, InterceptedProcessor) for p in processors(its)))
                self.assertEqual(set(map(type, processors(its))), {transformer_wan.WanAttnProcessor})
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                way(model)  # nothing to say after remove()

    def test_a_pipeline_too(self):
        case = wan()
        before = case.run()
        with apply_draft_attention(case.pipeline, sparsity=0.7, region=(4, 4)) as control:
            with self.assertWarns(RuntimeWarning):
                other = copy.deepcopy(case.pipeline)
            case.pipeline, ours = other, case.pipeline
            self.assertTrue(torch.equal(case.run(), before))
            self.assertEqual(control.calls, 0)
            self.assertIsNot(other.transformer, ours.transformer)

    def test_a_file_needs_no_draftattention(self):
        model = wan().transformer
        before = one_pass(model)
        with tempfile.TemporaryDirectory() as folder, apply_draft_attention(model, steps=1, **SPARSE):
            path = pathlib.Path(folder, "model.pt")
            with self.assertWarns(RuntimeWarning):
                torch.save(model, path)
            program = ("import sys; sys.modules['draftattention'] = None\n"
                       "import torch\nfrom torch_models_test_pass import one_pass\n"
                       "torch.set_num_threads(1)\n"
                       "torch.save(one_pass(torch.load(sys.argv[1], weights_only=False)), sys.argv[2])")
            pathlib.Path(folder, "torch_models_test_pass.py").write_text(
                "import torch\ndef numbers(*shape):\n    return torch.randn(shape, generator=torch.Generator()"
                ".manual_seed(0))\ndef one_pass(model):\n    with torch.no_grad():\n        return model(numbers(1, 4, 2, "
                "12, 20), torch.tensor([900.0]), numbers(1, 7, 16), return_dict=False)[0]\n")
            done = subprocess.run([sys.executable, "-c", program, str(path), os.path.join(folder, "out.pt")],
                                  cwd=folder, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(torch.equal(torch.load(os.path.join(folder, "out.pt")), before))

    def test_a_control_is_not_copied(self):
        with apply_draft_attention(wan().transformer, steps=1) as control:
            for way in (copy.copy, copy.deepcopy, pickle.dumps):
                with self.assertRaisesRegex(TypeError, r"draftattention: DraftControl .* remove\(\)"):
                    way(control)

    def test_state_and_saved_folders_are_the_model_s(self):
        model = wan().transformer
        names, loaded = list(model.state_dict()), []
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            loaded.append(one_pass(type(model).from_pretrained(folder).eval()))
            with apply_draft_attention(model, steps=1, **SPARSE):
                self.assertEqual(list(model.state_dict()), names)
                model.save_pretrained(folder)
            loaded.append(one_pass(type(model).from_pretrained(folder).eval()))
        self.assertTrue(torch.equal(*loaded))


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


class FewHeads:
    """A Wan processor with one head of keys and values, shared or repeated."""

    def __init__(self, repeated):
        self.repeated = repeated

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        q, k, v = (its(hidden_states).unflatten(2, (2, -1)) for its in (attn.to_q, attn.to_k, attn.to_v))
        k, v = (x[:, :, :1].repeat_interleave(1 + self.repeated, dim=2) for x in (k, v))
        out = dispatch_attention_fn(q, k, v, enable_gqa=not self.repeated)
        return attn.to_out[0](out.flatten(2))


def eager(model):
    return torch.compile(model, backend="eager")


class Wrappers(unittest.TestCase):
    def setUp(self):
        torch._dynamo.reset()

    def test_of_any_depth_are_unwrapped(self):
        ways = {"DataParallel": torch.nn.DataParallel, "DDP": Wrapped, "PEFT": Peft, "compiled": eager,
                "FSDP": lambda model: Wrapped(model, "_fsdp_wrapped_module"),
                "three": lambda model: torch.nn.DataParallel(Wrapped(Peft(model))),
                "compiled within": lambda model: Wrapped(eager(model)), "compiled around": lambda model: eager(Peft(model))}
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


class Surroundings(unittest.TestCase):
    """What diffusers and its users put around a model."""

    def test_offloading_and_casts_before_and_after(self):
        from diffusers.hooks import apply_group_offloading

        cpu = torch.device("cpu")
        for change in (
                lambda model: apply_group_offloading(model, onload_device=cpu, offload_device=cpu,
                                                     offload_type="leaf_level"),
                lambda model: apply_group_offloading(model, onload_device=cpu, offload_device=cpu,
                                                     offload_type="block_level", num_blocks_per_group=1),
                lambda model: model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn,
                                                             compute_dtype=torch.float32),
                lambda model: model.enable_gradient_checkpointing(), lambda model: model.train(),
                lambda model: model.to(memory_format=torch.channels_last_3d)):
            for first in (True, False):
                model = wan().transformer
                if first:
                    change(model)
                with apply_draft_attention(model, steps=1, **SPARSE) as control:
                    if not first:
                        change(model)
                    out = one_pass(model)
                self.assertTrue(torch.isfinite(out).all())
                self.assertEqual((control.sparse_calls, control.dense_calls), (3, 0))

    def test_autocast_is_the_model_s(self):
        """Given HunyuanVideo, whose QK-norm makes float32 of bfloat16, claim: the output's type is the dense one's."""
        for dtype in (torch.bfloat16, torch.float16):
            model = hunyuan().transformer
            rows = dict(hidden_states=numbers(1, 4, 2, 12, 20), timestep=torch.tensor([500.0]),
                        encoder_hidden_states=numbers(1, 9, 16), encoder_attention_mask=torch.ones(1, 9),
                        pooled_projections=numbers(1, 8), guidance=torch.tensor([6000.0]), return_dict=False)
            seen = []

            def attend(call):
                seen.append({call.query.dtype, call.key.dtype, call.value.dtype, call.dense().dtype})
                return call.dense()

            with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
                before = model(**rows)[0]
                with intercept_self_attention(model, attend, steps=1):
                    self.assertTrue(torch.equal(model(**rows)[0], before))
                with apply_draft_attention(model, steps=1, **SPARSE) as control:
                    sparse = model(**rows)[0]
            self.assertEqual(seen, [{dtype}] * 4)
            self.assertEqual((control.sparse_calls, sparse.dtype), (4, before.dtype))
            self.assertFalse(torch.equal(sparse, before))

    def test_shared_heads_in_a_processor_of_one_s_own(self):
        """Given a processor that passes on one head of keys and values for two of queries, claim: what repeated heads
        give, dense and sparse."""
        outputs = {}
        for repeated in (False, True):
            model = wan().transformer
            for block in model.blocks:
                block.attn1.set_processor(FewHeads(repeated))
            outputs[repeated] = [one_pass(model)]
            for sparsity in (0.0, 0.7):
                with apply_draft_attention(model, steps=1, dense_steps=0, region=(4, 4), sparsity=sparsity) as control:
                    outputs[repeated].append(one_pass(model))
                self.assertEqual(control.sparse_calls, 3)
        for shared, full in list(zip(outputs[False], outputs[True]))[1:]:
            self.assertTrue(torch.equal(shared, full))
        own, dense, sparse = outputs[False]
        self.assertTrue(torch.allclose(own, dense, atol=1e-5))
        self.assertFalse(torch.allclose(own, sparse, atol=1e-5))

    def test_what_the_sparse_steps_could_not_do_is_refused_in_the_first_step(self):
        """Given a dense first step, claim: a kernel that is not for this device, and gradients, are refused within it; a
        run of dense steps alone is not."""
        case, finished = wan(), []
        case.transformer.blocks[0].register_forward_hook(lambda *_: finished.append(None))
        refusal = ValueError("kernel: wanted auto or torch for tensors on cpu, found mma")
        with apply_draft_attention(case.pipeline, region=(4, 4)), \
                mock.patch.object(_dropin, "choose_kernel", side_effect=refusal), \
                self.assertRaisesRegex(ValueError, "kernel: wanted auto or torch for tensors on cpu, found mma"):
            case.run(steps=8)
        self.assertEqual(finished, [])
        model = wan().transformer
        rows = numbers(1, 4, 2, 12, 20), torch.tensor([900.0]), numbers(1, 7, 16)
        with apply_draft_attention(model, steps=4), self.assertRaisesRegex(ValueError, "q: wanted .*without gradients"):
            model(*rows)
        with apply_draft_attention(model, steps=4, dense_steps=1):
            model(*rows)[0].sum().backward()
        self.assertIsNotNone(model.blocks[0].attn1.to_q.weight.grad)

    def test_inference_mode_and_no_grad_are_alike(self):
        model = wan().transformer
        with apply_draft_attention(model, steps=1, **SPARSE):
            with torch.inference_mode():
                found = one_pass(model)
            self.assertTrue(torch.equal(found, one_pass(model)))


if __name__ == "__main__":
    unittest.main()
