"""Holds `draftbench bounds` to an independent NumPy computation, metric by metric.

Every quantity is computed from its definition with n x n matrices, from the dump that the program read;
no code is shared with it. Ragged grids, text tokens, every rule, both poolings, oracle and random masks; heads
whose numbers are as large, as small or as alike as they can be. In long double, whose exponents reach e^-11000.
"""

import json
import math
import os
import subprocess
import tempfile
import unittest

import h5py
import numpy as np

from lab.checks.program import PROGRAM

RELATIVE = 1e-9
# Differences of numbers of order one, element by element: an absolute rounding.
ROUNDING_ONLY = {"step_1_residual": 1e-12, "step_1_row_l1_max": 1e-12}
SMALLEST = 1e3 * np.finfo(float).tiny  # below it doubles lose digits
NOT_APPLICABLE = "not_applicable"
SPARSITIES = [0.5, 0.75, 0.9]
MASK64 = (1 << 64) - 1


def write_dump(path, grid, heads, text, dim, spread, seed, smooth, change):
    """A float64 dump; `smooth` adds a slowly varying field, so that regions mean something. `change` gets the tensors
    q, k, v of [heads, tokens, dim] before they are written."""
    frames, height, width = grid
    rng = np.random.default_rng(seed)
    n = frames * height * width
    f, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {
                "format": "draftattention-qkv",
                "version": 1,
                "model": "numpy",
                "source": "test",
                "frames": frames,
                "height": height,
                "width": width,
                "text_tokens": text,
            }
        )
        group = file.create_group("captures/layer0_step1")
        group.attrs.update({"layer": 0, "step": 1, "timestep": 0.5})
        tensors = []
        for _ in "qkv":
            values = spread * rng.standard_normal((heads, n + text, dim))
            waves = np.stack([np.cos((i + 1) * (0.11 * x + 0.07 * y + 0.3 * f) + i) for i in range(dim)], -1)
            values[:, :n] += smooth * waves.reshape(n, dim)
            tensors.append(values)
        change(*tensors)
        for name, values in zip("qkv", tensors):
            group[name] = values


def regions_of(grid, region):
    """Region number of each video token and the number of regions, numbered (frame, row, column)."""
    frames, height, width = grid
    across, down = -(-width // region[1]), -(-height // region[0])
    number = np.empty(grid, dtype=int)
    for f in range(frames):
        for y in range(height):
            for x in range(width):
                number[f, y, x] = (f * down + y // region[0]) * across + x // region[1]
    return number.reshape(-1), frames * across * down


def splitmix64(state):
    z = (state + 0x9E3779B97F4A7C15) & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def top(scores, count):
    """The `count` largest as a mask; equal scores: the lower index first."""
    order = sorted(range(scores.size), key=lambda b: (-scores.flat[b], b))
    kept = np.zeros(scores.size, dtype=bool)
    kept[order[:count]] = True
    return kept.reshape(scores.shape)


def ceil_share(kept_percent, blocks):
    return -(-kept_percent * blocks // 100)


def norm(x, axis=None):
    return np.sqrt((x**2).sum(axis=axis))


def softmax(logits, kept):
    shifted = np.where(kept, logits, -np.inf)
    highest = shifted.max(axis=1, keepdims=True)
    weights = np.exp(shifted - np.where(np.isfinite(highest), highest, 0.0))
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def share(part, whole):
    """None where it is relative to nothing."""
    return None if whole == 0 else part / whole


class Head:
    """One head's definitions over one partition."""

    def __init__(self, q, k, v, grid, text, region):
        self.grid, self.text = grid, text
        self.n = int(np.prod(grid))
        self.region, self.g = regions_of(grid, region)
        self.size = np.bincount(self.region, minlength=self.g)
        self.double = q, k  # the draft map's order is that of doubles
        q, k, v = (x.astype(np.longdouble) for x in (q, k, v))
        self.q, self.k, self.v = q, k, v
        self.scale = 1.0 / math.sqrt(q.shape[1])
        self.s = q[: self.n] @ k.T  # video rows, all columns
        self.p = softmax(self.scale * self.s, np.ones_like(self.s, dtype=bool))
        self.o = self.p @ v

    def pooled(self, x, pool):
        rows = [x[: self.n][self.region == i] for i in range(self.g)]
        return np.array([r.mean(axis=0) if pool == "avg" else r.max(axis=0) for r in rows])

    def spread(self, blocks):
        return blocks[self.region[:, None], self.region[None, :]]

    def block_mass(self):
        mass = np.zeros((self.g, self.g), dtype=np.longdouble)
        np.add.at(mass, (self.region[:, None], self.region[None, :]), self.p[:, : self.n])
        return mass

    def mask(self, config, stream):
        percent = 100 - round(100 * config["sparsity"])
        blocks = self.g * self.g
        count = ceil_share(percent, blocks)
        if config["policy"] == "oracle":
            return top(self.block_mass(), count)
        if config["policy"] == "random":
            start = splitmix64((splitmix64(config["seed"]) + stream) & MASK64)
            keys = np.array([splitmix64((start + b) & MASK64) for b in range(blocks)], dtype=object)
            order = sorted(range(blocks), key=lambda b: keys[b])
            kept = np.zeros(blocks, dtype=bool)
            kept[order[:count]] = True
            return kept.reshape(self.g, self.g)
        q, k = self.double
        logits = self.pooled(q, config["pool"]) @ self.pooled(k, config["pool"]).T
        draft = softmax(self.scale * logits, np.ones_like(logits, dtype=bool))
        if config["rule"] == "logits":
            return top(logits, count)
        if config["rule"] == "softmax":
            return top(draft, count)
        if config["rule"] == "row":
            return np.array([top(row, ceil_share(percent, self.g)) for row in logits])
        going = (100 - percent) * blocks // 100  # released: the largest of those to go stays, with its ties
        return draft >= np.sort(draft.reshape(-1))[max(going - 1, 0)] if going else np.ones_like(draft, dtype=bool)

    def mask_metrics(self, kept_blocks):
        kept = np.concatenate([self.spread(kept_blocks), np.ones((self.n, self.text), dtype=bool)], axis=1)
        pm = softmax(self.scale * self.s, kept)
        om = pm @ self.v
        mu = np.where(kept, 0.0, self.p).sum(axis=1)
        mu = mu.astype(float).astype(mu.dtype)  # 0 where no double holds it
        difference = np.where(
            kept, -mu[:, None] * pm, self.p
        )  # P - P^M; a subtraction would leave nothing of a small mu
        recall = np.where(kept, self.p, 0.0).sum(axis=1)
        lost = softmax(self.scale * self.s, ~kept)
        error = mu[:, None] * ((lost - pm) @ self.v)  # O - O^M, for the same reason
        keeps = kept.any(axis=1)
        per_row = np.sqrt((error**2).sum(axis=1))
        longest = np.sqrt((self.v**2).sum(axis=1)).max()
        kept_share = np.array([self.size[row].sum() / self.n for row in kept_blocks])
        above = per_row > 1e-12 * longest  # below: rounding
        out = {
            "attention_recall": recall.mean(),
            "attention_recall_p05": np.quantile(recall, 0.05),
            "attention_recall_min": recall.min(),
            "max_dropped_mass": mu.max(),
            "mean_dropped_mass": mu.mean(),
            "min_kept_fraction": kept_share.min(),
            "kept_blocks": kept_blocks.sum(),
            "total_blocks": self.g**2,
            "empty_rows": (~kept_blocks.any(axis=1)).sum(),
            "probs_frobenius": norm(difference),
            "trivial_bound": math.sqrt(2 * self.n),
            "output_rel_l2": share(norm(error), norm(self.o)),
            "output_rel_l1": share(np.abs(error).sum(), np.abs(self.o).sum()),
            "output_cosine": share((self.o * om).sum(), norm(self.o) * norm(om)),
            "output_psnr": None
            if not mu.any() or not self.o.any()
            else 20 * np.log10(np.abs(self.o).max() * np.sqrt(error.size) / norm(error)),
            "step_1_bound": 2 * math.sqrt(self.n) * mu.max(),
            "bound_sharp_mu": np.sqrt(2 * (mu**2).sum()),
            "output_error_max": per_row.max(),
            "output_bound_max_ratio": share((per_row[above] / (2 * mu[above])).max(initial=0.0), longest),
            "step_1_residual": 0.0,
            "step_1_rows_checked": keeps[::128].sum(),  # every 128th token, if it keeps something
            "step_1_row_l1_max": np.abs(difference).sum(axis=1)[::128][keeps[::128]].max(initial=0.0),
        }
        return out, mu, kept_share

    def bound_metrics(self, config, kept_blocks, mu, kept_share, left):
        qt, kt = self.pooled(self.q, config["pool"]), self.pooled(self.k, config["pool"])
        st = qt @ kt.T
        s = self.s[:, : self.n]
        deviation = np.abs(s - self.spread(st))
        delta = deviation.max()
        scaled = delta * self.scale
        block = np.zeros((self.g, self.g), dtype=np.longdouble)
        np.maximum.at(block, (self.region[:, None], self.region[None, :]), deviation)
        rq = np.array([norm(self.q[: self.n][self.region == i] - qt[i], axis=1).max() for i in range(self.g)])
        rk = np.array([norm(self.k[: self.n][self.region == i] - kt[i], axis=1).max() for i in range(self.g)])
        nq, nk = norm(qt, axis=1), norm(kt, axis=1)
        radii = np.outer(rq, nk) + np.outer(nq, rk) + np.outer(rq, rk)
        fro, n = norm(s - self.spread(st)), self.n

        def mu_bound(s_fraction, d):
            return 0.0 if s_fraction >= 1 else 1 / (1 + s_fraction / (1 - s_fraction) * np.exp(-2 * d))

        def from_blocks(block_delta):
            total = 0.0
            for i in range(self.g):
                kept, lost = kept_blocks[i], ~kept_blocks[i]
                low, high = self.scale * (st[i] - block_delta[i]), self.scale * (st[i] + block_delta[i])
                shift = max(low[kept].max(initial=-np.inf), high[lost].max(initial=-np.inf))
                top_weight = (self.size * np.exp(low - shift))[kept].sum()
                low_weight = (self.size * np.exp(high - shift))[lost].sum()
                bound = 0.0 if low_weight == 0 else low_weight / (low_weight + top_weight)
                total += self.size[i] * bound**2
            return np.sqrt(2 * total)

        def quantile(p):  # smallest edge of the documented grid (8 fraction bits) not below the order statistic
            value = np.sort(deviation.reshape(-1))[math.ceil(p * deviation.size) - 1]
            mantissa, exponent = np.frexp(value)
            return np.ldexp(np.longdouble(math.ceil(mantissa * 512)) / 512, exponent)

        s_min = kept_share.min()
        where = np.unravel_index(block.argmax(), block.shape)
        bound = 2 * math.sqrt(n) * mu_bound(s_min, scaled)
        ratios = [m / mu_bound(kept_share[i], scaled) for m, i in zip(mu, self.region) if m > 0]
        # A softmax that underflows orders blocks of probability 0 by position: the theorem says nothing of such masks.
        thresholds = all(
            self.scale * (row[~kept].max(initial=-np.inf) - row[kept].min(initial=np.inf))
            <= 1e-12 * (1 + self.scale * np.abs(row).max())
            for row, kept in zip(st, kept_blocks)
        )
        out = {
            "delta_logits": delta,
            "delta_scaled": scaled,
            "delta_p50": quantile(0.5),
            "delta_p90": quantile(0.9),
            "delta_p99": quantile(0.99),
            "delta_p999": quantile(0.999),
            "logits_rms_deviation": np.sqrt((deviation**2).mean()),
            "logits_frobenius": fro,
            "bound_3_3": delta * n,
            "tightness_3_3": share(fro, delta * n),
            "delta_block_row": where[0],
            "delta_block_column": where[1],
            "delta_half_block_share": (block >= delta / 2).mean(),
            "delta_radii": radii.max(),
            "radii_tightness": share(delta, radii.max()),
            "bound_3_5": bound,
            "bound_3_5_paper_delta": 2 * math.sqrt(n) * mu_bound(s_min, delta),
            "vacuity_3_5": bound / math.sqrt(2 * n),
            "tightness_3_5": share(left, bound),
            "bound_sharp": math.sqrt(2 * n) * mu_bound(s_min, scaled),
            "bound_blocks": from_blocks(block),
            "bound_radii": from_blocks(radii),
            "step_2_max_ratio": max(ratios, default=0.0),
        }
        if not thresholds:
            names = ("tightness_3_5", "step_2_max_ratio", "check_step_2", "check_3_5", "check_sharp")
            out |= dict.fromkeys(names, None)
        return out


class BoundsAgainstNumPy(unittest.TestCase):
    def compare(self, found, wanted, name, where):
        if wanted is None or found == NOT_APPLICABLE:
            self.assertTrue(
                wanted is None and found == NOT_APPLICABLE, f"{where}: {name}: NumPy {wanted}, found {found}"
            )
            return
        tolerance = ROUNDING_ONLY.get(name, RELATIVE * abs(wanted) + SMALLEST) + self.rounding.get(name, 0.0)
        self.assertTrue(abs(found - wanted) <= tolerance, f"{where}: {name}: NumPy {wanted!r}, found {found!r}")

    rounding = {}  # what a case's numbers cost beside that, by metric
    ties = False  # whether blocks have the same mass, so that the oracle's order is that of their rounding
    open_checks = False  # whether rounding may leave a check open: logits beyond 1e14 have no fractions

    def check(self, grid, text, regions, spread, smooth, heads=1, dim=16, change=lambda q, k, v: None):
        with tempfile.TemporaryDirectory() as folder:
            dump, out = os.path.join(folder, "d.h5"), os.path.join(folder, "r.jsonl")
            write_dump(dump, grid, heads, text, dim, spread, 5, smooth, change)
            subprocess.run(
                [
                    PROGRAM,
                    "bounds",
                    dump,
                    "--region",
                    ",".join(f"{h}x{w}" for h, w in regions),
                    "--sparsity",
                    ",".join(map(str, SPARSITIES)),
                    "--out",
                    out,
                    "--quiet",
                ],
                check=True,
            )
            with open(out) as lines:
                records = [json.loads(line) for line in lines]
            with h5py.File(dump) as file:
                tensors = [file["captures/layer0_step1"][name][:] for name in "qkv"]
        # 4 rules x 2 poolings, oracle and random, for each region and sparsity.
        self.assertEqual(len(records), heads * len(regions) * len(SPARSITIES) * 10)
        compared = 0
        studied = {(h, r): Head(*(t[h] for t in tensors), grid, text, r) for h in range(heads) for r in regions}
        for record in records:
            config, number = record["config"], record["input"]["head"]
            self.assertEqual(record["status"], "ok", record.get("reason"))
            if self.ties and config["policy"] == "oracle":
                continue
            head = studied[number, tuple(config["region"])]
            kept = head.mask(config, number)
            wanted, mu, kept_share = head.mask_metrics(kept)
            if config["policy"] == "draft":
                wanted |= head.bound_metrics(config, kept, mu, kept_share, wanted["probs_frobenius"])
            else:
                self.assertNotIn("bound_3_5", record["metrics"])
                self.assertIn("not applicable", record["notes"]["theorem_3_5"])
            for name, value in record["metrics"].items():
                if name.startswith("check_"):
                    wanted_flag = wanted.pop(name, 1)
                    if not (self.open_checks and value == NOT_APPLICABLE):
                        self.compare(value, wanted_flag, name, config)
                else:
                    self.compare(value, wanted.pop(name), name, config)
                    compared += 1
            self.assertFalse(wanted, f"{config}: the program leaves out {sorted(wanted)}")
        self.assertGreater(compared, 18 * len(records))

    def test_ragged_grid_with_text(self):
        self.check((2, 9, 11), 5, [(4, 4), (3, 5)], spread=0.5, smooth=1.0, heads=2)

    def test_rough_head_without_text(self):
        self.check((2, 13, 21), 0, [(8, 16)], spread=1.5, smooth=0.2)

    def test_smooth_head_on_an_even_grid(self):
        self.check((3, 8, 16), 7, [(4, 8), (8, 8)], spread=0.02, smooth=0.6)

    def test_one_region_holds_all_the_mass(self):
        """Logits 0 and X: recall, errors and bounds down to where doubles end, and beyond."""
        for logit in (300, 354, 360, 600, 700, 1000, 1e5):

            def change(q, k, _v, logit=logit):
                q[:], k[:] = 1, 0
                k[:, :16] = logit

            with self.subTest(logit=logit):
                self.ties = True
                self.check((4, 1, 16), 0, [(1, 16)], 1, 0, dim=1, change=change)

    def test_zeros(self):
        for names in ("v", "q", "k", "qkv"):

            def change(*tensors, names=names):
                for name, tensor in zip("qkv", tensors):
                    if name in names:
                        tensor[:] = 0

            with self.subTest(zeros=names):
                self.ties = names != "v"
                self.check((2, 5, 9), 3, [(4, 4)], 1, 0, change=change)

    def test_logits_that_spread(self):
        """Over some hundreds, with rows that keep a vanishing part of their mass."""
        # An error of 1e-12 is a difference of outputs that has four digits.
        self.rounding = dict.fromkeys(("output_error_max", "output_rel_l2", "output_rel_l1"), 1e-14)
        self.rounding |= {"output_bound_max_ratio": 1e-3, "output_psnr": 1e-2}
        self.check(
            (2, 6, 10),
            2,
            [(4, 4)],
            1,
            0,
            dim=4,
            change=lambda q, k, v: (np.multiply(q, 20, out=q), np.multiply(k, 20, out=k)),
        )

    def test_numbers_of_any_size(self):
        """Powers of ten that squares do not survive; the softmax scale stays, so that attention is even or one-hot."""
        for size in (1e-150, 1e-80, 1e30, 1e70):
            with self.subTest(size=size):
                self.open_checks = size > 1
                self.ties = size < 1
                self.check(
                    (2, 5, 9),
                    0,
                    [(4, 4)],
                    1,
                    0,
                    dim=4,
                    change=lambda *tensors, size=size: [np.multiply(x, size, out=x) for x in tensors],
                )

    def test_one_token(self):
        self.check((1, 1, 1), 0, [(8, 16)], 1, 0, dim=4)
        self.check((1, 1, 1), 1, [(8, 16)], 1, 0, dim=4)

    def test_the_comparison_can_fail(self):
        for found, wanted in ((1.0 + 1e-8, 1.0), (math.nan, 1.0), (NOT_APPLICABLE, 1.0), (0.0, None), (0.0, 1e-300)):
            with self.assertRaises(AssertionError):
                self.compare(found, wanted, "delta_logits", "negative control")
