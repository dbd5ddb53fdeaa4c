"""The kernels. Each is prepared once for a call and a case, and is then a function without arguments. Preparing is not
timed: block lists, masks in a kernel's own form and, for those that want region order, the reordering.

A contender that cannot do a case raises: Unsupported, ImportError, or whatever its package raises. A new peer is one
file here, with its PEERS, and a line in FAMILIES.
"""

from . import (
    block_sparse_attention,
    cudnn_frontend,
    fastvideo,
    flash_attention,
    flex_block_attention,
    in_pytorch,
    magi_attention,
    sage_attention,
)
from .contender import TIMED, UNTIMED, Case, Contender, Prepared, Unsupported, slices_of
from .own import BY_DEFAULT, contenders_of, own

FAMILIES = (
    in_pytorch,
    block_sparse_attention,
    flash_attention,
    cudnn_frontend,
    fastvideo,
    flex_block_attention,
    magi_attention,
    sage_attention,
)
PEERS = tuple(peer for family in FAMILIES for peer in family.PEERS)


def choose(library, names, without=()):
    """The contenders of these names; none: our main ones and all peers. Less those `without`. Raises ValueError with
    the names there are."""
    ours = contenders_of(library)
    known = ours | {peer.name: peer for peer in PEERS}
    for option, asked in (("--kernels", names), ("--without", without)):
        for name in asked:
            if name not in known:
                raise ValueError(f"{option}: wanted some of {', '.join(known)}, found {name}")
    names = names or [name for name in BY_DEFAULT if name in ours] + [peer.name for peer in PEERS]
    return [known[name] for name in dict.fromkeys(names) if name not in without]


__all__ = [
    "FAMILIES",
    "PEERS",
    "TIMED",
    "UNTIMED",
    "Case",
    "Contender",
    "Prepared",
    "Unsupported",
    "choose",
    "own",
    "slices_of",
]
