"""The site of the shipped results, made once for all tests."""

import os
import pathlib

import pytest


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    """Its folder: that of DRAFT_SITE if it names one that was made already, as CTest's site_made does."""
    pytest.importorskip("markdown_it")
    pytest.importorskip("PIL")
    from lab.shared.files import ROOT
    from lab.site import pages
    from lab.site.__main__ import main

    try:
        pages.find_d3()
    except pages.Unfit as error:
        pytest.skip(str(error))
    if made := os.environ.get("DRAFT_SITE"):
        assert os.path.isfile(os.path.join(made, "index.html")), f"DRAFT_SITE: wanted a site, found none in {made}"
        return pathlib.Path(made)
    out = tmp_path_factory.mktemp("results") / "site"
    assert main(["--results", str(ROOT / "results"), "--out", str(out)]) == 0
    return out
