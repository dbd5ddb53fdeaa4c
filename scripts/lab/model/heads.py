"""What every head attends to: the true attention mass between regions, and how well draft maps find it.

Example:

    PYTHONPATH=scripts python3 -m lab.model.heads --weights data/photodit.safetensors --table data/photodit_heads.csv

Columns, for each prompt, layer, head and denoising step, averaged over query tokens:
    same_region, same_frame, same_position, text, elsewhere
        share of the attention mass on the query's own region, on the other regions of its frame, on the same region
        of the other frames, on text, and on the rest; they sum to 1
    effective_blocks   exp(entropy) of a block row of the mass, averaged over rows
    recall_average, recall_max, recall_random, recall_oracle
        share of the video-to-video mass inside the blocks kept at --keep by a global threshold on
        softmax(S~ / sqrt(d)), with S~ from average-pooled or max-pooled regions; by random blocks; by the mass itself
    empty_rows         block rows in which average pooling keeps nothing

The last line names heads for a dump: --choose of them, evenly spread from local to diffuse (`spread_out`).
"""

import argparse
import csv
import math

import torch

from .checkpoint import load_weights
from .flow import SHIFT, STEPS, sample
from .model import dense_attention
from .plan import parse_grid
from .prompts import TEXT_TOKENS, add_prompt_options, prompts_of


class Regions:
    """Tokens to regions: (frame, block row, block column) row-major, cut off at ragged edges; text is the last one."""

    def __init__(self, grid, region, text_tokens, device):
        frames, height, width = grid
        self.rows, self.columns = -(-height // region[0]), -(-width // region[1])
        f, h, w = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
        ids = (f * self.rows + h // region[0]) * self.columns + w // region[1]
        self.video = frames * self.rows * self.columns
        self.ids = torch.cat([ids.flatten(), torch.full((text_tokens,), self.video, device=device)])
        self.member = torch.nn.functional.one_hot(self.ids, self.video + 1).float()  # [tokens, regions + 1]
        self.sizes = self.member.sum(0)

    def frame_and_place(self):
        """(frame, place in the frame), each [video regions]."""
        index = torch.arange(self.video, device=self.ids.device)
        return index // (self.rows * self.columns), index % (self.rows * self.columns)


def products(q, k):
    """q k^T, [queries, keys] float32, or float64 of such, of q [queries, head_dim] and k [keys, head_dim]. Two bfloat16 or
    float16 numbers have an exact float32 product, so that on a GPU tensor cores lose nothing and only the order of the sum
    is theirs."""
    if q.is_cuda and q.dtype == k.dtype and q.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(q, k.T, out_dtype=torch.float32)
    wide = torch.promote_types(q.dtype, torch.float32)
    return q.to(wide) @ k.to(wide).T


def block_mass(q, k, regions, rows=2048):
    """True attention between regions, [regions + 1, regions + 1] float32; every row sums to 1. q, k [tokens, head_dim]."""
    mass = torch.zeros(regions.video + 1, regions.video + 1, device=q.device)
    for start in range(0, len(q), rows):
        part = slice(start, start + rows)
        p = torch.softmax(products(q[part], k).div_(q.shape[-1] ** 0.5), dim=-1)
        mass += regions.member[part].T @ (p @ regions.member)
    return mass / regions.sizes[:, None].clamp(min=1)


def effective_blocks(mass):
    """exp(entropy) of a video region's row of block_mass, averaged over rows."""
    entropy = -torch.special.xlogy(mass, mass).sum(1)[:-1]
    return entropy.exp().mean().item()


def draft_map(q, k, regions, pooling):
    """softmax(S~ / sqrt(d)) over video regions, [video, video]; pooling is 'average' or 'max'. q, k [tokens, head_dim]."""
    if pooling not in ("average", "max"):
        raise ValueError(f"pooling: wanted average or max, found {pooling!r}")
    ids = regions.ids[:, None].expand(-1, q.shape[-1])
    reduce = "mean" if pooling == "average" else "amax"
    pooled = [
        torch.zeros(regions.video + 1, q.shape[-1], device=q.device).scatter_reduce(
            0, ids, x.float(), reduce, include_self=False
        )[:-1]
        for x in (q, k)
    ]
    return torch.softmax(pooled[0] @ pooled[1].T / q.shape[-1] ** 0.5, dim=-1)


def kept_blocks(scores, keep):
    """The ceil(keep * n) highest entries of the whole map, as a bool map."""
    count = max(1, -int(-keep * scores.numel() // 1))
    mask = torch.zeros_like(scores, dtype=torch.bool).flatten()
    mask[scores.flatten().topk(count).indices] = True
    return mask.view_as(scores)


def describe(q, k, regions, keep, generator):
    """The columns of one head, a dict of floats. q, k [tokens, head_dim]."""
    mass = block_mass(q, k, regions)
    video = mass[:-1, :-1]
    weight = regions.sizes[:-1] / regions.sizes[:-1].sum()  # of a block row: its share of the query tokens
    frame, place = regions.frame_and_place()
    same_frame, same_place = frame[:, None] == frame, place[:, None] == place

    def share(chosen):
        return (weight @ (video * chosen).sum(1)).item()

    row = dict(
        same_region=share(same_frame & same_place),
        same_frame=share(same_frame & ~same_place),
        same_position=share(~same_frame & same_place),
        text=(weight @ mass[:-1, -1]).item(),
        elsewhere=share(~same_frame & ~same_place),
    )
    row["effective_blocks"] = effective_blocks(mass)
    drafts = {pooling: draft_map(q, k, regions, pooling) for pooling in ("average", "max")}
    drafts["random"] = torch.rand(video.shape, generator=generator).to(video.device)
    drafts["oracle"] = weight[:, None] * video
    total = share(torch.ones_like(same_place))
    kept = {name: kept_blocks(scores, keep) for name, scores in drafts.items()}
    row.update({f"recall_{name}": share(mask) / total for name, mask in kept.items()})
    row["empty_rows"] = int((~kept["average"].any(1)).sum())
    return row


class Analyst:
    """An attention hook for one clip: dense attention that describes every head at the chosen steps, into `rows`."""

    def __init__(self, prompt, regions, steps, keep):
        self.prompt, self.regions, self.steps, self.keep, self.rows = prompt, regions, set(steps), keep, []

    def __call__(self, q, k, v, *, layer, step):
        if step in self.steps:
            for head in range(q.shape[1]):
                generator = torch.Generator().manual_seed(1000 * step + 10 * layer + head)
                with torch.autocast(q.device.type, enabled=False):  # the sampler's bfloat16 must not reach the sums
                    described = describe(q[0, head], k[0, head], self.regions, self.keep, generator)
                self.rows.append(dict(prompt=self.prompt, layer=layer, head=head, step=step, **described))
        return dense_attention(q, k, v)


def spread_out(rows, count):
    """`count` heads [(layer, head)] of table rows: sorted by effective_blocks, a mean over prompts and steps, and cut into
    `count` groups as equal as can be, the middle one of each: local, typical and diffuse heads, none chosen by hand."""
    found = {}
    for row in rows:
        found.setdefault((row["layer"], row["head"]), []).append(row["effective_blocks"])
    order = sorted(found, key=lambda place: (sum(found[place]) / len(found[place]), place))
    if not 1 <= count <= len(order):
        raise ValueError(f"heads: wanted 1 to {len(order)}, found {count}")
    return [order[math.floor((i + 0.5) * len(order) / count)] for i in range(count)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--table", required=True, help="CSV to write")
    parser.add_argument("--at", default="8,16,24", help="denoising steps, counted from 0 (default 8,16,24)")
    parser.add_argument(
        "--grid", type=parse_grid, default=(8, 32, 48), help="FRAMESxHEIGHTxWIDTH tokens (default 8x32x48)"
    )
    parser.add_argument(
        "--region", type=lambda text: tuple(map(int, text.split("x"))), default=(8, 16), help="default 8x16"
    )
    parser.add_argument("--keep", type=float, default=0.1, help="share of the blocks kept (default 0.1)")
    parser.add_argument("--choose", type=int, default=8, help="how many heads to name for a dump (default 8)")
    add_prompt_options(parser, 3)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_weights(options.weights, device)
    at = [int(step) for step in options.at.split(",")]
    regions, rows = Regions(options.grid, options.region, TEXT_TOKENS, device), []
    for index, prompt in enumerate(prompts_of(options)):
        analyst = Analyst(index, regions, at, options.keep)
        sample(
            model,
            prompt[None],
            [options.seed + index],
            options.grid,
            STEPS,
            SHIFT,
            attention=analyst,
            stop_after=max(at),
        )
        rows += sorted(analyst.rows, key=lambda row: (row["step"], row["layer"], row["head"]))
    with open(options.table, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{x:.4f}" if isinstance(x, float) else x for name, x in row.items()})
    print(" ".join(f"{name:>8}" for name in rows[0]))
    for row in rows:
        cells = (f"{x:.3f}" if isinstance(x, float) else str(x) for x in row.values())
        print(" ".join(f"{cell:>{max(8, len(name))}}" for cell, name in zip(cells, row)))
    chosen = ",".join(f"{layer}:{head}" for layer, head in spread_out(rows, options.choose))
    print(f"from local to diffuse, {options.choose} heads: {chosen}")


if __name__ == "__main__":
    main()
