r"""The photographs that clips show, from files that ship in Python packages.

Example, where scikit-image, scikit-learn and matplotlib are installed:

    PYTHONPATH=scripts python3 -m lab.model.photographs --out data/photographs.png

makes the file that everything else reads: SCENES cropped to 3:2, and CUT_OUTS in squares beside them. Each source's
sha256 is checked first. Licences: `Photograph.licence`, also in data/manifest.json.
"""

import argparse
import hashlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lab.shared.files import ROOT

HEIGHT, WIDTH = 320, 480  # pixels of a scene
SIDE = 160  # pixels of a cut-out
FILE = ROOT / "data" / "photographs.png"


@dataclass(frozen=True)
class Photograph:
    file: str  # PACKAGE/path in the package's folder
    sha256: str
    licence: str
    credit: str


@dataclass(frozen=True)
class Part:
    """A rectangle of a photograph in its own pixels: left, top, right, bottom."""

    photograph: str
    box: tuple


PHOTOGRAPHS = {
    "astronaut": Photograph(
        "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "public domain",
        "NASA, Eileen Collins",
    ),
    "camera": Photograph(
        "skimage/data/camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        "CC0",
        "Lav Varshney",
    ),
    "chelsea": Photograph(
        "skimage/data/chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "CC0",
        "Stefan van der Walt",
    ),
    "coffee": Photograph(
        "skimage/data/coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "CC0",
        "Rachel Michetti, Pikolo Espresso Bar",
    ),
    "coins": Photograph(
        "skimage/data/coins.png",
        "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
        "no known copyright restrictions",
        "Brooklyn Museum",
    ),
    "hubble": Photograph(
        "skimage/data/hubble_deep_field.jpg",
        "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
        "public domain",
        "NASA, Hubble eXtreme Deep Field",
    ),
    "ihc": Photograph(
        "skimage/data/ihc.png",
        "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
        "no known copyright restrictions",
        "CMMI, colonic glands",
    ),
    "retina": Photograph(
        "skimage/data/retina.jpg",
        "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
        "CC0",
        "Mikael Häggström, 2014",
    ),
    "rocket": Photograph(
        "skimage/data/rocket.jpg",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        "public domain",
        "SpaceX, launch of DSCOVR",
    ),
    "china": Photograph(
        "sklearn/datasets/images/china.jpg",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        "CC BY 2.0",
        "danielbuechele, flickr 6061409035",
    ),
    "flower": Photograph(
        "sklearn/datasets/images/flower.jpg",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        "CC BY 2.0",
        "vultilion, flickr 6056698931",
    ),
    "hopper": Photograph(
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
        "public domain",
        "US Navy, Grace Hopper",
    ),
}
SCENES = {
    "astronaut": Part("astronaut", (0, 0, 512, 341)),
    "camera": Part("camera", (0, 70, 512, 411)),
    "chelsea": Part("chelsea", (0, 0, 450, 300)),
    "coffee": Part("coffee", (0, 0, 600, 400)),
    "coins": Part("coins", (0, 20, 384, 276)),
    "hubble": Part("hubble", (0, 100, 1000, 767)),
    "ihc": Part("ihc", (0, 80, 512, 421)),
    "retina": Part("retina", (0, 235, 1411, 1176)),
    "rocket": Part("rocket", (0, 0, 640, 427)),
    "china": Part("china", (0, 0, 640, 427)),
    "flower": Part("flower", (0, 0, 640, 427)),
    "hopper": Part("hopper", (0, 20, 512, 361)),
}
CUT_OUTS = {
    "dahlia": Part("flower", (166, 85, 446, 365)),
    "cup": Part("coffee", (160, 0, 400, 240)),
    "disc": Part("retina", (0, 0, 1411, 1411)),
    "coin": Part("coins", (303, 12, 363, 72)),
    "face": Part("astronaut", (166, 20, 320, 174)),
    "eye": Part("chelsea", (121, 64, 221, 164)),
}


def source_of(photograph):
    """The path of a photograph's file. Raises ModuleNotFoundError, FileNotFoundError, or ValueError for other bytes."""
    package, _, inside = photograph.file.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"{photograph.file}: wanted the package {package}, found none")
    path = os.path.join(spec.submodule_search_locations[0], inside)
    with open(path, "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if found != photograph.sha256:
        raise ValueError(f"{path}: wanted sha256 {photograph.sha256}, found {found}")
    return path


def _cut(part, size):
    with Image.open(source_of(PHOTOGRAPHS[part.photograph])) as image:
        return image.convert("RGB").resize(size, Image.LANCZOS, box=part.box)


def collect():
    """One picture: a scene a row, and the cut-outs in their squares below."""
    columns = WIDTH // SIDE
    page = Image.new("RGB", (WIDTH, HEIGHT * len(SCENES) + SIDE * -(-len(CUT_OUTS) // columns)))
    for row, part in enumerate(SCENES.values()):
        page.paste(_cut(part, (WIDTH, HEIGHT)), (0, HEIGHT * row))
    for place, part in enumerate(CUT_OUTS.values()):
        corner = (SIDE * (place % columns), HEIGHT * len(SCENES) + SIDE * (place // columns))
        page.paste(_cut(part, (SIDE, SIDE)), corner)
    return page


@cache
def photographs(device="cpu", path=FILE):
    """(scenes [scene, 3, HEIGHT, WIDTH], cut-outs [cut-out, 3, SIDE, SIDE]), in [-1, 1]."""
    with Image.open(path) as image:
        page = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1
    scenes, squares = page.split([HEIGHT * len(SCENES), page.shape[1] - HEIGHT * len(SCENES)], dim=1)
    scenes = scenes.unflatten(1, (len(SCENES), HEIGHT)).transpose(0, 1)
    squares = squares.unflatten(1, (-1, SIDE)).unflatten(3, (-1, SIDE)).permute(1, 3, 0, 2, 4).flatten(0, 1)
    return scenes.contiguous().to(device), squares[: len(CUT_OUTS)].contiguous().to(device)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(FILE), metavar="FILE.png", help="the file to make")
    options = parser.parse_args()
    info = PngInfo()
    for name, photograph in PHOTOGRAPHS.items():
        info.add_itxt(name, f"{photograph.credit}; {photograph.licence}; {photograph.file} {photograph.sha256}")
    collect().save(options.out, optimize=True, pnginfo=info)
    return 0


if __name__ == "__main__":
    sys.exit(main())
