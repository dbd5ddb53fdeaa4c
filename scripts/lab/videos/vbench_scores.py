"""VBench (github.com/Vchitect/VBench, package `vbench`), the dimensions that judge clips without its own prompts.

The package would fetch weights that it does not find. Here a dimension is scored only where its files are in the folder
that the user names, laid out as the package's own cache; what is left out is said. No stand-in has a VBench name.
"""

import json
import os
import sys
import tempfile

from lab.model.sheet import to_pixels
from lab.shared.video_file import write_mp4

from .metrics import FRAMES_A_SECOND

WEIGHTS = {  # dimension: files in the folder, as vbench 0.1.5 looks for them
    "subject_consistency": (
        "dino_model/facebookresearch_dino_main/hubconf.py",
        "dino_model/dino_vitbase16_pretrain.pth",
    ),
    "background_consistency": ("clip_model/ViT-B-32.pt",),
    "temporal_flickering": (),
    "motion_smoothness": ("amt_model/amt-s.pth",),
    "dynamic_degree": ("raft_model/models/raft-things.pth",),
    "aesthetic_quality": ("clip_model/ViT-L-14.pt", "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth"),
    "imaging_quality": ("pyiqa_model/musiq_spaq_ckpt-358bb6af.pth",),
}


def find_vbench(folder, device):
    """(function, {dimension: why it is left out}); function(clips) -> {dimension: score over the clips}, None without any
    dimension. folder: of the weights, None for no VBench at all."""
    if folder is None:
        return None, {}
    os.environ["VBENCH_CACHE_DIR"] = str(folder)  # which the package reads when it is imported
    try:
        import cv2  # noqa: F401  writes the clips
        import vbench
    except ImportError as error:
        return None, dict.fromkeys(WEIGHTS, f"left out: {error}")
    missing = {
        name: f"left out: no {lacking[0]} in {folder}"
        for name, files in WEIGHTS.items()
        if (lacking := [file for file in files if not os.path.exists(os.path.join(folder, file))])
    }
    chosen = [name for name in WEIGHTS if name not in missing]

    def scores(clips):
        with tempfile.TemporaryDirectory() as place:
            videos, found = os.path.join(place, "videos"), os.path.join(place, "found")
            os.mkdir(videos)
            for index, clip in enumerate(clips):
                write_mp4(os.path.join(videos, f"clip_{index:03d}.mp4"), to_pixels(clip), FRAMES_A_SECOND)
            judge = vbench.VBench(device, None, found)
            judge.evaluate(videos, "clips", dimension_list=chosen, local=True, mode="custom_input")
            with open(os.path.join(found, "clips_eval_results.json")) as file:
                results = json.load(file)
        return {name: float(results[name][0]) for name in chosen}

    return scores, missing


def say(missing, write=lambda text: print(text, file=sys.stderr)):
    """A line for every dimension that is left out."""
    for name, why in missing.items():
        write(f"videos: VBench's {name}: {why}")
