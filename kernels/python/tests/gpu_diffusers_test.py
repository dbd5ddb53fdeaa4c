"""Draft attention in diffusers' models on a GPU: what the kernels make of the models' own calls, held to float64."""

from unittest import mock

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import draftattention as da
from diffusers_cases import GRID, VALID, hunyuan, wan
from draftattention.diffusers import apply_draft_attention
from gpu_cases import GpuTest
from truth import attention_truth, blocks_of_tokens, full_mask

REGION = (4, 4)  # GRID has 2 x 2 x 3 of them, ragged ones
SPARSE = dict(sparsity=0.7, region=REGION)


class Models(GpuTest):
    def test_every_sparse_call_is_the_truth(self):
        attend = da.draft_attention
        for case, text in ((wan(head_dim=64), 0), (hunyuan(head_dim=64), VALID)):
            case.to("cuda", torch.bfloat16)
            dense, calls = case.run(), []

            def record(q, k, v, grid, **options):
                o = attend(q, k, v, grid, **options)
                calls.append((q, k, v, o, grid, options["text_tokens"], options["kernel"]))
                return o

            with (
                apply_draft_attention(case.pipeline, **SPARSE) as control,
                mock.patch.object(da, "draft_attention", record),
            ):
                sparse = case.run()
            self.assertEqual((len(calls), control.dense_calls > 0), (control.sparse_calls, True))
            self.assertTrue(torch.isfinite(sparse).all())
            self.assertFalse(torch.equal(sparse, dense))
            self.assertTrue(torch.equal(case.run(), dense))
            blocks = blocks_of_tokens(GRID, REGION, text).cuda()
            for q, k, v, o, *given in calls:
                self.assertEqual((q.shape[0], q.shape[2:], q.dtype), (1, (2, 64), torch.bfloat16))
                self.assertEqual(given, [GRID, text, "auto"])
                mask = da.draft_mask(q, k, GRID, layout="bnhd", **SPARSE)[0]
                for head in range(2):
                    keep = full_mask(mask[head], GRID, REGION, text)[blocks][:, blocks]
                    rows = [x[0, :, head] for x in (q, k, v)]
                    truth = attention_truth(*rows, keep, 64**-0.5)
                    self.assertEqual(truth.wrong(o[0, :, head], truth.lse), "")
                    full = attention_truth(*rows, None, 64**-0.5)
                    self.assertNotEqual(full.wrong(o[0, :, head], full.lse), "")
