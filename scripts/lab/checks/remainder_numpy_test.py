"""Holds attention with a pooled remainder to an independent NumPy computation: dense attention with replaced logits.

The most diffuse head of the shipped dump, on which the remainder does most, and small heads: ragged grids, text, rows
that keep nothing, zeros, logits that spread over hundreds. No code is shared with the program but its masks, which
`draftbench policies --masks` writes and policies_numpy_test.py and bounds_numpy_test.py hold to NumPy.
"""

import csv
import json
import math
import os
import subprocess
import tempfile
import unittest

import h5py
import numpy as np

from lab.checks.bounds_numpy_test import regions_of, share, write_dump
from lab.checks.program import PROGRAM
from lab.shared.files import ROOT

DATA = ROOT / "data"
RELATIVE = 1e-9
SPARSITIES = (0.8, 0.9, 0.95)
NOT_APPLICABLE = "not_applicable"
CHOICES = ["--policy", "draft,oracle,random", "--pool", "avg", "--rule", "softmax,row"]
CHECKS = ("remainder", "remainder_radii", "remainder_gap", "recall", "step_1", "sharp_mu", "output")


def most_diffuse():
    """Capture of photodit_heads.h5 whose head has the most effective blocks."""
    with open(DATA / "photodit_heads.csv") as file:
        spread = {
            (int(row["prompt"]), int(row["layer"]), int(row["step"]), int(row["head"])): float(row["effective_blocks"])
            for row in csv.DictReader(file)
        }
    found = {}
    with h5py.File(DATA / "photodit_heads.h5") as file:
        for name, capture in file["captures"].items():
            prompt = int(name.split("_")[0].removeprefix("prompt"))
            place = (prompt, int(capture.attrs["layer"]), int(capture.attrs["step"]))
            (head,) = capture.attrs["model_heads"]
            found[name] = spread[(*place, int(head))]
    return max(found, key=found.get)


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(float)


class Head:
    """One head over one partition; rows of the video alone."""

    def __init__(self, q, k, v, scale, grid, text, region, number=np.longdouble):
        q, k, v = (x.astype(number) for x in (q, k, v))
        self.text, self.n = text, math.prod(grid)
        self.region, self.g = regions_of(grid, region)
        self.size = np.bincount(self.region, minlength=self.g)
        self.v, self.scale = v, number(scale)
        self.logits = self.scale * (q[: self.n] @ k.T)
        self.p = self.softmax(self.logits)
        highest = self.logits.max(axis=1, keepdims=True)
        self.lse = highest + np.log(np.exp(self.logits - highest).sum(axis=1, keepdims=True))
        # Means of logits by row and region: sums over sorted columns.
        order = np.argsort(self.region, kind="stable")
        starts = np.searchsorted(self.region[order], np.arange(self.g))
        by_region = self.logits[:, : self.n][:, order]
        self.mean = np.add.reduceat(by_region, starts, axis=1) / self.size
        self.rise = np.maximum.reduceat(by_region, starts, axis=1) - self.mean
        self.mass = np.add.reduceat(self.p[:, : self.n][:, order], starts, axis=1)
        radii = [
            np.sqrt(((keys - keys.mean(axis=0)) ** 2).sum(axis=1)).max()
            for keys in (k[: self.n][self.region == j] for j in range(self.g))
        ]
        self.reach = self.scale * np.sqrt((q[: self.n] ** 2).sum(axis=1))[:, None] * np.array(radii)

    @staticmethod
    def softmax(logits):
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def metrics(self, mask):
        """`mask`: [regions, regions] of bool."""
        kept = np.concatenate([mask[self.region][:, self.region], np.ones((self.n, self.text), dtype=bool)], axis=1)
        replaced = self.logits.copy()
        replaced[:, : self.n] = np.where(kept[:, : self.n], self.logits[:, : self.n], self.mean[:, self.region])
        p = self.softmax(replaced)
        apart = self.p - p
        dense, sparse = self.p @ self.v, p @ self.v
        error = dense - sparse
        lost = ~mask[self.region]
        mu = np.where(lost, self.mass, 0).sum(axis=1)
        recall = np.where(kept, self.p, 0).sum(axis=1)
        bound = (np.where(lost, self.mass, 0) * -np.expm1(-self.rise)).sum(axis=1)
        by_radii = (np.where(lost, self.mass, 0) * -np.expm1(-self.reach)).sum(axis=1)
        lost_gain = np.where(lost, self.mass - self.size * np.exp(self.mean - self.lse), 0).sum(axis=1)  # 1 - W
        lost_gain = lost_gain.clip(0, 1)  # outside by rounding
        with np.errstate(divide="ignore"):  # 1: the logarithm is not the smaller
            gap = np.sqrt(np.minimum(-np.log1p(-lost_gain) / 2, lost_gain))
        text = self.logits[:, self.n :]
        highest = np.maximum(self.mean.max(axis=1), text.max(axis=1, initial=-np.inf))[:, None]
        weight = self.size * np.exp(self.mean - highest)
        least = np.exp(text - highest).sum(axis=1) + np.where(lost, 0, weight).sum(axis=1)
        most = np.where(lost, weight * np.cosh(self.reach), 0).sum(axis=1)
        recall_bound = least / (least + most)
        longest = np.sqrt((self.v**2).sum(axis=1)).max()
        per_row = np.sqrt((error**2).sum(axis=1))
        left = np.sqrt((apart**2).sum())
        root = math.sqrt(2)
        certified = root * np.sqrt((bound**2).sum()), root * np.sqrt((by_radii**2).sum())
        judged = per_row > 1e-9 * longest  # far above what the program takes for rounding
        return {
            "attention_recall": recall.mean(),
            "mean_dropped_mass": mu.mean(),
            "bound_sharp_mu": root * np.sqrt((mu**2).sum()),
            "step_1_bound": 2 * math.sqrt(self.n) * mu.max(),
            "step_1_row_l1_max": np.abs(apart).sum(axis=1)[::128].max(),
            "step_1_rows_checked": -(-self.n // 128),
            "probs_frobenius": left,
            "output_rel_l2": share(np.sqrt((error**2).sum()), np.sqrt((dense**2).sum())),
            "output_rel_l1": share(np.abs(error).sum(), np.abs(dense).sum()),
            "output_cosine": share((dense * sparse).sum(), np.sqrt((dense**2).sum() * (sparse**2).sum())),
            "output_error_max": per_row.max(),
            "output_bound_max_ratio": share((per_row[judged] / (2 * bound[judged])).max(initial=0), longest),
            "bound_remainder": certified[0],
            "bound_remainder_radii": certified[1],
            "tightness_remainder": share(left, certified[0]),
            "tightness_remainder_radii": share(left, certified[1]),
            "bound_remainder_gap": root * np.sqrt((gap**2).sum()),
            "tightness_remainder_gap": share(left, root * np.sqrt((gap**2).sum())),
            "recall_bound": recall_bound.mean(),
            "tightness_recall": share(recall_bound.mean(), recall.mean()),
            "remainder_flops_share": (4 * self.n * self.g + 2 * self.n) / (4 * self.n**2),
            "empty_rows": (~mask.any(axis=1)).sum(),
        }


def records_of(command, dump, *more):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "r.jsonl")
        call = [PROGRAM, command, str(dump), *CHOICES, "--sparsity", ",".join(map(str, SPARSITIES)), *more]
        subprocess.run([*call, "--out", out, "--quiet"], check=True)
        with open(out) as lines:
            return [json.loads(line) for line in lines]


def choice_of(record):
    config = record["config"]
    return config["policy"], config.get("rule"), config["sparsity"], config.get("remainder", "none")


class RemainderAgainstNumPy(unittest.TestCase):
    def same(self, found, wanted, where, floor=0.0):
        if wanted is None or found == NOT_APPLICABLE:
            self.assertTrue(wanted is None and found == NOT_APPLICABLE, f"{where}: NumPy {wanted}, found {found}")
        else:
            self.assertTrue(
                abs(found - wanted) <= RELATIVE * abs(wanted) + floor, f"{where}: NumPy {wanted!r}, found {found!r}"
            )

    def check(self, dump, head, *more, floor=0.0, left_out=()):
        """`floor`: differences of P, of order one, in which the case has no more digits. Returns errors by choice."""
        region = ["--region", "x".join(map(str, self.region))]
        masked = {
            choice_of(r): r
            for r in records_of("policies", dump, *region, *more, "--remainder", "none,pooled", "--masks")
        }
        bounds = {choice_of(r): r for r in records_of("bounds", dump, *region, *more, "--remainder", "pooled")}
        self.assertEqual(len(masked), 2 * 4 * len(SPARSITIES))  # draft by two rules, oracle, random
        self.assertEqual(len(bounds), 4 * len(SPARSITIES))
        errors = {}
        for choice, record in masked.items():
            errors[choice] = record["metrics"]["output_rel_l2"]
            if choice[3] == "none":
                self.assertNotIn("remainder", record["config"])
                self.assertNotIn("remainder_flops_share", record["metrics"])
                continue
            mask = np.array([[digit == "1" for digit in row] for row in record["arrays"]["mask"]])
            wanted = head.metrics(mask)
            both = record["metrics"], bounds[choice]["metrics"]
            self.assertEqual([record["status"], bounds[choice]["status"]], ["ok", "ok"])
            for name, value in wanted.items():
                if name in left_out:
                    continue
                found = [metrics[name] for metrics in both if name in metrics]
                self.assertTrue(found, name)
                for one in found:
                    self.same(one, value, f"{choice} {name}", floor)
            for name in CHECKS:
                self.assertEqual(both[1][f"check_{name}"], 1, f"{choice} {name}")
            self.assertNotIn("step_1_residual", both[1])
            self.assertLessEqual(both[1]["recall_bound"], both[1]["attention_recall"] * (1 + RELATIVE))
            self.assertLessEqual(both[1]["bound_remainder"], both[1]["bound_sharp_mu"] * (1 + RELATIVE))
        return errors

    def made(self, grid, text, region, spread, smooth, dim=16, change=lambda q, k, v: None, **more):
        self.region = region
        with tempfile.TemporaryDirectory() as folder:
            dump = os.path.join(folder, "d.h5")
            write_dump(dump, grid, 1, text, dim, spread, 7, smooth, change)
            with h5py.File(dump) as file:
                tensors = [file["captures/layer0_step1"][name][0] for name in "qkv"]
            return self.check(dump, Head(*tensors, 1 / math.sqrt(dim), grid, text, region), **more)

    def test_the_most_diffuse_head_that_is_shipped(self):
        name = most_diffuse()
        with h5py.File(DATA / "photodit_heads.h5") as file:
            capture = file["captures"][name]
            tensors = [from_bfloat16(capture[x][0]) for x in "qkv"]
            scale = capture.attrs["softmax_scale"]
            grid = tuple(int(file.attrs[axis]) for axis in ("frames", "height", "width"))
            text = int(file.attrs["text_tokens"])
        self.region = (8, 16)
        head = Head(*tensors, scale, grid, text, self.region, float)
        errors = self.check(DATA / "photodit_heads.h5", head, "--capture", name)
        for sparsity in SPARSITIES:  # what it is for
            without, pooled = (errors["draft", "softmax", sparsity, remainder] for remainder in ("none", "pooled"))
            self.assertLess(pooled, 0.8 * without)

    def test_ragged_grid_with_text(self):
        self.made((2, 9, 11), 5, (4, 4), spread=0.5, smooth=1.0)

    def test_rough_head_with_rows_that_keep_nothing(self):
        self.made((2, 13, 21), 0, (8, 16), spread=1.5, smooth=0.2)

    def test_smooth_head(self):
        self.made((3, 8, 16), 7, (4, 8), spread=0.02, smooth=0.6)

    def test_logits_that_spread_over_hundreds(self):
        """P has rounded exponents: a hundred has an error of 1e-14."""

        def change(q, k, _v):
            q *= 15
            k *= 15

        self.made((2, 6, 10), 2, (4, 4), 1, 0, dim=4, change=change, floor=1e-10, left_out={"output_bound_max_ratio"})

    def test_zeros(self):
        for names in ("v", "q", "k", "qkv"):

            def change(*tensors, names=names):
                for name, tensor in zip("qkv", tensors):
                    if name in names:
                        tensor[:] = 0

            # Equal logits lose nothing: both sides of a ratio are rounding.
            ratios = ("tightness_remainder", "tightness_remainder_radii", "tightness_remainder_gap")
            equal = ("output_bound_max_ratio", "bound_remainder_gap", *ratios) if names != "v" else ()
            with self.subTest(zeros=names):
                self.made((2, 5, 9), 3, (4, 4), 1, 0, change=change, floor=1e-12, left_out=equal)

    def test_the_comparison_can_fail(self):
        for found, wanted in ((1.0 + 1e-8, 1.0), (math.nan, 1.0), (NOT_APPLICABLE, 1.0), (0.0, None)):
            with self.assertRaises(AssertionError):
                self.same(found, wanted, "negative control")


if __name__ == "__main__":
    unittest.main()
