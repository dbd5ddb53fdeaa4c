"""Checks that dependencies point one way: reference -> kernels -> harness -> experiments, and that HDF5
is known to the dump's files alone. Usage: layers_test.py"""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS = ["reference", "kernels", "harness", "experiments"]
SOURCES = {".hpp", ".cpp", ".cuh", ".cu"}
INCLUDE = re.compile(r'^\s*#include\s+[<"]([^>"]+)[>"]', re.MULTILINE)


def sources(layer):
    return sorted(p for p in (ROOT / layer).rglob("*") if p.suffix in SOURCES)


def violations(layer, text):
    """Includes of `text` that a file of `layer` may not have."""
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    return [i for i in INCLUDE.findall(text) if i.split("/")[0] in LAYERS and i.split("/")[0] not in allowed]


class Layers(unittest.TestCase):
    def test_includes_point_one_way(self):
        self.assertTrue(sources("reference") and sources("harness") and sources("experiments"))
        for layer in LAYERS:
            for path in sources(layer):
                self.assertEqual(violations(layer, path.read_text()), [], f"{path.relative_to(ROOT)}")

    def test_only_the_dump_knows_hdf5(self):
        for layer in LAYERS:
            for path in sources(layer):
                knows = any(i == "hdf5.h" for i in INCLUDE.findall(path.read_text()))
                allowed = layer == "harness" and path.name.startswith(("dump", "hdf5_"))
                self.assertFalse(knows and not allowed, f"{path.relative_to(ROOT)} includes hdf5.h")

    def test_the_check_can_fail(self):
        self.assertEqual(violations("reference", '#include "harness/dump.hpp"'), ["harness/dump.hpp"])
        self.assertEqual(violations("harness", '#include "reference/problem.hpp"'), [])


if __name__ == "__main__":
    unittest.main()
