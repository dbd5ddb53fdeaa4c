"""Tests of qkv_dump: exact round trips, and really broken files."""

import os
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np
import pytest
from qkv_dump import DumpError, DumpWriter, from_bfloat16_bits, read_dump, to_bfloat16_bits

GRID = dict(frames=2, height=3, width=4, text_tokens=5)
TOKENS = 29
CALL = dict(layer=1, step=10, timestep=0.75)


def arrays(heads=2, kv_heads=2, tokens=TOKENS, dim=8, dtype=np.float32, seed=0):
    """q, k, v, o of one capture, standard normal."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal((heads if name in "qo" else kv_heads, tokens, dim)).astype(dtype) for name in "qkvo"
    }


class DumpTest(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.path = os.path.join(self._folder.name, "run.h5")

    def write(self, captures=1, grid=GRID, call=CALL, path=None, **shape):
        with DumpWriter(path or self.path, model="photodit", source="test", **grid) as dump:
            for index in range(captures):
                dump.add(f"capture{index}", **arrays(seed=index, **shape), **call)

    def refused(self, *words):
        """Reading raises a DumpError that names the file and all of `words`."""
        with self.assertRaises(DumpError) as caught:
            list(read_dump(self.path))
        for word in (self.path, *words):
            self.assertIn(str(word), str(caught.exception))


class RoundTrip(DumpTest):
    def test_float_types_come_back_exactly(self):
        for dtype, decoded in ((np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)):
            with self.subTest(dtype=dtype.__name__):
                self.write(dtype=dtype)
                (capture,) = read_dump(self.path)
                for name, array in arrays(dtype=dtype).items():
                    self.assertEqual(getattr(capture, name).dtype, decoded)
                    self.assertTrue(np.array_equal(getattr(capture, name), array.astype(decoded)))

    def test_bfloat16_bits_come_back_exactly(self):
        given = {name: to_bfloat16_bits(array) for name, array in arrays().items()}
        with DumpWriter(self.path, model="m", source="s", **GRID) as dump:
            dump.add("a", **given, **CALL)
        with h5py.File(self.path, "r") as file:
            self.assertEqual(file["captures/a/q"].attrs["dtype"], "bfloat16")
        (capture,) = read_dump(self.path)
        for name, bits in given.items():
            self.assertTrue(np.array_equal(getattr(capture, name), from_bfloat16_bits(bits)))

    def test_bfloat16_rounds_to_nearest_even(self):
        # Given 1 + half an ulp and 1 + one and a half ulps (ulp 2^-7): ties go to the even neighbour.
        half = 2.0**-8
        rounded = from_bfloat16_bits(to_bfloat16_bits(np.array([1 + half, 1 + 3 * half, -3.0, np.inf])))
        self.assertEqual(rounded.tolist(), [1.0, 1 + 4 * half, -3.0, np.inf])
        self.assertTrue(np.isnan(from_bfloat16_bits(to_bfloat16_bits(np.array([np.nan]))))[0])
        # Claim: relative error at most 2^-8 over random values.
        values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
        error = np.abs(from_bfloat16_bits(to_bfloat16_bits(values)) - values)
        self.assertTrue((error <= 2.0**-8 * np.abs(values)).all())

    def test_attributes_and_defaults(self):
        with DumpWriter(self.path, model="m", source="s", **GRID) as dump:
            dump.add(
                "a", **arrays(), **CALL, steps=30, prompt="p", branch="cond", softmax_scale=0.5, model_heads=[7, 3]
            )
            dump.add("b", **{**arrays(), "o": None}, **CALL)
        first, second = read_dump(self.path)
        self.assertEqual((first.layer, first.step, first.timestep, first.steps), (1, 10, 0.75, 30))
        self.assertEqual(
            (first.prompt, first.branch, first.softmax_scale, first.model_heads), ("p", "cond", 0.5, [7, 3])
        )
        self.assertEqual((first.frames, first.height, first.width, first.text_tokens), (2, 3, 4, 5))
        self.assertEqual((second.steps, second.prompt, second.model_heads, second.o), (None, None, None, None))
        self.assertEqual(second.softmax_scale, 8**-0.5)

    def test_grouped_query_heads(self):
        self.write(heads=6, kv_heads=2)
        (capture,) = read_dump(self.path)
        self.assertEqual((capture.q.shape[0], capture.k.shape[0], capture.v.shape[0]), (6, 2, 2))

    def test_chunks_are_one_head_of_at_most_4096_tokens(self):
        self.write(grid=dict(frames=5, height=32, width=32, text_tokens=0), tokens=5120, heads=1, kv_heads=1, dim=2)
        with h5py.File(self.path, "r") as file:
            q = file["captures/capture0/q"]
            self.assertEqual((q.chunks, q.shuffle, q.compression), ((1, 4096, 2), True, "gzip"))

    def test_without_compression_the_numbers_are_the_same(self):
        written = arrays()
        with DumpWriter(self.path, model="m", source="s", **GRID, compression=0) as dump:
            dump.add("a", **written, **CALL)
        with h5py.File(self.path, "r") as file:
            q = file["captures/a/q"]
            self.assertEqual((q.shuffle, q.compression), (False, None))
        (capture,) = read_dump(self.path)
        self.assertTrue((np.asarray(capture.q) == np.asarray(written["q"])).all())


class Writer(DumpTest):
    def test_an_exception_leaves_nothing_behind(self):
        with self.assertRaisesRegex(RuntimeError, "stop"):
            with DumpWriter(self.path, model="m", source="s", **GRID) as dump:
                dump.add("a", **arrays(), **CALL)
                raise RuntimeError("stop")
        self.assertEqual(os.listdir(self._folder.name), [])

    def test_an_exception_keeps_the_old_file(self):
        self.write()
        with self.assertRaises(DumpError):
            self.write(tokens=TOKENS - 1)
        self.assertEqual(os.listdir(self._folder.name), ["run.h5"])
        self.assertEqual(len(list(read_dump(self.path))), 1)

    def test_refuses_what_a_reader_refuses(self):
        bad = arrays()
        bad["v"][1, 2, 3] = np.nan
        cases = {
            "29 tokens": arrays(tokens=30),
            "whole divisor": arrays(heads=3, kv_heads=2),
            "1 NaN or Inf, first at (1, 2, 3)": bad,
            "float16": arrays(dtype=np.int32),
            "head_dim >= 1": arrays(dim=0),
        }
        for words, given in cases.items():
            with self.subTest(words=words), self.assertRaises(DumpError) as caught:
                with DumpWriter(self.path, model="m", source="s", **GRID) as dump:
                    dump.add("a", **given, **CALL)
            self.assertIn(words, str(caught.exception))
        with self.assertRaisesRegex(DumpError, "attribute frames"):
            DumpWriter(self.path, model="m", source="s", **{**GRID, "frames": 0})

    def test_replaces_dumps_alone_and_follows_links(self):
        notes, link, pipe = (os.path.join(self._folder.name, name) for name in ("notes", "link.h5", "pipe"))
        with open(notes, "w") as file:
            file.write("notes")
        os.symlink("notes", link)
        os.mkfifo(pipe)
        for path in (notes, link, pipe, self._folder.name, "/dev/full"):
            with self.assertRaisesRegex(DumpError, "file: wanted a new file or a dump to replace, found"):
                self.write(path=path)
        with open(notes) as file:
            self.assertEqual(file.read(), "notes")
        os.remove(link)
        os.symlink("real.h5", link)
        for _ in range(2):  # a dangling link, then one to a dump
            self.write(path=link)
            self.assertTrue(os.path.islink(link))
            self.assertEqual(len(list(read_dump(os.path.join(self._folder.name, "real.h5")))), 1)
        self.assertEqual(sorted(os.listdir(self._folder.name)), ["link.h5", "notes", "pipe", "real.h5"])

    def test_a_damaged_dump_stays(self):
        self.write()
        self.write()  # a sound one does not
        with h5py.File(self.path, "r+") as file:
            del file["captures/capture0/k"]
        with open(self.path, "rb") as file:
            before = file.read()
        with self.assertRaisesRegex(DumpError, "found a file that is none"):
            self.write()
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_a_writer_writes_one_dump(self):
        writer = DumpWriter(self.path, model="m", source="s", **GRID)
        with writer as dump:
            dump.add("a", **arrays(), **CALL)
        with self.assertRaisesRegex(DumpError, "wanted a writer for each dump"):
            writer.__enter__()
        self.assertEqual(len(list(read_dump(self.path))), 1)

    def test_a_full_disk_is_one_refusal(self):
        """In a process of its own, which must end as it wants to: HDF5 crashes at the end where it could not write."""
        program = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
import numpy as np
from qkv_dump import DumpError, DumpWriter
x = np.random.default_rng(1).standard_normal((2, 4096, 64)).astype("f4")
try:
    with DumpWriter({self.path!r}, model="m", source="s", frames=1, height=64, width=64, text_tokens=0) as dump:
        dump.add("a", x, x, x, layer=0, step=0, timestep=0.0)
except DumpError as error:
    print(error)
    sys.exit(7)
"""
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=os.path.dirname(__file__)
        )
        self.assertEqual((done.returncode, done.stderr), (7, ""), done.stdout)
        self.assertIn("file: wanted to write all of it, found File too large", done.stdout)
        self.assertEqual(os.listdir(self._folder.name), [])

    def test_captures_share_their_shape(self):
        with self.assertRaisesRegex(DumpError, "as in the other captures"):
            with DumpWriter(self.path, model="m", source="s", **GRID) as dump:
                dump.add("a", **arrays(), **CALL)
                dump.add("b", **arrays(heads=1, kv_heads=1), **CALL)


class Reader(DumpTest):
    def change(self, edit):
        """Write a good file, then let `edit(file)` break it with h5py."""
        if os.path.exists(self.path):
            os.remove(self.path)  # what was changed before is no dump any more
        self.write()
        with h5py.File(self.path, "r+") as file:
            edit(file)

    def test_no_file_not_hdf5_truncated(self):
        with self.assertRaises(FileNotFoundError):
            list(read_dump(self.path))
        with open(self.path, "wb") as file:
            file.write(b"not hdf5" * 100)
        self.refused("whole HDF5 file")
        os.remove(self.path)
        self.write()
        with open(self.path, "r+b") as file:
            file.truncate(os.path.getsize(self.path) // 2)
        self.refused("whole HDF5 file")

    def test_format_version_and_attributes(self):
        self.change(lambda f: f.attrs.update(format="other"))
        self.refused("draftattention-qkv", "other")
        self.change(lambda f: f.attrs.update(version=3))
        self.refused("version 1 to 2", "version 3")
        for name in ("format", "version", "model", "source", "frames", "text_tokens"):
            self.change(lambda f: f.attrs.__delitem__(name))
            self.refused(f"attribute {name}", "nothing")
        for name in ("layer", "step", "timestep"):
            self.change(lambda f: f["captures/capture0"].attrs.__delitem__(name))
            self.refused("/captures/capture0", f"attribute {name}", "nothing")
        self.change(lambda f: f.attrs.update(width=2.5))
        self.refused("attribute width", "2.5")

    def test_missing_things(self):
        self.change(lambda f: f["captures/capture0"].__delitem__("k"))
        self.refused("/captures/capture0/k", "nothing")
        self.change(lambda f: f["captures"].__delitem__("capture0"))
        self.refused("/captures", "none")
        self.change(lambda f: f.__delitem__("captures"))
        self.refused("/captures", "nothing")

    def replace(self, name, array, **attributes):
        def edit(file):
            group = file["captures/capture0"]
            del group[name]
            group.create_dataset(name, data=array).attrs.update(attributes)

        self.change(edit)

    def test_shapes_and_types(self):
        self.replace("q", np.zeros((2, TOKENS)))
        self.refused("/captures/capture0/q", f"[2, {TOKENS}]")
        self.replace("v", np.zeros((2, TOKENS + 1, 8)))
        self.refused("/captures/capture0/v", f"{TOKENS} tokens", TOKENS + 1)
        self.replace("q", np.zeros((0, TOKENS, 8)))
        self.refused("/captures/capture0/q", "heads >= 1", 0)
        self.replace("k", np.zeros((1, TOKENS, 8)))
        self.refused("/captures/capture0/v")
        self.replace("q", np.zeros((2, TOKENS, 8), np.int64))
        self.refused("/captures/capture0/q", "float16", "int64")
        self.replace("q", np.zeros((2, TOKENS, 8), np.uint16))
        self.refused("/captures/capture0/q", "bfloat16", "None")
        self.replace("q", np.zeros((2, TOKENS, 8), np.float32), dtype="bfloat16")
        self.refused("/captures/capture0/q", "float32")

    def test_nan_and_infinity_are_counted(self):
        for kind, store in (("float32", lambda x: x), ("bfloat16", to_bfloat16_bits)):
            array = np.zeros((2, TOKENS, 8), np.float32)
            array[1, 4, 2], array[1, 9, 0] = np.nan, -np.inf
            attributes = {} if kind == "float32" else {"dtype": kind}
            self.replace("v", store(array), **attributes)
            self.refused("/captures/capture0/v", "2 NaN or Inf", "(1, 4, 2)")

    def test_an_unreadable_chunk(self):
        self.write()
        with h5py.File(self.path, "r") as file:
            chunk = file["captures/capture0/k"].id.get_chunk_info(1)
        with open(self.path, "r+b") as file:
            file.seek(chunk.byte_offset)
            file.write(b"\xff" * chunk.size)
        self.refused("/captures/capture0/k head 1", "readable chunks")

    def test_captures_of_different_shape(self):
        self.write(captures=2)
        with h5py.File(self.path, "r+") as file:
            for name, array in arrays(dim=4).items():
                del file["captures/capture1"][name]
                file["captures/capture1"][name] = array
        self.refused("/captures/capture1", "as in the other captures")


class Torch(DumpTest):
    def test_tensors_are_accepted(self):
        torch = pytest.importorskip("torch")
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            given = {name: torch.from_numpy(array).to(dtype) for name, array in arrays().items()}
            with DumpWriter(self.path, model="m", source="s", **GRID) as dump:
                dump.add("a", **given, **CALL)
            (capture,) = read_dump(self.path)
            for name, tensor in given.items():
                self.assertTrue(np.array_equal(getattr(capture, name), tensor.float().numpy()))
