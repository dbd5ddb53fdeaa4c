"""Tests of LPIPS and of the file of weights that it wants; AlexNet's numbers are random here, but for one test that has
to fetch the trained ones."""

import contextlib
import io
import os
import pickle
import tempfile
import unittest

import pytest

torch = pytest.importorskip("torch")
lpips = pytest.importorskip("lpips")
pytest.importorskip("safetensors")
from safetensors.torch import save_file

from lab.videos import lpips_weights, perceptual
from lab.videos.metrics import frames_of


def random_alexnet():
    """Weights that keep a picture's scale through the layers."""
    generator, tensors = torch.Generator().manual_seed(4), {}
    for layer, shape in perceptual.LAYERS.items():
        spread = (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        tensors[f"features.{layer}.weight"] = torch.randn(shape, generator=generator) * spread
        tensors[f"features.{layer}.bias"] = 0.1 * torch.randn(shape[:1], generator=generator)
    return tensors


def by_hand(tensors, clip, reference):
    """LPIPS as its paper has it (arXiv 1801.03924, eq. 1), in float64."""
    path = os.path.join(os.path.dirname(lpips.__file__), "weights", "v0.1", "alex.pth")
    fitted = torch.load(path, map_location="cpu", weights_only=True)
    center, spread = (
        torch.tensor(row).double()[:, None, None] for row in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
    )
    padding, stride = {0: 2, 3: 2, 6: 1, 8: 1, 10: 1}, {0: 4}

    def layers(frames):
        x = (2 * frames.double() - 1 - center) / spread
        for layer in perceptual.LAYERS:
            if layer in (3, 6):
                x = torch.nn.functional.max_pool2d(x, 3, 2)
            weight, bias = (tensors[f"features.{layer}.{part}"].double() for part in ("weight", "bias"))
            x = torch.relu(torch.nn.functional.conv2d(x, weight, bias, stride.get(layer, 1), padding[layer]))
            yield x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)

    total = 0.0
    for place, (a, b) in enumerate(zip(layers(frames_of(clip)), layers(frames_of(reference)))):
        total += (fitted[f"lin{place}.model.1.weight"].double() * (a - b).square()).sum(1).mean((1, 2))
    return total.mean().item()


class Perceptual(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "alexnet.safetensors")
        self.tensors = random_alexnet()
        torch.manual_seed(1)
        self.clip = torch.rand(3, 2, 64, 96) - 0.5

    def test_it_is_what_its_paper_says(self):
        save_file(self.tensors, self.path)
        distance = perceptual.lpips_of(perceptual.load_alexnet(self.path, perceptual.digest_of(self.tensors)), "cpu")
        self.assertEqual(distance(self.clip, self.clip), 0.0)
        noise, found = torch.randn_like(self.clip), []
        for scale in (0.02, 0.1, 0.4):
            found.append(distance(self.clip + scale * noise, self.clip))
            # float32 features of unit length are right to some 1e-6, their differences here are of 1e-2 and more.
            wanted = by_hand(self.tensors, self.clip + scale * noise, self.clip)
            self.assertLessEqual(abs(found[-1] - wanted), 1e-3 * wanted)
        self.assertEqual(found, sorted(found))
        self.assertGreater(found[0], 0)
        broken = self.clip.clone()
        broken[0, 0, 0, 0] = float("nan")
        self.assertFalse(distance(broken, self.clip) >= 0)

    def test_other_weights_are_refused(self):
        with self.assertRaisesRegex(ValueError, "none: not a file of safetensors"):
            perceptual.find_lpips(self.path + "none", "cpu")
        save_file(self.tensors, self.path)
        with self.assertRaisesRegex(ValueError, "wanted AlexNet's trained weights, sha256 2b566cc3a4d6, found"):
            perceptual.find_lpips(self.path, "cpu")
        wrong = {**self.tensors, "features.3.bias": torch.zeros(64)}
        save_file(wrong, self.path)
        with self.assertRaisesRegex(ValueError, r"features.3.bias: wanted \(192,\), found \(64,\)"):
            perceptual.find_lpips(self.path, "cpu")
        del wrong["features.3.bias"]
        save_file(wrong, self.path)
        with self.assertRaisesRegex(ValueError, r"features.3.bias: wanted \(192,\), found nothing"):
            perceptual.find_lpips(self.path, "cpu")
        with open(self.path, "w") as file:
            file.write("weights")
        with self.assertRaisesRegex(ValueError, "not a file of safetensors"):
            perceptual.find_lpips(self.path, "cpu")

    def test_it_is_left_out_with_a_reason(self):
        function, why = perceptual.find_lpips(None, "cpu")
        self.assertIsNone(function)
        self.assertIn("no AlexNet weights", why)


class Weights(unittest.TestCase):
    def test_kernels_are_turned_to_pytorchs_order(self):
        torch.manual_seed(2)
        shapes = [(shape[2], shape[3], shape[1], shape[0]) for shape in perceptual.LAYERS.values()]
        layers = {
            f"Conv_{place}": {"kernel": torch.randn(shape).numpy(), "bias": torch.randn(shape[3]).numpy()}
            for place, shape in enumerate(shapes)
        }
        tensors = lpips_weights.tensors_of({"AlexNet_0": layers})
        for place, (layer, shape) in enumerate(perceptual.LAYERS.items()):
            self.assertEqual(tensors[f"features.{layer}.weight"].shape, shape)
            kernel = torch.tensor(layers[f"Conv_{place}"]["kernel"])
            patch = torch.randn(kernel.shape[:3])  # [height, width, channels]: one output place of a convolution
            wanted = (patch[..., None].double() * kernel.double()).sum((0, 1, 2)) + torch.tensor(
                layers[f"Conv_{place}"]["bias"]
            )
            found = torch.nn.functional.conv2d(
                patch.permute(2, 0, 1)[None].double(),
                tensors[f"features.{layer}.weight"].double(),
                tensors[f"features.{layer}.bias"].double(),
            )
            self.assertLessEqual((found.flatten() - wanted).abs().max(), 1e-9)  # float64 sums of 3,456 terms at most

    def test_a_pickle_of_anything_else_is_refused(self):
        with self.assertRaisesRegex(pickle.UnpicklingError, "wanted arrays alone, found .*system"):
            lpips_weights.Arrays(io.BytesIO(pickle.dumps(os.system))).load()

    def test_other_layers_and_other_archives_are_refused(self):
        import numpy

        layers = {"NetLinLayer_0": {"Conv_0": {"kernel": numpy.zeros((1, 1, 64, 1), numpy.float32)}}}
        with self.assertRaisesRegex(ValueError, "NetLinLayer_0: wanted the layer of the package lpips"):
            lpips_weights.check_lpips_layers(layers)
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out")
            with contextlib.redirect_stderr(io.StringIO()) as text:
                self.assertEqual(lpips_weights.main(["--archive", __file__, out]), 2)
            self.assertRegex(text.getvalue(), r"\Alpips_weights: .*: wanted sha256 a286e44ce15d, found \w+\n\Z")
            self.assertEqual(os.listdir(folder), [])

    def test_the_trained_weights_can_be_had(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "alexnet.safetensors")
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as text:
                status = lpips_weights.main([path])
            if "pip could not fetch" in text.getvalue():
                self.skipTest(text.getvalue().strip())
            self.assertEqual((status, text.getvalue()), (0, ""))
            distance, why = perceptual.find_lpips(path, "cpu")
            self.assertEqual(why, "")
            clip = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(3)) - 0.5
            self.assertGreater(distance(-clip, clip), distance(clip + 0.05, clip))
