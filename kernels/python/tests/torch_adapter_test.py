"""A model that is not listed: the README's, with attention modules that have no processor, tokens of text first and two
segments of video of different sizes."""

import copy
import io
import pathlib
import pickle
import re
import threading
import unittest
import warnings
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from draftattention import models
from draftattention.diffusers import Adapter, apply_draft_attention, intercept_self_attention
from draftattention.models import ADAPTERS
from model_cases import CASES
from torch_packed_test import blocks, keep_of

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
SPARSE = {"sparsity": 0.6, "region": (4, 4), "dense_steps": 0, "steps": 4}
DENSE = torch.nn.functional.scaled_dot_product_attention


def block_of(kind):
    return re.search(rf"```{kind}\n(.*?)```", README.read_text(), re.DOTALL).group(1)


EXAMPLE = {"__name__": __name__}  # where pickle finds its classes
exec(compile(block_of("adapter"), str(README), "exec"), EXAMPLE)
Attention, Mine, adapter = (EXAMPLE[name] for name in ("Attention", "Mine", "adapter"))


def model_of(seed=0):
    torch.manual_seed(seed)
    return Mine().double()


def one_pass(model, time=0.5):
    generator = torch.Generator().manual_seed(1)
    shapes = (1, 2, 6, 10, 32), (1, 1, 4, 5, 32), (1, 7, 32)
    rows = (torch.randn(shape, generator=generator).double() for shape in shapes)
    with torch.no_grad():
        return model(*rows, torch.tensor([time]))


class Unlisted(unittest.TestCase):
    def test_the_readme_s_run(self):
        control = EXAMPLE["control"]
        self.assertEqual((control.calls, control.dense_calls, control.sparse_calls), (8, 2, 6))

    def test_draft_attention_is_the_model_s_own_with_the_mask(self):
        """Given tokens of text, an image and a video of another size, claim: the output is that of masked attention
        within 2^-30 of it, far more than rounding in float64; not with text behind, nor dense."""
        spans = [..., (1, 4, 5), (2, 6, 10)]
        model, labels = model_of(), blocks(spans, 7)
        self.assertEqual((len(labels), int(labels.max()) + 1), (147, 9))  # ceil(140 / 16)
        before = one_pass(model)

        def masked(its):
            def attend(q, k, v):
                keep = [keep_of(q[0, head], k[0, head], its, sparsity=0.6) for head in range(2)]
                return DENSE(q, k, v, attn_mask=torch.stack(keep)[None])

            with mock.patch.dict(EXAMPLE, scaled_dot_product_attention=attend):
                return one_pass(model)

        wanted, wrong = masked(labels), masked(labels.roll(7))
        with apply_draft_attention(model, adapter=adapter, **SPARSE) as control:
            found = one_pass(model)
        tolerance = 2.0**-30 * before.abs().max().item()
        self.assertEqual(control.sparse_calls, 2)
        self.assertLessEqual((found - wanted).abs().max().item(), tolerance)
        for other in (wrong, before):
            self.assertGreater((found - other).abs().max().item(), tolerance)
        with apply_draft_attention(model, adapter=adapter, **(SPARSE | {"sparsity": 0.0})):
            self.assertLessEqual((one_pass(model) - before).abs().max().item(), tolerance)
        with apply_draft_attention(model, adapter=adapter, **(SPARSE | {"dense_steps": 1})):
            self.assertTrue(torch.equal(one_pass(model), before))
        self.assertTrue(torch.equal(one_pass(model), before))

    def test_calls_have_video_first(self):
        model, seen = model_of(), []

        def attend(call):
            seen.append(call)
            return call.dense()

        before = one_pass(model)
        with intercept_self_attention(model, attend, adapter=adapter, steps=4):
            self.assertTrue(torch.equal(one_pass(model), before))
        self.assertEqual([call.layer for call in seen], [0, 1])
        self.assertEqual(seen[0].model.segments, ((1, 4, 5), (2, 6, 10)))
        with self.assertRaisesRegex(ValueError, "grid: wanted segments of video that have one height and width, found"):
            seen[0].model.grid  # noqa: B018
        q, k, v, o = (x[0].transpose(0, 1) for x in (seen[0].query, seen[0].key, seen[0].value, seen[0].dense()))
        self.assertLess((o - DENSE(q, k, v)).abs().max().item(), 2.0**-40)

    def test_copies_and_files_have_their_own_attention(self):
        model = model_of()
        before = one_pass(model)
        file = io.BytesIO()
        with apply_draft_attention(model, adapter=adapter, **SPARSE) as control, warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
            torch.save(model, file)
            file.seek(0)
            copies.append(torch.load(file, weights_only=False))
            for its in copies:
                self.assertTrue(torch.equal(one_pass(its), before))
            self.assertEqual(control.calls, 0)
            self.assertFalse(torch.equal(one_pass(model), before))
        for its in copies:
            with apply_draft_attention(its, adapter=adapter, **SPARSE):
                self.assertFalse(torch.equal(one_pass(its), before))
            self.assertTrue(torch.equal(one_pass(its), before))

    def test_a_forward_that_was_replaced(self):
        model, reference = model_of(), one_pass(model_of())
        control = apply_draft_attention(model, adapter=adapter, **SPARSE)
        self.assertTrue(control.active)
        with self.assertRaisesRegex(ValueError, "attention: wanted .*remove"):
            apply_draft_attention(model, adapter=adapter, **SPARSE)
        theirs = model.blocks[0].forward
        model.blocks[0].forward = lambda x: theirs(x)
        self.assertFalse(control.active)
        with self.assertWarnsRegex(RuntimeWarning, r"no longer acts in layers \[0\]"):
            one_pass(model)
        control.remove()
        self.assertTrue(torch.equal(one_pass(model), reference))
        own = model.blocks[0].forward
        with apply_draft_attention(model, adapter=adapter, **SPARSE):  # over a forward() that the module itself holds
            self.assertIsNot(model.blocks[0].forward, own)
            self.assertFalse(torch.equal(one_pass(model), reference))
        self.assertIs(model.blocks[0].forward, own)
        self.assertNotIn("forward", model.blocks[1].__dict__)
        self.assertTrue(torch.equal(one_pass(model), reference))

    def test_compiled_before_and_after(self):
        """Given models whose attention is PyTorch's own, compiled, claim: the graph of before, or of after, is not dense."""
        case = CASES["cogvideox"]()
        for model, run, options in (
            (model_of(), one_pass, {"adapter": adapter} | SPARSE),
            (case.transformer(), case.one_pass, SPARSE),
        ):
            dense, compiled = run(model), torch.compile(model, backend="eager")
            with apply_draft_attention(model, **options):
                sparse = run(model)
            tolerance = 2.0**-20 * dense.abs().max().item()  # the norms' float32
            self.assertGreater((sparse - dense).abs().max().item(), tolerance)
            self.assertLessEqual((run(compiled) - dense).abs().max().item(), tolerance)
            with apply_draft_attention(compiled, **options) as control:
                self.assertLessEqual((run(compiled) - sparse).abs().max().item(), tolerance)
            self.assertEqual(control.sparse_calls, 2)
            self.assertLessEqual((run(compiled) - dense).abs().max().item(), tolerance)
            torch._dynamo.reset()

    def test_threads_do_not_see_each_other_s_attention(self):
        model, other, outputs = model_of(), model_of(1), {}
        before = one_pass(other)
        with apply_draft_attention(model, adapter=adapter, **SPARSE):
            alone = one_pass(model)
            runs = [("sparse", model), ("dense", other)] * 3
            threads = [
                threading.Thread(target=lambda key=(number, name), its=its: outputs.update({key: one_pass(its)}))
                for number, (name, its) in enumerate(runs)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for (_, name), o in outputs.items():
            self.assertTrue(torch.equal(o, alone if name == "sparse" else before))
        self.assertEqual(len(outputs), 6)

    def test_refusals(self):
        model = model_of()

        def changed(**fields):
            return Adapter(**({name: getattr(adapter, name) for name in adapter.__dataclass_fields__} | fields))

        for kind, message, its in [
            (ValueError, "spans: wanted grids", changed(spans=lambda model, given: [5])),
            (
                ValueError,
                "layer 0: wanted self-attention of 2 x 6 x 10 = 120 tokens, found",
                changed(spans=lambda *_: [(2, 6, 10)]),
            ),
            (TypeError, "timestep: wanted a torch.Tensor, found no such argument", changed(timestep="timestep")),
            (
                RuntimeError,
                "wanted scaled_dot_product_attention called by .*, found none",
                changed(attentions=lambda m: [m.blocks[0].qkv]),
            ),
        ]:
            with self.subTest(message), apply_draft_attention(model, adapter=its, **SPARSE):
                with self.assertRaisesRegex(kind, message):
                    one_pass(model)
        with self.assertRaisesRegex(ImportError, "call dispatch_attention_fn, found"):
            apply_draft_attention(model, adapter=changed(functional=False), **SPARSE)
        with self.assertRaisesRegex(ValueError, "model: wanted a Mine or a pipeline with one, found Linear"):
            apply_draft_attention(torch.nn.Linear(1, 1), adapter=adapter, **SPARSE)
        with self.assertRaisesRegex(ValueError, "model: wanted .*adapter= describes another.*, found Mine"):
            apply_draft_attention(model, **SPARSE)
        with self.assertRaisesRegex(ValueError, "adapter: wanted an Adapter"):
            apply_draft_attention(model, adapter="mine", **SPARSE)


class Table(unittest.TestCase):
    def test_the_readme_lists_every_model(self):
        rows = re.findall(r"^\| .* \| `(\w+)` \| (\S+) \| .* \| (.*) \|$", README.read_text(), re.MULTILINE)
        guidance = {"passes": "second pass", "batch": "in the batch", "embedded": "embedded"}
        found = [(its.name, its.since.removeprefix(">="), guidance[its.guidance]) for its in ADAPTERS]
        self.assertEqual(rows, found)

    def test_every_file_has_its_line(self):
        files = {path.stem for path in pathlib.Path(models.__file__).parent.glob("*.py")} - {"__init__", "adapter"}
        self.assertEqual(sorted(models._FILES), sorted(files))
        self.assertEqual(len({its.name for its in ADAPTERS}), len(files))
