"""Prints where this Python finds packages below a prefix, relative to it: a folder of its path if one lies there, else
the usual one, lib/pythonX.Y/site-packages. Usage: python3 -m lab.shared.site_folder PREFIX"""

import os
import sys
import sysconfig


def site_folder(prefix, path):
    prefix = os.path.realpath(prefix)
    for folder in path:
        folder = os.path.realpath(folder)
        if folder.endswith("-packages") and os.path.commonpath([prefix, folder]) == prefix:
            return os.path.relpath(folder, prefix)
    usual = sysconfig.get_path("purelib", "posix_prefix", {"base": prefix, "platbase": prefix})
    return os.path.relpath(usual, prefix)


if __name__ == "__main__":
    print(site_folder(sys.argv[1], sys.path))
