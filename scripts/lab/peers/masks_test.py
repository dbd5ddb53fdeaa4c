"""Tests of the masks' forms against plain loops and explicit attention."""

import unittest

import pytest

torch = pytest.importorskip("torch")
from lab.peers import contenders, masks, stand_in
from lab.peers.contenders import Case, Unsupported
from lab.peers.inputs import BLOCK, REGION, Call

GRID, TEXT, HEADS, DIM = (2, 16, 32), 16, 2, 32  # 8 regions and a text block of 16 tokens


def small_call(grid=None, text=TEXT, dtype=None):
    grid = grid or GRID
    generator = torch.Generator().manual_seed(3)
    size = (HEADS, grid[0] * grid[1] * grid[2] + text, DIM)
    return Call(*(torch.randn(size, generator=generator).to(dtype or torch.float32) for _ in range(3)), grid, {})


def small_mask(call):
    """Half of the blocks, and a row that keeps nothing."""
    mask = torch.rand((HEADS, call.regions, call.regions), generator=torch.Generator().manual_seed(5)) < 0.5
    mask[0, 1] = False
    return mask


def in_region_order(call):
    return call.reordered(lambda rows: stand_in.to_region_order(rows, call.grid, REGION))


def wanted_output(call, mask):
    """Explicit attention over tokens in token order, then in region order: [heads, tokens, head_dim], float64."""
    full = stand_in.token_mask(mask, call.grid, REGION, call.tokens)
    return stand_in.to_region_order(stand_in.explicit_attention(call.q, call.k, call.v, full), call.grid, REGION)


def relative(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


def rounding(call):
    """Relative error that float32 explains: a logit of head_dim terms off by a roundoff each, at most the largest
    logit's size; sums over tokens; all to first order."""
    largest = (call.q @ call.k.mT).abs().max().item() * DIM**-0.5
    return torch.finfo(torch.float32).eps * (DIM * max(largest, 1) + call.tokens)


class Forms(unittest.TestCase):
    def test_text_is_kept_by_all_and_keeps_all(self):
        mask = small_mask(small_call())
        blocks = masks.with_text(mask, 2)
        for head in range(HEADS):
            for row in range(10):
                for column in range(10):
                    wanted = row >= 8 or column >= 8 or bool(mask[head, row, column])
                    self.assertEqual(bool(blocks[head, row, column]), wanted)

    def test_kept_columns_are_ascending_and_first(self):
        mask = small_mask(small_call())
        counts, columns = masks.kept_columns(mask)
        self.assertEqual((counts.dtype, columns.dtype), (torch.int32, torch.int32))
        for head in range(HEADS):
            for row in range(8):
                wanted = [column for column in range(8) if mask[head, row, column]]
                self.assertEqual(columns[head, row, : counts[head, row]].tolist(), wanted)
        self.assertEqual(counts[0, 1], 0)

    def test_flex_blocks_are_the_masks(self):
        call = small_call()
        wanted = masks.with_text(small_mask(call), call.text_blocks)
        form = masks.flex_block_mask(wanted, call.tokens)
        self.assertEqual(form.shape, (1, HEADS, call.tokens, call.tokens))
        self.assertEqual(form.BLOCK_SIZE, (BLOCK, BLOCK))
        self.assertTrue(torch.equal(form.to_dense()[0].bool(), wanted))
        self.assertFalse(form.kv_num_blocks.any())  # all whole ones
        with self.assertRaisesRegex(ValueError, "wanted 10 x 10 blocks for 1153 tokens, found 9 x 9"):
            masks.flex_block_mask(wanted, 9 * BLOCK + 1)

    def test_counts(self):
        for text in (0, 16, 200):
            call = small_call(text=text)
            mask = small_mask(call)
            blocks = masks.with_text(mask, call.text_blocks)
            found = masks.kept_metrics(call, mask)
            lengths = mask.sum(-1)
            self.assertEqual(found["kept_blocks"], int(mask.sum()))
            self.assertEqual(found["total_blocks"], mask.numel())
            self.assertEqual(found["kept_with_text"], int(blocks.sum()))
            self.assertEqual(found["all_blocks"], blocks.numel())
            self.assertEqual(found["empty_rows"], int((lengths == 0).sum()))
            self.assertGreaterEqual(found["empty_rows"], 1)
            self.assertEqual(found["row_blocks_max"], int(lengths.max()))
            self.assertAlmostEqual(found["row_blocks_mean"], lengths.double().mean().item())
            self.assertEqual(masks.kept_metrics(call, None), masks.kept_metrics(call, torch.ones_like(mask)))

    def test_regions_that_an_edge_cuts_are_no_slices(self):
        call = small_call(grid=(1, 12, 32))
        self.assertEqual(call.regions, 4)
        with self.assertRaisesRegex(Unsupported, "wanted a frame that 8 x 16 divides, found 12 x 32"):
            contenders.slices_of(call, Case(0.5, "softmax", "avg", small_mask(call)))
        self.assertEqual(contenders.slices_of(call, Case()).shape, (HEADS, 4, 4))  # 400 tokens, dense
