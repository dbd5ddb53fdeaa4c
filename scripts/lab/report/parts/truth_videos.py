"""Not in the paper: whether a mask makes a worse video, or only another one: clips against the true ones."""

from lab.shared.metrics import label

from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, PAPER_SPARSITY, Judged, Table
from ..videos import Choice, Videos, draft, interval, text_of

IN_TIME = {"psnr_truth": 2, "cvvdp": 2, "flow_px": 2, "flicker": 4}  # metric: digits


def judge(records, paper, plots):
    videos = records.once(Videos)
    dense = videos.reference.arrays if videos.reference else {}
    choices = [one for one in videos.choices() if videos.values(one, "psnr_truth")]
    facts = {"measured": False, "videos": videos}
    paired = [one for one in choices if len(videos.values(one, "psnr_truth")) == len(dense.get("psnr_truth") or ())]
    drafts = [one for one in paired if one == draft(one.sparsity)]
    if not drafts:
        return Judged(NOT_TESTABLE, facts)

    def loss(one):
        """(mean, low, high) of the dense clips' PSNR to the true ones less that of a configuration's."""
        return interval([a - b for a, b in zip(dense["psnr_truth"], videos.values(one, "psnr_truth"))])

    judged = min(drafts, key=lambda one: abs(one.sparsity - PAPER_SPARSITY))
    found = loss(judged)
    verdict = CONFIRMED if found[1] > 0 else CONTRADICTED if found[2] < 0 else CAVEAT
    facts |= {
        "measured": True,
        "judged": judged,
        "loss": text_of(found),
        "dense": text_of(interval(dense["psnr_truth"])),
        "own": text_of(videos.summary(judged, "psnr_truth")),
        "apart": text_of(videos.summary(judged, "psnr")),
        "losses": [(one.sparsity, text_of(loss(one))) for one in sorted(drafts, key=lambda one: one.sparsity)],
        "truth": {name: videos.reference.metrics.get(f"{name}_truth") for name in ("flow_px", "flicker")},
    }
    random = Choice("random", judged.sparsity)
    facts["random"] = text_of(loss(random)) if random in paired else None
    return Judged(verdict, facts, [_table(videos, dense, paired, loss)])


def _table(videos, dense, choices, loss):
    names = [name for name in IN_TIME if dense.get(name) or any(videos.values(one, name) for one in choices)]
    rows = [("dense", 0.0, "-", "-", *(_text(dense.get(name), IN_TIME[name]) for name in names))]
    for one in sorted(choices, key=lambda one: (one.sparsity, one.label)):
        texts = (_text(videos.values(one, name), IN_TIME[name]) for name in names)
        rows.append((one.label, one.sparsity, text_of(videos.summary(one, "psnr")), text_of(loss(one)), *texts))
    columns = ["blocks chosen by", "sparsity", "PSNR to dense [95%]", "loss of PSNR to the true clips [95%]"]
    columns += [f"{label(name)} [95%]" for name in names]
    caption = (
        "Clips against the true ones, and what they do in time. The loss is the dense clips' PSNR to the true ones less the"
        f" row's, paired by clip. ColorVideoVDP is against the dense clips: 10 where nobody sees a difference. {videos.where()}."
    )
    return Table("truth_videos", caption, columns, rows, carries=_is_paper)


def _is_paper(row):
    """Dense attention, and the paper's draft at every sparsity."""
    return row["blocks chosen by"] in ("dense", "draft avg")


def _text(values, digits):
    return text_of(interval(values), digits) if values else "-"
