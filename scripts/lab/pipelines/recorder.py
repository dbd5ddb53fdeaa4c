"""Records of experiment `pipeline`: what they say of a shape, and the file that they go to."""

import contextlib
import json

import diffusers
import torch

from lab.shared import records
from lab.shared.nvml import Nvml
from lab.shared.timing import machine_of

from . import pipeline, text

EXPERIMENT = "pipeline"
WEIGHTS = "random, of the released sizes: times are the models', pictures are noise"


class Recorder:
    """Makes records and appends them to the file at once."""

    def __init__(self, file, machine, build, nvml, device):
        self._file, self._machine, self._build, self._nvml = file, machine, build, nvml
        self.device, self.path = torch.device(device), file.name
        self.heard = lambda record: None  # is told of each record

    @property
    def gpu(self):
        return self._machine["gpu"]

    def state(self):
        return self._nvml.state()

    def write(self, shape, config, metrics=None, *, before=None, notes=None, **more):
        """One record of a shape; before: state() as it was before the piece."""
        config = {"device": self.device.type, "element": name_of(pipeline.ELEMENTS[self.device.type][0])} | config
        machine = machine_of(self._machine, [(before, self.state())]) if before is not None else self._machine
        versions = {"diffusers": diffusers.__version__, "weights": WEIGHTS}
        record = records.make_record(
            EXPERIMENT,
            input_of(shape),
            config,
            metrics or {},
            machine,
            self._build,
            notes=versions | (notes or {}),
            **more,
        )
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        self._file.flush()
        self.heard(record)


@contextlib.contextmanager
def opened(path, device, commit, gpu=0):
    """A Recorder that appends to this file, for the machine as it is now. gpu: the number of the device's GPU. Raises
    Refused."""
    nvml = Nvml(torch.cuda.get_device_properties(gpu).uuid if device == "cuda" else "none")
    machine = records.machine_info(nvml)
    with records.open_records(path) as file:
        yield Recorder(file, machine, records.build_info(commit), nvml, device)


def name_of(element):
    return str(element).removeprefix("torch.")


def input_of(shape):
    """A record's `input`."""
    return {
        "model": shape.model,
        "shape": shape.name,
        "resolution": shape.resolution,
        "grid": dict(zip(("frames", "height", "width"), shape.grid)),
        "text_tokens": text.tokens_in_attention(shape),
        "heads": shape.heads,
        "head_dim": shape.head_dim,
        "layers": shape.layers,
        "steps": shape.steps,
        "clips": 1,
        "data": "normal",
        "seed": pipeline.SEED,
    }
