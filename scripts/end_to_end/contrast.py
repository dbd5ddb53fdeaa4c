"""What PSNR rewards that nobody wants: a washed-out clip is nearer to the dense one than a wrong one of full contrast.
Experiment `video_contrast`, at one sparsity.

contrast       standard deviation of all pixels of a clip over the dense clip's
psnr_matched   PSNR after each channel's mean and standard deviation over the clip were made the dense clip's
"""

import json
import math
import os
import time

from . import metrics
from .configurations import REFERENCE

SPARSITY = 0.9


def contrast(clip, reference):
    return (metrics.frames_of(clip).std() / metrics.frames_of(reference).std()).item()


def matched(clip, reference):
    """The clip, [channels, frames, height, width] in about [-1, 1], with the reference's mean and spread by channel."""
    axes = (1, 2, 3)
    spread = reference.std(axes, keepdim=True) / clip.std(axes, keepdim=True).clamp(min=1e-6)
    return (clip - clip.mean(axes, keepdim=True)) * spread + reference.mean(axes, keepdim=True)


def policies(chosen):
    """Of the study's, those that choose by other means at SPARSITY, all else being the paper's."""
    return [one for one in chosen if one.sparsity == SPARSITY and one.region == (8, 16) and one.dense_steps == 0.25
            and one.heads == "all"]


def run(study, chosen, seconds=math.inf, say=print):
    """Appends a record of every policy that the study's file lacks, until the time is over; whether all are done now.
    study: quality.Study."""
    begin, done = time.monotonic(), set()
    if os.path.exists(study.out):
        with open(study.out) as file:
            for record in map(json.loads, file):
                if record["experiment"] == "video_contrast" and record["build"].get("commit") == study.build.get("commit"):
                    done.add(json.dumps([record["input"], record["config"]], sort_keys=True))
    left = [one for one in policies(chosen)
            if json.dumps([study.source(), study.config(one)], sort_keys=True) not in done]
    if not left or seconds < 0:
        return not left
    dense, _ = study.clips_of(REFERENCE)
    for policy in left:
        if time.monotonic() - begin > seconds:
            return False
        clips, _ = study.clips_of(policy)
        found = {"contrast": [], "psnr": [], "psnr_matched": []}
        for clip, reference in zip(clips.to(study.device), dense.to(study.device)):
            clip, reference = clip.clamp(-1, 1), reference.clamp(-1, 1)
            found["contrast"].append(contrast(clip, reference))
            found["psnr"].append(metrics.psnr(clip, reference))
            found["psnr_matched"].append(metrics.psnr(matched(clip, reference), reference))
        study.append("video_contrast", study.config(policy), {name: sum(one) / len(one) for name, one in found.items()},
                     arrays=found)
        say(f"{policy.describe()}: contrast {sum(found['contrast']) / len(found['contrast']):.2f}")
    return True
