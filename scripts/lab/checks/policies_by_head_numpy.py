"""Policies whose blocks, or whose masks' source, differ from head to head: Sparse VideoGen's choice of a band, its
second version's clusters, and masks of an earlier step. Each from its definition, as in policies_numpy.

A result is (blocks of queries, blocks of keys, mask, open): lists of arrays of video tokens, and for each pair of blocks
whether it is kept, and whether rounding may decide about it.
"""

import functools
import math

import numpy as np

from lab.checks import policies_numpy as pn

DRAWN, FIRST_ROWS = 64, 10000
TOKENS, QUERY_CLUSTERS, KEY_CLUSTERS = 118800, 400, 1000  # HunyuanVideo at 720p


def splitmix64(state):
    """Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014."""
    z = (state + 0x9E3779B97F4A7C15) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def head_key(seed, stream):
    return splitmix64((splitmix64(seed) + stream) % 2**64)


def drawn_rows(seed, stream, rows):
    return np.array([splitmix64((head_key(seed, stream) + t) % 2**64) % rows for t in range(DRAWN)])


def raster(head):
    return pn.raster_blocks(head)


def frame_last(head):
    return pn.cut_every(np.arange(head.video).reshape(head.grid[0], -1).T.reshape(-1), pn.BLOCK)


LAYOUTS = {"raster": raster, "frame_last": frame_last}


def owner_of(blocks, video):
    owner = np.empty(video, dtype=int)
    for number, block in enumerate(blocks):
        owner[block] = number
    return owner


def band_errors(head, rows, band):
    """Squared errors of the rows' outputs under the band in each of the layouts."""
    logits = head.scale * head.q[rows] @ head.k.T

    def outputs(kept):
        weights = np.where(
            kept, np.exp(logits - np.where(kept, logits, -np.inf).max(axis=1, initial=-1e300)[:, None]), 0
        )
        total = weights.sum(axis=1, keepdims=True)
        return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0) @ head.v

    whole = outputs(np.ones(logits.shape, dtype=bool))
    errors = {}
    for name, blocks_of in LAYOUTS.items():
        owner = owner_of(blocks_of(head), head.video)
        kept = np.ones(logits.shape, dtype=bool)
        kept[:, : head.video] = band[np.ix_(owner[rows], owner)]
        errors[name] = ((whole - outputs(kept)) ** 2).sum()
    return errors


def chosen(errors):
    """The layout, and whether rounding may decide about it."""
    spatial, temporal = errors["raster"], errors["frame_last"]
    near = spatial != temporal and abs(spatial - temporal) <= 1e-9 * max(spatial, temporal)
    return "frame_last" if temporal < spatial else "raster", near


def budget_band(head, sparsity):
    n = math.ceil(head.video / pn.BLOCK)
    return pn.smallest(pn.distance(n).astype(float), pn.kept_count(sparsity, n * n), exact=True)[0]


def svg_choice(head, sparsity, seed, stream):
    n = math.ceil(head.video / pn.BLOCK)
    within = max(math.floor(1.5 * head.grid[1] * head.grid[2]) // pn.BLOCK, 1)
    return chosen(band_errors(head, drawn_rows(seed, stream, min(FIRST_ROWS, head.video)), pn.distance(n) < within))


def svg_fair_choice(head, sparsity, seed, stream):
    return chosen(band_errors(head, drawn_rows(seed, stream, head.video), budget_band(head, sparsity)))


def in_layout(choose):
    def result(head, sparsity, seed, stream):
        layout, near = choose(head, sparsity, seed, stream)
        assert not near, "the case leaves the choice to rounding"
        blocks, band = LAYOUTS[layout](head), budget_band(head, sparsity)
        return blocks, blocks, band, np.zeros_like(band)

    return result


def kmeans(x, count, key, iterations=50, tolerance=1e-4):
    """The centre of each row, from the last of Lloyd's iterations."""
    first = sorted(range(len(x)), key=lambda row: (splitmix64((key + row) % 2**64), row))[:count]
    centres = x[first]
    for _ in range(iterations):
        distance = (x**2).sum(axis=1)[:, None] - 2 * x @ centres.T + (centres**2).sum(axis=1)
        label = distance.argmin(axis=1)
        moved = np.array([x[label == c].mean(axis=0) if (label == c).any() else centres[c] for c in range(count)])
        shift = np.sqrt(((moved - centres) ** 2).sum(axis=1)).max()
        centres = moved
        if shift < tolerance:
            break
    return label


def clusters(x, released, key):
    """Lists of tokens, those of clusters that have any."""
    count = max(math.floor(len(x) * released / TOKENS + 0.5), 1)
    label = kmeans(x, count, key)
    return [np.flatnonzero(label == c) for c in range(count) if (label == c).any()]


@functools.lru_cache(512)  # every budget has the same clusters
def svg2_parts(head, seed, stream):
    key = head_key(seed, stream)
    queries = clusters(head.q[: head.video], QUERY_CLUSTERS, splitmix64(key))
    keys = clusters(head.k[: head.video], KEY_CLUSTERS, splitmix64((key + 1) % 2**64))
    size = np.array([len(block) for block in keys])
    weights = size * np.exp(head.scale * pn.means(head.q, queries) @ pn.means(head.k, keys).T)
    return queries, keys, pn.in_front(weights)[0]


def svg2(head, sparsity, seed, stream):
    queries, keys, before = svg2_parts(head, seed, stream)
    areas = np.outer([len(block) for block in queries], [len(block) for block in keys]).reshape(-1)
    order = np.argsort(before.reshape(-1), kind="stable")
    count = max(int((areas[order].cumsum() <= (1 - sparsity) * head.video**2 + 1e-6).sum()), 1)
    return queries, keys, *pn.smallest(before, count)


def svg2_released(head, seed, stream):
    queries, keys, before = svg2_parts(head, seed, stream)
    forced = np.zeros(before.shape, dtype=bool)
    for row, least in zip(before, forced):
        least[np.argsort(row, kind="stable")[: math.floor(0.1 * len(keys))]] = True
    return queries, keys, *pn.by_threshold(before, 0.9, forced, including=True)


@functools.lru_cache(512)
def region_mass(head):
    return head.mass(pn.region_blocks(head))


def adaspa(earlier, sparsity):
    blocks = pn.region_blocks(earlier)
    ranking = pn.Ranking(blocks, -region_mass(earlier), by_row=True)
    return blocks, blocks, *pn.mask(ranking, sparsity)


def pieces(first, second):
    """For each piece that two lists of sizes cut a row into: its size, and the number of its part in either."""
    cuts = sorted({0, *np.cumsum(first), *np.cumsum(second)})
    starts = np.array(cuts[:-1])
    parts = [np.searchsorted(np.cumsum(sizes), starts, side="right") for sizes in (first, second)]
    return np.diff(cuts), *parts


# Budgets of the heads of a call: a mask for each head. Blocks are the same for queries and keys.


def of_all_heads(scores, sparsity):
    """The largest of all heads' scores; [(mask, open)]."""
    keys = -np.array(scores)
    heads, n, _ = keys.shape
    kept, around = pn.smallest(keys, heads * pn.kept_count(sparsity, n * n))
    return list(zip(kept, around))


def draft_by_call(heads, sparsity):
    blocks = [pn.region_blocks(head) for head in heads]
    return of_all_heads(
        [pn.softmax(head.scale * pn.pooled_logits(head, own)) for head, own in zip(heads, blocks)], sparsity
    )


def oracle_by_call(heads, sparsity):
    return of_all_heads([region_mass(head) for head in heads], sparsity)


def adaspa_heads(earlier, sparsity):
    masses = [region_mass(head) for head in earlier]

    def top(mass, share):
        return pn.by_budget(pn.Ranking([], -mass, by_row=True), lambda row: pn.kept_count(share, row))

    recalls = np.array([head.recall(mass, top(mass, sparsity)[0]) for head, mass in zip(earlier, masses)])
    shares = np.full(len(earlier), float(sparsity))
    order = np.argsort(-recalls, kind="stable")
    enough = min((recalls > 0.8).sum(), len(earlier) // 2)
    shares[order[:enough]] = (1 + sparsity) / 2
    shares[order[len(order) - enough :]] = max((3 * sparsity - 1) / 2, 0)
    return [top(mass, share) for mass, share in zip(masses, shares)]


def error_of(head, queries, keys, mask):
    """Relative L2 error of the video's outputs under a mask of pairs of blocks."""
    kept = np.ones(head.attention.shape, dtype=bool)
    kept[:, : head.video] = mask[np.ix_(owner_of(queries, head.video), owner_of(keys, head.video))]
    weights = np.where(kept, head.attention, 0)
    total = weights.sum(axis=1, keepdims=True)
    sparse = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0) @ head.v
    dense = head.attention @ head.v
    return np.linalg.norm(sparse - dense) / np.linalg.norm(dense)


def duo_attention(heads, sparsity):
    ranking = pn.streaming_llm(heads[0])
    n = len(ranking.blocks)
    budget = pn.kept_count(sparsity, n * n)
    least = min(int((ranking.key <= 2).sum()), budget)
    streaming = pn.smallest(ranking.key, least, exact=True)[0]
    errors = np.array([error_of(head, ranking.blocks, ranking.blocks, streaming) for head in heads])
    whole = len(heads) if least == n * n else len(heads) * (budget - least) // (n * n - least)
    order, left = list(np.argsort(-errors, kind="stable")), len(heads) * budget - whole * n * n
    cuts = dict.fromkeys(order[:whole], n * n)
    for place, head in enumerate(order[whole:]):
        cuts[head] = left // (len(heads) - whole - place)
        left -= cuts[head]
    return [pn.smallest(ranking.key, cuts[head], exact=True) for head in range(len(heads))]
