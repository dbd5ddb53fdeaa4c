"""Tests of the passes of further models, on the CPU: the released sizes by counting, and the command on tiny ones."""

import json
import os
import tempfile
import unittest
from dataclasses import replace
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from lab.pipelines import further, passes
from lab.pipelines.further import FURTHER, Draw

torch.set_num_threads(1)  # the tensors are tiny: threads would wait for each other

# Billions of parameters as published, or as counted where a class's own size has no name.
BILLIONS = {
    "ltx_video": 1.92,
    "cogvideox": 1.69,
    "skyreels_v2": 2.19,
    "framepack": 12.9,
    "mochi": 10.03,
    "hunyuan_15": 8.33,
    "wan_vace": 17.3,
    "wan_animate": 15.2,
    "allegro": 2.77,
}
SMALL = dict(num_attention_heads=2, num_layers=1)
TINY = replace(
    FURTHER["skyreels_v2"],
    grid=(2, 16, 16),
    heads=2,
    layers=1,
    config=SMALL | dict(attention_head_dim=128, text_dim=4096, freq_dim=16, ffn_dim=32),
)


class Models(unittest.TestCase):
    def test_sizes_and_heads_are_the_classes(self):
        """On the meta device: parameters are counted, none is held."""
        self.assertEqual(BILLIONS.keys(), FURTHER.keys())
        for name, model in FURTHER.items():
            with torch.device("meta"):
                transformer = getattr(diffusers, model.kind)(**model.config)
            config, count = transformer.config, sum(its.numel() for its in transformer.parameters())
            self.assertAlmostEqual(count / 1e9 / BILLIONS[name], 1, delta=0.01, msg=name)
            self.assertEqual(
                (model.heads, model.head_dim), (config.num_attention_heads, config.attention_head_dim), name
            )
            layers = config.num_layers + config.get("num_single_layers", 0) + len(config.get("vace_layers") or ())
            self.assertEqual(model.layers, layers, name)

    def test_a_pass_is_given_what_the_class_takes(self):
        """One layer of the full width: on the meta device, where numbers are not looked at, on the whole grid."""
        for name, model in FURTHER.items():
            looks = name in ("framepack", "hunyuan_15", "mochi")
            grid = (3, 4, 6) if looks else model.grid
            with self.subTest(name), torch.no_grad():
                device = torch.device("cpu" if looks else "meta")
                given = model.given((Draw if looks else Shapeless)(device, torch.float32), grid)
                latents, found = given["hidden_states"], few_layers(model, device)(**given, return_dict=False)[0]
                channels = {5: 1, 3: 2}[latents.dim()] if name != "cogvideox" else 2
                without = lambda x: [size for axis, size in enumerate(x.shape) if axis != channels]
                self.assertEqual(without(found), without(latents))


class Shapeless(Draw):
    """Inputs without numbers, on the meta device."""

    def __init__(self, device, element):
        self.device, self.element = device, element

    def __call__(self, *shape):
        return torch.empty(shape, device=self.device, dtype=self.element)


def few_layers(model, device):
    """The model's class with one layer of a kind (with five, where something acts on every fifth)."""
    kind = getattr(diffusers, model.kind)
    with torch.device("meta"):
        known = kind(**model.config).config
    fewer = {name: 1 for name in ("num_single_layers", "num_refiner_layers") if name in known}
    fewer |= {"num_layers": known.get("inject_face_latents_blocks", 1)}
    fewer |= {"vace_layers": [0]} if "vace_layers" in known else {}
    with device:
        return kind(**(model.config | fewer)).eval()


class Command(unittest.TestCase):
    def run_command(self, folder, *arguments, models=None):
        out = os.path.join(folder, "passes.jsonl")
        known = {"tiny": replace(TINY, name="tiny")} if models is None else models
        # Offline is for a process that has imported nothing yet.
        with mock.patch.object(further, "FURTHER", known), mock.patch.object(passes, "require_offline", lambda: None):
            status = passes.main(["--device", "cpu", "--kernel", "torch", "--out", out, *arguments])
        if not os.path.exists(out):
            return status, []
        with open(out) as file:
            return status, [json.loads(line) for line in file]

    def test_three_configurations_are_three_records_once(self):
        with tempfile.TemporaryDirectory() as folder:
            status, records = self.run_command(folder)
            self.assertEqual((status, [each["status"] for each in records]), (0, ["ok"] * 3), records)
            names = [each["config"]["configuration"] for each in records]
            self.assertEqual(names, list(passes.USUAL))
            rms = {name: each["metrics"]["prediction_rms"] for name, each in zip(names, records)}
            self.assertAlmostEqual(rms["dense_ours"], rms["dense_own"], delta=1e-5 * rms["dense_own"])
            self.assertGreater(abs(rms["draft_90"] - rms["dense_own"]), 1e-5 * rms["dense_own"])  # it can fail
            for each in records:
                self.assertGreater(each["metrics"]["transformer_ms"], 0)
                self.assertEqual((each["config"]["part"], each["input"]["grid"]["height"]), ("pass", 16))
            self.assertEqual(self.run_command(folder), (0, records))  # nothing is measured again

    def test_one_models_failure_is_not_the_others(self):
        broken = replace(TINY, name="broken", given=lambda draw, grid: {"hidden_states": draw(1, 3, 2, 2, 2)})
        with tempfile.TemporaryDirectory() as folder:
            models = {"broken": broken, "tiny": replace(TINY, name="tiny")}
            status, records = self.run_command(folder, "--configurations", "dense_own", models=models)
            self.assertEqual((status, [each["status"] for each in records]), (1, ["failed", "ok"]))
            self.assertTrue(records[0]["reason"])
            status, again = self.run_command(folder, "--configurations", "dense_own", models=models)
            self.assertEqual((status, len(again)), (1, 3))  # the failed one is tried again, the other is done

    def test_what_is_not_there_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            for arguments in (["--models", "other"], ["--configurations", "draft_90_fp8"], ["--minutes", "0"]):
                try:
                    status = self.run_command(folder, *arguments)[0]
                except SystemExit as error:
                    status = error.code
                self.assertEqual((status, os.listdir(folder)), (2, []), arguments)


if __name__ == "__main__":
    unittest.main()
