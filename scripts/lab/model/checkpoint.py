"""Training checkpoints (everything needed to go on) and the shipped weights (EMA, bfloat16 safetensors)."""

import json
import os

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .model import MiniDiT, ModelConfig


def save_checkpoint(path, **state):
    """Write under a temporary name, then rename: a killed run leaves the last whole checkpoint."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    torch.save(state, f"{path}.part")
    os.replace(f"{path}.part", path)


def load_checkpoint(path, device):
    return torch.load(path, map_location=device, weights_only=True)


def save_weights(path, model, note):
    """bfloat16 weights with the model's configuration and `note` (a dict of strings) as metadata."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    tensors = {name: value.detach().to(torch.bfloat16).cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, f"{path}.part", metadata={"config": json.dumps(model.config.as_dict()), **note})
    os.replace(f"{path}.part", path)


def load_weights(path, device):
    """The model that save_weights wrote, in float32 for inference. Raises ValueError if it is not such a file."""
    with safe_open(path, framework="pt", device="cpu") as file:
        config = (file.metadata() or {}).get("config")
        if config is None:
            raise ValueError(f"{path}: wanted safetensors with a 'config' entry, found none")
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  safetensors has no iterator
    model = MiniDiT(ModelConfig(**json.loads(config)))
    model.load_state_dict(tensors)
    return model.to(device).eval().requires_grad_(False)
