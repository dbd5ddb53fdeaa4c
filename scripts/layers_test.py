"""Checks that dependencies point one way: between the layers, and between the folders of a layer; and that HDF5 is known
to the dump's files alone. Usage: layers_test.py"""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS = ["reference", "kernels", "harness", "experiments"]
# Folders of a layer, lowest first: each includes itself and what stands before it. "" is the layer's own folder.
FOLDERS = {
    "reference": ["", "bounds"],
    "kernels": ["core", "ptx", "draft", "attend", "attend/wgmma", "sweep", "", "testing", "bench", "python"],
    "harness": ["", "numbers", "dump", "record", "compare", "timing"],
    "experiments": ["input", "device", "study", "questions", "timing", "tools", "verify", "flops", ""],
}
# attention.cpp, the table of kernels, has a row for each of them.
EXCEPTIONS = {("kernels/attend/attention.cpp", "kernels/attend/wgmma/kernel.hpp")}
SOURCES = {".hpp", ".cpp", ".cuh", ".cu"}
INCLUDE = re.compile(r'^\s*#include\s+[<"]([^>"]+)[>"]', re.MULTILINE)
MOST_FILES = 32  # of a folder: beyond that it has several ideas


def sources(layer):
    return sorted(p for p in (ROOT / layer).rglob("*") if p.suffix in SOURCES)


def place(path):
    """(layer, folder in it) of a path relative to the root; None for what belongs to no layer."""
    layer, _, rest = str(path).partition("/")
    return (layer, rest.rpartition("/")[0]) if layer in LAYERS else None


def is_test(path):
    """Tests, and what only tests include, may use everything of their layer and below."""
    return re.search(r"(^|/)(test_|.*_test\.|.*_bench\.|testing/|.*tolerance\.hpp)", str(path)) is not None


def violations(path, text):
    """Includes of `text` that the file at `path`, relative to the root, may not have."""
    layer, folder = place(path)
    found = []
    for include in INCLUDE.findall(text):
        if place(include) is None or (str(path), include) in EXCEPTIONS:
            continue
        other, inner = place(include)
        if LAYERS.index(other) > LAYERS.index(layer):
            found.append(include)
        elif other == layer and not is_test(path):
            order = FOLDERS[layer]
            if order.index(inner) > order.index(folder):
                found.append(include)
    return found


class Layers(unittest.TestCase):
    def test_includes_point_one_way(self):
        for layer in LAYERS:
            self.assertTrue(sources(layer), layer)
            for path in sources(layer):
                relative = path.relative_to(ROOT)
                self.assertIn(place(relative)[1], FOLDERS[layer], f"{relative}: a folder without a place in FOLDERS")
                self.assertEqual(violations(relative, path.read_text()), [], f"{relative}")

    def test_only_the_dump_knows_hdf5(self):
        for layer in LAYERS:
            for path in sources(layer):
                knows = any(i == "hdf5.h" for i in INCLUDE.findall(path.read_text()))
                allowed = path.parent == ROOT / "harness" / "dump"
                self.assertFalse(knows and not allowed, f"{path.relative_to(ROOT)} includes hdf5.h")

    def test_folders_are_small(self):
        for layer in LAYERS:
            for folder in FOLDERS[layer]:
                files = [p for p in (ROOT / layer / folder).iterdir() if p.suffix in SOURCES]
                self.assertLessEqual(len(files), MOST_FILES, f"{layer}/{folder}")

    def test_the_check_can_fail(self):
        for path, include, wrong in [
            ("reference/problem.cpp", "harness/dump/dump.hpp", True),
            ("harness/options.cpp", "reference/problem.hpp", False),
            ("harness/dump/dump.cpp", "harness/record/record.hpp", True),
            ("harness/record/record.cpp", "harness/dump/dump.hpp", False),
            ("kernels/core/element.cuh", "kernels/kernels.hpp", True),
            ("kernels/core/layout_test.cpp", "kernels/kernels.hpp", False),
        ]:
            self.assertEqual(violations(path, f'#include "{include}"'), [include] if wrong else [], path)


if __name__ == "__main__":
    unittest.main()
