"""Draft attention in diffusers' models, on tiny random ones of the real classes, with PyTorch alone on the CPU."""

import gc
import math
import threading
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
transformer_hunyuan_video = pytest.importorskip("diffusers.models.transformers.transformer_hunyuan_video")
transformer_wan = pytest.importorskip("diffusers.models.transformers.transformer_wan")

import draftattention
from diffusers_cases import GRID, TEXT, VALID, hunyuan, hunyuan_pass, numbers, wan
from draftattention.diffusers import apply_draft_attention, intercept_self_attention
from truth import blocks_of_tokens, full_mask

REGION = (4, 4)  # 6 and 10 are no multiples of it
SPARSE = {"sparsity": 0.7, "region": REGION}
ORIGINALS = {module: module.dispatch_attention_fn for module in (transformer_wan, transformer_hunyuan_video)}


def exact(query, key, value, mask, scale):
    """Attention over the blocks of a mask [heads, regions, regions] in float64, and what rounding can add to it in the
    type of query, all [tokens, heads, head_dim]: a logit is a sum of head_dim products, which changes p by 4 head_dim
    eps |q||k|, sums of p and of p V have `tokens` terms, and o is rounded once."""
    eps, (tokens, _, dim) = torch.finfo(query.dtype).eps, query.shape
    q, k, v = (x.double().transpose(0, 1) for x in (query, key, value))
    text = tokens - math.prod(GRID)
    blocks = blocks_of_tokens(GRID, REGION, text)
    keep = torch.stack([full_mask(its, GRID, REGION, text)[blocks][:, blocks] for its in mask])
    p = torch.softmax((scale * (q @ k.transpose(1, 2))).masked_fill(~keep, -torch.inf), dim=-1)
    reach = scale * (q.abs() @ k.abs().transpose(1, 2)).max()
    return (p @ v).transpose(0, 1), ((4 * dim * reach + 2 * tokens + 1) * eps * (p @ v.abs())).transpose(0, 1)


class Models(unittest.TestCase):
    def tearDown(self):
        gc.collect()  # a model that is garbage is intercepted no more
        for module, original in ORIGINALS.items():
            self.assertIs(module.dispatch_attention_fn, original)

    def test_dense_steps_are_the_model_and_remove_restores_it_bit_for_bit(self):
        for case in (wan(), hunyuan()):
            before, processors = case.run(), dict(case.transformer.attn_processors)
            with apply_draft_attention(case.pipeline, dense_steps=1, **SPARSE) as control:
                self.assertTrue(torch.equal(case.run(), before))
                self.assertEqual((control.calls, control.sparse_calls), (control.dense_calls, 0))
            control = apply_draft_attention(case.pipeline, **SPARSE)
            self.assertFalse(torch.equal(case.run(), before))  # what the equalities above could have missed
            control.remove()
            control.remove()
            self.assertTrue(torch.equal(case.run(), before))
            self.assertEqual(case.transformer.attn_processors, processors)

    def test_sparsity_zero_is_the_model(self):
        # In float64 rounding changes attention by at most about 2 tokens eps < 2^-43 of itself. The tolerance is what
        # 2^-30 does: the model's own growth, measured, and 2^13 for the direction that was not tried.
        for case in (wan(), hunyuan()):
            case.transformer.double()
            before = case.run()
            self.assertEqual(before.dtype, torch.float64)
            with intercept_self_attention(case.pipeline, lambda call: call.dense() * (1 + 2.0**-30)):
                tolerance = (case.run() - before).abs().max().item()
            with apply_draft_attention(case.pipeline, sparsity=0.0, dense_steps=0) as control:
                self.assertLessEqual((case.run() - before).abs().max().item(), tolerance)
                self.assertEqual(control.dense_calls, 0)
            with apply_draft_attention(case.pipeline, dense_steps=0, **SPARSE):
                self.assertGreater((case.run() - before).abs().max().item(), tolerance)

    def test_draft_output_is_masked_softmax_over_valid_tokens(self):
        # Given what the model passes on in every call: a float64 softmax under draft_mask, within rounding; not a dense
        # one. HunyuanVideo's padding gets 0.
        attend = draftattention.draft_attention
        for case, tokens in ((wan(), 120), (hunyuan(), 120 + VALID)):
            calls = []

            def record(q, k, v, grid, **options):
                o = attend(q, k, v, grid, **options)
                calls.append((q, k, v, o, grid, options))
                return o

            with (
                apply_draft_attention(case.pipeline, dense_steps=0.5, **SPARSE) as control,
                mock.patch.object(draftattention, "draft_attention", record),
            ):
                case.run(steps=2)
            self.assertEqual(len(calls), control.sparse_calls)
            for q, k, v, o, grid, options in calls:
                found = tuple(q.shape), grid, options["text_tokens"]
                self.assertEqual(found, ((1, tokens, 2, 32), GRID, tokens - 120))
                mask = draftattention.draft_mask(q, k, grid, layout="bnhd", **SPARSE)[0]
                truth, bound = exact(q[0], k[0], v[0], mask, 32**-0.5)
                self.assertTrue(((o[0].double() - truth).abs() <= bound).all())
                truth, bound = exact(q[0], k[0], v[0], torch.ones_like(mask), 32**-0.5)
                self.assertFalse(((o[0].double() - truth).abs() <= bound).all())

    def test_the_first_quarter_of_steps_is_dense_in_both_branches_and_only_chosen_layers_change(self):
        # 6 steps: the first two begin within the first quarter.
        attend = draftattention.draft_attention
        for case, passes, layers, names in (
            (wan(), 2, [0, 2], {"blocks.0.attn1.processor", "blocks.2.attn1.processor"}),
            (
                hunyuan(),
                1,
                [1, 2],
                {"transformer_blocks.1.attn.processor", "single_transformer_blocks.0.attn.processor"},
            ),
        ):
            processors, started, sparse = dict(case.transformer.attn_processors), [], []

            def record(*args, **options):
                sparse.append(len(started))
                return attend(*args, **options)

            control = apply_draft_attention(case.pipeline, layers=layers, **SPARSE)
            now = case.transformer.attn_processors
            self.assertEqual({name for name in now if now[name] is not processors[name]}, names)
            case.transformer.register_forward_pre_hook(lambda *_: started.append(None))
            with mock.patch.object(draftattention, "draft_attention", record):
                case.run(steps=6)
            counts = control.calls, control.dense_calls, control.sparse_calls
            self.assertEqual(counts, (12 * passes, 4 * passes, 8 * passes))
            self.assertEqual(sorted(sparse), sorted(2 * list(range(2 * passes + 1, 6 * passes + 1))))

    def test_both_transformers_of_a_pipeline_share_its_steps(self):
        case = wan(boundary_ratio=0.8)
        with apply_draft_attention(case.pipeline, dense_steps=0.5, **SPARSE) as control:
            case.run(steps=8)
        first = sum(t >= 800 for t in case.pipeline.scheduler.timesteps.tolist())
        self.assertTrue(0 < first < 8)
        self.assertEqual((control.calls, control.dense_calls), (8 * 2 * 3, 4 * 2 * 3))

    def test_padding_never_gets_weight(self):
        case = hunyuan()
        other = case.embeds["prompt_embeds"].clone()
        other[:, VALID:] = 100 * numbers(1, TEXT - VALID, 16, seed=3)
        with apply_draft_attention(case.pipeline, **SPARSE):
            before = case.run()
            self.assertTrue(torch.equal(case.run(prompt_embeds=other), before))
            other[:, VALID - 1] += 1
            self.assertFalse(torch.equal(case.run(prompt_embeds=other), before))

    def test_entries_of_a_batch_may_differ_in_padding(self):
        # Each entry as if alone; a batch changes the order of float64 sums, by far less than 2^-30 of the output.
        model, seen, counts = hunyuan().transformer.double(), [], (VALID, 8)

        def attend(call):
            seen.append(call.valid)
            return call.dense()

        with torch.inference_mode(), intercept_self_attention(model, attend, steps=1):
            hunyuan_pass(model, slice(2), counts)
        self.assertEqual(set(seen), {(120 + VALID, 128)})
        with torch.inference_mode(), apply_draft_attention(model, dense_steps=0, steps=1, **SPARSE) as control:
            both = hunyuan_pass(model, slice(2), counts)
            for entry, count in enumerate(counts):
                its = slice(entry, entry + 1)
                lone, wrong = (hunyuan_pass(model, its, [n]) for n in (count, count - 1))
                self.assertLessEqual((both[its] - lone).abs().max().item(), 2.0**-30 * lone.abs().max().item())
                self.assertGreater((both[its] - wrong).abs().max().item(), 2.0**-30 * lone.abs().max().item())
        self.assertEqual((control.calls, control.sparse_calls), (5 * 4, 5 * 4))

    def test_a_changed_attention_backend_reaches_the_model(self):
        case = wan()
        with apply_draft_attention(case.pipeline, dense_steps=1):
            case.transformer.set_attention_backend("_native_math")
            case.run(steps=1)
        self.assertEqual(
            {its._attention_backend.value for its in case.transformer.attn_processors.values()}, {"_native_math"}
        )
        case.transformer.set_attention_backend("native")  # it is also the default of all models made later

    def test_exceptions_nested_models_and_threads_leave_the_dispatch_function_alone(self):
        case, other = wan(), wan()
        before = case.run()

        def nested(call):  # another model of the same class, intercepted too, within a call
            self.assertIsNot(transformer_wan.dispatch_attention_fn, ORIGINALS[transformer_wan])
            if call.layer == 1:
                other.run(steps=1)
            return call.dense()

        def failing(call):
            raise KeyError("within the model")

        with (
            intercept_self_attention(other.pipeline, lambda call: call.dense() * 2),
            intercept_self_attention(case.pipeline, nested),
        ):
            self.assertTrue(torch.equal(case.run(), before))
        with intercept_self_attention(case.pipeline, failing):
            for _ in range(2):
                with self.assertRaisesRegex(KeyError, "within the model"):
                    case.run()
                self.assertTrue(torch.equal(other.run(), before))  # of the same class: not intercepted
        outputs = {}
        with apply_draft_attention(case.pipeline, **SPARSE) as control:
            alone = case.run()
            threads = [
                threading.Thread(target=lambda name=name, its=its: outputs.update({name: its.run(steps=4)}))
                for name, its in (("sparse", case), ("dense", other))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(control.calls, 2 * 4 * 2 * 3)
        self.assertTrue(torch.equal(outputs["sparse"], alone))
        self.assertTrue(torch.equal(outputs["dense"], before))
