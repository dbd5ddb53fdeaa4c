"""Clips side by side: a sheet with the true clips and one line a configuration, and an animation of dense, draft, random."""

import os

from lab.model.policies import Policy
from lab.model.sheet import animate, save_labelled_sheet

from .configurations import REFERENCE, draft

FIGURES = {  # stem: policies
    "figure_5_clips": (
        REFERENCE,
        draft(0.6),
        draft(0.8),
        draft(0.9),
        Policy("random", 0.9),
        Policy("oracle", 0.9, rule="row"),
    ),
    "figure_6_clips": (REFERENCE, draft(0.9), draft(0.9, pool="max")),
    "rules_clips": (REFERENCE, draft(0.9), draft(0.9, rule="row"), draft(0.9, rule="logits")),
    "dense_steps_clips": (REFERENCE, draft(0.9), draft(0.9, dense_steps=0.0)),
}
CLIPS, FRAMES = 2, 4  # of each configuration on a sheet


def of_scenes(prompts, count):
    """Places of so many clips: the first of each scene, in the prompts' order; then, if there are fewer scenes, the others."""
    scenes = [int(prompt[0]) for prompt in prompts]
    return sorted(range(len(scenes)), key=lambda place: scenes.index(scenes[place]) != place)[:count]


def draw(study, kernel, folder, command):
    """Writes every sheet, and one animation of the last of their clips; returns their paths."""
    os.makedirs(folder, exist_ok=True)
    made, paths, places = {}, [], of_scenes(study.prompts, CLIPS)

    def clips_of(policy):
        if policy not in made:
            own = policy if policy.name == "dense" else Policy(**{**vars(policy), "kernel": kernel})
            made[policy] = study.clips_of(own, places=places)[0]
        return made[policy]

    for stem, policies in FIGURES.items():
        rows = [("true", list(study.truth[places]))]
        rows += [(policy.describe(), list(clips_of(policy))) for policy in policies]
        paths.append(os.path.join(folder, f"{stem}.png"))
        save_labelled_sheet(paths[-1], rows, FRAMES, command)
    paths.append(os.path.join(folder, "dense_beside_draft.gif"))
    animate(paths[-1], [clips_of(policy)[-1] for policy in (REFERENCE, draft(0.9), Policy("random", 0.9))])
    return paths
