"""The shipped weights: a moving average, matrices in 8 bits with a scale for each row, the rest in float32."""

import json
import os

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .model import ModelConfig, PhotoDiT

SMALLEST = 4096  # numbers: tensors below stay in float32
SCALE = ".scale"  # the name's end of an 8-bit tensor's scales


def to_8_bits(value):
    """(int8, float32 scales of the rows): value is about their product. value [rows, ...]."""
    scales = value.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
    whole = (value / scales.view(-1, *[1] * (value.ndim - 1))).round()
    return whole.to(torch.int8), scales


def save_weights(path, model, note):
    """The model's weights with its configuration and `note` (a dict of strings) as metadata."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    tensors = {}
    for name, value in model.state_dict().items():
        value = value.detach().float().cpu().contiguous()
        if value.ndim > 1 and value.numel() >= SMALLEST:
            value, tensors[name + SCALE] = to_8_bits(value)
        tensors[name] = value
    save_file(tensors, f"{path}.part", metadata={"config": json.dumps(model.config.as_dict()), **note})
    os.replace(f"{path}.part", path)


def notes_of(path):
    """What save_weights was told of a file. Raises ValueError if it is not such a file."""
    with safe_open(path, framework="pt", device="cpu") as file:
        notes = file.metadata() or {}
    if "config" not in notes:
        raise ValueError(f"{path}: wanted safetensors with a 'config' entry, found none")
    return notes


def load_weights(path, device):
    """The model that save_weights wrote, in float32 for inference. Raises ValueError if it is not such a file."""
    config = notes_of(path)["config"]
    with safe_open(path, framework="pt", device="cpu") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  safetensors has no iterator
    for name in [name for name in tensors if name.endswith(SCALE)]:
        scales, whole = tensors.pop(name), name.removesuffix(SCALE)
        tensors[whole] *= scales.view(-1, *[1] * (tensors[whole].ndim - 1))
    model = PhotoDiT(ModelConfig(**json.loads(config)))
    model.load_state_dict(tensors)
    return model.to(device).eval().requires_grad_(False)
