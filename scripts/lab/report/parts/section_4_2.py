"""Section 4.2's "over 2x", by projection from timed attention calls."""

from ..calls import PAPER_NAMES, PAPER_SHAPES
from ..finding import CAVEAT, CONTRADICTED, NOT_TESTABLE, Judged
from ..projection import limit, lowest, printed_labels, projected

SPARSITY = 0.9


def judge(records, paper, plots):
    wanted, cells = paper.value("text_speedup_a100"), projected(records)
    found = [
        {
            "name": PAPER_NAMES[shape],
            "model": names[0],
            "cell": cell,
            "speedup": cell.projected_speedup,
            "limit": limit(cell),
        }
        for shape, names in PAPER_SHAPES.items()
        if printed_labels(paper, shape) and (cell := lowest(cells, shape, SPARSITY))
    ]
    verdict = CAVEAT if any(each["speedup"] > wanted for each in found) else CONTRADICTED
    return Judged(verdict if found else NOT_TESTABLE, {"wanted": wanted, "found": found})
