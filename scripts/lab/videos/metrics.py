"""A sparse video against the dense one. Clips are [channels, frames, height, width] in about [-1, 1]; metrics compare
frames clipped to [0, 1], unquantised, and are means over frames, as in Sparse VideoGen's metric script."""

from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

FRAMES_A_SECOND = 8  # what a clip is played at, for metrics of videos
MOST_DB = 100.0  # a mean square error of 1e-10


def frames_of(clip):
    """[frames, channels, height, width] in [0, 1], float32."""
    return ((clip.float() + 1) / 2).clamp(0, 1).transpose(0, 1)


def psnr(clip, reference):
    """Decibels, mean over frames. A frame counts as MOST_DB where it is nearer than that: equal ones would be infinite."""
    found = peak_signal_noise_ratio(
        frames_of(clip), frames_of(reference), data_range=1.0, reduction="none", dim=(1, 2, 3)
    )
    return found.clamp(max=MOST_DB).mean().item()


def ssim(clip, reference):
    """Gaussian window of 11 pixels, sigma 1.5, mean over frames; 1 if equal."""
    return (
        structural_similarity_index_measure(frames_of(clip), frames_of(reference), data_range=1.0, reduction="none")
        .mean()
        .item()
    )
