import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "kernels" / "python" / "tests"))
from surroundings import find_packages, pytest_sessionfinish  # noqa: E402, F401  a hook

find_packages()
