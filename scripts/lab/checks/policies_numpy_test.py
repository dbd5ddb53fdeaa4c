"""Holds `draftbench policies` to an independent NumPy computation, mask by mask, and that one to its definitions.

No code is shared with the program. Ragged and even grids, with and without text, all policies, equal budgets and
released parameters.
"""

import dataclasses
import functools
import json
import math
import os
import subprocess
import tempfile
import unittest

import h5py
import numpy as np

from lab.checks import policies_numpy as pn

SPARSITIES = [0.5, 0.75, 0.9]
RECALL = 1e-9
SYMMETRIC = ("radial", "svg_spatial", "svg_temporal")  # keys, so that transposing them is no mistake
ALIKE = ({"minference", "sparge"}, {"svg_spatial", "svg_temporal"})
OPEN_SHARE = 0.02  # of all blocks: what rounding may leave open in a comparison that means something

# Grid, text tokens, region, noise, height of the smooth fields, softmax scale (None: that of the head dimension).
CASES = {
    "ragged": ((3, 21, 41), 5, (8, 16), 0.8, 2.0, None),
    "text": ((3, 20, 40), 5, (8, 16), 1.2, 1.5, 0.2),
    "even": ((5, 16, 36), 7, (8, 6), 0.7, 2.0, None),  # 60 regions: more than the 50 of minference
    "no text": ((2, 30, 52), 0, (8, 16), 1.0, 2.5, None),
    "frames": ((13, 6, 19), 2, (3, 5), 1.0, 1.5, None),
    "one block": ((1, 5, 7), 3, (8, 16), 0.5, 1.0, None),
}
HEADS, DIM = 2, 16


@functools.lru_cache(None)
def made_head(case, number=0):
    """A head of fields that change slowly from region to region, and noise that grows from left to right."""
    grid, text, region, noise, height, scale = CASES[case]
    rng = np.random.default_rng([list(CASES).index(case), number])
    place = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(-1, 3)
    tensors = noise * rng.standard_normal((3, len(place) + text, DIM))
    tensors[:, : len(place)] *= 0.1 + 2 * place[:, 2:] / grid[2]
    for tensor in tensors:
        speed, phase = rng.normal(0, (0.3, 0.1, 0.06), (DIM, 3)), rng.uniform(0, 2 * np.pi, DIM)
        tensor[: len(place)] += height * np.cos(place @ speed.T + phase)
    tensors.flags.writeable = False  # no policy changes its input
    return pn.Head(*tensors, grid, text, scale or 1 / math.sqrt(DIM), region)


def is_number(value):
    return isinstance(value, (int, float)) and math.isfinite(value)


@dataclasses.dataclass
class Wanted:
    """What a record is held to. `count`: blocks kept in all, None where only the mask says it."""

    head: pn.Head
    ranking: pn.Ranking
    mass: np.ndarray
    kept: np.ndarray
    open: np.ndarray
    count: int | None = None


@functools.lru_cache(256)
def ranking_of(head, policy):
    return pn.POLICIES[policy][0](head)


@functools.lru_cache(256)
def mass_of(head, policy):
    return head.mass(ranking_of(head, policy).blocks)


def wanted_of(head, policy, sparsity=None):
    """`sparsity` None: the released parameters."""
    ranking, mass = ranking_of(head, policy), mass_of(head, policy)
    if sparsity is None:
        return Wanted(head, ranking, mass, *pn.POLICIES[policy][1](head))
    return Wanted(head, ranking, mass, *pn.mask(ranking, sparsity), pn.kept_blocks(ranking, sparsity))


def differences(record, wanted):
    """What of a record is not as wanted, as a list of texts."""
    n, out = len(wanted.ranking.blocks), []
    rows, metrics = record["arrays"]["mask"], record["metrics"]
    if len(rows) != n or any(len(row) != n or set(row) - {"0", "1"} for row in rows):
        return [f"the mask is not {n} rows of {n} of 0 and 1"]
    mask = np.array([[digit == "1" for digit in row] for row in rows])
    wrong = np.argwhere((mask != wanted.kept) & ~wanted.open)
    if len(wrong):
        out.append(f"{len(wrong)} blocks of {n * n} differ, the first {wrong[0]}")
    if wanted.count is not None:
        if mask.sum() != wanted.count:
            out.append(f"keeps {mask.sum()} blocks, wanted {wanted.count}")
        if wanted.ranking.by_row and (mask.sum(axis=1) != wanted.kept.sum(axis=1)).any():
            out.append("a row keeps more or less than its count")
    expected = {
        "kept_blocks": (mask.sum() if wanted.count is None else wanted.count, 0),
        "empty_rows": ((~mask.any(axis=1)).sum(), 0),
        "attention_recall": (wanted.head.recall(wanted.mass, mask), RECALL),
    }
    for name, (value, tolerance) in expected.items():
        found = metrics.get(name)
        if not is_number(found) or not abs(found - value) <= tolerance:
            out.append(f"{name}: NumPy {value!r}, found {found!r}")
    return out


def record_of(wanted, mask):
    """A record as the program writes it, of any mask."""
    metrics = {
        "kept_blocks": int(mask.sum()),
        "empty_rows": int((~mask.any(axis=1)).sum()),
        "attention_recall": float(wanted.head.recall(wanted.mass, mask)),
    }
    return {"arrays": {"mask": ["".join("01"[kept] for kept in row) for row in mask.astype(int)]}, "metrics": metrics}


class PoliciesAgainstNumPy(unittest.TestCase):
    def setUp(self):
        from lab.checks.bounds_numpy_test import write_dump  # here: without the program these skip
        from lab.checks.program import PROGRAM

        self.write_dump, self.program = write_dump, PROGRAM

    def records_of(self, case, folder):
        """The program's records of a case, and its heads."""
        heads = [made_head(case, number) for number in range(HEADS)]
        grid, text, region, _, _, scale = CASES[case]
        dump, out = os.path.join(folder, "d.h5"), os.path.join(folder, "r.jsonl")

        def fill(*tensors):
            for number, head in enumerate(heads):
                for tensor, values in zip(tensors, (head.q, head.k, head.v)):
                    tensor[number] = values

        self.write_dump(dump, grid, HEADS, text, DIM, 0, 0, 0, fill)
        if scale:
            with h5py.File(dump, "r+") as file:
                file["captures/layer0_step1"].attrs["softmax_scale"] = scale
        command = [self.program, "policies", dump, "--policy", ",".join(pn.POLICIES)]
        command += ["--sparsity", ",".join(map(str, SPARSITIES)), "--region", f"{region[0]}x{region[1]}"]
        subprocess.run(command + ["--released", "--masks", "--out", out, "--quiet"], check=True)
        with open(out) as lines:
            return [json.loads(line) for line in lines], heads

    def check(self, case):
        with tempfile.TemporaryDirectory() as folder:
            records, heads = self.records_of(case, folder)
        left = {(h, policy, p) for h in range(HEADS) for policy in pn.POLICIES for p in SPARSITIES}
        left |= {(h, policy, None) for h in range(HEADS) for policy in pn.RELEASED}
        wrong = []
        for record in records:
            config = record["config"]
            sparsity = None if config.get("budget") == "released" else config["sparsity"]
            found = record["input"]["head"], config["policy"], sparsity
            self.assertEqual(record["experiment"], "policies")
            self.assertEqual(record["status"], "ok", (found, record.get("reason")))
            self.assertIn(found, left, "a record not asked for, or twice")
            left.remove(found)
            wanted = wanted_of(heads[found[0]], *found[1:])
            self.assertLessEqual(wanted.open.mean(), OPEN_SHARE, found)
            wrong += [f"{case}, {found}: {text}" for text in differences(record, wanted)]
        self.assertEqual(wrong, [])
        self.assertFalse(left, "records that the program leaves out")

    def test_ragged_grid(self):
        self.check("ragged")

    def test_text_and_a_scale(self):
        self.check("text")

    def test_even_grid(self):
        self.check("even")

    def test_no_text(self):
        self.check("no text")

    def test_many_small_frames(self):
        self.check("frames")

    def test_one_block(self):
        self.check("one block")


class PropertiesOfTheNumPyPolicies(unittest.TestCase):
    def each(self):
        for case in CASES:
            for policy in pn.POLICIES:
                head = made_head(case)
                yield f"{case}, {policy}", head, policy, ranking_of(head, policy)

    def test_blocks_hold_each_token_once(self):
        for name, head, _, ranking in self.each():
            together = np.concatenate(ranking.blocks)
            np.testing.assert_array_equal(np.sort(together), np.arange(head.video), name)
            self.assertEqual(ranking.key.shape, (len(ranking.blocks),) * 2, name)

    def test_budgets_are_met_and_masks_are_nested(self):
        for name, _, _, ranking in self.each():
            n = len(ranking.blocks)
            denser = np.ones((n, n), dtype=bool)
            for sparsity in (0.0, 0.25, *SPARSITIES, 0.99):
                kept, around = pn.mask(ranking, sparsity)
                self.assertEqual(kept.sum(), pn.kept_blocks(ranking, sparsity), name)
                if ranking.by_row:
                    self.assertEqual(set(kept.sum(axis=1)), {pn.kept_count(sparsity, n)}, name)
                self.assertFalse((kept & ~denser).any(), name)
                denser = kept
                if sparsity in SPARSITIES:
                    self.assertLessEqual(around.mean(), OPEN_SHARE, name)

    def test_the_same_again(self):
        for name, head, policy, ranking in self.each():
            fresh = dataclasses.replace(head)  # without what the first has computed
            np.testing.assert_array_equal(pn.POLICIES[policy][0](fresh).key, ranking.key, name)

    def test_text_and_values_are_in_no_key(self):
        for name, head, policy, ranking in self.each():
            q, k = head.q.copy(), head.k.copy()
            q[head.video :] += 3
            if policy != "h2o":  # whose weights are over all tokens
                k[head.video :] -= 5
            other = pn.rank(policy, q, k, head.v + 1, head.grid, head.text, head.scale, head.region)
            np.testing.assert_array_equal(other.key, ranking.key, name)

    def test_released_masks(self):
        """Where it is a threshold on the order of the equal budgets, a released mask is one of that order's masks."""
        for name, head, policy, ranking in self.each():
            if policy in pn.RELEASED:
                kept, around = pn.POLICIES[policy][1](head)
                self.assertLessEqual(around.mean(), OPEN_SHARE, name)
                self.assertTrue(kept.any(axis=1).all(), name)
                if policy in ("sol_attn", "streaming_llm"):  # the others: by row, other keys, or more blocks forced
                    self.assertLessEqual(ranking.key[kept].max(), ranking.key[~kept].min(initial=np.inf), name)

    def test_counts(self):
        self.assertEqual([pn.kept_count(p, 10) for p in (0, 0.5, 0.9, 0.95, 0.999)], [10, 5, 1, 1, 1])
        self.assertEqual(pn.kept_count(0.9, 980100), 98010)
        kept, _ = pn.minference_released(made_head("even"))
        self.assertEqual(set(kept.sum(axis=1)), {50})

    def test_gates_open_and_close(self):
        """All forms of sparge's gate are met; at -0.1 none closes, and the ranking is minference's."""
        for case in CASES:
            _, _, forced = pn.sparge_parts(made_head(case), -0.1)
            self.assertFalse(forced.any())
            for one, other in zip(pn.minference(made_head(case)).key, pn.sparge(made_head(case)).key):
                np.testing.assert_array_equal(np.argsort(one), np.argsort(other))
        shares = [pn.sparge_parts(made_head(case), 0.6)[2].mean() for case in CASES]
        self.assertTrue(any(0 < share < 1 for share in shares), shares)
        self.assertEqual(pn.likeness(np.array([[2.0, 0], [0, 3.0]])), 0.5)
        self.assertEqual(pn.likeness(np.array([[2.0, 0], [0, 0]])), -1.0)

    def test_orders_by_hand(self):
        np.testing.assert_array_equal(
            pn.columns_and_diagonals([2, 0, 1]),
            # column 2, diagonal 0, column 0, then 6 of columns and 3 of diagonals: diagonal 1
            [[3, 7, 0], [5, 4, 1], [6, 8, 2]],
        )
        keys = pn.windows_around((1, 1, 5))  # half-widths 0, 1, 1, 2 (everything)
        np.testing.assert_array_equal(keys[[0, 1, 2]], [[0, 1, 1, 3, 3], [1, 0, 1, 3, 3], [3, 1, 0, 1, 3]])
        before, after = pn.in_front(np.array([[0.2, 0.5, 0.2, 0.1]]))
        np.testing.assert_allclose(before, [[0.5, 0, 0.7, 0.9]])
        np.testing.assert_allclose(after, [[0.7, 0.5, 0.9, 1]])
        # Middle tokens 64 and 192 of frames of 256, whose bit length is 9; 2 and 3 frames apart have 2 bits.
        far = pn.radial(dataclasses.replace(made_head("even"), grid=(4, 16, 16))).key[0]
        np.testing.assert_array_equal(far, [0, 0.25, 0, 0.25, 0, 1, 0, 1])
        first = pn.cells((5, 6, 9), (4, 4, 8))[:2]  # frame * 54 + row * 9 + column
        self.assertEqual((len(first[0]), *first[0][[0, 7, 8, 32]], *first[1]), (128, 0, 7, 9, 54, *range(8, 36, 9),
                         *range(62, 90, 9), *range(116, 144, 9), *range(170, 198, 9)))  # fmt: skip

    def test_xattention_by_tokens(self):
        """The chunk scores are sums of token scores on antidiagonals."""
        head = dataclasses.replace(made_head("even"), grid=(1, 16, 12), region=(8, 6))
        chunk = lambda x, u: x[pn.region_blocks(head)[u // 6]][u % 6 * 8 :][:8]
        logits = np.array(
            [
                [np.fliplr(chunk(head.q, u) @ chunk(head.k, v).T).trace() * head.scale / 8 for v in range(24)]
                for u in range(24)
            ]
        )
        scores = pn.softmax(logits).reshape(4, 6, 4, 6).sum(axis=(1, 3))
        np.testing.assert_allclose(pn.xattention(head).key, pn.in_front(scores)[0], rtol=0, atol=1e-12)


class NegativeControls(unittest.TestCase):
    """Records of masks that are nearly right: the comparison reports each."""

    def noticed(self, wanted, mask):
        return bool(differences(record_of(wanted, mask), wanted))

    def noticed_at_some_sparsity(self, head, policy, ranking):
        return any(
            self.noticed(wanted_of(head, policy, p), pn.mask(ranking, p)[0])
            for p in SPARSITIES
            if len(ranking.blocks) == len(ranking_of(head, policy).blocks)
        )

    def test_right_masks_pass_and_one_other_block_does_not(self):
        for policy in pn.POLICIES:
            for sparsity in SPARSITIES + [None] * (policy in pn.RELEASED):
                wanted = wanted_of(made_head("ragged"), policy, sparsity)
                self.assertEqual(differences(record_of(wanted, wanted.kept), wanted), [], (policy, sparsity))
                wrong = wanted.kept.copy()
                wrong[-1, 0] ^= True
                self.assertTrue(self.noticed(wanted, wrong), (policy, sparsity))

    def test_wrong_keys(self):
        head = made_head("ragged")
        for stride in (4, 16):
            self.assertTrue(self.noticed_at_some_sparsity(head, "xattention", pn.xattention(head, stride)), stride)
        for policy in pn.POLICIES:
            head = made_head("frames" if policy == "sta" else "ragged")  # windows of 3 x 3 x 3 tiles are symmetric
            ranking = ranking_of(head, policy)
            n = len(ranking.blocks)
            keys = {"transposed": ranking.key.T, "the largest first": -ranking.key}
            if policy in SYMMETRIC:
                del keys["transposed"]
            if policy in ("streaming_llm", "sta", *SYMMETRIC):  # keys with ties
                keys["of ties the last first"] = ranking.key - 1e-6 * np.arange(n * n).reshape(n, n)
            for name, key in keys.items():
                wrong = dataclasses.replace(ranking, key=key)
                self.assertTrue(self.noticed_at_some_sparsity(head, policy, wrong), (policy, name))

    def test_one_policy_for_another(self):
        head = made_head("ragged")
        for policy in pn.POLICIES:
            for other in pn.POLICIES:
                # With its gate open sparge ranks as minference does; bands of two orders of tokens have one mask.
                if other != policy and {policy, other} not in ALIKE:
                    ranking, wrong = ranking_of(head, policy), ranking_of(head, other)
                    if len(ranking.blocks) == len(wrong.blocks):
                        self.assertTrue(self.noticed_at_some_sparsity(head, policy, wrong), (policy, other))

    def test_wrong_metrics(self):
        for policy in ("nabla", "quest"):
            wanted = wanted_of(made_head("ragged"), policy, 0.75)
            for name, values in {
                "kept_blocks": (wanted.count + 1, math.nan, None),
                "empty_rows": (3, "not_applicable"),
                "attention_recall": (wanted.head.recall(wanted.mass, wanted.kept) + 1e-8, math.nan),
            }.items():
                for value in values:
                    record = record_of(wanted, wanted.kept)
                    record["metrics"][name] = value
                    self.assertEqual(len(differences(record, wanted)), 1, (name, value))
            record = record_of(wanted, wanted.kept)
            record["arrays"]["mask"].pop()
            self.assertTrue(differences(record, wanted))
        with self.assertRaises(ValueError):
            pn.smallest(np.array([1.0, math.nan]), 1)


if __name__ == "__main__":
    unittest.main()
