"""What the tests of capturing share: tiny pipelines, a folder for the dump, and a bound on its output's error."""

import pathlib
import tempfile
import unittest

import numpy as np
import torch
from qkv_dump import read_dump

from lab.capture import capture

FP32 = torch.finfo(torch.float32).eps


class CaptureTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out = self.folder / "dump.h5"

    def capture(self, case, run=None, **options):
        options = dict(layers=[0], at=[1], model="tiny", source="a test") | options
        return capture.capture_run(case.pipeline, run or (lambda: case.run(steps=3)), self.out, **options)

    def read(self):
        return {its.name: its for its in read_dump(self.out)}


def output_error(its, eps):
    """The largest |o - softmax(scale q k^T) v| as a share of what rounding explains: one rounding of p and one of o to
    the model's type, and in float32 logits of head_dim products and two sums over the tokens."""
    q, k, v, o = (x.astype(np.float64) for x in (its.q, its.k, its.v, its.o))
    logits = its.softmax_scale * q @ k.swapaxes(1, 2)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    reach = its.softmax_scale * (np.abs(q) @ np.abs(k).swapaxes(1, 2)).max()
    share = 2 * eps + (4 * q.shape[2] * reach + 2 * q.shape[1]) * FP32
    return (np.abs(o - p @ v) / (share * (p @ np.abs(v)))).max()
