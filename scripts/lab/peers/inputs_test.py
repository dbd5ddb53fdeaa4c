"""Tests of calls from shapes and dumps."""

import hashlib
import os
import tempfile
import unittest

import pytest

torch = pytest.importorskip("torch")
import h5py

from lab.peers.inputs import dump_call, parse_shape, random_call, shape_name

# Names of a record's `input`, from a shape and from a dump.
EXTENT = {"heads", "grid", "text_tokens", "head_dim", "shape", "data"}
SHAPE_KEYS = EXTENT | {"dump", "sha256", "capture", "head", "seed"}
DUMP_KEYS = EXTENT | {"dump", "sha256", "model", "capture", "head"}


class Shapes(unittest.TestCase):
    def test_names_and_numbers(self):
        self.assertEqual(parse_shape("hunyuan_768p"), (24, (33, 48, 80), 256))
        self.assertEqual(parse_shape("3x2x30x52"), (3, (2, 30, 52), 0))
        self.assertEqual(parse_shape("24x33x48x80+16"), (24, (33, 48, 80), 16))
        for text in ("dump.h5", "3x2x30", "3x2x30x52+", "wan"):
            self.assertIsNone(parse_shape(text))
        with self.assertRaisesRegex(ValueError, "0x2x30x52: wanted heads, frames, height and width of at least 1"):
            parse_shape("0x2x30x52")

    def test_the_papers_shapes_are_known_by_heads_and_grid(self):
        self.assertEqual(shape_name(24, (33, 48, 80), 16), "hunyuan_768p")
        self.assertEqual(shape_name(40, (21, 32, 48), 0), "wan_512p")
        self.assertEqual(shape_name(23, (33, 48, 80), 16), "23x33x48x80+16")

    def test_random_calls(self):
        call, again, other = (random_call("2x3x8x20+5", 32, seed, "cpu") for seed in (1, 1, 2))
        self.assertEqual(call.q.shape, (2, 485, 32))
        self.assertEqual((call.text, call.text_blocks, call.regions), (5, 1, 6))
        self.assertTrue(torch.equal(call.k, again.k) and not torch.equal(call.k, other.k))
        self.assertFalse(torch.equal(call.q, call.k))
        self.assertEqual(set(call.input), SHAPE_KEYS)
        known = [call.input[key] for key in ("dump", "capture", "data")]
        self.assertEqual(known, [None, "2x3x8x20+5", "normal"])
        with self.assertRaisesRegex(ValueError, "nothing: wanted wan_512p"):
            random_call("nothing", 32, 1, "cpu")


class Dumps(unittest.TestCase):
    def setUp(self):
        from qkv_dump import DumpWriter

        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "small.h5")
        generator = torch.Generator().manual_seed(1)
        self.q = torch.randn((2, 4, 21, 8), generator=generator).bfloat16()  # [captures, heads, tokens, head_dim]
        self.k, self.v = (torch.randn((2, 2, 21, 8), generator=generator).bfloat16() for _ in range(2))
        with DumpWriter(self.path, model="m", source="s", frames=1, height=4, width=5, text_tokens=1) as dump:
            for index, name in enumerate(("first", "second")):
                dump.add(name, self.q[index], self.k[index], self.v[index], layer=3, step=index, timestep=0.5)

    def test_all_heads_of_all_captures(self):
        call = dump_call(self.path, [], [], "cpu")
        self.assertTrue(torch.equal(call.q, self.q.flatten(0, 1)))
        # Heads 0 and 1 of q share key head 0, heads 2 and 3 key head 1.
        self.assertTrue(torch.equal(call.k, self.k.repeat_interleave(2, 1).flatten(0, 1)))
        self.assertTrue(torch.equal(call.v, self.v.repeat_interleave(2, 1).flatten(0, 1)))
        self.assertTrue(call.q.is_contiguous() and call.q.dtype == torch.bfloat16)
        self.assertEqual((call.grid, call.text, call.input["capture"]), ((1, 4, 5), 1, "first+second"))
        self.assertEqual(set(call.input), DUMP_KEYS)
        with open(self.path, "rb") as file:
            self.assertEqual(call.input["sha256"], hashlib.sha256(file.read()).hexdigest())
        self.assertEqual((call.input["heads"], call.input["head"], call.input["data"]), (8, None, "captured"))

    def test_chosen_heads_of_a_capture(self):
        call = dump_call(self.path, ["second"], [3, 1], "cpu")
        self.assertTrue(torch.equal(call.q, self.q[1, [1, 3]]))
        self.assertTrue(torch.equal(call.v, self.v[1]))
        self.assertEqual((call.input["layer"], call.input["step"], call.input["head"]), (3, 1, [1, 3]))

    def test_refusals_name_wanted_and_found(self):
        for captures, heads, words in (
            (["third"], [], "captures are first, second, found third"),
            ([], [4], "first has heads 0 to 3, found 4"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                dump_call(self.path, captures, heads, "cpu")
        with self.assertRaisesRegex(ValueError, "nowhere: no such dump; a shape is wan_512p"):
            dump_call("nowhere", [], [], "cpu")
        with h5py.File(self.path, "a") as file:
            file["captures/first"].attrs["softmax_scale"] = 1.0
        with self.assertRaisesRegex(ValueError, r"softmax_scale: wanted 1/sqrt\(8\), found 1.0"):
            dump_call(self.path, [], [], "cpu")
        with h5py.File(self.path, "a") as file:
            file["captures/first"].attrs["softmax_scale"] = 8**-0.5
            file["captures/first/k"][1, 2, 3] = 0x7FC0  # NaN
        with self.assertRaisesRegex(ValueError, "first/k head 1.*NaN or Inf"):
            dump_call(self.path, [], [], "cpu")
