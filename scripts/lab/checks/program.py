"""The program draftbench that tests run: the environment's DRAFTBENCH, which CTest sets, or build/release's."""

import os

import pytest

from lab.shared.files import ROOT

PROGRAM = os.path.abspath(os.environ.get("DRAFTBENCH") or ROOT / "build" / "release" / "draftbench")
if not os.access(PROGRAM, os.X_OK):
    pytest.skip(f"no program {PROGRAM}: build it, or set DRAFTBENCH", allow_module_level=True)
