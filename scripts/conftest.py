"""Where the tests, and the programs that they start, find lab, qkv_dump and draftattention; and what CTest is told where
nothing could be tested."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = [str(ROOT / folder) for folder in ("scripts", "kernels/python", "kernels/python/tests")]
PATH = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *SOURCES]
os.environ["PYTHONPATH"] = os.pathsep.join(PATH)
sys.path[:0] = PATH
ALL_SKIPPED = 77  # CMakeLists.txt's SKIP_RETURN_CODE


def pytest_sessionfinish(session):
    """The reasons stand in the output: pyproject.toml has -rs."""
    found = session.config.pluginmanager.get_plugin("terminalreporter").stats
    if found.get("skipped") and not any(found.get(kind) for kind in ("passed", "failed", "error")):
        session.exitstatus = ALL_SKIPPED
