"""What PSNR rewards that nobody wants: a washed-out clip is nearer to the dense one than a wrong one of full contrast.
Experiment `video_contrast`, at one sparsity.

contrast       standard deviation of all pixels of a clip over the dense clip's
psnr_matched   PSNR after each channel's mean and standard deviation over the clip were made the dense clip's
"""

from . import metrics

SPARSITY = 0.9


def contrast(clip, reference):
    return (metrics.frames_of(clip).std() / metrics.frames_of(reference).std()).item()


def matched(clip, reference):
    """The clip, [channels, frames, height, width] in about [-1, 1], with the reference's mean and spread by channel."""
    axes = (1, 2, 3)
    spread = reference.std(axes, keepdim=True) / clip.std(axes, keepdim=True).clamp(min=1e-6)
    return (clip - clip.mean(axes, keepdim=True)) * spread + reference.mean(axes, keepdim=True)


def is_wanted(policy):
    """Whether a policy chooses by other means at SPARSITY, all else being the paper's."""
    return (policy.sparsity, policy.region, policy.dense_steps, policy.heads) == (SPARSITY, (8, 16), 0.25, "all")


def measure(clips, references, device):
    """{"contrast", "psnr", "psnr_matched": one number a clip}."""
    found = {"contrast": [], "psnr": [], "psnr_matched": []}
    for clip, reference in zip(clips.to(device).clamp(-1, 1), references.to(device).clamp(-1, 1)):
        found["contrast"].append(contrast(clip, reference))
        found["psnr"].append(metrics.psnr(clip, reference))
        found["psnr_matched"].append(metrics.psnr(matched(clip, reference), reference))
    return found
