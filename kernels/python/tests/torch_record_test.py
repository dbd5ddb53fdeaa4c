"""Draft attention in PyTorch on a captured head, held to the records of the project's float64 reference."""

import hashlib
import itertools
import json
import pathlib
import unittest

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("h5py")

import draftattention as da
import qkv_dump

ROOT = pathlib.Path(__file__).resolve().parents[3]
DUMP, RECORDS = ROOT / "data" / "photodit_ragged.h5", ROOT / "results" / "records.jsonl"
if not (DUMP.exists() and RECORDS.exists()):
    pytest.skip(f"{DUMP} or {RECORDS} is not there", allow_module_level=True)

DOUBLE = 2.0**-53  # float64's unit roundoff


def cells():
    """(pool, rule, region, sparsity) -> the metrics and the input of the reference's record for the dump's head."""
    found = {}
    for line in RECORDS.read_text().splitlines():
        record = json.loads(line)
        config = record["config"]
        if (
            record["experiment"] in ("bounds", "pooling", "regions")
            and record["input"]["dump"] == DUMP.name
            and record["status"] == "ok"
            and config.get("policy") == "draft"
            and config["device"] == "cpu"
        ):
            key = config["pool"], config["rule"], tuple(config["region"]), config["sparsity"]
            found[key] = record["metrics"], record["input"]
    return found


class Records(unittest.TestCase):
    """Given a head in float64, claim: ||O - O^M|| / ||O|| over the video rows, O^M under the draft mask, text kept, is
    the record's output_rel_l2, and as many blocks are kept.

    Tolerance: either side's output errs by at most (n + 4 head_dim scale |q||k|) u max|V| an element (truth.py); the
    quotient changes by the norm of both sides' errors of both outputs over each of its norms."""

    @classmethod
    def setUpClass(cls):
        cls.capture = next(iter(qkv_dump.read_dump(DUMP)))
        cls.cells = cells()
        capture = cls.capture
        cls.q, cls.k, cls.v = (torch.from_numpy(x).double()[None] for x in (capture.q, capture.k, capture.v))
        cls.grid = capture.frames, capture.height, capture.width
        cls.video = capture.frames * capture.height * capture.width
        cls.dense = cls.run_at(cls, sparsity=0.0)
        reach = capture.softmax_scale * float(cls.q.norm(dim=-1).max() * cls.k.norm(dim=-1).max())
        element = (cls.q.shape[2] + 4 * cls.q.shape[3] * reach) * DOUBLE * float(cls.v.abs().max())
        cls.output_error = 2 * 2 * element * cls.dense.numel() ** 0.5

    def run_at(self, **named):
        """The head's video rows, [video, head_dim]."""
        o = da.draft_attention(
            self.q,
            self.k,
            self.v,
            self.grid,
            text_tokens=self.capture.text_tokens,
            scale=self.capture.softmax_scale,
            kernel="torch",
            **named,
        )
        return o[0, 0, : self.video]

    def residual(self, wanted, sparse):
        """How far the relative error of `sparse` is from the recorded one, as a share of what rounding explains."""
        error, size = (self.dense - sparse).norm(), self.dense.norm()
        tolerance = self.output_error * float(1 / size + error / size**2)
        return float((error / size - wanted).abs()) / tolerance

    def test_records_are_this_dump_s(self):
        digest = hashlib.sha256(DUMP.read_bytes()).hexdigest()
        self.assertEqual({origin["sha256"] for _, origin in self.cells.values()}, {digest})
        self.assertEqual({origin["capture"] for _, origin in self.cells.values()}, {self.capture.name})

    def test_sparse_output_errs_as_the_records_say(self):
        least = itertools.product(("avg", "max"), ("softmax", "row"), [(8, 16)], (0.5, 0.9))
        more = [("avg", rule, (8, 16), 0.9) for rule in ("logits", "released")] + [("avg", "softmax", (4, 8), 0.9)]
        self.assertLessEqual({*least, *more}, set(self.cells))
        for key, (metrics, _) in self.cells.items():
            pool, rule, region, sparsity = key
            named = dict(pool=pool, rule=rule, region=region, sparsity=sparsity)
            with self.subTest(key):
                mask = da.draft_mask(self.q, self.k, self.grid, scale=self.capture.softmax_scale, **named)
                self.assertEqual(int(mask.sum()), metrics["kept_blocks"])
                self.assertLessEqual(self.residual(metrics["output_rel_l2"], self.run_at(**named)), 1.0)

    def test_the_check_can_fail(self):
        """One block exchanged for another, or a record that is off by a millionth."""
        metrics, _ = self.cells["avg", "softmax", (8, 16), 0.9]
        mask = da.draft_mask(self.q, self.k, self.grid, scale=self.capture.softmax_scale)
        kept, dropped = mask[0, 0].nonzero()[0].tolist(), (~mask[0, 0]).nonzero()[-1].tolist()
        other = mask.clone()
        other[0, 0, kept[0], kept[1]], other[0, 0, dropped[0], dropped[1]] = False, True
        outputs = [
            da.block_attention(self.q, self.k, self.v, self.grid, m, scale=self.capture.softmax_scale)[
                0, 0, : self.video
            ]
            for m in (mask, other)
        ]
        self.assertLessEqual(self.residual(metrics["output_rel_l2"], outputs[0]), 1.0)
        self.assertGreater(self.residual(metrics["output_rel_l2"], outputs[1]), 1.0)
        self.assertGreater(self.residual(metrics["output_rel_l2"] * (1 + 1e-6), outputs[0]), 1.0)
