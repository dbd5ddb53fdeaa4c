"""The part of 8-bit numbers through its command, on tiny clips on the CPU: with torchao in its place, without it, and going
on."""

import contextlib
import io
import json
import os
import tempfile
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
for package in ("safetensors", "torchmetrics"):
    pytest.importorskip(package)
import draftattention

from lab.model import eight_bits as emulation
from lab.model import fp8
from lab.model.checkpoint import save_weights
from lab.model.eight_bits import to_e4m3
from lab.model.model_test import awake_model
from lab.shared.record_format import identity, problem
from lab.videos import __main__ as command
from lab.videos import eight_bits, motion, visible

torch.set_num_threads(1)
OPTIONS = "--clips 2 --batch 2 --grid 2x9x17 --steps 3 --kernel torch --commit abc --parts".split()
SUFFIXES = ["8bit", "fp8", "8bit_fp8", "qk", "p", "v"]
NAMES = [f"{mask}_{suffix}" for mask in ("dense", "draft_90") for suffix in SUFFIXES] + ["svg_90_fp8"]
TABLE = [{"name": name, "eight_bit": name == "wgmma_8bit", "here": ""} for name in ("wgmma", "wgmma_8bit")]


def rounded(module, chosen):
    """In torchao's place: the weights alone, in E4M3, a scale a row."""
    for name, layer in module.named_modules():
        if chosen(layer, name):
            scale = layer.weight.abs().amax(1, keepdim=True) / 448
            layer.weight.copy_(to_e4m3(layer.weight / scale) * scale)


class Command(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.weights = tempfile.NamedTemporaryFile(suffix=".safetensors")
        cls.addClassCleanup(cls.weights.close)
        model = awake_model()
        for block in model.blocks:  # what attention says then reaches the pixels
            block.out.weight.mul_(8)
        save_weights(cls.weights.name, model, {})

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        left_out = None, "left out: not wanted here"
        for module, name in ((visible, "find_cvvdp"), (motion, "find_flow")):
            patch = mock.patch.object(module, name, lambda *_: left_out)
            patch.start()
            self.addCleanup(patch.stop)

    def run_part(self, *more, status=0, quantise=rounded, parts="eight_bits"):
        """What it says on stderr."""
        said = io.StringIO()
        arguments = ["--weights", self.weights.name, "--out", self.folder, *OPTIONS, parts, *more]
        with (
            mock.patch.object(fp8, "quantise", quantise),
            mock.patch.object(fp8, "version_of_torchao", lambda: "0"),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            self.assertEqual(command.main(arguments), status, said.getvalue())
        return said.getvalue()

    def records(self, experiment="video_eight_bits"):
        with open(os.path.join(self.folder, "videos.jsonl")) as file:
            found = [json.loads(line) for line in file]
        self.assertEqual({problem(one) for one in found}, {None})
        return [one for one in found if one["experiment"] == experiment]

    def test_records_are_whole_compare_and_go_on(self):
        self.run_part()
        found = {one["config"]["configuration"]: one for one in self.records()}
        self.assertEqual(list(found), NAMES)
        self.assertEqual(len({identity(one) for one in found.values()}), len(found))
        for name, one in found.items():
            config, arrays, metrics = one["config"], one["arrays"], one["metrics"]
            sparse = not name.startswith("dense")
            self.assertEqual(one["status"], "ok")
            self.assertEqual(config["linear"], "fp8" if name.endswith("fp8") else "float32")
            self.assertEqual("torchao" in one["notes"], name.endswith("fp8"))
            source = name.rpartition("_")[2]
            rounds = "qk+p+v" if "8bit" in name else source if source in ("qk", "p", "v") else None
            self.assertEqual((config.get("rounds"), config["kernel"] == "emulation"), (rounds, rounds is not None))
            self.assertEqual("emulation of wgmma_8bit" in one["notes"].get("attention", ""), rounds is not None)
            wanted = {"psnr", "ssim", "psnr_bf16", "ssim_bf16", "psnr_truth", "flicker"}
            wanted |= {"psnr_alike", "ssim_alike"} if sparse else set()
            self.assertEqual(set(arrays), wanted | {"one_step_bf16"})
            for metric in wanted:
                self.assertEqual(len(arrays[metric]), 2)
                self.assertAlmostEqual(metrics[metric], sum(arrays[metric]) / 2, delta=1e-9)
            self.assertEqual(len(arrays["one_step_bf16"]), 2 if sparse else 3)  # one of three steps is dense
            self.assertTrue(all(0 < error < 0.3 for error in arrays["one_step_bf16"]), name)
        # A dense clip's plain clips are the dense ones; a sparse one's are not, and rounding is less than the mask.
        for name, one in found.items():
            same = one["arrays"]["psnr"] == one["arrays"]["psnr_bf16"]
            self.assertEqual(same, name.startswith("dense"))
            if not same:
                self.assertGreater(min(one["arrays"]["psnr_bf16"]), max(one["arrays"]["psnr"]))
        # The records of the plain draft are those of the quality part, and the dense clips' stand once.
        videos = self.records("video")
        self.assertEqual([one["config"]["policy"] for one in videos], ["dense", "draft"])
        step = {name: one["metrics"]["one_step_bf16_rel_l2"] for name, one in found.items()}
        for mask in ("dense", "draft_90"):  # independent errors add up in squares, to a half at such a size
            parts = sum(step[f"{mask}_{source}"] ** 2 for source in ("qk", "p", "v")) ** 0.5
            self.assertLess(abs(step[f"{mask}_8bit"] / parts - 1), 0.5)

        before = self.records()
        self.run_part()
        self.assertEqual(self.records(), before)

    def test_without_torchao_the_rest_is_there(self):
        def missing(module, chosen):
            raise fp8.Unavailable("not installed: No module named 'torchao'")

        with mock.patch.object(emulation, "SOURCES", ("v",)):  # fewer configurations: dense and draft, _8bit and _v
            said = self.run_part(quantise=missing)
            self.assertEqual(said, "videos: FP8 linear layers are left out: not installed: No module named 'torchao'\n")
            found = {one["config"]["configuration"]: one for one in self.records()}
            skipped = [name for name, one in found.items() if one["status"] == "skipped"]
            self.assertEqual(skipped, [name for name in found if name.endswith("fp8")])
            self.assertEqual({found[name]["reason"] for name in skipped}, {"not installed: No module named 'torchao'"})
            self.assertEqual([found[name]["metrics"] for name in skipped], [{}] * 5)
            count = len(self.records())
            self.run_part(quantise=missing)
            self.assertEqual(len(self.records()), count)
            self.run_part()  # now it is there
            self.assertEqual(len(self.records()), count + 5)

    def test_it_ends_when_its_time_is_over(self):
        self.run_part("--seconds", "0", status=3)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "videos.jsonl")) and self.records())

    def test_another_kernel_of_8_bits_is_refused(self):
        with mock.patch.object(draftattention, "kernels", lambda: TABLE):
            said = self.run_part("--kernel", "wgmma_8bit", status=2)
        self.assertEqual(said, "videos: --kernel: wanted one of 16-bit operands for eight_bits, found wgmma_8bit\n")


class Configurations(unittest.TestCase):
    def test_the_kernel_is_taken_where_it_can_run(self):
        for table, kernel, rounds in ((TABLE, "wgmma_8bit", ()), ([], "auto", emulation.SOURCES)):
            with mock.patch.object(draftattention, "kernels", lambda: table):
                found = {one.name: one for one in eight_bits.configurations()}
            self.assertEqual(list(found), NAMES)
            for name, one in found.items():
                whole = "8bit" in name
                self.assertEqual(one.policy.kernel, kernel if whole else "auto")
                own = (name.rpartition("_")[2],)
                self.assertEqual(one.policy.rounds, rounds if whole else own if own[0] in emulation.SOURCES else ())
                self.assertEqual(one.fp8, name.endswith("_fp8"))
                dense = (
                    None if name.startswith("dense") else name.replace("draft_90", "dense").replace("svg_90", "dense")
                )
                self.assertEqual(one.dense, dense)
                self.assertEqual((one.plain.kernel, one.plain.rounds), ("auto", ()))
                self.assertEqual(one.policy.sparsity, 0.9 if dense else 0.0)
                if dense:  # the dense first steps stay
                    self.assertEqual(one.policy.dense_steps, 0.25)
                elif one.policy != one.plain:
                    self.assertEqual(one.policy.dense_steps, 0.0)


class Linear(unittest.TestCase):
    def test_fp8_is_in_the_layers_over_the_tokens_alone(self):
        """Given a model, claim: the copy's layers over the tokens have other weights, a third of a percent to 4% off, as E4M3's
        roundoff is 2^-4 at most; all others, and the model itself, are as they were."""
        model = awake_model()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with mock.patch.object(fp8, "quantise", rounded):
            copied = fp8.with_fp8_linears(model).state_dict()
        for name, tensor in before.items():
            self.assertTrue(torch.equal(model.state_dict()[name], tensor))
            over_tokens = name.startswith("blocks.") and name.split(".")[2] in ("qkv", "out", "up", "down")
            apart = ((copied[name].float() - tensor).norm() / tensor.norm()).item()
            if over_tokens and name.endswith("weight"):
                self.assertTrue(3e-3 < apart < 2**-4, (name, apart))
            elif over_tokens:
                self.assertLess(apart, 2**-8)  # biases: bfloat16
            else:
                self.assertEqual(apart, 0.0, name)

    def test_without_torchao(self):
        with mock.patch.dict("sys.modules", {"torchao.quantization": None, "torchao": None}):
            with self.assertRaisesRegex(fp8.Unavailable, "not installed: .*torchao"):
                fp8.with_fp8_linears(awake_model())

    def test_with_torchao(self):
        """Its own products on this device: the CPU has them, though torchao wants a GPU. Claim: a layer is off by weights' and
        activations' rounding, each uniform in E4M3's spacing, u sqrt(0.54 / 3) of it, and bfloat16's."""
        quant_api = pytest.importorskip("torchao.quantization.quant_api")
        layer = torch.nn.Sequential(torch.nn.Linear(256, 64, bias=False)).to(torch.bfloat16).requires_grad_(False)
        x = torch.randn(200, 256, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
        wanted = layer(x).float()
        with mock.patch.object(quant_api, "_check_hardware_support", lambda granularity: None):
            fp8.quantise(layer, lambda module, name: isinstance(module, torch.nn.Linear))
        found = layer(x)
        error = ((found.float() - wanted).norm() / wanted.norm()).item()
        self.assertEqual(found.dtype, torch.bfloat16)
        self.assertLess(abs(error / (2**-4 * (2 * 0.54 / 3) ** 0.5) - 1), 0.2)

        odd = torch.nn.Sequential(torch.nn.Linear(17, 16)).to(torch.bfloat16).requires_grad_(False)
        with mock.patch.object(quant_api, "_check_hardware_support", lambda granularity: None):
            with self.assertRaisesRegex(fp8.Unavailable, "torchao: wanted 1 layers in FP8, found 1 left as they were"):
                fp8.quantise(odd, lambda module, name: isinstance(module, torch.nn.Linear))


if __name__ == "__main__":
    unittest.main()
