"""One block mask in the forms that the kernels take. All masks are bool and True where a block is computed.

Two numberings of blocks: the project's (regions, then text blocks), and slices of 128 tokens of a sequence in region
order. They are the same where regions divide the grid; elsewhere kernels with fixed blocks cannot have the mask.
"""

import torch

from .inputs import BLOCK, REGION


def why_not_slices(call):
    """Why the draft mask is no mask over slices of 128 tokens of this call in region order, or ""."""
    _, height, width = call.grid
    if height % REGION[0] == 0 and width % REGION[1] == 0:
        return ""
    wanted = f"a frame that {REGION[0]} x {REGION[1]} divides"
    return f"fixed blocks of {BLOCK} tokens: wanted {wanted}, found {height} x {width}"


def with_text(mask, text_blocks):
    """[heads, regions, regions] -> [heads, blocks, blocks]: text columns are kept in every row, text rows keep all."""
    return torch.nn.functional.pad(mask, (0, text_blocks, 0, text_blocks), value=True)


def full_mask(call):
    """[heads, slices, slices], all True: dense attention over ceil(tokens / 128) slices."""
    return torch.ones((call.heads, call.slices, call.slices), dtype=torch.bool, device=call.q.device)


def kept_columns(mask):
    """[heads, rows, columns] -> (counts [heads, rows], columns [heads, rows, columns]), int32: each row's kept columns
    first, ascending; the ones behind are not kept."""
    columns = torch.argsort(mask.to(torch.uint8), dim=-1, descending=True, stable=True)
    return mask.sum(-1, dtype=torch.int32), columns.to(torch.int32).contiguous()


def flex_block_mask(mask, tokens, function=None):
    """FlexAttention's form of [heads, slices, slices] for a sequence of `tokens`: kept blocks are whole ones, so that
    no mask function runs, `function` neither; the kernel itself cuts the last slice at the sequence's end."""
    from torch.nn.attention.flex_attention import BlockMask

    slices = -(-tokens // BLOCK)
    if tuple(mask.shape[1:]) != (slices, slices):
        found = " x ".join(str(side) for side in mask.shape[1:])
        raise ValueError(f"mask: wanted {slices} x {slices} blocks for {tokens} tokens, found {found}")
    counts, columns = kept_columns(mask[None])
    # No block is a partial one. Its own tensor: PyTorch 2.11's CPU code does not compile if the two are one.
    return BlockMask.from_kv_blocks(
        torch.zeros_like(counts),
        torch.zeros_like(columns),
        counts,
        columns,
        BLOCK_SIZE=BLOCK,
        mask_mod=function,
        seq_lengths=(tokens, tokens),
        compute_q_blocks=False,
    )


def kept_metrics(call, mask):
    """Counts for a record's `metrics`; mask: [heads, regions, regions], or None for dense. Rows are those of the video
    and their lengths count video columns."""
    heads, regions, text = call.heads, call.regions, call.text_blocks
    rows = torch.full((heads, regions), regions) if mask is None else mask.sum(-1).cpu()
    kept = int(rows.sum())
    kept_with_text = kept + heads * text * (2 * regions + text)
    all_blocks = heads * (regions + text) ** 2
    return {
        "kept_blocks": kept,
        "total_blocks": heads * regions**2,
        "kept_with_text": kept_with_text,
        "all_blocks": all_blocks,
        "kept_share": kept_with_text / all_blocks,
        "empty_rows": int((rows == 0).sum()),
        "row_blocks_mean": kept / (heads * regions),
        "row_blocks_max": int(rows.max()),
    }
