"""Not in the paper: the four rules, in videos of the small video DiT."""

from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, percent
from ..videos import RULES, Videos, draft, quality_table, text_of

NEAR = 0.5  # dB


def judge(records, paper, plots):
    videos = records.once(Videos)
    found = {
        one: videos.difference(one, draft(one.sparsity), "psnr")
        for one in videos.choices()
        if one == draft(one.sparsity, rule=one.rule) and one.rule != "softmax" and videos.get(draft(one.sparsity))
    }
    facts = {"videos": videos, "found": found}
    if not found:
        return Judged(NOT_TESTABLE, facts)
    apart = any(gain[1] > NEAR or gain[2] < -NEAR for gain in found.values())
    near = all(abs(gain[0]) <= NEAR for gain in found.values())
    ranked = sorted(found, key=lambda one: (one.sparsity, _rank(one.rule)))
    facts |= {
        "gains": [(one, text_of(found[one])) for one in ranked],
        "most": max(found, key=lambda one: abs(found[one][0])),
    }
    more = [ratio - 1 for one in found if one.rule == "row" and (ratio := _kept(videos, one, draft(one.sparsity)))]
    caption = "The same sparsity by four rules."
    if more:
        caption += f" Rule row rounds up in each row and keeps up to {percent(max(more))} more blocks in a sparse call."
    choices = [draft(each, rule=name) for each in sorted({one.sparsity for one in found}) for name in RULES]
    table = quality_table(videos, "rules_videos", caption, choices)
    return Judged(CONTRADICTED if apart else CONFIRMED if near else CAVEAT, facts, [table])


def _rank(rule):
    return (RULES.index(rule), "") if rule in RULES else (len(RULES), rule)


def _kept(videos, one, other):
    """Blocks that `one` keeps in a sparse call over those of `other`, or None."""
    shares = [videos.over_heads(each, "kept_share") for each in (one, other)]
    return shares[0][0] / shares[1][0] if None not in shares and shares[1][0] else None
