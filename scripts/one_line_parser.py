"""Bad usage as one line on stderr and exit status 2, for every command line of scripts/. Standard library only."""

import argparse
import os
import sys


class OneLineParser(argparse.ArgumentParser):
    def error(self, message):
        """Without the usage that argparse prints before it; --help has that."""
        line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)
        print(f"{os.path.splitext(self.prog)[0]}: {line}", file=sys.stderr)
        sys.exit(2)
