"""What the tests on a GPU share: calls to make, and their skipping where there is no GPU."""

import math
import unittest

import draftattention as da
import torch
from truth import blocks_of_tokens

# heads, grid, region, text, head_dim, element: ragged ones, one token, text alone behind, regions of other sizes
CASES = [
    (2, (2, 9, 17), (8, 16), 77, 128, torch.bfloat16),
    (3, (2, 16, 32), (8, 16), 0, 64, torch.float16),
    (2, (3, 20, 24), (8, 16), 130, 128, torch.float16),
    (1, (1, 1, 1), (8, 16), 0, 64, torch.bfloat16),
    (2, (2, 11, 13), (4, 8), 5, 64, torch.bfloat16),
]


class GpuTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not torch.cuda.is_available():
            raise unittest.SkipTest("no GPU is visible to PyTorch")
        # Those that multiply numbers of the element type; gpu_8bit_test.py has the others.
        cls.here = [row["name"] for row in da.kernels() if row["here"] == "" and not row["eight_bit"]]


def inputs(case, seed=0):
    """q, k, v of a case, and a random mask with an empty row and a full one. Regions differ in their means, so that
    draft scores differ by more than rounding."""
    heads, grid, region, text, dim, dtype = case
    generator = torch.Generator().manual_seed(seed)
    blocks = blocks_of_tokens(grid, region, text)
    means = torch.randn((3, heads, int(blocks.max()) + 1, dim), generator=generator)
    noise = torch.randn((3, heads, len(blocks), dim), generator=generator)
    q, k, v = (noise + means[:, :, blocks]).to(dtype).cuda()
    regions = int(blocks[: math.prod(grid)].max()) + 1
    mask = torch.rand((heads, regions, regions), generator=generator) < 0.4
    mask[:, 0], mask[:, -1] = True, False
    return q, k, v, mask.cuda()
