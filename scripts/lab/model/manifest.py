r"""Write data/manifest.json: what every shipped file is, and the command that makes it.

Example, from the repository root:

    PYTHONPATH=scripts python3 -m lab.model.manifest --data data --commit $(git rev-parse HEAD) \
        --note "photodit_512p.h5=heads chosen from photodit_heads.csv: ..."

Needs no torch. Facts come from the files themselves: training from the log's rows, a dump's shape and origin from
its attributes, a picture's command from its PNG text.
"""

import argparse
import hashlib
import json
import os

import h5py
from PIL import Image

from lab.shared.files import ROOT, rows_with, sha256_of

WEIGHTS, LOG, HEADS, SAMPLES = (
    "photodit.safetensors",
    "photodit_training.jsonl",
    "photodit_heads.csv",
    "photodit_samples.png",
)
TRAIN_COMMAND = f"python3 -m lab.model.train --minutes 23 --log data/{LOG} --weights data/{WEIGHTS}"
PHOTOGRAPHS = "photographs.png"
PHOTOGRAPHS_COMMAND = f"python3 -m lab.model.photographs --out data/{PHOTOGRAPHS}"
HEADS_COMMAND = f"python3 -m lab.model.heads --weights data/{WEIGHTS} --grid 2x32x48 --table data/{HEADS}"


def scripts_sha256(folder):
    """One hash over the names and contents of the package's and qkv_dump's sources, tests left out."""
    package = os.path.dirname(os.path.abspath(__file__))
    paths = [os.path.join(package, name) for name in os.listdir(package)] + [os.path.join(folder, "qkv_dump.py")]
    digest = hashlib.sha256()
    for path in sorted(p for p in paths if p.endswith(".py") and not p.endswith("_test.py")):
        digest.update(f"{os.path.relpath(path, folder)} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def training_facts(path):
    """What the log's rows say of the run that made the weights."""
    rows = rows_with(path, ("kind",))
    start = [row for row in rows if row["kind"] == "start"]
    train = [row for row in rows if row["kind"] == "train"]
    held_out = [row for row in rows if row["kind"] == "held_out"]
    for kind, found in (("start", start), ("train", train), ("held_out", held_out)):
        if not found:
            raise ValueError(f"{path}: wanted a row of kind {kind}, found none")
    last = train[-20:]
    return dict(
        plan=start[0]["plan"],
        seed=start[0]["seed"],
        parameters=start[0]["parameters"],
        gpu=sorted({row["gpu"] for row in start}),
        torch=sorted({row["torch"] for row in start}),
        sittings=len(start),
        seconds=train[-1]["seconds"],
        steps=train[-1]["step"],
        final_train_loss=round(sum(row["loss"] for row in last) / len(last), 5),
        final_train_loss_is=f"mean over the log's last {len(last)} rows",
        final_held_out_loss=held_out[-1]["loss"],
        final_held_out_step=held_out[-1]["step"],
    )


def dump_facts(path):
    """Grid, shape, layers, steps and heads of a dump, and how it was captured."""
    with h5py.File(path, "r") as file:
        captures = {
            name: dict(
                layer=int(group.attrs["layer"]),
                step=int(group.attrs["step"]),
                timestep=round(float(group.attrs["timestep"]), 6),
                model_heads=[int(head) for head in group.attrs["model_heads"]],
            )
            for name, group in file["captures"].items()
        }
        causal = dict(causal=True) if file.attrs.get("causal") else {}
        first = next(iter(file["captures"].values()))
        return dict(
            model=file.attrs["model"],
            command=file.attrs["source"].split(";")[0],
            source=file.attrs["source"],
            grid={name: int(file.attrs[name]) for name in ("frames", "height", "width", "text_tokens")},
            **causal,
            shape=list(first["q"].shape),
            dtype=first["q"].attrs.get("dtype", str(first["q"].dtype)),
            prompts=sorted({group.attrs["prompt"] for group in file["captures"].values()}),
            layers=sorted({c["layer"] for c in captures.values()}),
            steps=sorted({c["step"] for c in captures.values()}),
            of_steps=int(first.attrs["steps"]) if "steps" in first.attrs else None,
            captures=captures,
        )


def describe(path):
    """Everything about one shipped file that its kind tells."""
    name = os.path.basename(path)
    entry = dict(bytes=os.path.getsize(path), sha256=sha256_of(path))
    if name == PHOTOGRAPHS:  # its PNG text: each photograph's credit, licence, file in its package, and sha256
        with Image.open(path) as image:
            return entry | dict(command=PHOTOGRAPHS_COMMAND, size=list(image.size), photographs=dict(image.text))
    entry["model"] = "photodit"
    if name.endswith(".h5"):
        entry.update(dump_facts(path))  # its own model
    elif name.endswith(".png"):
        with Image.open(path) as image:
            entry.update(command=image.text["command"], size=list(image.size))
    elif name in (WEIGHTS, LOG):
        entry.update(command=TRAIN_COMMAND)
    elif name == HEADS:
        entry.update(command=HEADS_COMMAND)
    return entry


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data", help="folder of the shipped files (default data)")
    parser.add_argument("--commit", default="unknown", help="git commit of the scripts")
    parser.add_argument("--note", action="append", default=[], metavar="FILE=TEXT", help="a remark on one file")
    options = parser.parse_args()
    names = sorted(
        n for n in os.listdir(options.data) if n.endswith(".h5") or n.startswith("photodit") or n == PHOTOGRAPHS
    )
    files = {name: describe(os.path.join(options.data, name)) for name in names}
    for note in options.note:
        name, _, text = note.partition("=")
        if name not in files:
            raise ValueError(f"note: wanted one of {names}, found {name!r}")
        files[name].setdefault("notes", []).append(text)
    manifest = dict(
        commit=options.commit,
        scripts_sha256=scripts_sha256(ROOT / "scripts"),
        run_from="the repository root, with PYTHONPATH=scripts",
        training=training_facts(os.path.join(options.data, LOG)),
        files=files,
    )
    with open(os.path.join(options.data, "manifest.json"), "w") as file:
        json.dump(manifest, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    main()
