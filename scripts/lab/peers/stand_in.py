"""For tests: the module draftattention on the CPU, by plain loops and explicit softmax, and a clock."""

from types import SimpleNamespace
from unittest import mock

import torch


def order_of(grid, region):
    """Algorithm 1 by loops: positions in region order -> tokens, and each token's region."""
    frames, height, width = grid
    tokens, regions, number = [], {}, 0
    for frame in range(frames):
        for top in range(0, height, region[0]):
            for left in range(0, width, region[1]):
                for row in range(top, min(top + region[0], height)):
                    for column in range(left, min(left + region[1], width)):
                        token = (frame * height + row) * width + column
                        tokens.append(token)
                        regions[token] = number
                number += 1
    return tokens, [regions[token] for token in range(len(tokens))]


def token_mask(mask, grid, region, tokens):
    """[heads, regions, regions] -> [heads, tokens, tokens] in token order: text keeps all and is kept by all."""
    region_of = torch.tensor(order_of(grid, region)[1])
    video = len(region_of)
    full = torch.ones((mask.shape[0], tokens, tokens), dtype=torch.bool)
    full[:, :video, :video] = mask[:, region_of][:, :, region_of]
    return full


def explicit_attention(q, k, v, mask):
    """softmax(q k^T / sqrt(head_dim)) v over True entries of [heads, tokens, tokens], in float64; an empty row is 0."""
    logits = q.double() @ k.double().mT * q.shape[-1] ** -0.5
    return torch.softmax(logits.masked_fill(~mask, -torch.inf), -1).nan_to_num(0) @ v.double()


def kernels():
    return [{"name": name, "eight_bit": False} for name in ("blas", "mma", "wgmma")]


def attention(q, k, v, grid, region=(8, 16), lists=None, kernel="wgmma", region_order=False, out=None):
    if kernel == "blas":
        raise ValueError("blas: wanted a smaller call")
    everything = torch.ones((q.shape[0], q.shape[1], q.shape[1]), dtype=torch.bool)
    mask = everything if lists is None else token_mask(lists.mask, grid, region, q.shape[1])
    return explicit_attention(q, k, v, mask).to(q.dtype), None


def draft_lists(q, k, grid, region=(8, 16), pool="avg", rule="softmax", sparsity=0.9):
    """The kept blocks are random ones: who takes part does not matter to those who take them."""
    regions = order_of(grid, region)[1][-1] + 1
    generator = torch.Generator().manual_seed(7)
    return SimpleNamespace(mask=torch.rand((q.shape[0], regions, regions), generator=generator) >= sparsity)


def to_region_order(x, grid, region):
    order = order_of(grid, region)[0]
    return x[:, order + list(range(len(order), x.shape[1]))].contiguous()


class Clock:
    """Stands where GpuTimer does: runs the work; sample number n took n milliseconds."""

    l2_flush = 10

    def __init__(self):
        self.count = 0
        self.lost = False
        self.nvml = mock.Mock(driver=lambda: None, state=dict)

    def wait(self):
        if self.lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore words")

    def state(self):
        return {"sm_clock_mhz": 1000 + self.count}

    def sample(self, work):
        work()
        self.count += 1
        return float(self.count)
