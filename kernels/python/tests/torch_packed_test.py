"""packed_attention: text, conditions and several segments of video in any order, held to a softmax under a mask that is
made token by token."""

import itertools
import math
import unittest

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from torch_cases import plain_selection
from truth import attention_truth, region_order

REGION, DIM, SPARSITY = (4, 4), 8, 0.6
# spans in order -> what the ellipsis stands for. Segments of one size, of several (dividing the region or not), between
# text and conditions.
CASES = [
    ([(2, 6, 10), 5], 0),
    ([5, (2, 6, 10)], 0),
    ([..., (2, 6, 10), 3], 4),
    ([(1, 6, 10), 5, (2, 6, 10), ...], 2),
    ([3, (2, 3, 5), (1, 6, 10), ..., (1, 8, 4)], 7),
    ([(2, 4, 8), (1, 8, 12)], 0),
]


def lengths(spans, rest):
    return [rest if span is ... else math.prod(span) if isinstance(span, tuple) else span for span in spans]


def blocks(spans, rest):
    """int64 [tokens]: each token's block, -1 for what is kept. By the definition: segments of one height and width are
    frames of one grid; others stand in region order, one behind another, 16 tokens a block."""
    found, video = [], []
    for span, count in zip(spans, lengths(spans, rest)):
        at = range(len(found), len(found) + count)
        found += [-1] * count
        if isinstance(span, tuple):
            video.append((span, at))
    if len({grid[1:] for grid, _ in video}) == 1:
        per_frame = math.prod(-(-size // step) for size, step in zip(video[0][0][1:], REGION))
        frame = 0
        for (frames, height, width), at in video:
            columns = -(-width // REGION[1])
            for token, (f, y, x) in zip(at, itertools.product(range(frames), range(height), range(width))):
                found[token] = (frame + f) * per_frame + y // REGION[0] * columns + x // REGION[1]
            frame += frames
    else:
        row = [at[token] for grid, at in video for token in region_order(grid, REGION, 0).tolist()]
        for number, token in enumerate(row):
            found[token] = number // math.prod(REGION)
    return torch.tensor(found)


def keep_of(q, k, labels, sparsity=SPARSITY):
    """bool [tokens, tokens] of one head: the draft mask between blocks, and all of what is kept."""
    count = int(labels.max()) + 1
    queries, keys = (torch.stack([x[labels == n].double().mean(dim=0) for n in range(count)]) for x in (q, k))
    scores = torch.softmax(queries @ keys.T / math.sqrt(q.shape[1]), dim=-1)
    keep = torch.tensor(plain_selection(scores.tolist(), "softmax", sparsity))[labels][:, labels]
    keep[labels < 0], keep[:, labels < 0] = True, True
    return keep


def inputs(spans, rest, heads=2, batch=2):
    tokens = sum(lengths(spans, rest))
    generator = torch.Generator().manual_seed(tokens)
    return torch.randn((3, batch, heads, tokens, DIM), generator=generator).double()


class Packed(unittest.TestCase):
    def test_any_order_in_both_layouts(self):
        for spans, rest in CASES:
            q, k, v = inputs(spans, rest)
            labels = blocks(spans, rest)
            o = da.packed_attention(q, k, v, spans, sparsity=SPARSITY, region=REGION)
            swapped = da.packed_attention(
                *(x.transpose(1, 2) for x in (q, k, v)), spans, sparsity=SPARSITY, region=REGION, layout="bnhd"
            )
            self.assertTrue(torch.equal(swapped.transpose(1, 2), o))
            shifted = labels.roll(1)
            for at in itertools.product(range(2), range(2)):
                with self.subTest(spans, at=at):
                    scale = 1 / math.sqrt(DIM)
                    truth = attention_truth(q[at], k[at], v[at], keep_of(q[at], k[at], labels), scale)
                    self.assertEqual(truth.wrong(o[at], truth.lse), "")
                    other = attention_truth(q[at], k[at], v[at], keep_of(q[at], k[at], shifted), scale)
                    self.assertNotEqual(other.wrong(o[at], other.lse), "")

    def test_one_grid_and_text_is_draft_attention(self):
        q, k, v = inputs([(2, 6, 10), 5], 0)
        for options in ({"remainder": "pooled"}, {"pool": "max", "rule": "row"}, {"sparsity": 0.0}):
            options = {"region": REGION} | options
            o = da.packed_attention(q, k, v, [(2, 6, 10), 5], **options)
            self.assertTrue(torch.equal(o, da.draft_attention(q, k, v, (2, 6, 10), text_tokens=5, **options)))

    def test_regions_that_divide_every_segment_are_blocks(self):
        """Given segments whose grids regions divide, claim: blocks are each segment's regions, numbered through."""
        spans = [(2, 4, 8), 3, (1, 8, 12)]
        labels = blocks(spans, 0)
        self.assertEqual(labels[: 4 * 2].tolist(), [0] * 4 + [1] * 4)
        self.assertEqual(labels[67:79].tolist(), [4] * 4 + [5] * 4 + [6] * 4)

    def test_refusals(self):
        q, k, v = inputs([(2, 6, 10), 5], 0)
        for spans, message in [
            ([(2, 6, 10)], "spans: wanted those of q's 125 tokens, found 2 x 6 x 10 = 120 tokens"),
            ([(2, 6, 10), 6], r"spans: .*found 2 x 6 x 10 \+ 6 = 126 tokens"),
            ([(3, 6, 10), ...], "spans: .*found 3 x 6 x 10 = 180 tokens and text"),
            ([125], "spans: wanted grids .* with at least one grid, found"),
            ([..., (2, 6, 10), ...], "spans: wanted .* at most one ellipsis"),
            ([(2, 6, 10), -5], "spans: wanted"),
            ([(2, 6, 10), True], "spans: wanted|grid: wanted"),
            ([(2, 6), 5], "grid: wanted"),
            (7, "spans: wanted .*found 7"),
        ]:
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                da.packed_attention(q, k, v, spans, region=REGION)
        with self.assertRaisesRegex(ValueError, "k: wanted q's 125 tokens, found 124"):
            da.packed_attention(q, k[:, :, 1:], v, [(2, 6, 10), 5])
        with self.assertRaisesRegex(ValueError, "q: wanted 4 axes"):
            da.packed_attention(q[0], k, v, [(2, 6, 10), 5])
