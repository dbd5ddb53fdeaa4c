"""Modules with random weights, made where they will stand: billions of parameters in seconds, and no download.

Weight matrices are normal with variance 1 / inputs, so that what goes through them keeps its size; norms' weights are 1
and biases 0. Nothing overflows that way, and normalised queries and keys meet in logits of about standard normal size:
attention is diffuse, but no NaN and no single token decides it."""

import contextlib

import torch


@contextlib.contextmanager
def made_in(element):
    """Floating-point parameters are made in this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(element)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build(make, device, element, seed):
    """make()'s module on the device, its parameters of this type and drawn anew. Those that the class wants in float32
    are, as after loading a checkpoint."""
    with made_in(element), torch.device(device), torch.no_grad():
        module = make()
        kept = set(getattr(module, "_keep_in_fp32_modules", None) or ())
        for name, parameter in module.named_parameters():
            if kept & set(name.split(".")):
                parameter.data = parameter.data.float()
    randomise(module, seed)
    return module.eval().requires_grad_(False)


@torch.no_grad()
def randomise(module, seed):
    """Draws every parameter from the seed."""
    generators = {}
    for name, parameter in module.named_parameters():
        last = name.rpartition(".")[2]
        if parameter.dim() < 2 or last == "gamma":
            parameter.fill_(0.0 if "bias" in last or last == "beta" else 1.0)
            continue
        where = parameter.device
        if where not in generators:
            generators[where] = torch.Generator(where).manual_seed(seed)
        inputs = parameter[0].numel()
        parameter.normal_(0.0, inputs**-0.5, generator=generators[where])


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())
