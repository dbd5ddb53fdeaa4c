"""Block masks of sparse attention policies, each computed from its definition.

A policy cuts the video tokens of a head into blocks and gives every pair of blocks (query block, key block) a key.
The smaller key is kept first, equal keys in row-major order. Text tokens are always kept and are in no key.
float64 throughout; written to be read, not to be fast.
"""

import dataclasses
import functools
import math

import numpy as np

BLOCK = 128  # tokens of a block in the orders that are cut every so many tokens
FIRST = -np.inf  # the key of blocks that go before all others


# Token orders: lists of arrays of video token indices, (frame, row, column) row-major.


def cells(grid, size):
    """The grid's cells of `size` (frames, rows, columns), row-major, ragged at the far edges."""
    index = np.arange(math.prod(grid)).reshape(grid)
    corners = [range(0, whole, step) for whole, step in zip(grid, size)]
    return [
        index[f : f + size[0], y : y + size[1], x : x + size[2]].reshape(-1)
        for f in corners[0]
        for y in corners[1]
        for x in corners[2]
    ]


def cut_every(tokens, size):
    return [tokens[start : start + size] for start in range(0, len(tokens), size)]


def region_blocks(head):
    return cells(head.grid, (1, *head.region))


def raster_blocks(head):
    return cut_every(np.arange(head.video), BLOCK)


def cube_blocks(head):
    return cut_every(np.concatenate(cells(head.grid, (4, 4, 8))), BLOCK)


# Numbers.


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def means(x, blocks):
    return np.array([x[block].mean(axis=0) for block in blocks])


def sums_of_parts(x, owner_of_row, owner_of_column, n):
    """[n, n] sums of the elements of x by the blocks that own their row and column."""
    rows = np.array([x[owner_of_row == i].sum(axis=0) for i in range(n)])
    return np.array([rows[:, owner_of_column == j].sum(axis=1) for j in range(n)]).T


def kept_count(sparsity, blocks):
    """ceil((1 - sparsity) * blocks), where a product within 1e-6 of a whole number is that number; at least 1."""
    return min(blocks, max(1, math.ceil((1 - sparsity) * blocks - 1e-6)))


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """q, k, v of [tokens, dim], text last; grid (frames, height, width); region (height, width)."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    grid: tuple
    text: int
    scale: float
    region: tuple

    @property
    def video(self):
        return math.prod(self.grid)

    @functools.cached_property
    def attention(self):
        """Softmax weights of the video's queries over all tokens."""
        return softmax(self.scale * self.q[: self.video] @ self.k.T)

    def mass(self, blocks):
        """[n, n]: attention of the query tokens of block i on the tokens of block j, summed."""
        owner = np.empty(self.video, dtype=int)
        for number, block in enumerate(blocks):
            owner[block] = number
        return sums_of_parts(self.attention[:, : self.video], owner, owner, len(blocks))

    def recall(self, mass, mask):
        """Mean over the video's queries of their attention on kept blocks and text."""
        return (mass[mask].sum() + self.attention[:, self.video :].sum()) / self.video


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """`exact`: keys are small integers or dyadic fractions, or places in an order, so that equal keys are equal in
    every implementation. FIRST is so always, and 0: the share in front of a row's first block."""

    blocks: list
    key: np.ndarray
    by_row: bool
    exact: bool = False


# Masks: each is given as (mask, open), where `open` marks blocks that rounding may put on either side of the cut.


def near(key, cut):
    """Blocks whose key is as good as the cut: within 1e-9 of it, or within 1e-13 of the largest key."""
    finite = np.isfinite(key)
    if not np.isfinite(cut) or cut == 0:
        return np.zeros(key.shape, dtype=bool)
    return finite & (np.abs(key - cut) <= 1e-9 * abs(cut) + 1e-13 * np.abs(key[finite]).max(initial=0))


def smallest(key, count, exact=False):
    """The `count` smallest keys of an array, equal ones in the order of their index."""
    if np.isnan(key).any():
        raise ValueError("a key is not a number")
    order = np.argsort(key.reshape(-1), kind="stable")[:count]
    kept = np.zeros(key.size, dtype=bool)
    kept[order] = True
    kept = kept.reshape(key.shape)
    around = near(key, key.reshape(-1)[order[-1]])
    divided = (around & kept).any() and (around & ~kept).any()  # else the count decides
    return kept, around if divided and not exact else np.zeros_like(kept)


def by_budget(ranking, count_of):
    """`count_of(blocks)`: how many of so many blocks are kept, of a row's or of the head's."""
    if not ranking.by_row:
        return smallest(ranking.key, count_of(ranking.key.size), ranking.exact)
    rows = [smallest(row, count_of(row.size), ranking.exact) for row in ranking.key]
    return np.array([kept for kept, _ in rows]), np.array([around for _, around in rows])


def mask(ranking, sparsity):
    return by_budget(ranking, lambda blocks: kept_count(sparsity, blocks))


def kept_blocks(ranking, sparsity):
    n = len(ranking.blocks)
    return n * kept_count(sparsity, n) if ranking.by_row else kept_count(sparsity, n * n)


def by_threshold(key, threshold, forced, including=False):
    """Blocks with a key below the threshold, or equal to it where `including`, and the forced ones."""
    below = key <= threshold if including else key < threshold
    return below | forced, near(key, threshold) & ~forced


# Rules and parts that policies share.


def in_front(scores):
    """before(i,j): the row's share of scores in front of j, by falling score, and that share with j's own."""
    before, after = np.empty_like(scores), np.empty_like(scores)
    for i, row in enumerate(scores):
        order = np.argsort(-row, kind="stable")
        total, sum_so_far = row.sum(), 0.0
        for j in order:
            before[i, j] = sum_so_far / total
            sum_so_far += row[j]
            after[i, j] = sum_so_far / total
    return before, after


def pooled_logits(head, blocks):
    return means(head.q, blocks) @ means(head.k, blocks).T


def distance(n):
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def tiles_of(blocks, size=16):
    """Sub-blocks of at most `size` consecutive tokens of a block, and the block of each."""
    parts = [(tile, number) for number, block in enumerate(blocks) for tile in cut_every(block, size)]
    return [tile for tile, _ in parts], np.array([number for _, number in parts])


# Policies.


def xattention(head, stride=8):
    blocks = region_blocks(head)
    chunks = [(chunk, number) for number, block in enumerate(blocks) for chunk in cut_every(block, stride)]
    owner = np.array([number for _, number in chunks])

    def cut(x):
        out = np.zeros((len(chunks), stride, x.shape[1]))  # short chunks end in zero vectors
        for u, (chunk, _) in enumerate(chunks):
            out[u, : len(chunk)] = x[chunk]
        return out

    q, k = cut(head.q), cut(head.k)
    logits = sum(q[:, stride - 1 - r] @ k[:, r].T for r in range(stride)) * head.scale / stride
    scores = sums_of_parts(softmax(logits), owner, owner, len(blocks))
    return Ranking(blocks, in_front(scores)[0], by_row=False)


def xattention_released(head):
    key = xattention(head).key
    forced = np.zeros(key.shape, dtype=bool)
    forced[:, 0] = True
    return by_threshold(key, 0.9, forced)


def quest(head):
    blocks = region_blocks(head)
    scores = np.empty((len(blocks), len(blocks)))
    for j, keys in enumerate(blocks):
        pages = [head.k[page] for page in cut_every(keys, 16)]
        for i, queries in enumerate(blocks):
            q = head.q[queries]
            bounds = [np.maximum(q * page.min(axis=0), q * page.max(axis=0)).sum(axis=1).max() for page in pages]
            scores[i, j] = max(bounds)
    return Ranking(blocks, -scores, by_row=True)


def minference(head):
    blocks = region_blocks(head)
    return Ranking(blocks, -pooled_logits(head, blocks), by_row=True)


def minference_released(head):
    return by_budget(minference(head), lambda row: min(row, 50))


def vertical_slash_places(q, k, queries, owner, causal=False):
    """[n, n]: place of each block among the lines that pass through it, the line with the largest sum first. `q` is
    scaled, `queries` are the tokens that are looked at, `owner` is the block of each token, in token order."""
    tokens, n = np.arange(len(owner)), owner.max() + 1
    apart = queries[:, None] - tokens[None, :]
    logits = q[queries] @ k[tokens].T
    weights = softmax(np.where(apart < 0, -np.inf, logits) if causal else logits)
    lines = [(weights[:, key].sum(), tokens, np.full_like(tokens, key)) for key in tokens]
    for distance_of_line in range(0 if causal else 1 - len(tokens), len(tokens)):
        rows = tokens[max(distance_of_line, 0) : len(tokens) + min(distance_of_line, 0)]
        lines.append((weights[apart == distance_of_line].sum(), rows, rows - distance_of_line))
    places = np.full((n, n), np.inf)
    for place, (_, rows, columns) in enumerate(sorted(lines, key=lambda line: -line[0])):
        own = owner[rows], owner[columns]
        places[own] = np.minimum(places[own], place)
    return places


def vertical_slash(head):
    blocks = raster_blocks(head)
    count = min(64, head.video)
    queries = np.array([(2 * i + 1) * head.video // (2 * count) for i in range(count)])
    owner = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    key = vertical_slash_places(head.scale * head.q, head.k, queries, owner)
    return Ranking(blocks, key, by_row=False, exact=True)


def likeness(x):
    """Mean cosine of all pairs of rows, of a row with itself too; -1 where a row is zero and has none."""
    length = np.sqrt((x**2).sum(axis=1))
    if (length == 0).any():
        return -1.0
    unit = x / length[:, None]
    return (unit @ unit.T).mean()


def sparge_parts(head, theta):
    """Blocks, scores (0 in columns that fail) and which blocks are kept whatever their score."""
    blocks = region_blocks(head)
    centred = head.k - head.k[: head.video].mean(axis=0)
    n = len(blocks)
    passes_q, passes_k = (np.array([likeness(x[block]) > theta for block in blocks]) for x in (head.q, centred))
    scores = np.zeros((n, n))
    if passes_k.any():
        logits = head.scale * means(head.q, blocks) @ means(centred, blocks).T
        scores[:, passes_k] = softmax(logits[:, passes_k])
    return blocks, scores, ~passes_q[:, None] | ~passes_k[None, :]


def sparge(head):
    return minference(head)  # every block passes at theta = -0.1, and what all keys lose moves a row as a whole


def sparge_released(head):
    _, scores, forced = sparge_parts(head, theta=0.6)
    n = len(scores)
    passing = ~forced.all(axis=0)  # columns; those that fail have no score and are no row's largest
    upto = np.full((n, n), np.inf)
    first = np.zeros((n, n), dtype=bool)
    if passing.any():
        upto[:, passing] = in_front(scores[:, passing])[1]
        first[np.arange(n), np.where(passing, scores, -1).argmax(axis=1)] = True
    return by_threshold(upto, 0.98, forced | first, including=True)


def forced_first(key, forced):
    """Forced blocks before all others, both by their key."""
    return np.where(forced, key - 4 * np.abs(key).max() - 1, key)


def nabla_parts(head, frames):
    blocks = region_blocks(head)
    before, _ = in_front(softmax(head.scale * pooled_logits(head, blocks)))
    place = region_places(head)
    window = (np.abs(place[:, None] - place[None, :]) <= (frames, 1, 1)).all(axis=2)
    return blocks, before, window


def nabla(head):
    blocks, before, window = nabla_parts(head, frames=1)
    return Ranking(blocks, forced_first(before, window), by_row=False)


def nabla_released(head):
    _, before, window = nabla_parts(head, frames=5)
    return by_threshold(before, 0.9, forced=window)


def sol_parts(head):
    blocks = region_blocks(head)
    q, k = means(head.q, blocks), means(head.k, blocks)
    logits = head.scale * q @ k.T
    deviation = np.sqrt(head.scale**2 * q**2 @ k.var(axis=0) + (0.001 * math.log(2)) ** 2)
    scores = (logits - logits.mean(axis=1, keepdims=True)) / deviation[:, None]
    return blocks, scores, distance(len(blocks)) <= 1


def sol_attn(head):
    blocks, scores, forced = sol_parts(head)
    return Ranking(blocks, forced_first(-scores, forced), by_row=False)


def sol_attn_released(head):
    _, scores, forced = sol_parts(head)
    return by_threshold(-scores, -1.0, forced)


def subblock(head):
    blocks = region_blocks(head)
    tiles, owner = tiles_of(blocks)
    logits = head.scale * pooled_logits(head, tiles)
    scores = np.empty((len(blocks), len(blocks)))
    for i in range(len(blocks)):
        for j in range(len(blocks)):
            part = logits[np.ix_(owner == i, owner == j)]
            scores[i, j] = part.max() + math.log(np.exp(part - part.max()).sum())
    return Ranking(blocks, -scores, by_row=True)


def dfs_attn(head):
    blocks = region_blocks(head)
    tiles, owner = tiles_of(blocks)
    weights = softmax(head.scale * pooled_logits(head, tiles))
    return Ranking(blocks, -sums_of_parts(weights, owner, owner, len(blocks)), by_row=True)


def jensen(head):
    blocks = region_blocks(head)
    q, k = means(head.q, blocks), means(head.k, blocks)
    q_var, k_var = (np.array([x[block].var(axis=0) for block in blocks]) for x in (head.q, head.k))
    gap = q**2 @ k_var.T + q_var @ (k**2).T + q_var @ k_var.T
    return Ranking(blocks, -softmax(head.scale * q @ k.T + head.scale**2 / 2 * gap), by_row=False)


def columns_and_diagonals(heavy):
    """Places of blocks in h2o's order; `heavy`: all columns, the heaviest first."""
    n = len(heavy)
    apart = distance(n)
    place, next_place = np.full((n, n), -1), 0
    columns, diagonals = list(heavy), list(range(n))
    in_columns = in_diagonals = 0
    while columns or diagonals:
        if columns and (in_columns <= in_diagonals or not diagonals):
            unit = np.zeros((n, n), dtype=bool)
            unit[:, columns.pop(0)] = True
            in_columns += unit.sum()
        else:
            unit = apart == diagonals.pop(0)
            in_diagonals += unit.sum()
        for i, j in np.argwhere(unit & (place < 0)):
            place[i, j] = next_place
            next_place += 1
    return place


def lightx2v_parts(head):
    blocks = region_blocks(head)
    frame = region_places(head)[:, 0]
    forced = (frame[None, :] == 0) | (frame[:, None] == frame[None, :])
    return blocks, softmax(head.scale * pooled_logits(head, blocks)), forced


def lightx2v(head):
    blocks, weights, forced = lightx2v_parts(head)
    return Ranking(blocks, np.where(forced, -2.0 - weights, -weights), by_row=False)


def lightx2v_released(head):
    """n^2 - floor(0.75 n^2) + 1 entries and what is equal to the last of them, and the forced ones."""
    _, weights, forced = lightx2v_parts(head)
    count = min(weights.size, weights.size - math.floor(0.75 * weights.size + 1e-6) + 1)
    cut = -np.sort(-weights.reshape(-1))[count - 1]
    return (weights >= cut) | forced, near(weights, cut) & (weights != cut) & ~forced


def h2o(head):
    blocks = region_blocks(head)
    heavy = np.argsort(-head.mass(blocks).sum(axis=0), kind="stable")
    return Ranking(blocks, columns_and_diagonals(heavy).astype(float), by_row=False, exact=True)


def streaming_llm(head):
    blocks = raster_blocks(head)
    key = distance(len(blocks)).astype(float)
    key[:, 0] = -1
    return Ranking(blocks, key, by_row=False, exact=True)


def streaming_llm_released(head):
    kept = streaming_llm(head).key <= 4
    return kept, np.zeros_like(kept)


def band(head, order):
    blocks = cut_every(order, BLOCK)
    return Ranking(blocks, distance(len(blocks)).astype(float), by_row=False, exact=True)


def svg_spatial(head):
    return band(head, np.arange(head.video))


def svg_temporal(head):
    return band(head, np.arange(head.video).reshape(head.grid[0], -1).T.reshape(-1))


def tiles_of_grid(head):
    """(frames, rows of regions, columns of regions)"""
    frames, height, width = head.grid
    return frames, -(-height // head.region[0]), -(-width // head.region[1])


def region_places(head):
    """[n, 3]: frame, region row and region column of each block in the region order."""
    return np.array(list(np.ndindex(tiles_of_grid(head))))


def windows_around(tiles):
    """[n, n]: the first t whose window around query tile i has tile j."""
    place = np.array(list(np.ndindex(tiles)))
    key = np.full((len(place), len(place)), np.nan)
    t, half = 0, [-1] * 3
    while any(h < size - 1 for h, size in zip(half, tiles)):
        half = [(t * size + max(tiles)) // (2 * max(tiles)) for size in tiles]  # t size / (2 max), rounded
        inside = np.ones(key.shape, dtype=bool)
        for axis, (h, size) in enumerate(zip(half, tiles)):
            if 2 * h + 1 < size:  # else the window is everything
                centre = place[:, axis].clip(h, size - 1 - h)
                inside &= np.abs(centre[:, None] - place[None, :, axis]) <= h
        key[inside & np.isnan(key)] = t
        t += 1
    return key


def sta(head):
    return Ranking(region_blocks(head), windows_around(tiles_of_grid(head)), by_row=False, exact=True)


def radial_parts(head):
    """Blocks; distances of their middle tokens in frames and in places of a frame; and what a place is divided by."""
    blocks = raster_blocks(head)
    area = head.grid[1] * head.grid[2]
    middle = np.array([block[0] + len(block) // 2 for block in blocks])
    frames, places = (np.abs(np.subtract.outer(x, x)) for x in (middle // area, middle % area))
    bits = np.vectorize(lambda apart: area.bit_length() - (int(apart).bit_length() if apart >= 2 else 0))
    return blocks, frames, places, 2.0 ** bits(frames)


def radial(head):
    blocks, _, places, divisor = radial_parts(head)
    return Ranking(blocks, places / divisor, by_row=False, exact=True)


def radial_released(head):
    _, frames, places, divisor = radial_parts(head)
    every = np.maximum(128 / divisor, 1).astype(int)
    kept = (frames <= 1) | ((frames % every == 0) & (places <= np.maximum(divisor * 0.95, 128)))
    return kept, np.zeros_like(kept)


def vsa(head):
    blocks = cube_blocks(head)
    return Ranking(blocks, -pooled_logits(head, blocks), by_row=True)


# Name: the ranking, and the mask at released parameters where there is one.
POLICIES = {
    "xattention": (xattention, xattention_released),
    "quest": (quest, None),
    "minference": (minference, minference_released),
    "vertical_slash": (vertical_slash, None),
    "sparge": (sparge, sparge_released),
    "nabla": (nabla, nabla_released),
    "sol_attn": (sol_attn, sol_attn_released),
    "subblock": (subblock, None),
    "dfs_attn": (dfs_attn, None),
    "jensen": (jensen, None),
    "lightx2v": (lightx2v, lightx2v_released),
    "h2o": (h2o, None),
    "streaming_llm": (streaming_llm, streaming_llm_released),
    "svg_spatial": (svg_spatial, None),
    "svg_temporal": (svg_temporal, None),
    "sta": (sta, None),
    "radial": (radial, radial_released),
    "vsa": (vsa, None),
}
RELEASED = [name for name, (_, released_form) in POLICIES.items() if released_form]


def rank(policy, q, k, v, grid, text, scale, region):
    """Blocks and keys of one head."""
    return POLICIES[policy][0](Head(q, k, v, grid, text, scale, region))


def released(policy, q, k, v, grid, text, scale, region):
    """(mask, open) at the policy's released parameters."""
    return POLICIES[policy][1](Head(q, k, v, grid, text, scale, region))
