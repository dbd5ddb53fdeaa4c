"""Tests of the capture of one layer, on tiny models."""

import json
import os
import tempfile
import unittest
from unittest import mock

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
h5py = pytest.importorskip("h5py")

from lab.pipelines import captured, cases
from lab.pipelines.shapes import SHAPES


class Captured(unittest.TestCase):
    def run_command(self, folder, *arguments):
        out, records = (os.path.join(folder, name) for name in ("layer.h5", "records.jsonl"))
        given = ["--device", "cpu", "--out", out, "--records", records, *arguments]
        # Offline is for a process that has imported nothing yet.
        with mock.patch.dict(SHAPES, cases.TINY), mock.patch.object(captured, "require_offline", lambda: None):
            return captured.main(given), out, records

    def test_a_layer_is_a_dump_of_the_model_s_grid(self):
        for shape in cases.TINY.values():
            with self.subTest(shape.name), tempfile.TemporaryDirectory() as folder:
                status, out, records = self.run_command(folder, "--shape", shape.name)
                self.assertEqual(status, 0)
                with open(records) as file:
                    (record,) = map(json.loads, file)
                self.assertEqual(
                    (record["config"]["part"], record["metrics"]["bytes"]), ("capture", os.path.getsize(out))
                )
                frames, height, width = shape.grid
                text = record["input"]["text_tokens"]
                with h5py.File(out) as file:
                    q = next(iter(file["captures"].values()))["q"]
                    self.assertEqual(q.shape, (shape.heads, frames * height * width + text, shape.head_dim))

    def test_what_is_not_there_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(self.run_command(folder, "--shape", "other")[0], 2)
            self.assertEqual(self.run_command(folder, "--shape", "tiny_wan", "--layer", "3")[0], 2)
            self.assertEqual(os.listdir(folder), [])


if __name__ == "__main__":
    unittest.main()
