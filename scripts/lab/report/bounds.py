"""What the sections on Theorems 3.3 and 3.5 share."""

from statistics import median

from . import style
from .frame import HEAD
from .quality import POOL_NAMES

MOST_POOLS = 4


def heads_and_dumps(cells):
    return f"{len(cells.drop_duplicates(HEAD))} heads of {', '.join(sorted(set(cells['dump'])))}"


def violations(cells, flag):
    return int((cells[flag] == 0).sum())


def median_of(values):
    """The median of those that are there, or None."""
    there = [value for value in values if value is not None]
    return median(there) if there else None


def ratios(cells, top, bottom):
    """top / bottom of the cells that have both, where the second is above 0."""
    both = cells[[top, bottom]].dropna()
    return [above / below for above, below in zip(both[top], both[bottom]) if below > 0]


def pools(cells):
    """The poolings with a panel: the paper's first where there are more than fit."""
    found = sorted(set(cells["pool"]))
    return found if len(found) <= MOST_POOLS else sorted(found, key=lambda pool: pool not in POOL_NAMES)[:MOST_POOLS]


def pools_left_out(cells):
    return style.left_out(cells["pool"].nunique(), MOST_POOLS, "poolings")
