"""A sparse video against the dense one. Clips are [channels, frames, height, width] in about [-1, 1]; metrics compare
frames clipped to [0, 1], unquantised, and are means over frames, as in Sparse VideoGen's metric script."""

import os

import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

MOST_DB = 100.0  # a mean square error of 1e-10
LPIPS_BACKBONE = "alexnet-owt-7be5be79.pth"  # torchvision's AlexNet, which LPIPS' weights belong to


def frames_of(clip):
    """[frames, channels, height, width] in [0, 1], float32."""
    return ((clip.float() + 1) / 2).clamp(0, 1).transpose(0, 1)


def psnr(clip, reference):
    """Decibels, mean over frames. A frame counts as MOST_DB where it is nearer than that: equal ones would be infinite."""
    found = peak_signal_noise_ratio(frames_of(clip), frames_of(reference), data_range=1.0, reduction="none",
                                    dim=(1, 2, 3))
    return found.clamp(max=MOST_DB).mean().item()


def ssim(clip, reference):
    """Gaussian window of 11 pixels, sigma 1.5, mean over frames; 1 if equal."""
    return structural_similarity_index_measure(frames_of(clip), frames_of(reference), data_range=1.0,
                                               reduction="none").mean().item()


def find_lpips():
    """(function of two clips, "") where LPIPS can be had without the network, else (None, why not)."""
    path = os.path.join(torch.hub.get_dir(), "checkpoints", LPIPS_BACKBONE)
    if not os.path.exists(path):
        return None, (f"left out: LPIPS needs AlexNet's trained weights, and {LPIPS_BACKBONE} is not in PyTorch's hub "
                      "folder; nothing else stands in under its name")
    try:
        from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
    except ImportError as error:
        return None, f"left out: {error}"

    def lpips(clip, reference):
        return learned_perceptual_image_patch_similarity(frames_of(clip), frames_of(reference), net_type="alex",
                                                         normalize=True).item()

    return lpips, ""
