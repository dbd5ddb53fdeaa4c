"""Causal dumps from outside: the program's masks and metrics against NumPy's n x n matrices, and what it refuses."""

import json
import math
import os
import subprocess
import tempfile
import unittest

import numpy as np
from qkv_dump import DumpWriter, from_bfloat16_bits, to_bfloat16_bits

from lab.checks.policies_numpy import vertical_slash_places
from lab.checks.program import PROGRAM

TOKENS, DIM, SIZE, SPARSITY = 200, 8, 16, 0.8
REGIONS = -(-TOKENS // SIZE)
BLOCKS = REGIONS * (REGIONS + 1) // 2
REGION_OF = np.arange(TOKENS) // SIZE
LATER = np.triu(np.ones((TOKENS, TOKENS), bool), 1)


def softmax(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def kept(scores):
    """The diagonal and the largest of what is below it, as many as the sparsity leaves."""
    return kept_of_call([scores])[0]


def kept_of_call(scores, sparsity=SPARSITY):
    """Masks of several heads, as many blocks as the sparsity leaves of each, the largest wherever they are."""
    masks = [np.eye(REGIONS, dtype=bool) for _ in scores]
    below = [(head, i, j) for head in range(len(scores)) for i in range(REGIONS) for j in range(i)]
    order = sorted(below, key=lambda block: -scores[block[0]][block[1:]])
    for head, i, j in order[: len(scores) * max(math.ceil((1 - sparsity) * BLOCKS - 1e-6) - REGIONS, 0)]:
        masks[head][i, j] = True
    return masks


class Causal(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        random = np.random.default_rng(5)
        q, k, v = (to_bfloat16_bits(random.standard_normal((n, TOKENS, DIM))) for n in (2, 1, 1))
        cls.path = os.path.join(cls.folder.name, "text.h5")
        grid = dict(frames=1, height=1, width=TOKENS, text_tokens=0, causal=True)
        with DumpWriter(cls.path, model="m", source="s", **grid) as dump:
            dump.add("c", q, k, v, layer=0, step=0, timestep=0.0)
        cls.q, cls.k, cls.v = (from_bfloat16_bits(x).astype(float) for x in (q, k, v))

    def run_program(self, *arguments):
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=100)

    def records(self, *arguments):
        out = os.path.join(self.folder.name, "out.jsonl")
        done = self.run_program(*arguments[:1], self.path, *arguments[1:], "--quiet", "--out", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(out) as stream:
            found = [json.loads(line) for line in stream]
        os.remove(out)
        return found, done.stderr

    def attention(self, head):
        return softmax(np.where(LATER, -np.inf, self.q[head] @ self.k[0].T / DIM**0.5))

    def scores(self, head):
        """{policy: [regions, regions]} of those whose masks are held to them."""
        every = np.arange(0, TOKENS, SIZE)
        pooled = [np.stack([x[r == REGION_OF].mean(0) for r in range(REGIONS)]) for x in (self.q[head], self.k[0])]
        map_logits = np.where(np.tri(REGIONS, dtype=bool), pooled[0] @ pooled[1].T / DIM**0.5, -np.inf)
        last = np.arange(TOKENS - 64, TOKENS)
        return {
            "draft": softmax(map_logits),
            "oracle": np.add.reduceat(np.add.reduceat(self.attention(head), every, 0), every, 1),
            "vertical_slash": -vertical_slash_places(self.q[head] / DIM**0.5, self.k[0], last, REGION_OF, causal=True),
        }

    def test_masks_and_metrics_are_numpys(self):
        names = "draft,oracle,random,h2o,quest,xattention,minference,vertical_slash,streaming_llm"
        found, _ = self.records(
            "policies",
            "--policy",
            names,
            "--rule",
            "softmax",
            "--region",
            f"1x{SIZE}",
            "--sparsity",
            f"{SPARSITY}",
            "--masks",
        )
        self.assertEqual(len(found), 2 * len(names.split(",")))
        for record in found:
            head, policy = record["input"]["head"], record["config"]["policy"]
            self.assertTrue(record["input"]["causal"])
            mask = np.array([[letter == "1" for letter in row] for row in record["arrays"]["mask"]])
            p, scores = self.attention(head), self.scores(head)
            if policy in scores:
                self.assertTrue(np.array_equal(mask, kept(scores[policy])), policy)
            self.assertFalse(np.triu(mask, 1).any())
            self.assertTrue(mask.diagonal().all())
            allowed = mask[REGION_OF][:, REGION_OF] & ~LATER
            share = p * allowed / (p * allowed).sum(axis=1, keepdims=True)
            dense, sparse = p @ self.v[0], share @ self.v[0]
            metrics = record["metrics"]
            # Rounding: sums of 200 terms of order one.
            self.assertAlmostEqual(metrics["attention_recall"], (p * allowed).sum() / TOKENS, delta=1e-12)
            error = np.linalg.norm(dense - sparse) / np.linalg.norm(dense)
            self.assertAlmostEqual(metrics["output_rel_l2"], error, delta=1e-12)
            self.assertEqual((metrics["kept_blocks"], metrics["total_blocks"]), (mask.sum(), BLOCKS))

    def test_the_bounds_are_of_blocks_below_the_diagonal(self):
        found, _ = self.records(
            "bounds",
            "--policy",
            "draft",
            "--pool",
            "max",
            "--rule",
            "row",
            "--region",
            f"1x{SIZE}",
            "--sparsity",
            f"{SPARSITY}",
        )
        for record in found:
            q, metrics = self.q[record["input"]["head"]], record["metrics"]
            pooled = [np.stack([x[r == REGION_OF].max(0) for r in range(REGIONS)]) for x in (q, self.k[0])]
            apart = (q @ self.k[0].T - (pooled[0] @ pooled[1].T)[REGION_OF][:, REGION_OF])[
                REGION_OF[:, None] > REGION_OF
            ]
            self.assertAlmostEqual(metrics["logits_frobenius"] / np.linalg.norm(apart), 1, delta=1e-12)
            self.assertAlmostEqual(metrics["delta_logits"] / np.abs(apart).max(), 1, delta=1e-12)
            self.assertAlmostEqual(metrics["bound_3_3"] / (np.abs(apart).max() * len(apart) ** 0.5), 1, delta=1e-12)
            self.assertEqual(metrics["check_3_3"], 1)

    def test_other_policies_are_named_and_left_out(self):
        found, said = self.records("policies", "--region", f"1x{SIZE}", "--sparsity", f"{SPARSITY}", "--calls")
        self.assertIn("skipped(not for causal attention): ", said)
        self.assertIn("svg2", said)
        self.assertNotIn("svg2", {record["config"]["policy"] for record in found})
        # Blocks in token order are --region's: a text is a row of tokens.
        regions = {tuple(record["config"]["region"]) for record in found}
        self.assertEqual(regions, {(1, SIZE)})

    def test_a_budget_over_all_heads_of_a_call(self):
        """Both heads' diagonals, and the largest blocks below them; of the heads alone they are others."""
        names, sparsity, differ = ("draft", "oracle"), 0.3, set()
        found, said = self.records(
            "policies", "--policy", ",".join(names), "--rule", "softmax", "--region", f"1x{SIZE}",
            "--sparsity", f"{sparsity}", "--calls", "--masks",
        )  # fmt: skip
        self.assertNotIn("skipped", said)
        found = [record for record in found if record["config"].get("budget") == "call"]
        self.assertEqual(len(found), 2 * len(names))
        heads = [self.scores(head) for head in range(2)]
        for record in found:
            head, policy = record["input"]["head"], record["config"]["policy"]
            mask = np.array([[letter == "1" for letter in row] for row in record["arrays"]["mask"]])
            wanted = kept_of_call([scores[policy] for scores in heads], sparsity)
            self.assertEqual(sum(map(np.sum, wanted)), 2 * math.ceil((1 - sparsity) * BLOCKS - 1e-6))
            self.assertTrue(np.array_equal(mask, wanted[head]), (policy, head))
            self.assertEqual(record["metrics"]["kept_blocks"], wanted[head].sum())
            if not np.array_equal(mask, kept_of_call([heads[head][policy]], sparsity)[0]):
                differ.add(policy)
        self.assertEqual(differ, set(names))

    def test_refusals_are_one_line(self):
        for arguments, words in (
            (
                ("policies", self.path, "--policy", "svg"),
                "--policy: wanted one that is for causal attention, too, found svg",
            ),
            (("bounds", self.path, "--region", "1x512"), "a causal head wants two regions or more"),
        ):
            done = self.run_program(*arguments)
            self.assertEqual(done.returncode, 2)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main()
