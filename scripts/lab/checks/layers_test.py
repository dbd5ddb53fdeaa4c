"""Checks that dependencies point one way: between the layers, between the folders of a layer, and between the Python
packages of scripts/; and that HDF5 is known to the dump's files alone."""

import ast
import graphlib
import importlib.util
import re
import unittest

from lab.shared.files import ROOT

LAYERS = ["reference", "kernels", "harness", "experiments"]
# Folders of a layer, lowest first: each includes itself and what stands before it. "" is the layer's own folder.
FOLDERS = {
    "reference": ["", "bounds", "rounding"],
    "kernels": [
        "core",
        "ptx",
        "draft",
        "attend",
        "attend/wgmma",
        "attend/wgmma_8bit",
        "sweep",
        "",
        "testing",
        "python",
    ],
    "harness": ["", "numbers", "dump", "record", "ranks", "compare", "timing"],
    "experiments": [
        "policies",
        "input",
        "device",
        "study",
        "study/gpu",
        "questions",
        "timing",
        "tools",
        "verify",
        "flops",
        "",
    ],
}
# Of reference/ what kernels/ include beside their tests: pip builds them without Eigen and the rest of it.
WITHOUT_EIGEN = {"reference/choices.hpp", "reference/kept_count.hpp"}
# Tables of one file and one line a row: the list, its macro, the files, and those of them that are no row.
TABLES = [
    ("experiments/commands.inc", "COMMAND", "experiments/questions/*.cpp", set()),
    (
        "experiments/policies/policies.inc",
        "POLICY",
        "experiments/policies/*.cpp",
        {"policy", "block_layout", "scores", "band_profile", "kmeans"},
    ),
    ("kernels/attend/kernels.inc", "KERNEL", "kernels/attend/*.cu", {"toy", "remainder"}),
]
SOURCES = {".hpp", ".cpp", ".cuh", ".cu"}
INCLUDE = re.compile(r'^\s*#include\s+[<"]([^>"]+)[>"]', re.MULTILINE)
# Packages of lab, and what each may import beside itself, qkv_dump and shared, on which qkv_dump stands.
PACKAGES = {
    "shared": set(),
    "model": set(),
    "capture": {"model"},
    "peers": set(),
    "videos": {"model"},
    "pipelines": {"capture", "model"},
    "report": set(),
    "dataset": set(),
    "site": {"report", "dataset"},
    "fuzzing": {"report"},
    "checks": {"fuzzing"},
}
SCRIPTS = ROOT / "scripts"
MOST_FILES = 32  # of a folder, rows of a table apart: beyond that it has several ideas


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
        if place(include) is None:
            continue
        other, inner = place(include)
        above = LAYERS.index(other) > LAYERS.index(layer)
        with_eigen = layer == "kernels" and other == "reference" and include not in WITHOUT_EIGEN
        if above or (with_eigen and not is_test(path)):
            found.append(include)
        elif other == layer and not is_test(path):
            order = FOLDERS[layer]
            if order.index(inner) > order.index(folder):
                found.append(include)
    return found


def python_modules():
    """{dotted name: file} of qkv_dump and everything in lab, __init__ files left out."""
    files = [SCRIPTS / "qkv_dump.py", *(SCRIPTS / "lab").rglob("*.py")]
    names = {".".join(path.relative_to(SCRIPTS).with_suffix("").parts): path for path in files}
    return {name: path for name, path in names.items() if not name.endswith("__init__")}


def imports(module, text, modules):
    """Those of `modules` that this text of `module` imports, at its top or inside a function."""
    found, package = set(), module.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found & set(modules)


def package_of(module):
    """The package of lab that a module is in; "" for qkv_dump."""
    return module.split(".")[1] if module.startswith("lab.") else ""


def wrong_imports(module, found):
    """Those of the imported modules that `module` may not have."""
    package = package_of(module)
    allowed = {"shared"} if package in ("", "shared") else {"", "shared", package, *PACKAGES[package]}
    return sorted(other for other in found if package_of(other) not in allowed)


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

    def test_pip_builds_kernels_without_eigen(self):
        for path in WITHOUT_EIGEN:
            includes = INCLUDE.findall((ROOT / path).read_text())
            self.assertEqual([i for i in includes if "/" in i and i not in WITHOUT_EIGEN], [], path)
            self.assertIn(f'"!/{path}"', (ROOT / "pyproject.toml").read_text(), "sdist.exclude leaves it out")

    def test_folders_are_small(self):
        rows = {path for _, _, files, others in TABLES for path in ROOT.glob(files) if path.stem not in others}
        for layer in LAYERS:
            for folder in FOLDERS[layer]:
                files = [p for p in (ROOT / layer / folder).iterdir() if p.suffix in SOURCES and p not in rows]
                self.assertLessEqual(len(files), MOST_FILES, f"{layer}/{folder}")

    def test_every_file_of_a_table_has_its_line(self):
        for table, macro, files, others in TABLES:
            listed = re.findall(rf"^{macro}\((\w+)\)$", (ROOT / table).read_text(), re.MULTILINE)
            self.assertGreater(len(listed), 2, table)
            found = {path.stem for path in ROOT.glob(files)} - others
            found = {name for name in found if not name.endswith("_test")}
            self.assertEqual(sorted(found - set(listed)), [], f"{files}: files without a line in {table}")

    def test_every_part_of_the_report_is_listed_and_has_its_words(self):
        folder = SCRIPTS / "lab" / "report"
        listed = re.findall(r'^        "(\w+)",$', (folder / "parts" / "__init__.py").read_text(), re.MULTILINE)
        found = {path.stem for path in (folder / "parts").glob("*.py")} - {"__init__"}
        words = {path.name.removesuffix(".md.j2") for path in (folder / "words").glob("*.md.j2")}
        self.assertEqual(sorted(listed), sorted(found), "parts/*.py, and PARTS in parts/__init__.py")
        self.assertEqual(sorted(words), sorted(found), "words/*.md.j2, and parts/*.py")

    def test_python_packages_point_one_way(self):
        modules = python_modules()
        self.assertGreater(len(modules), 50)
        graph = {name: imports(name, path.read_text(), modules) for name, path in modules.items()}
        for name, found in graph.items():
            self.assertIn(package_of(name), {"", *PACKAGES}, f"{name}: a package without a place in PACKAGES")
            self.assertEqual(wrong_imports(name, found), [], name)
        graphlib.TopologicalSorter(graph).prepare()  # raises where modules import each other in a circle

    def test_the_python_check_can_fail(self):
        modules = python_modules()
        for module, text, wrong in [
            ("lab.shared.timing", "from lab.peers import inputs", "lab.peers.inputs"),
            ("lab.shared.timing", "from qkv_dump import DumpError", "qkv_dump"),
            ("lab.model.model", "def load():\n    from lab.videos import speed", "lab.videos.speed"),
            ("lab.videos.speed", "from lab.model.flow import sample", None),
            ("lab.peers.inputs", "from .masks import full_mask\nimport qkv_dump", None),
            ("qkv_dump", "from lab.shared import dump_rules", None),
        ]:
            found = imports(module, text, modules)
            self.assertTrue(found, text)
            self.assertEqual(wrong_imports(module, found), [wrong] if wrong else [], text)
        self.assertEqual(imports("lab.peers.masks", "from .inputs import BLOCK", modules), {"lab.peers.inputs"})
        with self.assertRaises(graphlib.CycleError):
            graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()

    def test_the_check_can_fail(self):
        for path, include, wrong in [
            ("reference/problem.cpp", "harness/dump/dump.hpp", True),
            ("harness/options.cpp", "reference/problem.hpp", False),
            ("harness/dump/dump.cpp", "harness/record/record.hpp", True),
            ("harness/record/record.cpp", "harness/dump/dump.hpp", False),
            ("kernels/core/element.cuh", "kernels/kernels.hpp", True),
            ("kernels/core/layout_test.cpp", "kernels/kernels.hpp", False),
            ("kernels/core/element.cuh", "reference/choices.hpp", False),
            ("kernels/core/element.cuh", "reference/problem.hpp", True),
            ("kernels/core/layout_test.cpp", "reference/problem.hpp", False),
        ]:
            self.assertEqual(violations(path, f'#include "{include}"'), [include] if wrong else [], path)
