"""Holds the policies of policies_by_head_numpy to it, mask by mask, in a dump of two steps; and it to its definitions."""

import dataclasses
import json
import math
import os
import subprocess
import tempfile
import unittest

import h5py
import numpy as np

from lab.checks import policies_by_head_numpy as by_head
from lab.checks import policies_numpy as pn
from lab.checks.policies_numpy_test import CASES, DIM, HEADS, OPEN_SHARE, RECALL, SPARSITIES, made_head

STEPS = (1, 5)
SEED = 3
BY_HEAD = {"svg": by_head.svg_choice, "svg_fair": by_head.svg_fair_choice}
POLICIES = (*BY_HEAD, "svg2", "adaspa")
CALLS = {"draft": by_head.draft_by_call, "oracle": by_head.oracle_by_call}  # with equal budgets, too


def head_of(case, step, number):
    return made_head(case, number + HEADS * STEPS.index(step))


def stream_of(step, number):
    return STEPS.index(step) * HEADS + number


def wanted_of(case, step, number, policy, sparsity):
    """(blocks of queries, blocks of keys, mask, open); `sparsity` None: released."""
    head, where = head_of(case, step, number), (SEED, stream_of(step, number))
    if policy == "adaspa":
        return by_head.adaspa(head_of(case, STEPS[0], number), sparsity)
    if policy == "svg2":
        return by_head.svg2_released(head, *where) if sparsity is None else by_head.svg2(head, sparsity, *where)
    return by_head.in_layout(BY_HEAD[policy])(head, sparsity, *where)


def recall(head, queries, keys, mask):
    rows = np.array([head.attention[block].sum(axis=0) for block in queries])
    mass = np.array([rows[:, block].sum(axis=1) for block in keys]).T
    return (mass[mask].sum() + head.attention[:, head.video :].sum()) / head.video


def differences(record, head, wanted):
    """What of a record is not as wanted, as a list of texts."""
    queries, keys, kept, around = wanted
    sizes, row, column = by_head.pieces([len(block) for block in queries], [len(block) for block in keys])
    found = np.array([[digit == "1" for digit in line] for line in record["arrays"]["mask"]])
    if found.shape != (len(sizes),) * 2:
        return [f"the mask is {found.shape}, wanted {len(sizes)} pieces"]
    out = []
    wrong = (found != kept[np.ix_(row, column)]) & ~around[np.ix_(row, column)]
    if wrong.any():
        out.append(f"{wrong.sum()} pairs of pieces differ")
    mask = np.zeros(kept.shape, dtype=bool)
    mask[np.ix_(row, column)] = found  # of a pair that is kept in part, its last piece
    area = np.outer(sizes, sizes)[found].sum() / head.video**2
    expected = {
        "attention_recall": recall(head, queries, keys, mask),
        "output_rel_l2": by_head.error_of(head, queries, keys, mask),
        "kept_blocks": found.sum(),
    }
    if record["config"]["policy"] == "svg2":
        expected["kept_area"] = area
    elif not around.any():
        expected["kept_blocks"] = kept.sum()
    for name, value in expected.items():
        if not abs(record["metrics"][name] - value) <= RECALL:
            out.append(f"{name}: NumPy {value!r}, found {record['metrics'][name]!r}")
    return out


class PoliciesByHeadAgainstNumPy(unittest.TestCase):
    def setUp(self):
        from lab.checks.bounds_numpy_test import write_dump  # here: without the program these skip
        from lab.checks.program import PROGRAM

        self.write_dump, self.program = write_dump, PROGRAM

    def records_of(self, case, folder, *options):
        grid, text, region, _, _, scale = CASES[case]
        dump, out = os.path.join(folder, "d.h5"), os.path.join(folder, "r.jsonl")
        self.write_dump(dump, grid, HEADS, text, DIM, 0, 0, 0, lambda *_: None)
        with h5py.File(dump, "r+") as file:
            captures = file["captures"]
            for step in STEPS[1:]:
                file.copy(captures[f"layer0_step{STEPS[0]}"], captures, f"layer0_step{step}")
            for step in STEPS:
                capture = captures[f"layer0_step{step}"]
                capture.attrs["step"] = step
                if scale:
                    capture.attrs["softmax_scale"] = scale
                for number in range(HEADS):
                    for name in "qkv":
                        capture[name][number] = getattr(head_of(case, step, number), name)
        command = [self.program, "policies", dump, "--seed", str(SEED), *options]
        command += ["--sparsity", ",".join(map(str, SPARSITIES)), "--region", f"{region[0]}x{region[1]}"]
        done = subprocess.run(
            command + ["--masks", "--out", out, "--quiet"], check=True, capture_output=True, text=True
        )
        self.assertIn(" heads: the dump has no earlier step of them", done.stderr)
        with open(out) as lines:
            return [json.loads(line) for line in lines]

    def check(self, case):
        with tempfile.TemporaryDirectory() as folder:
            records = self.records_of(case, folder, "--policy", ",".join(POLICIES), "--released")
        every = [(step, number) for step in STEPS for number in range(HEADS)]
        left = {(*where, policy, p) for where in every for policy in POLICIES for p in SPARSITIES}
        left -= {(STEPS[0], number, "adaspa", p) for number in range(HEADS) for p in SPARSITIES}
        left |= {(*where, "svg2", None) for where in every}
        wrong = []
        for record in records:
            config, input = record["config"], record["input"]
            found = (input["step"], input["head"], config["policy"], config.get("sparsity"))
            self.assertEqual(record["status"], "ok", found)
            self.assertIn(found, left, "a record not asked for, or twice")
            left.remove(found)
            wanted, head = wanted_of(case, *found), head_of(case, *found[:2])
            self.assertLessEqual(wanted[3].mean(), OPEN_SHARE, found)
            wrong += [f"{case}, {found}: {text}" for text in differences(record, head, wanted)]
            wrong += [f"{case}, {found}: {text}" for text in self.wrong_words(record, case, *found)]
        self.assertEqual(wrong, [])
        self.assertFalse(left, "records that the program leaves out")

    def wrong_words(self, record, case, step, number, policy, sparsity):
        config, notes = record["config"], record.get("notes", {})
        words = {"svg2": ("clusters", None, None), "adaspa": (None, None, f"layer0_step{STEPS[0]}")}.get(policy)
        if words is None:
            choice = BY_HEAD[policy](head_of(case, step, number), sparsity, SEED, stream_of(step, number))
            words = ("by_head", choice[0], None)
        found = (config.get("block_layout"), notes.get("block_layout"), notes.get("masks_from"))
        return [] if found == words else [f"says {found}, wanted {words}"]

    def check_calls(self, case):
        """Budgets of the heads of a call, of the heads that are asked for and the others."""
        policies = [*CALLS, "adaspa_heads", "duo_attention"]
        with tempfile.TemporaryDirectory() as folder:
            options = ("--policy", ",".join(policies), "--calls", "--rule", "row", "--heads", str(HEADS - 1))
            records = self.records_of(case, folder, *options)
        number, wrong, met = HEADS - 1, [], set()
        for record in records:
            config, step = record["config"], record["input"]["step"]
            if config.get("budget") != "call":
                continue
            policy, sparsity = config["policy"], config["sparsity"]
            met.add((step, policy, sparsity))
            heads = [head_of(case, STEPS[0] if policy == "adaspa_heads" else step, other) for other in range(HEADS)]
            make = CALLS.get(policy) or getattr(by_head, policy)
            blocks = pn.raster_blocks(heads[number]) if policy == "duo_attention" else pn.region_blocks(heads[number])
            wanted = (blocks, blocks, *make(heads, sparsity)[number])
            wrong += [
                f"{case}, {step, policy, sparsity}: {text}"
                for text in differences(record, head_of(case, step, number), wanted)
            ]
            self.assertEqual(record["notes"]["heads_of_call"], str(HEADS))
        self.assertEqual(wrong, [])
        every = {(step, policy, p) for step in STEPS for policy in policies for p in SPARSITIES}
        self.assertEqual(met, every - {(STEPS[0], "adaspa_heads", p) for p in SPARSITIES})

    def test_calls_of_a_ragged_grid(self):
        self.check_calls("ragged")

    def test_calls_with_text(self):
        self.check_calls("text")

    def test_calls_without_text(self):
        self.check_calls("no text")

    def test_ragged_grid(self):
        self.check("ragged")

    def test_text_and_a_scale(self):
        self.check("text")

    def test_no_text(self):
        self.check("no text")

    def test_many_small_frames(self):
        self.check("frames")

    def test_one_block(self):
        self.check("one block")


class PropertiesByHead(unittest.TestCase):
    def test_both_kinds_of_head_are_met(self):
        found = {
            choose(head_of(case, step, number), 0.75, SEED, stream_of(step, number))[0]
            for choose in BY_HEAD.values()
            for case in CASES
            for step in STEPS
            for number in range(HEADS)
        }
        self.assertEqual(found, set(by_head.LAYOUTS))

    def test_heads_of_one_kind(self):
        """A head whose tokens attend to their own frame is spatial, to their own place temporal."""
        grid = (8, 8, 32)
        place = np.arange(math.prod(grid))
        for own, layout in ((place // 256, "raster"), (place % 256 // 4, "frame_last")):
            x = 4 * np.eye(own.max() + 1)[own]
            v = np.random.default_rng(1).standard_normal((len(place), 4))
            head = pn.Head(x, x, v, grid, 0, 1.0, (8, 16))
            for choose in BY_HEAD.values():
                self.assertEqual(choose(head, 0.75, 1, 0), (layout, False))
        whole = pn.Head(np.zeros((20, 2)), np.zeros((20, 2)), np.ones((20, 2)), (2, 2, 5), 0, 1.0, (8, 16))
        self.assertEqual(by_head.svg_choice(whole, 0.5, 1, 0), ("raster", False))

    def test_rows_of_the_literal_profile_are_early(self):
        rows = by_head.drawn_rows(1, 0, by_head.FIRST_ROWS)
        self.assertLess(rows.max(), by_head.FIRST_ROWS)
        self.assertFalse((rows == by_head.drawn_rows(1, 1, by_head.FIRST_ROWS)).all())

    def test_clusters_hold_each_token_once_and_are_stable(self):
        for case in CASES:
            head = made_head(case)
            queries, keys, before = by_head.svg2_parts(head, 1, 0)
            self.assertEqual(before.shape, (len(queries), len(keys)))
            for blocks, x in ((queries, head.q), (keys, head.k)):
                np.testing.assert_array_equal(np.sort(np.concatenate(blocks)), np.arange(head.video))
                centres = pn.means(x, blocks)
                for number, block in enumerate(blocks):
                    distance = ((x[block][:, None] - centres[None]) ** 2).sum(axis=2)
                    near = (distance[:, number] <= distance.min(axis=1) + 1e-9).mean()
                    self.assertGreater(near, 0.9, case)  # all, where 50 iterations were enough
            again = by_head.svg2_parts(dataclasses.replace(head), 1, 0)
            np.testing.assert_array_equal(again[2], before)

    def test_budgets_are_of_logits_and_masks_are_nested(self):
        for case in CASES:
            head, denser = made_head(case), None
            for sparsity in (0.25, *SPARSITIES):
                queries, keys, kept, _ = by_head.svg2(head, sparsity, 1, 0)
                areas = np.outer([len(block) for block in queries], [len(block) for block in keys])
                if kept.sum() > 1:
                    self.assertLessEqual(areas[kept].sum(), (1 - sparsity) * head.video**2 + 1e-6)
                    self.assertGreater(areas[kept].sum(), (1 - sparsity) * head.video**2 - areas.max())
                if denser is not None:
                    self.assertFalse((kept & ~denser).any())
                denser = kept

    def test_budgets_of_a_call_have_its_sum(self):
        for case in CASES:
            heads = [made_head(case, number) for number in range(3)]
            for sparsity in (0.0, *SPARSITIES, 0.99):
                for make in (by_head.draft_by_call, by_head.oracle_by_call, by_head.duo_attention):
                    masks = [kept for kept, _ in make(heads, sparsity)]
                    n = len(masks[0])
                    self.assertEqual(sum(kept.sum() for kept in masks), 3 * pn.kept_count(sparsity, n * n), case)

    def test_pieces(self):
        sizes, first, second = by_head.pieces([3, 2], [1, 4])
        self.assertEqual((list(sizes), list(first), list(second)), ([1, 2, 2], [0, 0, 1], [0, 1, 1]))

    def test_the_comparison_can_fail(self):
        head = made_head("ragged")
        wanted = by_head.svg2(head, 0.75, 1, 0)
        queries, keys, kept, _ = wanted
        sizes, row, column = by_head.pieces([len(block) for block in queries], [len(block) for block in keys])

        def record(mask):
            found = mask[np.ix_(row, column)]
            metrics = {
                "attention_recall": recall(head, queries, keys, mask),
                "output_rel_l2": by_head.error_of(head, queries, keys, mask),
                "kept_blocks": int(found.sum()),
                "kept_area": np.outer(sizes, sizes)[found].sum() / head.video**2,
            }
            lines = ["".join("01"[keep] for keep in line) for line in found.astype(int)]
            return {"config": {"policy": "svg2"}, "arrays": {"mask": lines}, "metrics": metrics}

        self.assertEqual(differences(record(kept), head, wanted), [])
        for wrong in (~kept, np.roll(kept, 1, axis=1), kept & (np.arange(kept.shape[1]) > 0)):
            self.assertNotEqual(differences(record(wrong), head, wanted), [])
        changed = record(kept)
        changed["metrics"]["kept_area"] += 1e-6
        self.assertEqual(len(differences(changed, head, wanted)), 1)


if __name__ == "__main__":
    unittest.main()
