"""What of draftattention needs no GPU: layouts, lists of masks, the table of kernels, and what is refused."""

import unittest

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from draftattention import _checks, _dropin, _kernels
from truth import blocks_of_tokens, full_mask

# grid, region, text
CASES = [
    ((1, 1, 1), (8, 16), 0),
    ((2, 9, 17), (8, 16), 77),
    ((3, 16, 32), (8, 16), 128),
    ((2, 5, 7), (2, 3), 13),
    ((1, 4, 4), (8, 16), 1),
]


def random_mask(grid, region, heads, seed):
    """Row lengths from none to all: each row has its own share."""
    regions = int(blocks_of_tokens(grid, region, 0).max()) + 1
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand((heads, regions, 1), generator=generator)
    mask = torch.rand((heads, regions, regions), generator=generator) < share
    mask[:, regions // 2] = False
    return mask


def check_lists(test, lists, mask, grid, region, text):
    """Every number of the lists against plain loops over the mask."""
    for head in range(mask.shape[0]):
        kept = full_mask(mask[head], grid, region, text).tolist()
        rows = [[column for column, keep in enumerate(row) if keep] for row in kept]
        test.assertEqual(lists.counts[head].tolist(), [len(row) for row in rows])
        for row, columns in enumerate(rows):
            test.assertEqual(lists.columns[head, row, : len(columns)].tolist(), columns)
        test.assertEqual(lists.order[head].tolist(), sorted(range(len(rows)), key=lambda row: -len(rows[row])))


class Layouts(unittest.TestCase):
    def test_counts_are_those_of_plain_loops(self):
        for grid, region, text in CASES:
            layout = _checks.make_layout(2, grid, region, text, 64)
            blocks = blocks_of_tokens(grid, region, text)
            self.assertEqual((layout.tokens, layout.blocks), (len(blocks), int(blocks.max()) + 1))
            self.assertEqual((layout.video, layout.text), (len(blocks) - text, text))
            self.assertEqual(layout.regions, int(blocks[: layout.video].max()) + 1)

    def test_what_the_kernels_cannot_do_is_refused(self):
        for arguments, message in [
            ((1, (1, 8, 16), (8, 16), 0, 100), "head_dim must be a multiple of 8, found 100"),
            ((0, (1, 8, 16), (8, 16), 0, 64), "heads must be from 1 to 65535, found 0"),
            ((1, (200, 64, 128), (8, 8), 0, 64), "blocks must be from 1 to 12000, found 25600"),
        ]:
            with self.assertRaisesRegex(ValueError, message):
                _checks.make_layout(*arguments)


class Lists(unittest.TestCase):
    def test_lists_of_a_mask_are_those_of_plain_loops(self):
        for seed, (grid, region, text) in enumerate(CASES):
            mask = random_mask(grid, region, 3, seed)
            lists = da.lists_from_mask(mask, grid, region, text)
            check_lists(self, lists, mask, grid, region, text)
            self.assertEqual(
                [lists.columns.dtype, lists.counts.dtype, lists.order.dtype], [torch.int16, torch.int32, torch.int16]
            )
            self.assertEqual((lists.grid, lists.region, lists.text_tokens), (grid, region, text))

    def test_the_check_can_fail(self):
        grid, region, text = CASES[1]
        mask = random_mask(grid, region, 1, 7)
        mask[0, 0, 0] = True
        lists = da.lists_from_mask(mask, grid, region, text)
        for wrong in ("columns", "counts", "order"):
            broken = da.lists_from_mask(mask, grid, region, text)
            getattr(broken, wrong).view(-1)[0] += 1
            with self.assertRaises(AssertionError):
                check_lists(self, broken, mask, grid, region, text)
        check_lists(self, lists, mask, grid, region, text)

    def test_wrong_masks_are_refused(self):
        mask = torch.ones((2, 4, 4), dtype=torch.bool)
        grid, region = (1, 16, 32), (8, 16)
        for arguments, message in [
            ((mask.float(), grid, region, 0), r"mask: wanted torch.bool, found torch.float32"),
            ((mask[:, :3, :3].contiguous(), grid, region, 0), r"mask: wanted .* \[any, 4, 4\], found \[2, 3, 3\]"),
            ((mask.transpose(1, 2)[:, :, ::2].expand(2, 4, 2), grid, region, 0), r"mask: wanted "),
            ((mask, grid, region, -1), r"text_tokens: wanted a whole number from 0 on, found -1"),
            ((mask, (16, 32), region, 0), r"grid: wanted \(frames, height, width\), .*, found \(16, 32\)"),
            ((mask, grid, (0, 16), 0), r"region: wanted \(height, width\), .*, found \(0, 16\)"),
            ((mask, (1.5, 16, 32), region, 0), r"grid: wanted .*, found \(1.5, 16, 32\)"),
        ]:
            with self.assertRaisesRegex(ValueError, message):
                da.lists_from_mask(*arguments)
        with self.assertRaisesRegex(TypeError, "mask: wanted a torch.Tensor, found list"):
            da.lists_from_mask([[True]], grid, region)


class Kernels(unittest.TestCase):
    def test_table(self):
        table = {row["name"]: row for row in da.kernels()}
        self.assertLessEqual({"mma", "wgmma", "wgmma_8bit", "blas"}, set(table))
        self.assertEqual(table["mma"]["supports"]["8.0"], (64, 128))
        self.assertLessEqual(set(table["wgmma"]["supports"]), {"9.0"})
        self.assertIn(96, table["blas"]["supports"]["12.0"])
        for row in table.values():
            self.assertTrue(row["summary"])
            self.assertEqual(row["here"] is None, not torch.cuda.is_available())

    def test_unknown_names_are_refused_with_the_known_ones(self):
        layout = _checks.make_layout(1, (1, 8, 16), (8, 16), 0, 64)
        with self.assertRaisesRegex(ValueError, "kernel: wanted one of mma, wgmma, wgmma_8bit, blas.*, found fast"):
            _kernels.unsupported("fast", layout, False, 90)

    def test_a_kernel_without_a_remainder_says_so(self):
        layout = _checks.make_layout(1, (1, 8, 16), (8, 16), 0, 64)
        self.assertEqual(_kernels.unsupported("blas", layout, False, 90), "")
        self.assertEqual(_kernels.unsupported("blas", layout, False, 90, True), "has no pooled remainder")
        self.assertEqual(_kernels.unsupported("mma", layout, False, 90, True), "")

    def test_a_kernel_of_contiguous_tensors_says_so(self):
        layout = _checks.make_layout(1, (1, 8, 16), (8, 16), 0, 128)
        found = {row["name"]: _kernels.unsupported(row["name"], layout, False, 90, False, True) for row in da.kernels()}
        self.assertEqual(found["blas"], "wants contiguous tensors")
        self.assertEqual(found["mma"], "")
        self.assertEqual({name: _dropin.takes_strides(name) for name in found}, {n: n != "blas" for n in found})


class Refusals(unittest.TestCase):
    """Of tensors; the device is looked at last, so that CPU tensors show everything else."""

    def setUp(self):
        self.q = torch.zeros((2, 200, 64), dtype=torch.bfloat16)

    def refused(self, message, call, *arguments, **named):
        with self.assertRaisesRegex(ValueError, message):
            call(*arguments, **named)

    def test_q(self):
        q, grid = self.q, (1, 8, 16)
        for wrong, message in [
            (q.float(), r"q: wanted torch.bfloat16 or torch.float16, found torch.float32"),
            (q[0], r"q: wanted 3 axes, \[heads, tokens, head_dim\], found 2, \[200, 64\]"),
            (q[:, :0], r"q: wanted no empty axis, found 0 tokens in \[2, 0, 64\]"),
            (q, r"q: wanted a tensor on a CUDA device, found cpu"),
        ]:
            self.refused(message, da.attention, wrong, q, q, grid)
            self.refused(message, da.draft_lists, wrong, q, grid)
            self.refused(message.replace("q:", "x:"), da.to_region_order, wrong, grid)
            self.refused(message.replace("q:", "x:"), da.from_region_order, wrong, grid)
        strides = r"q: wanted consecutive numbers in a row, .* multiples of 16 bytes .*, found strides \("
        for wrong, message in [
            (q.transpose(1, 2), strides),
            (q[:, :, :56], "found cpu"),
            (q[..., ::2], strides),
            (q.flatten()[: 2 * 199 * 60].view(2, 199, 60), strides),
            (q[:1].expand(2, 200, 64), strides),
            (q[:, :1].expand(2, 200, 64), strides),
            (q.view(200, 2, 64).transpose(0, 1), "found cpu"),
        ]:
            self.refused(message, da.attention, wrong, wrong, wrong, grid)
            self.refused(message, da.draft_lists, wrong, wrong, grid)
        for move in (da.to_region_order, da.from_region_order):
            self.refused("x: wanted a contiguous tensor, found strides", move, q.view(200, 2, 64).transpose(0, 1), grid)
        with self.assertRaisesRegex(TypeError, "q: wanted a torch.Tensor, found NoneType"):
            da.attention(None, q, q, grid)

    def test_gradients(self):
        q = self.q.requires_grad_()
        self.refused("q: wanted a tensor without gradients", da.attention, q, q, q, (1, 8, 16))
        with torch.no_grad():
            self.refused("found cpu", da.attention, q, q, q, (1, 8, 16))

    def test_k_is_like_q(self):
        require, q = _checks.require_rows, self.q
        self.refused(r"k: wanted torch.bfloat16, found torch.float16", require, "k", q.half(), like=q)
        self.refused(r"k: wanted shape \[2, 200, 64\], found \[1, 200, 64\]", require, "k", q[1:], like=q)
        self.refused(r"k: wanted a tensor on cpu, found meta", require, "k", q.to("meta"), like=q)
        require("k", q.clone(), like=q)

    def test_grid_holds_no_more_than_the_tokens(self):
        self.refused(
            "grid: wanted at most the 200 tokens of q, found 2 x 8 x 16 = 256",
            _checks.layout_of,
            "q",
            self.q,
            (2, 8, 16),
            (8, 16),
        )
        self.assertEqual(_checks.layout_of("q", self.q, (1, 8, 16), (8, 16)).text, 72)

    def test_overlaps(self):
        q = self.q
        self.refused(
            "out: wanted memory apart from q's, found an overlap", _checks.require_apart, "out", q[1:], {"q": q}
        )
        _checks.require_apart("out", q[1:], {"q": q[:1]})
        # Tokens outside heads: a view ends with its last number, not after as many as it has.
        pairs = torch.zeros((2, 200, 3, 64), dtype=torch.bfloat16).transpose(1, 2)
        _checks.require_apart("out", pairs[0], {"q": pairs[1]})
        self.refused("out: wanted memory apart", _checks.require_apart, "out", pairs[0, 1:], {"q": pairs[0, :1]})

    def test_lists_of_another_call(self):
        grid, region = (1, 16, 32), (8, 16)
        lists = da.lists_from_mask(torch.ones((2, 4, 4), dtype=torch.bool), grid, region, 5)
        cpu = torch.device("cpu")

        def fit(heads, text, its_grid, its_region, device):
            lists.require_fit(_checks.make_layout(heads, its_grid, its_region, text, 64), its_grid, its_region, device)

        fit(2, 5, grid, region, cpu)
        for arguments, message in [
            ((1, 5, grid, region, cpu), "lists: heads: wanted 1, found 2"),
            ((2, 6, grid, region, cpu), "lists: text tokens: wanted 6, found 5"),
            ((2, 5, (1, 32, 16), (16, 8), cpu), "lists: grid: wanted .*32, 16.*, found .*16, 32"),
            ((2, 5, grid, (16, 8), cpu), "lists: region: wanted .*16, 8.*, found .*8, 16"),
            ((2, 5, grid, region, torch.device("meta")), "lists: device: wanted meta, found cpu"),
        ]:
            self.refused(message, fit, *arguments)


class CompiledModule(unittest.TestCase):
    """Its own wall behind the package's checks: it takes CUDA memory of the right types and nothing else."""

    def test_cpu_memory_is_refused(self):
        layout = _checks.make_layout(1, (1, 8, 16), (8, 16), 0, 64)
        rows = torch.zeros((1, 128, 64), dtype=torch.bfloat16)
        with self.assertRaises(TypeError):
            _kernels.reorder(layout, _checks.capsule(rows), _checks.capsule(rows.clone()), 0)
