"""Runs clang-tidy on every C++ source of a build folder that is no test, one process a core. Standard library only.

Usage: python3 -m lab.checks.tidy CLANG_TIDY BUILD. Exit status 0: nothing found; 1: findings, on stdout; 2: no compile_commands.json.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

from lab.shared.files import ROOT

LAYERS = ("reference", "kernels", "harness", "experiments")
# GCC's own: clang knows neither the warning nor, in a processor's name, every word.
EXTRA = (
    "-Wno-unknown-warning-option",
    "-Wno-ignored-optimization-argument",
    "-Wno-unused-command-line-argument",
    "-Wno-deprecated-declarations",  # libstdc++'s own
)


def sources(build):
    """The layers' sources that this build compiles, without tests, benches and CUDA."""
    with open(pathlib.Path(build, "compile_commands.json"), encoding="utf-8") as file:
        paths = {pathlib.Path(command["file"]) for command in json.load(file)}
    ours = [path for path in paths if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in LAYERS]
    return sorted(path for path in ours if path.suffix == ".cpp" and not re.search("_test|_bench", path.stem))


def findings(tool, build, path):
    """What clang-tidy says of one source, or ""."""
    command = [tool, "-p", build, "--quiet", *(f"--extra-arg={flag}" for flag in EXTRA), str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def main(tool, build):
    try:
        paths = sources(build)
    except OSError as error:
        print(f"tidy.py: {build}: wanted a build folder with compile_commands.json: {error}", file=sys.stderr)
        return 2
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [text for text in pool.map(lambda path: findings(tool, build, path), paths) if text]
    print("\n".join(found) or f"clang-tidy: nothing found in {len(paths)} sources")
    return 1 if found or not paths else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
