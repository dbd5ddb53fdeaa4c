"""torch.compile and torch.export: the functions as operators, and draft attention in models whose graphs have no break."""

import unittest

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import draftattention as da
from diffusers_cases import SPARSE, hunyuan, numbers, wan
from draftattention.diffusers import apply_draft_attention
from torch_adapter_test import SPARSE as ADAPTED
from torch_adapter_test import adapter, model_of, one_pass

GRID, TEXT = (2, 6, 10), 7
TOKENS = 2 * 6 * 10 + TEXT
OPTIONS = dict(sparsity=0.6, region=(4, 4))
ROUNDING = (
    1e-5  # of float32 outputs of size 1 that are computed in another order; dense and sparse differ by 1e-2 and more
)


def rows(heads=2, dtype=torch.float32, layout="bhnd"):
    found = [numbers(1, heads, TOKENS, 16, seed=seed).to(dtype) for seed in range(3)]
    return [x.transpose(1, 2) for x in found] if layout == "bnhd" else found


def graphs():
    """How many graphs were made since the last reset."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


class Compiled(unittest.TestCase):
    def setUp(self):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()


class Functions(Compiled):
    def test_are_operators_of_one_graph(self):
        """Given each function and order of axes, claim: a full graph gives the same bits as the function, and an output of
        the shape, type and strides that the graph was made for."""
        mask = torch.rand(1, 2, 12, 12, generator=torch.Generator().manual_seed(5)) < 0.5
        for layout in ("bhnd", "bnhd"):
            q, k, v = rows(layout=layout)
            named = {"layout": layout, "region": (4, 4)}
            functions = {
                "draft_attention": lambda: da.draft_attention(q, k, v, GRID, sparsity=0.6, **named),
                "remainder": lambda: da.draft_attention(q, k, v, GRID, sparsity=0.6, remainder="pooled", **named),
                "draft_mask": lambda: da.draft_mask(q, k, GRID, sparsity=0.6, **named),
                "block_attention": lambda: da.block_attention(q, k, v, GRID, mask, **named),
                "no mask": lambda: da.block_attention(q, k, v, GRID, None, **named),
                "packed_attention": lambda: da.packed_attention(q, k, v, (3, GRID, ...), sparsity=0.6, **named),
            }
            for name, function in functions.items():
                with self.subTest(name, layout=layout):
                    found = torch.compile(function, fullgraph=True, backend="aot_eager")()
                    self.assertTrue(torch.equal(found, function()))

    def test_shapes_are_those_of_the_operators(self):
        q, k, v = rows()
        for name, arguments in {
            "draft_attention": (q, k, v, GRID),
            "draft_mask": (q, k, GRID),
            "block_attention": (q, k, v, GRID, None),
        }.items():
            operator = getattr(torch.ops.draftattention, name).default
            named = {"region": (4, 4)}
            checks = torch.library.opcheck(
                operator, arguments, named, test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
            )
            self.assertEqual(set(checks.values()), {"SUCCESS"}, name)

    def test_between_other_work(self):
        """Given work before and after a call, claim: inductor's graph, too, gives what the function gives."""
        q, k, v = rows()

        def block(q, k, v):
            return da.draft_attention(torch.nn.functional.silu(q), 2 * k, v, GRID, **OPTIONS).flatten(1).cos()

        found = torch.compile(block, fullgraph=True)(q, k, v)
        self.assertLessEqual((found - block(q, k, v)).abs().max().item(), ROUNDING)

    def test_autocast(self):
        q, k, v = rows()

        def block(q, k, v):
            return da.draft_attention(q, k, v, GRID, **OPTIONS)

        with torch.autocast("cpu", torch.bfloat16):
            found = torch.compile(block, fullgraph=True, backend="aot_eager")(q, k, v)
            self.assertEqual(found.dtype, torch.bfloat16)
            self.assertTrue(torch.equal(found, block(q, k, v)))

    def test_sizes_may_change(self):
        def block(q, k, v, frames):
            return da.draft_attention(q, k, v, (frames, 6, 10), **OPTIONS)

        compiled = torch.compile(block, fullgraph=True, backend="aot_eager", dynamic=True)
        for frames in (1, 2, 3):
            q, k, v = (numbers(1, 2, frames * 60 + TEXT, 16, seed=seed) for seed in range(3))
            self.assertTrue(torch.equal(compiled(q, k, v, frames), block(q, k, v, frames)))

    def test_export(self):
        class Block(torch.nn.Module):
            def forward(self, q, k, v):
                return da.draft_attention(q, k, v, GRID, **OPTIONS)

        program = torch.export.export(Block(), tuple(rows()))
        self.assertIn("draftattention.draft_attention", str(program.graph))
        self.assertTrue(torch.equal(program.module()(*rows()), Block()(*rows())))

    def test_refusals_are_the_functions(self):
        q, k, v = rows()
        compiled = torch.compile(lambda: da.draft_attention(q, k, v, (9, 9, 9)), fullgraph=True, backend="eager")
        with self.assertRaisesRegex(Exception, "grid: wanted at most the 127 tokens of q, found 9 x 9 x 9 = 729"):
            compiled()

    def test_strict(self):
        """Given tensors that no kernel takes, claim: strict calls say why they would be PyTorch's, and others are."""
        q, k, v = rows()
        for call in (
            lambda **named: da.draft_attention(q, k, v, GRID, **named),
            lambda **named: da.block_attention(q, k, v, GRID, None, **named),
            lambda **named: da.draft_mask(q, k, GRID, **named),
            lambda **named: da.packed_attention(q, k, v, (GRID, ...), **named),
        ):
            call()
            call(strict=True, kernel="torch")
            with self.assertRaisesRegex(
                ValueError, r"kernel: wanted one that supports the call \(strict=True\), found none: tensors are on cpu"
            ):
                call(strict=True)
            with self.assertRaisesRegex(ValueError, "strict: wanted True or False, found 'yes'"):
                call(strict="yes")
        case = wan()
        with apply_draft_attention(case.pipeline, strict=True, **SPARSE), self.assertRaisesRegex(ValueError, "strict"):
            case.run()


class Models(Compiled):
    def compiled(self, make, compile, times=1):
        """Given a model and how it is compiled, claim: the same videos as without, dense and sparse steps, each time that
        draft attention is applied, and after it was removed."""
        case = make()
        dense = case.run()
        with apply_draft_attention(case.pipeline, sparsity=0.7, region=(4, 4), dense_steps=0.5) as control:
            wanted, counted = case.run(), (control.calls, control.dense_calls)
        self.assertGreater((wanted - dense).abs().max().item(), 1e-2)
        compile(case)
        for _ in range(times):
            with apply_draft_attention(case.pipeline, sparsity=0.7, region=(4, 4), dense_steps=0.5) as control:
                self.assertLessEqual((case.run() - wanted).abs().max().item(), ROUNDING)
                self.assertEqual((control.calls, control.dense_calls), counted)
            self.assertLessEqual((case.run() - dense).abs().max().item(), ROUNDING)

    def test_blocks_without_a_break(self):
        """Claim: a graph with draft attention and one without serve all of Wan's blocks, all steps and later applications;
        HunyuanVideo's single-stream blocks get latents of three strides, each of which has a graph of its own."""
        for make, most in ((wan, 2), (hunyuan, 2 + 2 * 3)):
            with self.subTest(make.__name__):
                torch._dynamo.reset()
                torch._dynamo.utils.counters.clear()
                self.compiled(
                    make, lambda case: case.transformer.compile_repeated_blocks(fullgraph=True, backend="aot_eager")
                )
                self.assertEqual(torch._dynamo.utils.counters["graph_break"], {})
                self.assertLessEqual(graphs(), most)

    def test_blocks_by_inductor(self):
        self.compiled(wan, lambda case: case.transformer.compile_repeated_blocks(fullgraph=True))

    def test_whole_models_without_a_break(self):
        def wrapped(case):
            case.pipeline.transformer = torch.compile(case.transformer, fullgraph=True, backend="aot_eager")

        def in_place(case):
            case.transformer.compile(fullgraph=True, backend="aot_eager")

        for make, compile in ((wan, wrapped), (wan, in_place), (hunyuan, wrapped)):
            with self.subTest(make.__name__, way=compile.__name__):
                torch._dynamo.reset()
                self.compiled(make, compile)

    def test_compiled_after_it_was_applied(self):
        case = wan()
        with apply_draft_attention(case.pipeline, **SPARSE):
            wanted = case.run()
        with apply_draft_attention(case.pipeline, **SPARSE) as control:
            case.pipeline.transformer = torch.compile(case.transformer, fullgraph=True, backend="aot_eager")
            self.assertLessEqual((case.run() - wanted).abs().max().item(), ROUNDING)
            self.assertEqual(control.sparse_calls, control.calls)

    def test_attention_that_is_pytorchs_own_is_never_dense_in_a_graph(self):
        """Given a model that calls scaled_dot_product_attention, which a graph cannot reroute, claim: a full graph is
        refused rather than dense."""
        model = model_of()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        with apply_draft_attention(compiled, adapter=adapter, **ADAPTED):
            with self.assertRaises(torch._dynamo.exc.Unsupported):
                one_pass(compiled)


if __name__ == "__main__":
    unittest.main()
