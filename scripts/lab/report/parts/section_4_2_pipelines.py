"""Section 4.2's "over 2x" and the FP8 figure of appendix C.1, in whole pipelines at full size."""

from ..finding import CAVEAT, CONTRADICTED, NOT_TESTABLE, Judged
from ..pipelines import BASELINES, FIGURE_SHAPES, pipelines, plain_name

SPARSITY = 0.9
BLOCKS = {"": "", "_compiled": "with compiled blocks "}  # of a configuration's name: words
VARIANTS = {  # of the sparse configuration's name: (that of the dense one that is like it, words)
    "_8bit": ("", "8-bit attention in the sparse steps"),
    "_fp8": ("_fp8", "FP8 linear layers"),
    "_8bit_compiled": ("_compiled", "8-bit attention in the sparse steps and compiled blocks"),
    "_fp8_compiled": ("_fp8_compiled", "FP8 linear layers and compiled blocks"),
    "_8bit_fp8_compiled": (
        "_fp8_compiled",
        "8-bit attention in the sparse steps, FP8 linear layers and compiled blocks",
    ),
}


def judge(records, paper, plots):
    wanted, found, variants = paper.value("text_speedup_a100"), [], []
    for pipeline in records.once(pipelines):
        if pipeline.shape not in FIGURE_SHAPES:
            continue
        for ending, words in BLOCKS.items():  # sparse and dense alike
            baseline, name = pipeline.fastest_dense(ending), plain_name(SPARSITY) + ending
            if baseline is None or (speedup := pipeline.speedup(name, baseline)) is None:
                continue
            own = pipeline.speedup(name, "dense_own")
            complete = pipeline.videos[name].complete_s is not None
            row = {"pipeline": pipeline, "speedup": speedup, "own": own, "complete": complete, "blocks": words}
            found.append(row | {"baseline": BASELINES[baseline.removesuffix(ending)]})
        baseline, name = pipeline.fastest_dense(), plain_name(SPARSITY)
        for ending, (dense, words) in VARIANTS.items():
            if (speedup := pipeline.speedup(f"{name}{ending}", f"dense_ours{dense}")) is not None:
                plain = pipeline.speedup(f"{name}{ending}", baseline)
                variants.append({"pipeline": pipeline, "words": words, "speedup": speedup, "over_plain": plain})
    verdict = CAVEAT if any(each["speedup"] > wanted for each in found) else CONTRADICTED
    return Judged(verdict if found else NOT_TESTABLE, {"wanted": wanted, "found": found, "variants": variants})
