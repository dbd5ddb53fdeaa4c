"""What diffusers and its users put around a model that has draft attention, and into its calls."""

import threading
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from diffusers.models.transformers.transformer_wan import dispatch_attention_fn
from diffusers_cases import SPARSE, hunyuan, numbers, one_pass, processors, wan
from draftattention import _dropin
from draftattention.diffusers import apply_draft_attention, intercept_self_attention


class FewHeads:
    """A Wan processor with one head of keys and values, shared or repeated."""

    def __init__(self, repeated):
        self.repeated = repeated

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        q, k, v = (its(hidden_states).unflatten(2, (2, -1)) for its in (attn.to_q, attn.to_k, attn.to_v))
        k, v = (x[:, :, :1].repeat_interleave(1 + self.repeated, dim=2) for x in (k, v))
        out = dispatch_attention_fn(q, k, v, enable_gqa=not self.repeated)
        return attn.to_out[0](out.flatten(2))


class Surroundings(unittest.TestCase):
    def test_offloading_and_casts_before_and_after(self):
        from diffusers.hooks import apply_group_offloading

        cpu = torch.device("cpu")
        for change in (
            lambda model: apply_group_offloading(
                model, onload_device=cpu, offload_device=cpu, offload_type="leaf_level"
            ),
            lambda model: apply_group_offloading(
                model, onload_device=cpu, offload_device=cpu, offload_type="block_level", num_blocks_per_group=1
            ),
            lambda model: model.enable_layerwise_casting(
                storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32
            ),
            lambda model: model.enable_gradient_checkpointing(),
            lambda model: model.train(),
            lambda model: model.to(memory_format=torch.channels_last_3d),
        ):
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

    def test_a_transformer_that_was_taken_away(self):
        """Given a pipeline without its transformer, to free memory, claim: not active, and remove() still works."""
        for boundary_ratio in (None, 0.5):
            case = wan(boundary_ratio)
            own, before = case.transformer, processors(case.transformer)
            control = apply_draft_attention(case.pipeline, **SPARSE)
            self.assertTrue(control.active)
            for taken in (None, "on another machine"):
                case.pipeline.transformer = taken
                self.assertFalse(control.active)
                self.assertIn("not active", repr(control))
            case.pipeline.transformer = own
            self.assertTrue(control.active)
            for name in ("transformer", "transformer_2", "scheduler"):
                delattr(case.pipeline, name)
                self.assertFalse(control.active)
            control.remove()
            self.assertFalse(control.active)
            self.assertEqual(processors(own), before)

    def test_autocast_is_the_model_s(self):
        """Given HunyuanVideo, whose QK-norm makes float32 of bfloat16, claim: the output's type is the dense one's."""
        for dtype in (torch.bfloat16, torch.float16):
            model = hunyuan().transformer
            rows = dict(
                hidden_states=numbers(1, 4, 2, 12, 20),
                timestep=torch.tensor([500.0]),
                encoder_hidden_states=numbers(1, 9, 16),
                encoder_attention_mask=torch.ones(1, 9),
                pooled_projections=numbers(1, 8),
                guidance=torch.tensor([6000.0]),
                return_dict=False,
            )
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
        """Given a dense first step, claim: a kernel that is not for this device, and gradients, are refused within it;
        a run of dense steps alone is not."""
        case, finished = wan(), []
        case.transformer.blocks[0].register_forward_hook(lambda *_: finished.append(None))
        refusal = ValueError("kernel: wanted auto or torch for tensors on cpu, found mma")
        with (
            apply_draft_attention(case.pipeline, region=(4, 4)),
            mock.patch.object(_dropin, "choose_kernel", side_effect=refusal),
            self.assertRaisesRegex(ValueError, "kernel: wanted auto or torch for tensors on cpu, found mma"),
        ):
            case.run(steps=8)
        self.assertEqual(finished, [])
        model = wan().transformer
        rows = numbers(1, 4, 2, 12, 20), torch.tensor([900.0]), numbers(1, 7, 16)
        with apply_draft_attention(model, steps=4), self.assertRaisesRegex(ValueError, "q: wanted .*without gradients"):
            model(*rows)
        with apply_draft_attention(model, steps=4, dense_steps=1):
            model(*rows)[0].sum().backward()
        self.assertIsNotNone(model.blocks[0].attn1.to_q.weight.grad)

    def test_calls_without_values_are_refused(self):
        model = wan().transformer
        with torch.no_grad(), apply_draft_attention(model, steps=1):
            for latents, time, message in [
                (numbers(0, 4, 2, 12, 20), torch.tensor([]), r"hidden_states: wanted .* \[0, 4, 2, 12, 20\]"),
                (numbers(1, 4, 2, 12, 20), torch.tensor([1.0], device="meta"), "timestep: .*, found one on meta"),
            ]:
                with self.assertRaisesRegex(ValueError, message):
                    model(latents, time, numbers(len(latents), 7, 16))

    def test_caches_that_leave_blocks_out(self):
        """Given diffusers' caches, claim: what does run is draft attention after the first quarter."""
        case = wan()
        case.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.2))
        with apply_draft_attention(case.pipeline, region=(4, 4)) as control:
            case.run(steps=8)
        self.assertTrue(0 < control.sparse_calls < 6 * 2 * 3)
        self.assertLessEqual(control.dense_calls, 2 * 2 * 3)

    def test_threads_with_one_transformer(self):
        """Given videos of two sizes at once, claim: each pass has its own grid, and the output that it has alone."""
        model, alike = wan().transformer, []
        sizes = (12, 8)

        def one(height):
            with torch.no_grad():
                return model(numbers(1, 4, 2, height, 20), torch.tensor([900.0]), numbers(1, 7, 16)).sample

        with apply_draft_attention(model, steps=1, **SPARSE) as control:
            alone = {height: one(height) for height in sizes}
            threads = [
                threading.Thread(
                    target=lambda height=height: alike.extend(torch.equal(one(height), alone[height]) for _ in range(5))
                )
                for height in sizes
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual((alike, control.dense_calls), ([True] * 10, 0))

    def test_inference_mode_and_no_grad_are_alike(self):
        model = wan().transformer
        with apply_draft_attention(model, steps=1, **SPARSE):
            with torch.inference_mode():
                found = one_pass(model)
            self.assertTrue(torch.equal(found, one_pass(model)))
