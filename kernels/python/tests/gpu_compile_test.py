"""torch.compile on a GPU: operators, models without a break in a graph, and inductor's CUDA graphs."""

import unittest

import pytest

torch = pytest.importorskip("torch")
diffusers_cases = pytest.importorskip("diffusers_cases", reason="no diffusers")

import draftattention as da
from draftattention.diffusers import apply_draft_attention
from gpu_cases import CASES, GpuTest, inputs

CASE = CASES[0]
GRID = CASE[1]


class Operators(GpuTest):
    def setUp(self):
        torch._dynamo.reset()

    def test_a_graph_gives_the_same_bits(self):
        """Given work around draft lists and attention by kernels, claim: one graph with the functions' outputs; where q is
        changed before them, others."""
        q, k, v, _ = inputs(CASE)

        def sparse(q, k, v):
            lists = da.draft_lists(q, k, GRID, sparsity=0.7)
            o, lse = da.attention(q, k, v, GRID, lists=lists)
            return o, lse, lists.columns.sum(), lists.counts, lists.mask

        def whole(q, k, v):
            return (da.draft_attention(q[None], k[None], v[None], GRID, sparsity=0.7, strict=True),)

        for function in (sparse, whole):
            found = torch.compile(function, fullgraph=True)(q, k, v)
            for ours, wanted in zip(found, function(q, k, v), strict=True):
                self.assertTrue(torch.equal(ours, wanted))
            self.assertFalse(torch.equal(found[0], function(2 * q, k, v)[0]))

    def test_shapes_are_those_of_the_operators(self):
        q, k, v, _ = inputs(CASE)
        lists = torch.ops.draftattention.draft_lists(q, k, GRID)
        for name, arguments in {
            "draft_lists": (q, k, GRID),
            "attention": (q, k, v, GRID, list(lists)),
            "draft_attention": (q[None], k[None], v[None], GRID),
            "draft_mask": (q[None], k[None], GRID),
        }.items():
            checks = torch.library.opcheck(
                getattr(torch.ops.draftattention, name).default,
                arguments,
                test_utils=("test_schema", "test_faketensor"),
            )
            self.assertEqual(set(checks.values()), {"SUCCESS"}, name)


class Models(GpuTest):
    def setUp(self):
        torch._dynamo.reset()

    def test_videos_are_those_without_compilation(self):
        """Given models in bfloat16, by default and with CUDA graphs, claim: dense and sparse steps each are what they are
        without compilation, up to what inductor rounds otherwise: a quarter of what draft attention changes, at most."""
        for make in (diffusers_cases.wan, diffusers_cases.hunyuan):
            for mode in (None, "reduce-overhead"):
                with self.subTest(make.__name__, mode=mode):
                    torch._dynamo.reset()
                    case = make(head_dim=64).to("cuda", torch.bfloat16)
                    options = {"sparsity": 0.7, "region": (4, 4), "dense_steps": 0.5, "strict": True}
                    dense = case.run().float()
                    with apply_draft_attention(case.pipeline, **options) as control:
                        wanted = case.run().float()
                    counted = control.calls, control.dense_calls
                    case.transformer.compile_repeated_blocks(fullgraph=True, mode=mode)
                    with apply_draft_attention(case.pipeline, **options) as control:
                        found = [case.run().float() for _ in range(3)]
                    self.assertEqual((control.calls, control.dense_calls), tuple(3 * each for each in counted))
                    change = (wanted - dense).norm().item()
                    self.assertGreater(change, 0.0)
                    for video in found:
                        self.assertLessEqual((video - wanted).norm().item(), change / 4)
                    self.assertLessEqual((case.run().float() - dense).norm().item(), change / 4)


if __name__ == "__main__":
    unittest.main()
