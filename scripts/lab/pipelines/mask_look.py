"""The draft mask of one call of a running pipeline."""

import draftattention
import torch


class MaskLook:
    """Attends as draft attention does, and counts the blocks that one call keeps."""

    def __init__(self, shape, configuration, kernel, found):
        self._layer, self._found = shape.layers // 2, found
        policy = configuration.policy
        names = ("sparsity", "region", "pool", "rule")
        self._options = {name: getattr(policy, name) for name in names} | {"kernel": kernel, "layout": "bnhd"}

    def __call__(self, call):
        valid = call.valid[0]
        q, k, v = (x[:, :valid] for x in (call.query, call.key, call.value))
        grid = call.model.grid
        if call.layer == self._layer and not self._found:
            mask = draftattention.draft_mask(q, k, grid, **self._options)
            rows = mask.sum(-1)
            self._found |= {
                "kept_blocks": int(rows.sum()),
                "total_blocks": mask.numel(),
                "row_blocks_mean": rows.float().mean().item(),
                "row_blocks_max": int(rows.max()),
                "empty_rows": int((rows == 0).sum()),
            }
        out = torch.zeros_like(call.query)
        out[:, :valid] = draftattention.draft_attention(q, k, v, grid, scale=call.scale, **self._options)
        return out
