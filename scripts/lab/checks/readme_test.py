"""Runs every command and program that the README shows, with draftbench installed as `cmake --install` does it, in a
virtual environment `build/venv` of a folder with the repository's data and scripts: ```sh and ```python blocks,
in order; ```site blocks where lab.site has what it needs; ```gpu blocks, where there is a GPU; ```torch programs and
```video blocks where there is PyTorch, and ```gpu-python programs where the module draftattention was built for that
Python and there is a GPU, too. The two set-up commands stand in a plain block: CI runs those. ```diffusers and ```capture
blocks want models of many gigabytes: tests beside the code do the same with tiny ones."""

import functools
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

from lab.checks.program import PROGRAM
from lab.shared.files import ROOT

SITE = "import markdown_it, PIL, lab.site.pages; lab.site.pages.find_d3()"
TORCH_PYTHON = os.environ.get("TORCH_PYTHON") or sys.executable


def output_of(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


@functools.cache
def environment(python):
    """A virtual environment of that Python, with what the Python can import and draftbench installed; the object that
    owns its folder, and its path."""
    owner = tempfile.TemporaryDirectory()
    folder = pathlib.Path(owner.name, "venv")
    output_of(python, "-m", "venv", "--system-site-packages", "--without-pip", folder)
    own = output_of(folder / "bin" / "python3", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    others = output_of(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    pathlib.Path(own, "others.pth").write_text(others + "\n")  # of a Python that is a virtual environment's itself
    output_of("cmake", "--install", os.path.dirname(PROGRAM), "--prefix", folder)
    return owner, folder


class Readme(unittest.TestCase):
    def test_every_block_runs(self):
        self.run_blocks("sh|python", least=3)

    def test_every_gpu_block_runs(self):
        why = subprocess.run([PROGRAM, "about", "--device", "cuda"], capture_output=True, text=True)
        if why.returncode != 0:
            self.skipTest(why.stderr.strip())
        self.run_blocks("gpu", least=1)

    def why_not(self, probe):
        """Why a program cannot run with TORCH_PYTHON and what is installed, or ""."""
        _, folder = environment(TORCH_PYTHON)
        done = subprocess.run([folder / "bin" / "python3", "-c", probe], capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]

    def test_every_site_block_runs(self):
        """Of a few records: lab.site's tests make the whole site."""
        done = subprocess.run([sys.executable, "-c", SITE], capture_output=True, text=True, env=os.environ)
        if done.returncode != 0:
            self.skipTest(done.stderr.strip().splitlines()[-1])

        def smaller(text):
            from_here = shlex.quote(str(ROOT / "results"))
            few = f"mkdir -p few/gpu; cp -r {from_here}/plots few; cp {from_here}/gpu/peers.jsonl few/gpu"
            text = text.replace("--results results", "--results few").replace("--out results/site", "--out site")
            return f"{few}\n{text}test -s site/index.html && test -s build/dataset/records.csv\n"

        self.run_blocks("site", least=1, change=smaller)

    def test_every_gpu_python_block_runs(self):
        probe = "import draftattention, sys, torch; torch.cuda.is_available() or sys.exit('PyTorch sees no GPU')"
        if why := self.why_not(probe):
            self.skipTest(why)
        self.run_blocks("gpu-python", least=1, python=TORCH_PYTHON)

    def test_every_torch_block_runs(self):
        if why := self.why_not("import draftattention, safetensors, PIL, torchmetrics"):
            self.skipTest(why)
        self.run_blocks("torch", least=1, python=TORCH_PYTHON)

    def test_every_video_block_runs(self):
        """Small, and the study ended early as by a user's --seconds: as they stand the commands take a GPU's quarter of an
        hour. Without LPIPS where it cannot be had."""
        if why := self.why_not("import draftattention, safetensors, PIL, torchmetrics"):
            self.skipTest(why)

        def smaller(text):
            text = re.sub(r"^(.*lab.model.generate .*)$", r"\1 --prompts 1 --grid 2x16x32 --steps 4", text, flags=re.M)
            ended = r"\1 --clips 1 --grid 2x16x16 --steps 4 --seconds 10 || test $? -eq 3\ntest -s results/video/videos.jsonl"
            return re.sub(r"^(.*lab.videos --.*)$", ended, text, flags=re.M)

        def without_lpips(text):
            text = re.sub(r"^.*lab.videos.lpips_weights .*\n", "", text, flags=re.M)
            return smaller(re.sub(r"--lpips \S+ ", "", text))

        try:
            self.run_blocks("video", least=1, python=TORCH_PYTHON, change=smaller)
        except AssertionError as error:
            why = re.search("lpips_weights: (pip could not fetch|No module named 'lpips').*", str(error))
            if not why:
                raise
            self.run_blocks("video", least=1, python=TORCH_PYTHON, change=without_lpips)
            self.skipTest(f"all but LPIPS: {why[0]}")

    def run_blocks(self, kinds, least, python=sys.executable, change=lambda text: text):
        blocks = re.findall(rf"^```({kinds})\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
        self.assertGreaterEqual(len(blocks), least)
        _, installed = environment(python)
        with tempfile.TemporaryDirectory() as folder:
            for name in ("data", "scripts"):  # not results: blocks write there
                os.symlink(ROOT / name, os.path.join(folder, name))
            os.mkdir(os.path.join(folder, "build"))
            os.symlink(installed, os.path.join(folder, "build", "venv"))
            path = os.path.join(folder, "build", "venv", "bin") + os.pathsep + os.environ["PATH"]
            surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            surroundings |= {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}  # as after `. build/venv/bin/activate`
            for kind, text in blocks:
                text = change(text)
                program = kind in ("python", "gpu-python", "torch")
                command = ["python3", "-c", text] if program else ["bash", "-euc", text]
                done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, f"{text}\n{done.stdout}{done.stderr}")

    def test_files_that_it_names_exist(self):
        links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
        self.assertGreater(len(links), 2)
        for link in links:
            self.assertTrue((ROOT / link).exists(), link)
