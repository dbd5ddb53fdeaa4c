"""draft_attention on a GPU on the shipped dumps, held to float64 (truth.py) in every row of every head."""

import pathlib

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("h5py")

import draftattention as da
import qkv_dump
from gpu_cases import GpuTest
from truth import attention_truth, blocks_of_tokens, full_mask

ROOT = pathlib.Path(__file__).resolve().parents[3]
DUMPS = {"photodit_ragged.h5": 1, "photodit_512p.h5": 2, "photodit_heads.h5": 12}  # captured heads


class Dumps(GpuTest):
    def test_draft_attention_is_the_truth_on_captured_heads(self):
        judged = 0
        for name, heads in DUMPS.items():
            found = 0
            for capture in qkv_dump.read_dump(ROOT / "data" / name):
                grid, text, scale = (
                    (capture.frames, capture.height, capture.width),
                    capture.text_tokens,
                    capture.softmax_scale,
                )
                blocks = blocks_of_tokens(grid, (8, 16), text).cuda()
                named = dict(text_tokens=text, scale=scale)
                q, k, v = (
                    torch.from_numpy(x)[None].cuda().to(torch.bfloat16) for x in (capture.q, capture.k, capture.v)
                )
                for sparsity in (0.0, 0.9):
                    mask = da.draft_mask(q, k, grid, sparsity=sparsity, **named)
                    outputs = {
                        kernel: da.draft_attention(q, k, v, grid, sparsity=sparsity, kernel=kernel, **named)
                        for kernel in (*self.here, "auto", "torch")
                    }
                    for head in range(q.shape[1]):
                        keep = full_mask(mask[0, head], grid, (8, 16), text)[blocks][:, blocks]
                        truth = attention_truth(q[0, head], k[0, head], v[0, head], keep, scale)
                        for kernel, o in outputs.items():
                            with self.subTest(capture=capture.name, head=head, sparsity=sparsity, kernel=kernel):
                                self.assertEqual(truth.wrong(o[0, head], truth.lse), "")
                                judged += 1
                        scaled = outputs["auto"][0, head].clone()
                        scaled[-1] *= 1.02  # what has to be found
                        self.assertNotEqual(truth.wrong(scaled, truth.lse), "")
                found += q.shape[1]
            self.assertEqual(found, heads, name)
        self.assertGreaterEqual(judged, 2 * sum(DUMPS.values()) * 3)
