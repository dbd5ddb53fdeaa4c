"""What a user of the GPU benches sees where there is no GPU: names, one clear line, exit statuses.
Usage: bench_test.py PATH/TO/pipeline_bench PATH/TO/attend_bench"""

import os
import subprocess
import sys
import unittest

ATTEND = os.path.abspath(sys.argv.pop(2))
PIPELINE = os.path.abspath(sys.argv.pop(1))
RULES = ("logits", "softmax", "released", "row")
STEPS = ("pool_q", "pool_k", "map", "select", "lists", "total")


def call(program, *arguments):
    """With every GPU hidden: the same on all machines."""
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, env=hidden)


def names(program, *arguments):
    listed = call(program, *arguments, "--benchmark_list_tests").stdout.split()
    return [name.removesuffix("/iterations:1/manual_time") for name in listed]


class Benches(unittest.TestCase):
    def refused(self, program, *arguments, says):
        done = call(program, *arguments)
        self.assertEqual(done.returncode, 2, done)
        self.assertEqual(done.stdout, "")
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(says, done.stderr)

    def test_every_step_of_every_rule_is_measured(self):
        self.assertEqual(names(PIPELINE), [f"pipeline/{rule}/{step}" for rule in RULES for step in STEPS])

    def test_every_kernel_is_measured_dense_and_sparse_in_both_orders(self):
        found = names(ATTEND)
        kernels = {name.split("/")[1] for name in found}
        self.assertGreaterEqual(kernels, {"mma", "wgmma", "blas"})
        self.assertEqual(
            sorted(found),
            sorted(
                f"attend/{kernel}/{order}/{kept}"
                for kernel in kernels
                for order in ("token", "region")
                for kept in ("dense", "0.9")
            ),
        )
        self.assertEqual(len(names(ATTEND, "0.5", "0.75")), 6 * len(kernels))
        self.assertIn("attend/mma/token/0.75/wan_512p", names(ATTEND, "wan_512p", "wan_768p", "0.75"))
        self.assertEqual(names(ATTEND, "--benchmark_filter=mma/token/dense$"), [])  # the suffix counts
        self.assertEqual(len(names(ATTEND, "--benchmark_filter=/mma/token/dense")), 1)

    def test_without_a_gpu_one_line_says_so(self):
        for program in (PIPELINE, ATTEND):
            self.refused(program, says="looking for a GPU: ")
            self.refused(program, says="check nvidia-smi")

    def test_bad_words_are_refused(self):
        for word in ("often", "1", "0", "nan", "0.5x", "-0.5"):
            self.refused(PIPELINE, word, "--benchmark_list_tests", says=f"found '{word}'")
            self.refused(ATTEND, word, "--benchmark_list_tests", says=f"found '{word}'")
        self.refused(PIPELINE, "0.5", "0.6", "--benchmark_list_tests", says="found '0.6' as well")
        self.refused(ATTEND, "--often", "--benchmark_list_tests", says="found '--often'")
        self.refused(ATTEND, "--benchmark_filter=nothing", "--benchmark_list_tests", says="Failed to match")


if __name__ == "__main__":
    unittest.main()
