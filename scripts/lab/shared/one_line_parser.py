"""Bad usage as one line on stderr and exit status 2, for every command line of lab. Standard library only."""

import argparse
import os
import sys


class Refused(Exception):
    """Bad usage that is found after the options: one line for stderr, exit status 2."""


class OneLineParser(argparse.ArgumentParser):
    """prog: what `python3 -m` runs, lab.NAME; an installed command goes by its own name."""

    def __init__(self, prog=None, **more):
        command = os.path.basename(sys.argv[0])
        super().__init__(command if command.startswith("draftbench-") else prog, **more)

    def error(self, message):
        """Without the usage that argparse prints before it; --help has that."""
        line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)
        print(f"{self.prog.removesuffix('.py').rpartition('.')[2]}: {line}", file=sys.stderr)
        sys.exit(2)
