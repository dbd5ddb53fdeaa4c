"""What draft_attention, draft_mask and block_attention refuse, and the package without its compiled module."""

import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import pytest

torch = pytest.importorskip("torch")

import draftattention as da

GRID, REGION = (2, 5, 6), (2, 3)  # 12 regions


class Refusals(unittest.TestCase):
    """One line each: the thing, what was wanted, what was found."""

    def setUp(self):
        self.q = torch.zeros((2, 3, 64, 8))
        self.mask = torch.ones((2, 3, 12, 12), dtype=torch.bool)

    def refused(self, message, call, kind=ValueError):
        with self.subTest(message), self.assertRaisesRegex(kind, message) as caught:
            call()
        self.assertNotIn("\n", str(caught.exception))

    def every(self, message, change, kind=ValueError):
        """`change` of the arguments is refused by all three functions."""
        for function in ("draft_attention", "draft_mask", "block_attention"):
            arguments = {"q": self.q, "k": self.q, "v": self.q, "grid": GRID, "region": REGION, "mask": self.mask}
            for unused in {"draft_attention": ["mask"], "draft_mask": ["mask", "v"], "block_attention": []}[function]:
                del arguments[unused]
            self.refused(message, lambda: getattr(da, function)(**(arguments | change)), kind)

    def test_nothing_is_refused_otherwise(self):
        q, grid = self.q, GRID
        da.draft_attention(q, q, q, list(grid), text_tokens=4, region=REGION, sparsity=0)
        da.draft_mask(q, q, torch.Size(grid), region=REGION, scale=1)
        da.block_attention(q, q, q, grid, self.mask, text_tokens=4, region=REGION)

    def test_tensors(self):
        q = self.q
        for change, message in [
            ({"q": q.int()}, r"q: wanted torch.bfloat16 or .* or torch.float64, found torch.int32"),
            ({"q": q[0]}, r"q: wanted 4 axes, \[batch entries, heads, tokens, head_dim\], found 3, \[3, 64, 8\]"),
            ({"q": q[:, :0]}, r"q: wanted no empty axis, found 0 heads in \[2, 0, 64, 8\]"),
            ({"q": q[:0]}, r"q: wanted no empty axis, found 0 batch entries in \[0, 3, 64, 8\]"),
            ({"q": q[:, :, :0]}, r"q: wanted no empty axis, found 0 tokens in \[2, 3, 0, 8\]"),
            ({"q": q[..., :0]}, r"q: wanted no empty axis, found 0 head_dim in \[2, 3, 64, 0\]"),
            ({"q": q.to("meta")}, r"q: wanted a tensor with values, found one on meta"),
            ({"k": q.half()}, r"k: wanted torch.float32, found torch.float16"),
            ({"k": q[:1]}, r"k: wanted shape \[2, 3, 64, 8\], found \[1, 3, 64, 8\]"),
            ({"k": q[:, :1]}, r"k: wanted shape \[2, 3, 64, 8\], found \[2, 1, 64, 8\]"),
            ({"k": q.to("meta")}, r"k: wanted a tensor on cpu, found meta"),
            ({"q": q.clone().requires_grad_()}, r"q: wanted a tensor without gradients, .*requires_grad=True"),
        ]:
            self.every(message, change)
        ragged = torch.nested.nested_tensor(list(q))
        jagged = torch.nested.nested_tensor([x.flatten() for x in q], layout=torch.jagged)
        for name in "qk":
            dense = rf"{name}: wanted a dense tensor, found "
            self.every(dense + r"one of layout torch.sparse_coo \(use .to_dense", {name: q.to_sparse()})
            self.every(dense + "a nested one", {name: ragged})
            self.every(dense + "a nested one", {name: jagged})
        self.refused("v: wanted a dense tensor, found a nested one", lambda: da.draft_attention(q, q, ragged, GRID))
        self.every("q: wanted a torch.Tensor, found NoneType", {"q": None}, TypeError)
        self.every("k: wanted a torch.Tensor, found list", {"k": [1.0]}, TypeError)
        wrong = self.q[..., :4]
        for call in (
            lambda: da.draft_attention(q, q, wrong, GRID),
            lambda: da.block_attention(q, q, wrong, GRID, None),
        ):
            self.refused(r"v: wanted shape \[2, 3, 64, 8\], found \[2, 3, 64, 4\]", call)

    def test_grid_text_region_layout_scale_and_kernel(self):
        wanted_scale = r"scale: wanted a finite number above 0, at most 3.403e\+38, found "
        for change, message in [
            ({"grid": (2, 5)}, r"grid: wanted \(frames, height, width\), whole numbers from 1 on, found \(2, 5\)"),
            ({"grid": (2, 5, 0)}, r"grid: wanted .*, found \(2, 5, 0\)"),
            ({"grid": (2, 5, 1.5)}, r"grid: wanted .*, found \(2, 5, 1.5\)"),
            ({"grid": 60}, r"grid: wanted .*, found 60"),
            ({"grid": (2, 6, 6)}, r"grid: wanted at most the 64 tokens of q, found 2 x 6 x 6 = 72"),
            ({"text_tokens": 5}, r"text_tokens: wanted 4, which is q's 64 tokens less the grid's 60, found 5"),
            ({"text_tokens": "4"}, r"text_tokens: wanted 4, .*, found '4'"),
            ({"text_tokens": 4.0}, r"text_tokens: wanted 4, .*, found 4.0"),
            ({"region": (0, 3)}, r"region: wanted \(height, width\), whole numbers from 1 on, found \(0, 3\)"),
            ({"region": (2, -3)}, r"region: wanted .*, found \(2, -3\)"),
            ({"region": 8}, r"region: wanted .*, found 8"),
            ({"layout": "bnh"}, r"layout: wanted one of bhnd, bnhd, found bnh"),
            ({"layout": None}, r"layout: wanted one of bhnd, bnhd, found None"),
            ({"layout": "bnhd"}, r"grid: wanted at most the 3 tokens of q, found 2 x 5 x 6 = 60"),
            ({"scale": 0.0}, wanted_scale + "0.0"),
            ({"scale": -1}, wanted_scale + "-1"),
            ({"scale": 1e308}, wanted_scale + r"1e\+308"),
            ({"scale": 10**400}, wanted_scale + "1000"),
            ({"scale": math.inf}, wanted_scale + "inf"),
            ({"scale": math.nan}, wanted_scale + "nan"),
            ({"scale": "1"}, wanted_scale + "'1'"),
            ({"scale": True}, wanted_scale + "True"),
            ({"kernel": "fast"}, r"kernel: wanted one of auto, torch, .*mma.*, found fast"),
            ({"kernel": 3}, r"kernel: wanted one of auto, torch, .*mma.*, found 3"),
            ({"kernel": "mma"}, r"kernel: wanted auto or torch for tensors on cpu, found mma"),
        ]:
            self.every(message, change)

    def test_draft(self):
        q = self.q
        for named, message in [
            ({"sparsity": 1.0}, r"sparsity: wanted at least 0 and below 1, found 1.0"),
            ({"sparsity": -0.1}, r"sparsity: wanted at least 0 and below 1, found -0.1"),
            ({"sparsity": math.nan}, r"sparsity: wanted at least 0 and below 1, found nan"),
            ({"sparsity": "0.9"}, r"sparsity: wanted at least 0 and below 1, found '0.9'"),
            ({"pool": "min"}, r"pool: wanted one of avg, max, found min"),
            ({"rule": "best"}, r"rule: wanted one of logits, softmax, released, row, found best"),
        ]:
            self.refused(message, lambda: da.draft_attention(q, q, q, GRID, region=REGION, **named))
            self.refused(message, lambda: da.draft_mask(q, q, GRID, region=REGION, **named))

    def test_mask(self):
        def call(mask):
            return lambda: da.block_attention(self.q, self.q, self.q, GRID, mask, region=REGION)

        shape = r"mask: wanted shape \[2, 3, 12, 12\], or one that broadcasts to it, found "
        for mask, message in [
            (self.mask.float(), "mask: wanted torch.bool, found torch.float32"),
            (self.mask.to_sparse(), "mask: wanted a dense tensor, found one of layout torch.sparse_coo"),
            (self.mask.to("meta"), "mask: wanted a tensor on cpu, found meta"),
            (self.mask[..., :11], shape + r"\[2, 3, 12, 11\]"),
            (self.mask[:, :2], shape + r"\[2, 2, 12, 12\]"),
            (self.mask[None], shape + r"\[1, 2, 3, 12, 12\]"),
        ]:
            self.refused(message, call(mask))
        self.refused("mask: wanted a torch.Tensor or None, found list", call([[True]]), TypeError)


# Run by a Python of its own, where the package's folder is the only one with a draftattention.
WITHOUT_KERNELS = """
import sys, warnings
warnings.simplefilter("error" if sys.argv[1] == "missing" else "always")
import torch, draftattention as da
q, mask = torch.ones((1, 1, 20, 8)), torch.ones((1, 4, 4), dtype=torch.bool)
assert torch.allclose(da.draft_attention(q, q, q, (1, 4, 4), region=(2, 2)), q)
assert da.kernels() == []
calls = [lambda: da.attention(q[0], q[0], q[0], (1, 4, 4)), lambda: da.draft_lists(q[0], q[0], (1, 4, 4)),
         lambda: da.lists_from_mask(mask, (1, 4, 4), (2, 2)), lambda: da.to_region_order(q[0], (1, 4, 4)),
         lambda: da.from_region_order(q[0], (1, 4, 4))]
for call in calls:
    try:
        call()
    except RuntimeError as error:
        assert sys.argv[2] in str(error) and "\\n" not in str(error), error
    else:
        raise AssertionError("not refused")
try:
    da.draft_attention(q, q, q, (1, 4, 4), kernel="mma")
except ValueError as error:
    assert "wanted auto or torch for tensors on cpu, found mma" in str(error), error
else:
    raise AssertionError("not refused")
"""


class WithoutKernels(unittest.TestCase):
    """Given the package's Python files alone, claim: it imports and computes, and its GPU functions say what lacks."""

    def run_alone(self, reason, message, broken=None):
        source = pathlib.Path(da.__file__).parent
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(
                source,
                os.path.join(folder, "draftattention"),
                ignore=lambda _, names: [name for name in names if not name.endswith(".py")],
            )
            if broken:
                pathlib.Path(folder, "draftattention", "_kernels.py").write_text(broken)
            environment = os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
            return subprocess.run(
                [sys.executable, "-c", WITHOUT_KERNELS, reason, message],
                capture_output=True,
                text=True,
                cwd=folder,
                env=environment,
            )

    def test_module_that_was_not_built(self):
        done = self.run_alone("missing", "was built without kernels")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_module_whose_libraries_are_not_there(self):
        done = self.run_alone("broken", "kernels do not load: libcublas", "raise ImportError('libcublas: not there')\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(
            "RuntimeWarning: draftattention computes in PyTorch alone, as its kernels do not load: libcublas",
            done.stderr,
        )

    def test_errors_of_its_own_are_not_hidden(self):
        done = self.run_alone("broken", "", "import no_such_module\n")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("ModuleNotFoundError: No module named 'no_such_module'", done.stderr)
