"""Choosers against plain loops on a tiny, ragged grid with text; budgets, what is held over a run, determinism."""

import itertools
import math
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
import draftattention

from lab.model.masks import svg2
from lab.model.masks.exact import Oracle
from lab.model.masks.ranking import OfRun, keep_best, kept_count, shares_before
from lab.model.policies import CHOOSERS, POLICIES, Policy, PolicyAttention

GRID, REGION, STEPS, TEXT, DIM = (3, 5, 9), (2, 4), 10, 5, 6
VIDEO = math.prod(GRID)
CLIPS, HEADS = 2, 3
EACH = list(itertools.product(range(CLIPS), range(HEADS)))
BLOCK_POLICIES = ("draft", "oracle", "random", "adaspa", "xattention", "sol_attn", "svg")


def small(name, sparsity=0.7, **changes):
    if name == "sol_attn":
        changes = {"remainder": "pooled"} | changes
    return Policy(name, sparsity, region=REGION, **changes)


def inputs(seed=0):
    """q, k, v [2, 3, tokens, 6]: neighbours in a frame, and places over time, have something in common."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(3, CLIPS, HEADS, VIDEO + TEXT, DIM, generator=generator)
    frames, places = (torch.randn(3, CLIPS, HEADS, count, DIM, generator=generator) for count in (GRID[0], 45))
    common = torch.cat(
        [frames.repeat_interleave(45, dim=3) + places.repeat(1, 1, 1, GRID[0], 1), noise[..., :TEXT, :]], 3
    )
    return noise + common


def blocks_of(grid, region):
    """[[tokens] of each block], by plain arithmetic: frame by frame, row-major."""
    found = {}
    for token, (f, y, x) in enumerate(itertools.product(*map(range, grid))):
        found.setdefault((f, y // region[0], x // region[1]), []).append(token)
    return [found[place] for place in sorted(found)]


BLOCKS = blocks_of(GRID, REGION)


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b))


def softmax(row):
    weights = [math.exp(x - max(row)) for x in row]
    return [weight / math.fsum(weights) for weight in weights]


def mean(rows):
    return [math.fsum(column) / len(rows) for column in zip(*rows)]


def top(scores, count):
    """bool rows: the `count` highest of all, ties by row-major index."""
    flat = [(-value, i, j) for i, row in enumerate(scores) for j, value in enumerate(row)]
    kept = {(i, j) for _, i, j in sorted(flat)[:count]}
    return [[(i, j) in kept for j in range(len(row))] for i, row in enumerate(scores)]


def before(scores):
    """Rows: what of a row stands before each entry, as a share."""
    found = []
    for row in scores:
        order = sorted(range(len(row)), key=lambda j: (-row[j], j))
        sums = {column: math.fsum(row[j] for j in order[:place]) for place, column in enumerate(order)}
        found.append([sums[j] / math.fsum(row) for j in range(len(row))])
    return found


def keep_of_tokens(mask, blocks, order=None):
    """bool [tokens, tokens] of a mask of blocks of an order's places; text is kept."""
    keep = torch.ones(VIDEO + TEXT, VIDEO + TEXT, dtype=torch.bool)
    of_place = {place: number for number, block in enumerate(blocks) for place in block}
    order = list(range(VIDEO)) if order is None else order
    for a in range(VIDEO):
        for b in range(VIDEO):
            keep[order[a], order[b]] = mask[of_place[a]][of_place[b]]
    return keep


def attended(q, k, v, keep):
    """Of one head, float64."""
    logits = (q.double() @ k.double().T / math.sqrt(DIM)).masked_fill(~keep, -math.inf)
    return torch.softmax(logits, dim=-1) @ v.double()


class Masks(unittest.TestCase):
    def setUp(self):
        self.q, self.k, self.v = inputs()

    def hook(self, policy, **more):
        return PolicyAttention(policy, GRID, TEXT, STEPS, **more)

    def chosen(self, policy, layer=0, step=5):
        return self.hook(policy).choose(self.q, self.k, self.v, layer, step)

    def rows(self, at):
        return self.q[at].double().tolist(), self.k[at].double().tolist()

    def test_budgets_are_met_and_runs_repeat(self):
        for name in BLOCK_POLICIES:
            for sparsity in (0.5, 0.9):
                mask = self.chosen(small(name, sparsity)).mask
                blocks = mask.shape[-1]
                counts = mask.flatten(-2).sum(-1).flatten().tolist()
                wanted = kept_count(sparsity, blocks**2)
                wanted = blocks * kept_count(sparsity, blocks) if name == "adaspa" else wanted
                self.assertEqual(set(counts), {wanted}, name)
                self.assertTrue(torch.equal(mask, self.chosen(small(name, sparsity)).mask))
        for name in POLICIES[1:]:
            o = [self.hook(small(name))(self.q, self.k, self.v, layer=1, step=4) for _ in range(2)]
            self.assertTrue(torch.equal(*o), name)
            self.assertEqual(o[0].shape, self.q.shape)

    def test_a_clip_s_mask_does_not_depend_on_its_neighbours(self):
        for name in ("svg", "xattention", "sol_attn", "adaspa"):
            both = self.chosen(small(name)).mask.expand(CLIPS, HEADS, -1, -1)
            alone = self.hook(small(name)).choose(self.q[1:], self.k[1:], self.v[1:], 0, 5).mask
            self.assertTrue(torch.equal(both[1:], alone.expand(1, HEADS, -1, -1)), name)

    def test_xattention(self):
        stride, zero = 8, [0.0] * DIM
        for region in (REGION, (4, 5)):  # the second with two or three chunks a block
            policy = Policy("xattention", 0.7, region=region)
            chooser, blocks = CHOOSERS["xattention"](policy, GRID, TEXT, STEPS), blocks_of(GRID, region)
            scores, mask = chooser.scores(self.q, self.k), chooser(self.q, self.k, self.v, 0, 5).mask
            for at in EACH:
                q, k = self.rows(at)
                chunks = [
                    (number, (block[first : first + stride] + [None] * stride)[:stride])
                    for number, block in enumerate(blocks)
                    for first in range(0, len(block), stride)
                ]
                wanted = [[0.0] * len(blocks) for _ in blocks]
                for i, chunk in chunks:
                    logits = []
                    for _, other in chunks:
                        pairs = zip(reversed(chunk), other)
                        logits.append(
                            sum(dot(zero if a is None else q[a], zero if b is None else k[b]) for a, b in pairs)
                            / (stride * math.sqrt(DIM))
                        )
                    for (j, _), share in zip(chunks, softmax(logits)):
                        wanted[i][j] += share
                self.assertLessEqual((scores[at].double() - torch.tensor(wanted)).abs().max().item(), 1e-4)
                ranks = [[-share for share in row] for row in before(wanted)]
                self.assertEqual(mask[at].tolist(), top(ranks, kept_count(0.7, len(blocks) ** 2)))

    def test_sol(self):
        mask = self.chosen(small("sol_attn")).mask
        for at in EACH:
            q, k = ([mean([rows[token] for token in block]) for block in BLOCKS] for rows in self.rows(at))
            scale, centre = 1 / math.sqrt(DIM), mean(k)
            variance = [math.fsum((row[c] - centre[c]) ** 2 for row in k) / len(k) for c in range(DIM)]
            scores = []
            for i, row in enumerate(q):
                logits = [scale * dot(row, key) for key in k]
                middle = math.fsum(logits) / len(logits)
                squared = scale**2 * math.fsum(x * x * spread for x, spread in zip(row, variance))
                deviation = math.sqrt(squared + 1e-6 * math.log(2) ** 2)
                scores.append([math.inf if abs(i - j) <= 1 else (x - middle) / deviation for j, x in enumerate(logits)])
            self.assertEqual(mask[at].tolist(), top(scores, kept_count(0.7, len(BLOCKS) ** 2)))

    def test_svg(self):
        """Every kind by loops: profile bands in each order, errors of the drawn rows, the band that is computed."""
        policy = small("svg", dense_steps=0.0)
        size, frame = REGION[0] * REGION[1], GRID[1] * GRID[2]
        orders = [list(range(VIDEO)), sorted(range(VIDEO), key=lambda token: (token % frame, token // frame))]
        chooser = CHOOSERS["svg"](policy, GRID, TEXT, STEPS)
        temporal = chooser.temporal(self.q, self.k, self.v, 1, 4)
        self.assertEqual(len(set(temporal.flatten().tolist())), 2, "wanted heads of both kinds")
        generator = torch.Generator().manual_seed(4001)
        rows = torch.randint(VIDEO, (64,), generator=generator).tolist()
        width = int(1.5 * frame / size)
        bands = []
        for order in orders:
            block = {token: place // size for place, token in enumerate(order)}
            keep = torch.ones(VIDEO + TEXT, VIDEO + TEXT, dtype=torch.bool)
            for a, b in itertools.product(range(VIDEO), repeat=2):
                keep[a, b] = abs(block[a] - block[b]) < width
            bands.append(keep)
        for at in EACH:
            whole = attended(self.q[at], self.k[at], self.v[at], torch.ones_like(bands[0]))[rows]
            errors = [
                (attended(self.q[at], self.k[at], self.v[at], band)[rows] - whole).square().mean() for band in bands
            ]
            self.assertEqual(bool(temporal[at]), bool(errors[1] < errors[0]))
        places = [list(range(first, min(first + size, VIDEO))) for first in range(0, VIDEO, size)]
        count = kept_count(policy.sparsity, len(places) ** 2)
        band = top([[-abs(i - j) for j in range(len(places))] for i in range(len(places))], count)
        o = self.hook(policy)(self.q, self.k, self.v, layer=1, step=4)
        for at in EACH:
            keep = keep_of_tokens(band, places, orders[int(temporal[at])])
            wanted = attended(self.q[at], self.k[at], self.v[at], keep)
            self.assertLessEqual((o[at].double() - wanted).abs().max().item(), 1e-4)

    def test_svg_of_equal_errors_is_spatial(self):
        zero = torch.zeros_like(self.v)
        chooser = CHOOSERS["svg"](small("svg"), GRID, TEXT, STEPS)
        self.assertFalse(chooser.temporal(self.q, self.k, zero, 0, 5).any())

    def test_adaspa_searches_at_two_steps_and_keeps_between(self):
        chooser = CHOOSERS["adaspa"](small("adaspa"), GRID, TEXT, STEPS)
        oracle = Oracle(small("oracle", rule="row"), GRID, TEXT, STEPS)
        new, other = inputs(1)[:2], inputs(2)[:2]

        def mask(rows, step, layer=0):
            return chooser.mask(*rows, layer, step)

        first = oracle.mask(self.q, self.k, 0, 3)
        self.assertTrue(torch.equal(mask((self.q, self.k), 3), first))
        for step in (4, 5):
            self.assertTrue(torch.equal(mask(new, step), first))
        self.assertTrue(torch.equal(mask(new, 6), oracle.mask(*new, 0, 6)))  # after 3/5 of 10 steps
        self.assertTrue(torch.equal(mask(other, 9), oracle.mask(*new, 0, 6)))
        self.assertTrue(torch.equal(mask(other, 3), oracle.mask(*other, 0, 3)))  # another run
        self.assertTrue(torch.equal(mask(new, 4, layer=1), oracle.mask(*new, 1, 4)))
        self.assertEqual(len(mask([x[:1] for x in new], 5)), 1)  # fewer clips: another run

    def test_a_remainder_is_draftattention_s(self):
        for name in ("draft", "sol_attn", "xattention"):
            policy = small(name, remainder="pooled", dense_steps=0.0)
            mask = self.chosen(policy, step=0).mask
            o = self.hook(policy)(self.q, self.k, self.v, layer=0, step=0)
            named = dict(text_tokens=TEXT, region=REGION)
            wanted, without = (
                draftattention.block_attention(self.q, self.k, self.v, GRID, mask, **named, remainder=word)
                for word in ("pooled", None)
            )
            self.assertTrue(torch.equal(o, wanted))
            self.assertFalse(torch.equal(o, without))

    def test_heads_that_are_left_out_keep_all(self):
        dense = torch.nn.functional.scaled_dot_product_attention(self.q, self.k, self.v)
        for name in ("svg", "xattention"):
            hook = self.hook(small(name, heads="diffuse"), diffuse={(0, 1)})
            o = hook(self.q, self.k, self.v, layer=0, step=5)
            self.assertLessEqual((o[:, [0, 2]] - dense[:, [0, 2]]).abs().max().item(), 1e-5, name)
            self.assertGreater((o[:, 1] - dense[:, 1]).abs().max().item(), 1e-3, name)

    def test_a_probe_sees_each_policy_s_blocks(self):
        for name in POLICIES[1:]:
            seen = []
            hook = self.hook(small(name), probe=lambda *rows, layer, step: seen.append(rows))
            o = hook(self.q, self.k, self.v, layer=0, step=5)
            q, k, v, its, mask = seen[0]
            if name == "svg2":
                self.assertIsInstance(mask, svg2.Clusters)
                continue
            regions = hook.regions("cpu")
            self.assertEqual(mask.shape, (CLIPS, HEADS, regions.video, regions.video))
            keep = torch.ones(regions.video + 1, regions.video + 1, dtype=torch.bool)
            keep[:-1, :-1] = mask[1, 2]
            if name != "sol_attn":
                wanted = attended(q[1, 2], k[1, 2], v[1, 2], keep[regions.ids][:, regions.ids])
                self.assertLessEqual((its[1, 2].double() - wanted).abs().max().item(), 1e-4, name)
            self.assertLessEqual((its.sum(2) - o.sum(2)).abs().max().item(), 1e-3)  # the same rows in another order


class Clusters(unittest.TestCase):
    """svg2, with 4 and 6 clusters."""

    def setUp(self):
        self.q, self.k, self.v = inputs()
        patch = mock.patch.object(svg2, "CLUSTERS", [round(count * svg2.TOKENS / VIDEO) for count in (4, 6)])
        patch.start()
        self.addCleanup(patch.stop)
        self.chooser = CHOOSERS["svg2"](small("svg2"), GRID, TEXT, STEPS)
        self.assertEqual(self.chooser.clusters(), [4, 6])

    def test_numbers_of_clusters_are_scaled(self):
        with mock.patch.object(svg2, "CLUSTERS", (400, 1000)):
            chooser = CHOOSERS["svg2"](Policy("svg2", 0.9), (8, 32, 48), 16, 30)
            self.assertEqual(chooser.clusters(), [41, 103])

    def test_k_means_is_that_of_plain_loops(self):
        """Given float64 and centroids of which one gets no tokens, claim: ids, sizes and centroids of Lloyd's algorithm."""
        rows = self.k[0, 1, :VIDEO].double()
        start = torch.cat([rows[[3, 40, 77]], torch.full((1, DIM), 99.0)])
        ids, counts, centroids = svg2.cluster(rows[None], start[None], 4)
        points, at = rows.tolist(), start.tolist()
        for _ in range(4):
            near = [min(range(4), key=lambda c: math.dist(point, at[c])) for point in points]
            members = [[point for point, c in zip(points, near) if c == number] for number in range(4)]
            at = [mean(group) if group else old for group, old in zip(members, at)]
        self.assertEqual(ids[0].tolist(), near)
        self.assertEqual(counts[0].tolist(), [len(group) for group in members])
        self.assertEqual(len(members[3]), 0)
        self.assertLessEqual((centroids[0] - torch.tensor(at, dtype=torch.float64)).abs().max().item(), 1e-12)

    def test_pairs_are_those_of_bisection(self):
        """Claim: kept are, by row, the largest up to some share p, one p for all rows, at least a tenth of them; and the
        budget is passed by less than one pair of clusters."""
        generator = torch.Generator().manual_seed(3)
        queries, keys = torch.randn(5, 4, generator=generator), torch.randn(20, 4, generator=generator)
        of_queries = torch.randint(1, 30, (5,), generator=generator).float()
        of_keys = torch.randint(0, 9, (20,), generator=generator).float()
        for sparsity in (0.3, 0.6, 0.8):
            keep = svg2.keep_pairs(queries, keys, of_queries, of_keys, 0.5, sparsity)
            p = [
                [n * math.exp(0.5 * dot(query, key)) for key, n in zip(keys.tolist(), of_keys.tolist())]
                for query in queries.tolist()
            ]
            shares = before(p)

            def at(tau):
                least = [sorted(row)[1] for row in shares]  # of 20 clusters 2
                return [[x <= tau or x <= low for x in row] for row, low in zip(shares, least)]

            def area(mask):
                sizes = of_queries.double()[:, None] * of_keys.double()
                return (sizes * torch.tensor(mask)).sum().item() / (of_queries.sum() * of_keys.sum()).item()

            low, high = 0.0, 1.0
            for _ in range(100):
                middle = (low + high) / 2
                low, high = (low, middle) if area(at(middle)) >= 1 - sparsity else (middle, high)
            self.assertEqual(keep.tolist(), at(high))
            self.assertGreaterEqual(area(keep.tolist()), 1 - sparsity - 1e-9)

    def test_attention_is_exact_over_the_kept_pairs(self):
        hook = PolicyAttention(small("svg2"), GRID, TEXT, STEPS)
        o = hook(self.q, self.k, self.v, layer=1, step=3)
        kept = self.chooser(self.q, self.k, self.v, 1, 3)
        largest = 0.0
        for at in EACH:
            ids, others, table = kept.query_ids[at].tolist(), kept.key_ids[at].tolist(), kept.keep[at].tolist()
            self.assertEqual((set(ids[VIDEO:]), set(others[VIDEO:])), ({4}, {6}))
            self.assertTrue(all(table[4]) and all(row[6] for row in table))
            keep = torch.tensor([[table[a][b] for b in others] for a in ids])
            wanted = attended(self.q[at], self.k[at], self.v[at], keep)
            self.assertLessEqual((o[at].double() - wanted).abs().max().item(), 1e-5)
            described = kept[at].describe(self.q[at], self.k[at], rows=50)
            p = torch.softmax(self.q[at].double() @ self.k[at].double().T / math.sqrt(DIM), -1)
            self.assertAlmostEqual(described["attention_recall"], (p * keep)[:VIDEO].sum().item() / VIDEO, delta=1e-5)
            share = keep[:VIDEO, :VIDEO].double().mean().item()
            self.assertAlmostEqual(described["kept_share"], share, delta=1e-9)
            largest = max(ids[:VIDEO].count(a) * others[:VIDEO].count(b) / VIDEO**2 for a in range(4) for b in range(6))
            self.assertTrue(0.3 - 1e-9 <= share < 0.3 + largest)
            empty = (~keep[:VIDEO, :VIDEO].any(1)).double().mean().item()
            self.assertAlmostEqual(described["empty_rows_share"], empty, delta=1e-9)

    def test_heads_that_are_left_out_keep_all(self):
        dense = torch.nn.functional.scaled_dot_product_attention(self.q, self.k, self.v)
        hook = PolicyAttention(small("svg2", heads="diffuse"), GRID, TEXT, STEPS, diffuse={(0, 1)})
        o = hook(self.q, self.k, self.v, layer=0, step=5)
        self.assertLessEqual((o[:, [0, 2]] - dense[:, [0, 2]]).abs().max().item(), 1e-5)
        self.assertGreater((o[:, 1] - dense[:, 1]).abs().max().item(), 1e-3)

    def test_later_steps_start_from_the_step_before(self):
        iterations = []

        def spy(rows, centroids, count):
            iterations.append(count)
            return original(rows, centroids, count)

        original = svg2.cluster
        with mock.patch.object(svg2, "cluster", spy):
            for layer, step in ((0, 3), (1, 3), (0, 4), (1, 4), (0, 3)):
                self.chooser(self.q, self.k, self.v, layer, step)
        self.assertEqual(iterations, [50] * 4 + [2] * 4 + [50] * 2)
        seeds = [
            CHOOSERS["svg2"](small("svg2", seed=seed), GRID, TEXT, STEPS).random_tokens((self.q, self.k), 0, 3)
            for seed in (0, 1)
        ]
        self.assertFalse(torch.equal(seeds[0][0], seeds[1][0]))
        self.assertTrue((seeds[0][0][1, 2, 0] == self.q[1, 2]).all(-1).any())


class Ranking(unittest.TestCase):
    def test_of_equal_scores_the_lower_index_comes_first(self):
        scores = torch.tensor([[[1.0, 2.0], [2.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
        self.assertEqual(keep_best(scores, 0.5).tolist(), [[[False, True], [True, False]], [[True, True], [False] * 2]])
        by_row = [[[False, True], [True, False]], [[True, False]] * 2]
        self.assertEqual(keep_best(scores, 0.5, by_row=True).tolist(), by_row)

    def test_shares_before(self):
        found = shares_before(torch.tensor([[1.0, 4.0, 3.0], [2.0, 2.0, 0.0]]))
        self.assertEqual(found.tolist(), [[7 / 8, 0.0, 4 / 8], [0.0, 0.5, 1.0]])

    def test_what_is_held_ends_with_its_run(self):
        held = OfRun()
        self.assertIsNone(held.get(0, 3, 2))
        held.set(0, 3, 2, "a")
        self.assertEqual(held.get(0, 4, 2), "a")
        for layer, step, clips in ((0, 3, 2), (0, 1, 2), (0, 4, 1), (1, 4, 2)):
            self.assertIsNone(held.get(layer, step, clips))
