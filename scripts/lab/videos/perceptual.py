"""LPIPS of two clips, by its authors' package `lpips`, with AlexNet's trained weights from a file.

The package ships the layers that were fitted to people's judgements, not the AlexNet below them, which it would have
PyTorch's server send. Here AlexNet comes from a file of safetensors with torchvision's names, features.<n>.weight and
.bias, which lab.videos.lpips_weights makes, and no other weights than the trained ones pass.
"""

import hashlib

from .metrics import frames_of

LAYERS = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
# Of torchvision's alexnet-owt-7be5be79, these ten tensors. With them the two pairs of pictures in the README of the
# authors' repository (richzhang/PerceptualSimilarity) are at 0.722 and 0.138, as it says.
TRAINED_SHA256 = "2b566cc3a4d6f0a7343701af22f461f1ac3dcd03a3ac28cce10968a1d3c85fdc"


def digest_of(tensors):
    """sha256 of the weights and biases in the layers' order, as little-endian float32."""
    found = hashlib.sha256()
    for layer in LAYERS:
        for part in ("weight", "bias"):
            found.update(tensors[f"features.{layer}.{part}"].contiguous().numpy().astype("<f4").tobytes())
    return found.hexdigest()


def load_alexnet(path, trained_sha256=TRAINED_SHA256):
    """{name: float32 tensor} of the five convolutions. Raises ValueError for anything but the trained ones."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"LPIPS: {path}: not a file of safetensors that can be read: {error}") from None
    for layer, shape in LAYERS.items():
        for name, wanted in ((f"features.{layer}.weight", shape), (f"features.{layer}.bias", shape[:1])):
            if name not in tensors or tuple(tensors[name].shape) != wanted:
                found = tuple(tensors[name].shape) if name in tensors else "nothing"
                raise ValueError(f"LPIPS: {path}: {name}: wanted {wanted}, found {found}")
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    if (found := digest_of(tensors)) != trained_sha256:
        raise ValueError(
            f"LPIPS: {path}: wanted AlexNet's trained weights, sha256 {trained_sha256[:12]}, found {found[:12]}"
        )
    return tensors


def lpips_of(tensors, device):
    """A function of two clips: LPIPS (version 0.1, AlexNet), mean over frames; 0 if equal, more is worse."""
    import warnings

    import lpips
    import torch

    with warnings.catch_warnings():  # torchvision's, of an argument's name that lpips still uses
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    # Its five slices hold torchvision's layers under their own numbers: slice2.3.weight is features.3.weight.
    network.net.load_state_dict(
        {name: tensors["features." + name.split(".", 1)[1]] for name in network.net.state_dict()}
    )
    network = network.to(device).eval()

    @torch.no_grad()
    def distance(clip, reference):
        with torch.autocast(torch.device(device).type, enabled=False):
            return network(frames_of(clip), frames_of(reference), normalize=True).mean().item()

    return distance


def find_lpips(path, device):
    """(function of two clips, "") with the weights of `path`, or (None, why there is none). Raises ValueError for a file
    of other weights."""
    if path is None:
        return None, "left out: no AlexNet weights were given; nothing else stands in under its name"
    try:
        import lpips  # noqa: F401
    except ImportError as error:
        return None, f"left out: {error}"
    return lpips_of(load_alexnet(path), device), ""
