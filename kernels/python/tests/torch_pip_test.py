"""`pip install .` where CMake finds no CUDA compiler: the package that computes in PyTorch alone. Builds without
isolation, so that nothing is downloaded: where scikit-build-core or nanobind is missing it is skipped."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import pytest

pytest.importorskip("torch")

ROOT = pathlib.Path(__file__).resolve().parents[3]
MISSING = [name for name in ("scikit_build_core", "nanobind", "pip") if importlib.util.find_spec(name) is None]
PROGRAM = """
import draftattention, torch
assert draftattention.__file__.startswith({folder!r}), draftattention.__file__
assert draftattention.kernels() == [], "wanted no kernels"
q, k, v = torch.randn(3, 1, 1, 2 * 8 * 16, 32)
dense = torch.nn.functional.scaled_dot_product_attention(q, k, v)
o = draftattention.draft_attention(q, k, v, (2, 8, 16), sparsity=0.0)
assert torch.allclose(o, dense, atol=1e-5), (o - dense).abs().max()
assert not torch.allclose(draftattention.draft_attention(q, k, v, (2, 8, 16), sparsity=0.5), dense, atol=1e-2)
import draftattention.diffusers
"""


@unittest.skipIf(MISSING, f"not installed: {', '.join(MISSING)}")
class Pip(unittest.TestCase):
    def test_install_without_a_cuda_compiler(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "-q",
                    "--no-deps",
                    "--no-build-isolation",
                    "--disable-pip-version-check",
                    "--target",
                    folder,
                    "--config-settings=cmake.define.CMAKE_CUDA_COMPILER=NOTFOUND",
                    str(ROOT),
                ],
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            program = PROGRAM.format(folder=folder)
            if importlib.util.find_spec("diffusers") is None:
                program = program.replace("import draftattention.diffusers\n", "")
            done = subprocess.run(
                [sys.executable, "-c", program],
                cwd=folder,
                capture_output=True,
                text=True,
                env=os.environ | {"PYTHONPATH": folder},
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
