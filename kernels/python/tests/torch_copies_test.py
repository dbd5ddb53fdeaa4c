"""Copies of a model that is in use."""

import copy
import io
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import unittest
import warnings

import pytest

torch = pytest.importorskip("torch")
transformer_wan = pytest.importorskip("diffusers.models.transformers.transformer_wan")

from diffusers_cases import SPARSE, one_pass, processors, wan
from draftattention._interception import InterceptedProcessor
from draftattention.diffusers import apply_draft_attention


class Copies(unittest.TestCase):
    def test_a_copy_is_the_model_without_draft_attention(self):
        """Given a model in use, claim: what deepcopy, pickle, torch.save and an average of models make is the model as
        it was, to the bit, which stays so after remove(); the original goes on, and a warning says so once."""

        def saved(model):
            file = io.BytesIO()
            torch.save(model, file)
            file.seek(0)
            return torch.load(file, weights_only=False)

        def averaged(model):
            return torch.optim.swa_utils.AveragedModel(model).module

        ways = [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), saved, averaged]
        ways += [lambda model, p=p: pickle.loads(pickle.dumps(model, protocol=p)) for p in range(6)]
        for number, way in enumerate(ways):
            model = wan().transformer
            before = one_pass(model)
            control = apply_draft_attention(model, steps=1, **SPARSE)
            sparse, calls = one_pass(model), control.calls
            message = r"a copy of this model.*remove\(\)"
            with self.subTest(number), self.assertWarnsRegex(RuntimeWarning, message) as seen:
                other = way(model)
            self.assertEqual(len(seen.warnings), 1)
            self.assertTrue(torch.equal(one_pass(other), before))
            self.assertEqual(control.calls, calls)
            self.assertTrue(torch.equal(one_pass(model), sparse))
            self.assertFalse(torch.equal(sparse, before))
            with apply_draft_attention(other, steps=1, **SPARSE) as its:  # it can be used as any other model
                self.assertTrue(torch.equal(one_pass(other), sparse))
                self.assertEqual((its.calls, control.calls), (calls, 2 * calls))
            control.remove()
            self.assertTrue(torch.equal(one_pass(other), before))
            self.assertTrue(torch.equal(one_pass(model), before))
            for its in (model, other):
                self.assertFalse(any(isinstance(p, InterceptedProcessor) for p in processors(its)))
                self.assertEqual(set(map(type, processors(its))), {transformer_wan.WanAttnProcessor})
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                way(model)  # nothing to say after remove()

    def test_a_pipeline_too(self):
        case = wan()
        before = case.run()
        with apply_draft_attention(case.pipeline, sparsity=0.7, region=(4, 4)) as control:
            with self.assertWarns(RuntimeWarning):
                other = copy.deepcopy(case.pipeline)
            case.pipeline, ours = other, case.pipeline
            self.assertTrue(torch.equal(case.run(), before))
            self.assertEqual(control.calls, 0)
            self.assertIsNot(other.transformer, ours.transformer)

    def test_a_file_needs_no_draftattention(self):
        model = wan().transformer
        before = one_pass(model)
        with tempfile.TemporaryDirectory() as folder, apply_draft_attention(model, steps=1, **SPARSE):
            path = pathlib.Path(folder, "model.pt")
            with self.assertWarns(RuntimeWarning):
                torch.save(model, path)
            program = (
                "import sys; sys.modules['draftattention'] = None\n"
                "import torch\nfrom torch_models_test_pass import one_pass\n"
                "torch.set_num_threads(1)\n"
                "torch.save(one_pass(torch.load(sys.argv[1], weights_only=False)), sys.argv[2])"
            )
            pathlib.Path(folder, "torch_models_test_pass.py").write_text(
                "import torch\ndef numbers(*shape):\n    return torch.randn(shape, generator=torch.Generator()"
                ".manual_seed(0))\ndef one_pass(model):\n    with torch.no_grad():\n        return model(numbers(1, 4, "
                "2, 12, 20), torch.tensor([900.0]), numbers(1, 7, 16), return_dict=False)[0]\n"
            )
            done = subprocess.run(
                [sys.executable, "-c", program, str(path), os.path.join(folder, "out.pt")],
                cwd=folder,
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(torch.equal(torch.load(os.path.join(folder, "out.pt")), before))

    def test_a_control_is_not_copied(self):
        with apply_draft_attention(wan().transformer, steps=1) as control:
            for way in (copy.copy, copy.deepcopy, pickle.dumps):
                with self.assertRaisesRegex(TypeError, r"draftattention: DraftControl .* remove\(\)"):
                    way(control)

    def test_state_and_saved_folders_are_the_model_s(self):
        model = wan().transformer
        names, loaded = list(model.state_dict()), []
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            loaded.append(one_pass(type(model).from_pretrained(folder).eval()))
            with apply_draft_attention(model, steps=1, **SPARSE):
                self.assertEqual(list(model.state_dict()), names)
                model.save_pretrained(folder)
            loaded.append(one_pass(type(model).from_pretrained(folder).eval()))
        self.assertTrue(torch.equal(*loaded))
