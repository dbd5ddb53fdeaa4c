"""torch.compile on a GPU: operators, models without a break in a graph, and inductor's CUDA graphs."""

import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import draftattention as da
from diffusers_cases import hunyuan, wan
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
            return o, lse, lists.counts, lists.mask

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


def whole_in_graphs(case):
    case.pipeline.transformer = torch.compile(case.transformer, fullgraph=True, mode="reduce-overhead")


def blocks(case):
    case.transformer.compile_repeated_blocks(fullgraph=True)


class Models(GpuTest):
    def setUp(self):
        torch._dynamo.reset()

    def test_videos_are_those_without_compilation(self):
        """Given models in float32, whose draft masks rounding does not turn, with blocks compiled, and whole with inductor's
        CUDA graphs, claim: dense and sparse steps are what they are without. 2^-10 of what draft attention changes."""
        for make, compile in ((wan, blocks), (hunyuan, blocks), (wan, whole_in_graphs)):
            with self.subTest(make.__name__, way=compile.__name__):
                torch._dynamo.reset()
                case = make().to("cuda", torch.float32)
                options = {"sparsity": 0.7, "region": (4, 4), "dense_steps": 0.5}
                # One pass a step: CUDA graphs overwrite the output of a pass in the next one.
                run = lambda case=case: case.run(guidance_scale=1.0).clone()
                dense = run()
                with apply_draft_attention(case.pipeline, **options) as control:
                    wanted = run()
                counted = control.calls, control.dense_calls
                change = (wanted - dense).norm().item()
                self.assertGreater(change, 1e-2)
                compile(case)
                with apply_draft_attention(case.pipeline, **options) as control:
                    found = [run() for _ in range(3)]
                self.assertEqual((control.calls, control.dense_calls), tuple(3 * each for each in counted))
                for video in found:
                    self.assertLessEqual((video - wanted).norm().item(), 2.0**-10 * change)
                self.assertLessEqual((run() - dense).norm().item(), 2.0**-10 * change)

    def test_calls_in_graphs_are_the_kernels(self):
        """Given compiled models in bfloat16, claim: each sparse call is made, by a kernel."""
        for make in (wan, hunyuan):
            with self.subTest(make.__name__):
                torch._dynamo.reset()
                case = make(head_dim=64).to("cuda", torch.bfloat16)
                attend, calls = da.draft_attention, []

                def record(q, k, v, grid, **options):
                    o = attend(q, k, v, grid, **options)
                    calls.append(torch.equal(o, attend(q, k, v, grid, **(options | {"kernel": "mma"}))))
                    return o

                blocks(case)
                with (
                    apply_draft_attention(case.pipeline, sparsity=0.7, region=(4, 4), strict=True) as control,
                    mock.patch.object(da, "draft_attention", record),
                ):
                    video = case.run()
                self.assertTrue(torch.isfinite(video).all())
                self.assertGreater(control.sparse_calls, 0)
                self.assertEqual(calls, [True] * control.sparse_calls)


if __name__ == "__main__":
    unittest.main()
