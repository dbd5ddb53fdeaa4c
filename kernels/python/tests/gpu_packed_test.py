"""packed_attention on a GPU: bit for bit what the kernels give for tokens that were moved by hand, on the CPU."""

import math

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from gpu_cases import GpuTest
from torch_packed_test import blocks, lengths

REGION = (4, 4)  # torch_packed_test's
# spans in order, what the ellipsis stands for, the grid of the tokens by block
CASES = [
    ([5, (2, 6, 10)], 0, (2, 6, 10)),
    ([(1, 8, 12), 5, (2, 8, 12), ...], 2, (3, 8, 12)),
    ([3, (2, 4, 8), ..., (1, 8, 12)], 7, (1, 1, 160)),
]


class Packed(GpuTest):
    def test_moved_tokens_are_the_kernels_own(self):
        for spans, rest, grid in CASES:
            tokens = sum(lengths(spans, rest))
            labels = blocks(spans, rest)
            generator = torch.Generator().manual_seed(tokens)
            q, k, v = torch.randn((3, 1, 2, tokens, 64), generator=generator).bfloat16().cuda()
            one_row = grid[0] == grid[1] == 1
            video = [token for token in range(tokens) if labels[token] >= 0]
            if one_row:  # in region order: by block, and within it as they stand
                video.sort(key=lambda token: int(labels[token]))
            order = torch.tensor(video + [token for token in range(tokens) if labels[token] < 0]).cuda()
            region = (1, math.prod(REGION)) if one_row else REGION
            for sparsity in (0.0, 0.6):
                found = da.packed_attention(q, k, v, spans, sparsity=sparsity, region=REGION)
                rows = (x[:, :, order].contiguous() for x in (q, k, v))
                moved = da.draft_attention(*rows, grid, sparsity=sparsity, region=region)
                wanted = torch.empty_like(moved)
                wanted[:, :, order] = moved
                self.assertTrue(torch.equal(found, wanted), (spans, sparsity))
                self.assertFalse(torch.equal(found, moved))
