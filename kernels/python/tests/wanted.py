"""What the tests want of this Python: where it is not installed, a file of tests is skipped whole and says so."""

import importlib
import unittest


def wanted(module, name=None):
    """The module; name: of what has to be installed for it, if that is another."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise unittest.SkipTest(f"{name or module} is not installed") from None
