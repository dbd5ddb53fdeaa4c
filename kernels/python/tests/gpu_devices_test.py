"""Several GPUs in one process: tensors on a GPU that is not PyTorch's current one."""

import unittest

import pytest

torch = pytest.importorskip("torch")
diffusers_cases = pytest.importorskip("diffusers_cases", reason="no diffusers")

import draftattention as da
from draftattention.diffusers import apply_draft_attention
from gpu_cases import CASES, GpuTest, inputs


class Devices(GpuTest):
    """Given GPUs of one kind, and the first one current, claim: the second one gives the same bits."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        count = torch.cuda.device_count()
        if count < 2:
            raise unittest.SkipTest(f"needs 2 GPUs, found {count}")
        names = [torch.cuda.get_device_name(device) for device in range(2)]
        if names[0] != names[1]:
            raise unittest.SkipTest(f"needs 2 GPUs of one kind, found {' and '.join(names)}")

    def setUp(self):
        torch.cuda.set_device(0)

    def results(self, case, q, k, v, mask, kernel):
        """Of everything that launches kernels, on the CPU."""
        _, grid, region, *_ = case
        named = {"region": region, "kernel": kernel}
        lists = da.draft_lists(q, k, grid, region, sparsity=0.5)
        o, lse = da.attention(q, k, v, grid, region, lists, kernel)
        whole = da.draft_attention(q[None], k[None], v[None], grid, sparsity=0.5, **named)
        pooled = da.draft_attention(q[None], k[None], v[None], grid, sparsity=0.5, region=region, remainder="pooled")
        masked = da.block_attention(q[None], k[None], v[None], grid, mask, **named)
        moved = da.from_region_order(da.to_region_order(q, grid, region), grid, region)
        found = [lists.order, lists.counts, lists.mask, o, lse, whole, pooled, masked, moved]
        self.assertEqual({x.device for x in found}, {q.device})
        return [x.cpu() for x in found]

    def test_kernels(self):
        for case in CASES[:3]:
            first = inputs(case)
            second = [x.to("cuda:1") for x in first]
            for kernel in self.here:
                wanted = self.results(case, *first, kernel)
                for _ in range(2):  # back and forth
                    for tensors in (second, first):
                        found = self.results(case, *tensors, kernel)
                        self.assertEqual(torch.cuda.current_device(), 0)
                        for ours, theirs in zip(found, wanted, strict=True):
                            self.assertTrue(torch.equal(ours, theirs), kernel)
                other = self.results(case, 2 * second[0], *second[1:], kernel)
                self.assertFalse(torch.equal(other[3], wanted[3]))

    def test_the_current_stream_is_that_of_the_tensors_gpu(self):
        case = CASES[0]
        q, k, v, mask = (x.to("cuda:1") for x in inputs(case))
        wanted = self.results(case, q, k, v, mask, self.here[0])
        stream = torch.cuda.Stream("cuda:1")
        stream.wait_stream(torch.cuda.current_stream(1))
        with torch.cuda.stream(stream), torch.cuda.device(0):
            found = self.results(case, q, k, v, mask, self.here[0])
        for ours, theirs in zip(found, wanted, strict=True):
            self.assertTrue(torch.equal(ours, theirs))

    def test_pipelines(self):
        for make in (diffusers_cases.wan, diffusers_cases.hunyuan):
            found = []
            for device in ("cuda:0", "cuda:1"):
                case = make(head_dim=64).to(device, torch.bfloat16)
                dense = case.run()
                with apply_draft_attention(
                    case.pipeline, sparsity=0.7, region=(4, 4), dense_steps=0.5, strict=True
                ) as control:
                    found.append(case.run())
                self.assertEqual(found[-1].device, torch.device(device))
                self.assertGreater(control.sparse_calls, 0)
                self.assertFalse(torch.equal(found[-1], dense))
                self.assertEqual(torch.cuda.current_device(), 0)
            self.assertTrue(torch.equal(found[0].cpu(), found[1].cpu()), make.__name__)


if __name__ == "__main__":
    unittest.main()
