"""A first look: from a captured attention call to a draft mask to the attention that it keeps, head 0 of the first
capture. first_look.cpp computes the same numbers. Usage: first_look.py DUMP [SPARSITY = 0.9]"""

import math
import sys

import numpy as np
import qkv_dump  # there when draftbench is installed; else set PYTHONPATH=scripts
from scipy.special import softmax


def splitmix64(z):  # random numbers that are the same on every machine, and in C++
    z = z + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return z ^ (z >> np.uint64(31))


sparsity = float(sys.argv[2]) if len(sys.argv) > 2 else 0.9
capture = next(qkv_dump.read_dump(sys.argv[1]))
if capture.causal:
    sys.exit(f"{sys.argv[1]}: wanted attention that is not causal, found a causal dump")
q, k = capture.q[0].astype(float), capture.k[0].astype(float)  # [tokens, head_dim]: video, then text tokens

# A region is 8 x 16 tokens of one frame, smaller at the edges. Text is in no region and always kept.
frame, y, x = np.indices((capture.frames, capture.height, capture.width)).reshape(3, -1)
region = (frame * -(-capture.height // 8) + y // 8) * -(-capture.width // 16) + x // 16  # of each video token
tokens_of = [np.flatnonzero(region == r) for r in range(region[-1] + 1)]
regions = len(tokens_of)

# The draft: pooled queries and keys (eq. 2), attention between them (eqs. 6 and 3), and its highest blocks.
pooled_q, pooled_k = (np.array([rows[tokens].mean(axis=0) for tokens in tokens_of]) for rows in (q, k))
draft = softmax(capture.softmax_scale * pooled_q @ pooled_k.T, axis=1)  # A_draft [regions, regions]
kept = max(math.ceil((1 - sparsity) * regions**2 - 1e-6), 1)  # the slack, because 0.1 has no exact double
drafted = np.argsort(-draft, axis=None, kind="stable")[:kept]  # row-major indices of blocks
keys = splitmix64(splitmix64(splitmix64(np.uint64([1]))) + np.arange(regions**2, dtype=np.uint64))  # seed 1
random = np.argsort(keys, kind="stable")[:kept]

# Recall: the share of the dense attention's mass that lies in kept blocks, as a mean over video queries.
column = np.append(region, np.full(len(q) - len(region), regions))  # block column of each key; the last one is text
rows = (softmax(capture.softmax_scale * q[tokens] @ k.T, axis=1).sum(axis=0) for tokens in tokens_of)
mass = np.array([np.bincount(column, row, regions + 1) for row in rows])  # [regions, regions + 1]
recall = [(mass[:, :-1].flat[blocks].sum() + mass[:, -1].sum()) / len(region) for blocks in (drafted, random)]

print(f"capture {capture.name}, head 0: {regions} regions")
print(f"kept    {kept / regions**2:.6f} of {regions**2} blocks")
print(f"recall  {recall[0]:.12f} of the draft mask, {recall[1]:.12f} of a random mask")
