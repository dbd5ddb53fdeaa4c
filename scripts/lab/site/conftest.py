"""The site of the shipped results, made once for all tests."""

import os
import pathlib

import pytest


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    """Its folder. DRAFT_SITE names one that was made already, for quick turns on the pages."""
    if os.environ.get("DRAFT_SITE"):
        return pathlib.Path(os.environ["DRAFT_SITE"])
    pytest.importorskip("markdown_it")
    pytest.importorskip("PIL")
    from lab.shared.files import ROOT
    from lab.site import pages
    from lab.site.__main__ import main

    try:
        pages.find_d3()
    except pages.Unfit as error:
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp("results") / "site"
    assert main(["--results", str(ROOT / "results"), "--out", str(out)]) == 0
    return out
