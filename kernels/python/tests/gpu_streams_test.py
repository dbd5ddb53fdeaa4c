"""draftattention on a GPU: which stream its work goes to, graphs, and what it refuses."""

import math

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from gpu_cases import CASES, GpuTest, inputs

SLEEP = 400_000_000  # cycles, about 0.2 s: the host is through with what it enqueues long before


class Streams(GpuTest):
    """Given inputs that arrive late on a stream of their own, claim: all work waits for them, the host does not."""

    def steps(self, q, k, v, case, kernel):
        """Everything that takes no answer from the GPU."""
        _, grid, region, _, _, _ = case
        lists = da.draft_lists(q, k, grid, region, sparsity=0.5, check=False)
        o, lse = da.attention(q, k, v, grid, region, lists, kernel)
        rows = [da.to_region_order(x, grid, region) for x in (q, k, v)]
        ordered, _ = da.attention(*rows, grid, region, lists, kernel, region_order=True)
        return [o, lse, da.from_region_order(ordered, grid, region)]

    def test_work_goes_to_the_current_stream_and_the_host_does_not_wait(self):
        case = CASES[0]
        q, k, v, _ = inputs(case)
        for kernel in self.here:
            expected = self.steps(q, k, v, case, kernel)
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                self.steps(q, k, v, case, kernel)  # loads kernels and fills PyTorch's store of memory
                late = [torch.full_like(x, math.nan) for x in (q, k, v)]
                stream.synchronize()
                torch.cuda._sleep(SLEEP)
                for to, x in zip(late, (q, k, v)):
                    to.copy_(x)
                found = self.steps(*late, case, kernel)
                done = stream.record_event()
            self.assertFalse(done.query(), "the host waited for the stream")
            stream.synchronize()
            for left, right in zip(found, expected):
                self.assertTrue(torch.equal(left, right), kernel)

    def test_a_graph_holds_the_whole_of_it(self):
        case = CASES[0]
        q, k, v, _ = inputs(case)
        for kernel in set(self.here) - {"blas"}:  # cuBLAS wants memory of its own kind within a graph
            expected = self.steps(q, k, v, case, kernel)
            late = [torch.zeros_like(x) for x in (q, k, v)]
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                found = self.steps(*late, case, kernel)
            for to, x in zip(late, (q, k, v)):
                to.copy_(x)
            graph.replay()
            torch.cuda.synchronize()
            for left, right in zip(found, expected):
                self.assertTrue(torch.equal(left, right), kernel)


class Refusals(GpuTest):
    def test_each_names_the_thing_the_wanted_and_the_found(self):
        case = CASES[0]
        q, k, v, mask = inputs(case)
        grid, region, text = case[1], case[2], case[3]
        other = da.lists_from_mask(mask[:1].contiguous(), grid, region, text)
        wide = torch.zeros((1, 128, 96), dtype=torch.float16, device="cuda")
        shifted = torch.zeros(q.numel() + 1, dtype=q.dtype, device="cuda")[1:].view(q.shape)
        for call, message in [
            (lambda: da.attention(q, k.cpu(), v, grid), "k: wanted a tensor on cuda:0, found cpu"),
            (lambda: da.attention(q, k, v[:1], grid), "v: wanted shape"),
            (lambda: da.attention(q, k, v, (99, 9, 17)), "grid: wanted at most the 383 tokens of q"),
            (lambda: da.attention(q, k, v, grid, lists=other), "lists: heads: wanted 2, found 1"),
            (lambda: da.attention(q, k, v, grid, kernel="fast"), "kernel: wanted one of mma.*found fast"),
            (
                lambda: da.attention(q, k, v, grid, kernel="mma", scale=-1.0),
                "scale: wanted a finite number above 0, .*, found -1.0",
            ),
            (lambda: da.attention(wide, wide, wide, (1, 8, 16), kernel="mma"), "wants head_dim 64 or 128, found"),
            (lambda: da.attention(shifted, k, v, grid, kernel="mma"), "q: wanted a device pointer aligned to 16"),
            (lambda: da.attention(q, k, v, grid, out=q), "out: wanted memory apart from q's"),
            (lambda: da.draft_lists(q, k, grid, rule="best"), "rule: wanted one of logits.*found best"),
            (lambda: da.draft_lists(q, k, grid, pool="min"), "pool: wanted one of avg, max, found min"),
            (lambda: da.draft_lists(q, k, grid, sparsity=1.0), "sparsity: wanted at least 0 and below 1"),
            (lambda: da.to_region_order(q, grid, out=q), "out: wanted memory apart from x's"),
        ]:
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                call()
