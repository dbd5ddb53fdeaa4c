"""Section 4.2's "over 2x" and the FP8 figure of appendix C.1, in whole pipelines at full size."""

from ..finding import CAVEAT, CONTRADICTED, NOT_TESTABLE, Judged
from ..pipelines import BASELINES, FIGURE_SHAPES, pipelines, plain_name

SPARSITY = 0.9


def judge(records, paper, plots):
    wanted, found, fp8 = paper.value("text_speedup_a100"), [], []
    for pipeline in records.once(pipelines):
        baseline, name = pipeline.fastest_dense(), plain_name(SPARSITY)
        if pipeline.shape not in FIGURE_SHAPES or baseline is None:
            continue
        if (speedup := pipeline.speedup(name, baseline)) is not None:
            own = pipeline.speedup(name, "dense_own")
            complete = pipeline.videos[name].complete_s is not None
            row = {"pipeline": pipeline, "speedup": speedup, "own": own, "complete": complete}
            found.append(row | {"baseline": BASELINES[baseline]})
        if (speedup := pipeline.speedup(f"{name}_fp8", "dense_ours_fp8")) is not None:
            whole = pipeline.speedup(f"{name}_fp8", baseline)
            fp8.append({"pipeline": pipeline, "speedup": speedup, "over_bfloat16": whole})
    verdict = CAVEAT if any(each["speedup"] > wanted for each in found) else CONTRADICTED
    return Judged(verdict if found else NOT_TESTABLE, {"wanted": wanted, "found": found, "fp8": fp8})
