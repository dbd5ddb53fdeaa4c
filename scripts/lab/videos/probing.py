"""Attention-level numbers inside a sampling run: what the masks that a video was made with kept."""

import torch

from lab.model.heads import block_mass, effective_blocks
from lab.model.model import dense_attention

NAMES = ("attention_recall", "output_rel_l2", "empty_rows_share", "kept_share", "effective_blocks")


class Probe:
    """Looks at the first `clips` clips of a batch at some steps, at every layer and head. `rows` are dicts of floats:
    layer, head, and NAMES as the dumps' records have them (output_rel_l2: sparse against dense output, video rows)."""

    def __init__(self, steps, clips):
        self.steps, self.clips, self.rows = set(steps), clips, []
        self.regions = None  # of the policy's region size; set before sampling
        self.on = True

    def __call__(self, q, k, v, o, mask, *, layer, step):
        if not self.on or step not in self.steps:
            return
        with torch.autocast(q.device.type, enabled=False):
            for clip in range(min(self.clips, len(q))):
                dense = dense_attention(q[clip : clip + 1], k[clip : clip + 1], v[clip : clip + 1])[0]
                for head in range(q.shape[1]):
                    self.rows.append(
                        {"layer": layer, "head": head}
                        | self.describe(q[clip, head], k[clip, head], o[clip, head], dense[head], mask[clip, head])
                    )

    def describe(self, q, k, o, dense, mask):
        """Of one head; q, k, o, dense [tokens, head_dim], mask bool [regions, regions], or what says of itself what it keeps
        (masks.svg2.HeadClusters)."""
        sizes = self.regions.sizes[:-1]
        mass = block_mass(q, k, self.regions)
        video = int(sizes.sum())
        difference, size = (o[:video].double() - dense[:video].double()).norm(), dense[:video].double().norm()
        kept = self.kept(mass, mask) if isinstance(mask, torch.Tensor) else mask.describe(q, k)
        return kept | {"output_rel_l2": (difference / size).item(), "effective_blocks": effective_blocks(mass)}

    def kept(self, mass, mask):
        """What a mask of blocks keeps of a head's mass. Text is always kept; a row's recall is its kept share of all of its
        mass, text included."""
        sizes = self.regions.sizes[:-1]
        of_row = (mass[:-1, :-1] * mask).sum(1) + mass[:-1, -1]
        return {
            "attention_recall": (sizes / sizes.sum() @ of_row).item(),
            "empty_rows_share": (~mask.any(1)).float().mean().item(),
            "kept_share": mask.float().mean().item(),
        }

    def mean(self, name, layer=None, head=None):
        """Over all rows, or those of a layer and head; None if there are none."""
        values = [row[name] for row in self.rows if layer in (None, row["layer"]) and head in (None, row["head"])]
        return sum(values) / len(values) if values else None
