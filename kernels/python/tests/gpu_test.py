"""draftattention's results on a GPU, held to float64 (truth.py)."""

import math

import pytest

torch = pytest.importorskip("torch")

import draftattention as da
from gpu_cases import CASES, GpuTest, inputs
from truth import attention_truth, blocks_of_tokens, draft_scores, full_mask, region_order


def truths(case, q, k, v, mask):
    """The truth of each head; mask None: dense."""
    heads, grid, region, text, dim, _ = case
    blocks = blocks_of_tokens(grid, region, text).cuda()

    def keep(head):
        return None if mask is None else full_mask(mask[head], grid, region, text)[blocks][:, blocks]

    return [attention_truth(q[h], k[h], v[h], keep(h), 1.0 / math.sqrt(dim)) for h in range(heads)]


def wrong(all_truths, o, lse):
    found = [truth.wrong(o[head], lse[head]) for head, truth in enumerate(all_truths)]
    return [text for text in found if text]


class Attention(GpuTest):
    def test_is_the_truth_with_and_without_lists_in_both_orders(self):
        calls = 0
        for case in CASES:
            _, grid, region, text, _, _ = case
            q, k, v, mask = inputs(case)
            place = region_order(grid, region, text).cuda()
            for sparse in (False, True):
                lists = da.lists_from_mask(mask, grid, region, text) if sparse else None
                expected = truths(case, q, k, v, mask if sparse else None)
                for kernel in self.here:
                    for ordered in (False, True):
                        named = dict(region=region, lists=lists, kernel=kernel, region_order=ordered)
                        rows = [da.to_region_order(x, grid, region) if ordered else x for x in (q, k, v)]
                        with self.subTest(case=case, kernel=kernel, sparse=sparse, region_order=ordered):
                            try:
                                o, lse = da.attention(*rows, grid, **named)
                            except ValueError as error:  # regions that wgmma does not do
                                self.assertEqual(kernel, "wgmma", error)
                                self.assertNotEqual(region, (8, 16), error)
                                continue
                            calls += 1
                            if ordered:
                                o = da.from_region_order(o, grid, region)
                                lse = torch.empty_like(lse).index_copy_(1, place, lse)
                            self.assertEqual(wrong(expected, o, lse), [])
        self.assertGreaterEqual(calls, 4 * len(CASES))

    def test_the_check_can_fail(self):
        case = CASES[2]
        _, grid, region, text, _, _ = case
        q, k, v, mask = inputs(case)
        expected = truths(case, q, k, v, mask)
        o, lse = da.attention(q, k, v, grid, region, da.lists_from_mask(mask, grid, region, text), "mma")
        self.assertEqual(wrong(expected, o, lse), [])
        scaled = o.clone()
        scaled[0, 0] *= 1.02
        nan = o.clone()
        nan[1, 3, 5] = math.nan
        row, column = (~mask[0, 1:-1]).nonzero()[0].tolist()
        other = mask.clone()
        other[0, row + 1, column] = True
        for bad, truth in [(scaled, expected), (nan, expected), (o, truths(case, q, k, v, other))]:
            self.assertNotEqual(wrong(truth, bad, lse), [])

    def test_outputs_may_be_given_and_runs_are_the_same_bits(self):
        case = CASES[0]
        q, k, v, _ = inputs(case)
        o, lse = da.attention(q, k, v, case[1], kernel="mma")
        given = torch.full_like(q, math.nan), torch.full_like(lse, math.nan)
        returned = da.attention(q, k, v, case[1], kernel="mma", out=given)
        self.assertTrue(returned[0] is given[0] and returned[1] is given[1])
        self.assertTrue(torch.equal(given[0], o) and torch.equal(given[1], lse))
        alone = torch.full_like(q, math.nan)
        self.assertTrue(da.attention(q, k, v, case[1], kernel="mma", out=alone)[0] is alone)
        self.assertTrue(torch.equal(alone, o))

    def test_scale(self):
        case = CASES[0]
        q, k, v, _ = inputs(case)
        o, lse = da.attention(q, k, v, case[1], kernel="mma", scale=0.03)
        self.assertEqual(attention_truth(q[0], k[0], v[0], None, 0.03).wrong(o[0], lse[0]), "")


class Drafts(GpuTest):
    def violations(self, rule, sparsity, mask, scores, slack):
        """What a mask [regions, regions] of one head does that scores within `slack` cannot explain."""
        regions = mask.shape[0]
        entries = regions if rule == "row" else regions * regions
        wanted = math.ceil((1 - sparsity) * entries - 1e-6)
        kept, lines = mask.view(-1, entries), scores.view(-1, entries)
        counts = kept.sum(dim=1)
        faults = [] if (counts >= wanted if rule == "released" else counts == wanted).all() else [f"kept {counts}"]
        worst = lines.masked_fill(~kept, math.inf).min(dim=1).values
        best = lines.masked_fill(kept, -math.inf).max(dim=1).values
        return faults + (["order"] if not (best <= worst + 2 * slack).all() else [])

    def test_the_best_blocks_are_kept_and_lists_are_those_of_the_mask(self):
        for case in CASES:
            heads, grid, region, text, dim, _ = case
            q, k, _, _ = inputs(case)
            for rule in ("softmax", "logits", "released", "row"):
                for pool in ("avg", "max"):
                    for sparsity in (0.0, 0.5, 0.9):
                        lists = da.draft_lists(q, k, grid, region, pool, rule, sparsity)
                        again = da.lists_from_mask(lists.mask, grid, region, text)
                        with self.subTest(case=case, rule=rule, pool=pool, sparsity=sparsity):
                            self.assertTrue(torch.equal(lists.counts, again.counts))
                            self.assertTrue(torch.equal(lists.order, again.order))
                            real = torch.arange(lists.columns.shape[2], device="cuda") < lists.counts[:, :, None]
                            self.assertTrue(torch.equal(lists.columns[real], again.columns[real]))
                            for head in range(heads):
                                scores, logs, slack = draft_scores(
                                    q[head], k[head], grid, region, pool, 1 / math.sqrt(dim)
                                )
                                read = logs if rule in ("softmax", "released") else scores
                                self.assertEqual(self.violations(rule, sparsity, lists.mask[head], read, slack), [])

    def test_the_check_can_fail(self):
        case = CASES[2]
        q, k, _, _ = inputs(case)
        scores, _, slack = draft_scores(q[0], k[0], case[1], case[2], "avg", 1 / math.sqrt(case[4]))
        mask = da.draft_lists(q, k, case[1], case[2], rule="logits", sparsity=0.5).mask[0].clone()
        flat = scores.flatten()
        mask.view(-1)[flat.argmax()], mask.view(-1)[flat.argmin()] = False, True
        self.assertEqual(self.violations("logits", 0.5, mask, scores, slack), ["order"])

    def test_nan_raises(self):
        case = CASES[0]
        q, k, _, _ = inputs(case)
        q[1, 5, 7] = math.nan
        with self.assertRaisesRegex(ValueError, r"draft_lists: .* NaN in heads \[1\]"):
            da.draft_lists(q, k, case[1])
        lists = da.draft_lists(q, k, case[1], check=False)
        self.assertTrue(torch.equal(lists.mask[0], da.draft_lists(q[:1], k[:1], case[1]).mask[0]))


class Order(GpuTest):
    def test_is_plain_indexing_and_its_inverse(self):
        for case in CASES:
            _, grid, region, text, _, _ = case
            x, _, _, _ = inputs(case)
            ordered = da.to_region_order(x, grid, region)
            self.assertTrue(torch.equal(ordered, x[:, region_order(grid, region, text).cuda()]))
            self.assertTrue(torch.equal(da.from_region_order(ordered, grid, region), x))
            out = torch.zeros_like(x)
            self.assertIs(da.from_region_order(ordered, grid, region, out=out), out)
            self.assertTrue(torch.equal(out, x))
