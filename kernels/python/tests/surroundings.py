"""For conftest.py, here and in scripts/: where the tests, and the programs that they start, find draftattention, qkv_dump
and lab; and what CTest is told where all was skipped."""

import contextlib
import os
import pathlib
import sys

with contextlib.suppress(ImportError):  # it replaces distutils, as PyTorch's inductor wants it, only if it comes first
    import setuptools  # noqa: F401

ROOT = pathlib.Path(__file__).resolve().parents[3]
PATH = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]  # first: a build's draftattention
PATH += [str(ROOT / folder) for folder in ("scripts", "kernels/python", "kernels/python/tests")]
ALL_SKIPPED = 77  # SKIP_RETURN_CODE of CMakeLists.txt


def find_packages():
    os.environ["PYTHONPATH"] = os.pathsep.join(PATH)
    sys.path[:0] = PATH


def pytest_sessionfinish(session):
    """The reasons stand in the output: pyproject.toml has -rs."""
    found = session.config.pluginmanager.get_plugin("terminalreporter").stats
    if found.get("skipped") and not any(found.get(kind) for kind in ("passed", "failed", "error")):
        session.exitstatus = ALL_SKIPPED
