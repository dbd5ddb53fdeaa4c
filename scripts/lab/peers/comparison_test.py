"""Tests of whole comparisons, on the CPU with a clock of their own."""

import contextlib
import dataclasses
import io
import json
import sys
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
from lab.peers import comparison, contenders, inputs, stand_in
from lab.peers.contenders import Contender, own
from lab.peers.stand_in import Clock

KEPT = {"kept_blocks", "total_blocks", "kept_with_text", "all_blocks", "kept_share", "empty_rows"}
KEPT |= {"row_blocks_mean", "row_blocks_max"}
RATIOS = {"speedup_over_dense", "rate_over_dense", "matmul_tflops", "share_of_matmul"}


def changed(name, change, **more):
    """wgmma under another name, its output passed through `change`."""
    good = own(stand_in, "wgmma")

    def prepare(call, case):
        work = good.prepare(call, case)
        return lambda: change(work())

    return dataclasses.replace(good, name=name, prepare=prepare, **more)


def quiet(function, *arguments):
    """(what it returns, what it wrote to stderr)."""
    with contextlib.redirect_stderr(io.StringIO()) as words:
        return function(*arguments), words.getvalue()


class Comparisons(unittest.TestCase):
    def setUp(self):
        self.call = inputs.random_call("2x1x16x32+16", 64, 1, "cpu")
        self.clock = Clock()
        self.matmul = comparison.Job(work=lambda: None)

    def compare(self, chosen, sparsities=(0.5,), rounds=3):
        cases = comparison.make_cases(stand_in, self.call, sparsities, "softmax", "avg")
        (jobs, reference), _ = quiet(comparison.prepare, stand_in, self.call, chosen, cases, self.clock)
        comparison.time_all(jobs, self.matmul, rounds, 1, self.clock)
        return comparison.records_of(self.call, jobs, self.matmul, reference, self.clock, {"gpu": None}, {})

    def test_a_whole_run(self):
        with mock.patch.dict(sys.modules, {"block_sparse_attn": None, "flash_attn_interface": None}):
            made = self.compare(
                contenders.choose(
                    stand_in, ["wgmma", "mma", "flash_attention_2", "flash_attention_3", "block_sparse_attention"]
                ),
                (0.5, 0.9),
            )
        cells = {(record["config"]["kernel"], record["config"]["sparsity"]): record for record in made}
        self.assertEqual(len(cells), 2 * 3 + 2 * 1 + 3)  # dense kernels have one cell
        for (kernel, _), record in cells.items():
            self.assertEqual(json.loads(json.dumps(record, allow_nan=False)), record)
            if kernel in ("flash_attention_3", "block_sparse_attention"):
                self.assertEqual((record["status"], set(record["metrics"])), ("skipped", KEPT))
                self.assertRegex(record["reason"], "^ModuleNotFoundError: ")
                self.assertNotIn("timing", record)
                continue
            self.assertEqual((record["status"], set(record["metrics"])), ("ok", KEPT | RATIOS | {"output_rel_l2"}))
            samples = record["timing"]["samples_ms"]
            self.assertEqual(len(samples), 3)
            dense = cells[kernel, 0.0]["timing"]["median_ms"]
            self.assertAlmostEqual(record["metrics"]["speedup_over_dense"], dense / record["timing"]["median_ms"])
            self.assertEqual(record["notes"]["reference"], "wgmma")
        # Ours are one function here; FlashAttention of PyTorch's CPU code is another one, with the same result.
        self.assertEqual(cells["mma", 0.9]["metrics"]["output_rel_l2"], 0)
        self.assertGreater(cells["flash_attention_2", 0.0]["metrics"]["output_rel_l2"], 0)
        # All samples are of one run: the clock's numbers, each taken once.
        mine = sum((r["timing"]["samples_ms"] for r in made if "timing" in r), []) + self.matmul.samples
        self.assertEqual(sorted(mine), list(range(1, 3 * (7 + comparison.MATMULS_PER_ROUND) + 1)))
        lines = comparison.table(made)
        self.assertEqual(len(lines), 1 + len(made) + 1)
        self.assertIn("skipped: ModuleNotFoundError", "\n".join(lines))

    def test_every_peer_that_cannot_run_here_says_why(self):
        peers = [peer for peer in contenders.PEERS if peer.name in ("cudnn", "flash_attention_3", "flash_attention_4")]
        with mock.patch.dict(sys.modules, {"flash_attn_interface": None, "flash_attn.cute": None}):
            for record in self.compare(peers, ()):
                self.assertEqual(record["status"], "skipped", record)
                self.assertTrue(record["reason"])

    def test_flash_attention_of_either_kind(self):
        def plain(q, k, v):
            assert q.shape == (1, self.call.tokens, 2, 64)
            moved = (x[0].transpose(0, 1) for x in (q, k, v))
            return stand_in.attention(*moved, self.call.grid)[0].transpose(0, 1)[None]

        for function in (plain, lambda q, k, v: (plain(q, k, v), None)):
            with mock.patch.dict(
                sys.modules, {"flash_attn_interface": mock.Mock(flash_attn_func=function, __version__="3.1")}
            ):
                (record,) = self.compare(contenders.choose(stand_in, ["flash_attention_3"]), ())
            self.assertEqual((record["status"], record["notes"]["version"]), ("ok", "3.1"))

    def test_a_wrong_output_fails_and_is_not_timed(self):
        def without_a_block(call, case):
            mask = torch.ones((2, 4, 4), dtype=torch.bool) if case.mask is None else case.mask.clone()
            mask[0, 2, int(mask[0, 2].nonzero()[0])] = False
            full = stand_in.token_mask(mask, call.grid, inputs.REGION, call.tokens)
            return lambda: stand_in.explicit_attention(call.q, call.k, call.v, full).to(call.q.dtype)

        def spoiled(out):
            out[1, 3, 5] = torch.nan
            return out

        wrong = [
            Contender("less", "token", True, without_a_block, ""),
            changed("nan", spoiled),
            changed("short", lambda out: out[:, 1:]),
        ]
        words = {
            "less": "output_rel_l2: wanted at most 0.02, found 0",
            "nan": "output_rel_l2: wanted at most 0.02, found nan",
            "short": "output: wanted ",
        }
        for record in self.compare([own(stand_in, "wgmma"), *wrong]):
            name = record["config"]["kernel"]
            self.assertEqual(record["status"], "ok" if name == "wgmma" else "failed", name)
            self.assertEqual("timing" in record, name == "wgmma")
            self.assertTrue(record.get("reason", "").startswith(words.get(name, "")), record)

    def test_eight_bits_have_a_tolerance_of_their_own(self):
        def off_by(error):
            return lambda out: (out * (1 + error)).to(out.dtype)

        eight = {"operands": "fp8", "quantising": "timed"}
        chosen = [changed("narrow", off_by(0.12), **eight), changed("far", off_by(0.2), **eight)]
        made = self.compare([*chosen, changed("wide", off_by(0.12))])
        found = {record["config"]["kernel"]: record for record in made if record["config"]["sparsity"]}
        self.assertEqual(
            {name: record["status"] for name, record in found.items()}, dict(narrow="ok", far="failed", wide="failed")
        )
        self.assertAlmostEqual(found["narrow"]["metrics"]["output_rel_l2"], 0.12, delta=0.01)
        self.assertEqual(found["narrow"]["notes"]["tolerance"], "output_rel_l2 of at most 0.15")
        self.assertRegex(found["far"]["reason"], "output_rel_l2: wanted at most 0.15, found ")
        self.assertEqual({name: found["narrow"]["config"][name] for name in eight}, eight)
        self.assertFalse(eight.keys() & found["wide"]["config"].keys())

    def test_a_kernel_of_ours_with_eight_bits_is_known_by_its_row(self):
        rows = [{"name": "wgmma", "eight_bit": False}, {"name": "wgmma_8bit", "eight_bit": True}]
        with mock.patch.object(stand_in, "kernels", lambda: rows):
            chosen = contenders.choose(stand_in, [])
            made = self.compare(chosen[:2], ())
        self.assertEqual(
            [(each.name, each.operands, each.quantising) for each in chosen[:2]],
            [("wgmma", "", ""), ("wgmma_8bit", "8 bit", "timed")],
        )
        self.assertEqual([record["status"] for record in made], ["ok", "ok"])

    def test_only_run_is_timed_and_its_notes_are_recorded(self):
        calls = []

        def prepare(call, case):
            good = own(stand_in, "wgmma").prepare(call, case)

            def output(result):
                calls.append("output")
                return result / 2

            return contenders.Prepared(lambda: good() * 2, output, {"which": "one"})

        package = {"package": "no-such-package", "module": "peer", "install": "pip install peer"}
        with mock.patch.dict(sys.modules, {"peer": mock.Mock(__version__="3.1")}):
            (record,) = self.compare([Contender("peer", "token", True, prepare, "", **package)], ())
        self.assertEqual((record["status"], calls), ("ok", ["output"]))
        notes = {name: record["notes"][name] for name in ("which", "package", "version", "install")}
        self.assertEqual(notes, dict(which="one", package="no-such-package", version="3.1", install="pip install peer"))

    def test_a_kernel_that_writes_into_the_shared_tensors_ends_the_run(self):
        def prepare(call, case):
            def work():
                call.k.sub_(call.k.mean(1, keepdim=True))
                return call.q

            return work

        with self.assertRaisesRegex(comparison.InputsChanged, "^bad: wrote into Q, K or V$"):
            self.compare([Contender("bad", "token", True, prepare, "")], ())

    def test_who_throws_is_skipped_or_failed_with_the_first_line(self):
        def throw(error):
            def prepare(call, case):
                raise error

            return prepare

        ours = own(stand_in, "wgmma")
        chosen = [
            Contender("peer", "token", True, throw(RuntimeError("no kernel\nmore")), ""),
            Contender("cannot", "token", True, throw(contenders.Unsupported("blocks")), ""),
            own(stand_in, "blas"),
            dataclasses.replace(ours, name="broken", prepare=throw(RuntimeError("bug"))),
        ]
        found = [(record["status"], record["reason"]) for record in self.compare(chosen, ())]
        self.assertEqual(
            found,
            [
                ("skipped", "RuntimeError: no kernel"),
                ("skipped", "blocks"),
                ("skipped", "ValueError: blas: wanted a smaller call"),
                ("failed", "RuntimeError: bug"),
            ],
        )

    def test_one_that_breaks_down_while_timed_fails(self):
        calls = []

        def third_time_unlucky(out):
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("third")
            return out

        good, bad = self.compare([own(stand_in, "wgmma"), changed("bad", third_time_unlucky)], ())
        self.assertEqual((good["status"], bad["status"], bad["reason"]), ("ok", "failed", "RuntimeError: third"))
        self.assertEqual((len(good["timing"]["samples_ms"]), len(calls)), (3, 3))

    def test_a_lost_gpu_ends_the_run(self):
        def lose(out):
            self.clock.lost = True
            return out

        with self.assertRaisesRegex(comparison.DeviceLost, "bad: RuntimeError: CUDA error: an illegal.*; then"):
            self.compare([changed("bad", lose)], ())

    def test_a_peer_is_credited_with_the_blocks_that_it_computes(self):
        self.call = inputs.random_call("1x1x12x40+3", 64, 1, "cpu")  # 483 tokens: 4 slices; 2 x 3 regions and the text
        ours, peer = self.compare(contenders.choose(stand_in, ["mma", "flash_attention_2"]), ())
        for record, blocks in ((ours, 7 * 7), (peer, 4 * 4)):
            flops = record["timing"]["tflops_kept"] * record["timing"]["median_ms"] * 1e9
            self.assertAlmostEqual(flops, 4 * 128 * 128 * 64 * blocks, places=3)

    def test_names_are_chosen(self):
        everybody = [contender.name for contender in contenders.choose(stand_in, [])]
        self.assertEqual(everybody, ["wgmma", "mma", *(peer.name for peer in contenders.PEERS)])
        self.assertEqual(len(set(everybody)), len(everybody))
        without = [contender.name for contender in contenders.choose(stand_in, [], ["mma", "cudnn"])]
        self.assertEqual(without, [name for name in everybody if name not in ("mma", "cudnn")])
        self.assertEqual([contender.name for contender in contenders.choose(stand_in, ["blas", "blas"])], ["blas"])
        for option, asked in (("--kernels", (["fa9"],)), ("--without", ([], ["fa9"]))):
            with self.assertRaisesRegex(ValueError, f"{option}: wanted some of blas, mma, wgmma, cudnn.*found fa9"):
                contenders.choose(stand_in, *asked)
