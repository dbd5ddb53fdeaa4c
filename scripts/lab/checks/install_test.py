"""What `cmake --install` leaves behind: a program, commands and modules that run without the source and without a set
path."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import tempfile
import unittest

from lab.checks.program import PROGRAM
from lab.shared.files import ROOT
from lab.shared.site_folder import site_folder

RECORDS = ROOT / "results" / "records.jsonl"
USUAL = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


class SiteFolder(unittest.TestCase):
    def test_a_folder_of_the_path_below_the_prefix(self):
        path = ["/usr/lib/python3.11", "/usr/local/lib/python3.11/dist-packages", "/usr/lib/python3/dist-packages"]
        self.assertEqual(site_folder("/usr/local", path), "lib/python3.11/dist-packages")

    def test_else_the_usual_one(self):
        self.assertEqual(site_folder("/opt/draftbench", ["/opt/other/lib/python3/dist-packages", ""]), USUAL)


class Install(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name).resolve()
        self.surroundings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def call(self, *command, status=0, **variables):
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.surroundings | variables,
        )
        self.assertEqual(done.returncode, status, f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def install(self, prefix, **variables):
        self.call("cmake", "--install", os.path.dirname(PROGRAM), "--prefix", prefix, **variables)

    def test_a_virtual_environment(self):
        prefix = self.folder / "environment"
        self.call(sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", prefix)
        self.install(prefix)
        self.assertIn("commit", self.call(prefix / "bin" / "draftbench", "about"))
        python = prefix / "bin" / "python3"
        where = self.call(python, "-c", "import qkv_dump; print(qkv_dump.__file__)").strip()
        self.assertEqual(where, str(prefix / "share" / "draftbench" / "scripts" / "qkv_dump.py"))
        found = self.call(
            python, "-c", "import importlib.util as u; print(u.find_spec('draftattention').origin)"
        ).strip()
        self.assertTrue(found.startswith(str(prefix)), found)
        path = f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}"
        # matplotlib and the rest are the build's Python's, which may be an environment itself.
        own = self.call(sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        (next(prefix.glob("lib/python3*/site-packages")) / "others.pth").write_text(own + "\n")
        self.call("draftbench-report", RECORDS, "--out", self.folder / "report", PATH=path)
        self.assertIn("Theorem 3.5", (self.folder / "report" / "report.md").read_text())
        self.assertIn("usage: draftbench-capture", self.call("draftbench-capture", "--help", PATH=path))

    @unittest.skipIf(
        sys.prefix != sys.base_prefix, "skipped: this Python is a virtual environment, without a user's folder"
    )
    def test_the_users_own_folder(self):
        prefix = self.folder / "home" / ".local"
        self.install(prefix)
        if sysconfig.get_preferred_scheme("user") == "posix_user":
            self.call(sys.executable, "-c", "import qkv_dump", PYTHONUSERBASE=str(prefix))
        self.call(sys.executable, "-c", "import qkv_dump", PYTHONUSERBASE=str(self.folder / "nobody"), status=1)

    def test_a_staged_package(self):
        self.install("/opt/draftbench", DESTDIR=str(self.folder / "stage"))
        self.assertFalse(os.path.exists("/opt/draftbench"))
        root = self.folder / "stage" / "opt" / "draftbench"
        self.assertTrue((root / USUAL / "draftbench.pth").is_file())
        self.assertTrue((root / USUAL / "draftattention" / "__init__.py").is_file())
        report = root / "bin" / "draftbench-report"
        self.assertTrue(report.resolve().is_file() and report.resolve().is_relative_to(root))
        tests = [path for path in root.rglob("*") if path.name.endswith("_test.py") or path.name == "conftest.py"]
        self.assertEqual(tests, [])
