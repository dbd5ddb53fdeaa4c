"""Bad usage as one line on stderr and exit status 2, for every command line of lab. Standard library only."""

import argparse
import functools
import os
import sys


class Refused(Exception):
    """Bad usage that is found after the options: one line for stderr, exit status 2."""


def positive(text):
    """The type of an option that takes a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1 on, found {text}")
    return int(text)


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


class Unwritable(Exception):
    """Standard output cannot be written. No OSError: those are of files."""


class Stdout:
    """Stands for sys.stdout, and says which stream it was that could not be written."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        return self._try(self._stream.write, text)

    def flush(self):
        return self._try(self._stream.flush)

    @staticmethod
    def _try(write, *arguments):
        try:
            return write(*arguments)
        except OSError as error:
            raise Unwritable(error.strerror) from None


def writes_stdout(name):
    """For the main() of a command: where stdout is closed or cannot be written, one line on stderr and exit status 2."""

    def refuse(why):
        print(f"{name}: standard output cannot be written: {why}", file=sys.stderr)
        return 2

    def decorate(main):
        @functools.wraps(main)
        def run(arguments=None):
            stream = sys.stdout
            if stream is None:
                return refuse("it is closed")
            sys.stdout = Stdout(stream)
            try:
                status = main(arguments)
                sys.stdout.flush()
            except Unwritable as error:
                stream = open(os.devnull, "w")  # or Python would try again as it ends
                return refuse(error)
            finally:
                sys.stdout = stream
            return status

        return run

    return decorate
