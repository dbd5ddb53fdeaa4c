"""Not in the paper: do attention-level recall and the videos order the configurations alike?"""

from statistics import mean

from .. import style
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, Table, short
from ..frame import LARGEST_DRAWN
from ..quality import spearman
from ..videos import (
    HEADS,
    LOOKS,
    METRICS,
    PAPER_REGION,
    PAPER_STEPS,
    Choice,
    Videos,
    draft,
    interval,
    steps_text,
    text_of,
)

STEP_BY_STEP = (
    "Recall and heads' output error: at two steps, on the sparse clips' way. One step's error: of the model's output, at"
    " the dense clips' states, every mask in place, mean over the sparse steps; added up: the sum of these errors' vectors"
    " over the last state; distance at the end: of the states themselves, sparse from dense. All relative L2, of"
    " the first clips."
)
NEARER = {  # attention-level number: words, sign of what should go with better videos
    "attention_recall": ("attention recall", 1),
    "output_rel_l2": ("heads' output error", -1),
    "one_step_rel_l2": ("one step's error", -1),
    "added_up_rel_l2": ("steps' errors added up", -1),
}
PANELS = {
    "attention_recall": "attention recall",
    "output_rel_l2": "heads' output error (rel. L2)",
    "one_step_rel_l2": "one step's error (rel. L2)",
}
MOST_DOTS, MOST_SPARSITIES = 400, 12


def judge(records, paper, plots):
    videos = records.once(Videos)
    by_sparsity = {}
    for one in filter(_is_usual, videos.choices()):
        metrics = videos.get(one).metrics
        if "attention_recall" in metrics:
            by_sparsity.setdefault(one.sparsity, []).append((one, metrics))
    by_sparsity = {sparsity: found for sparsity, found in sorted(by_sparsity.items()) if len(found) >= 3}
    ranked = {sparsity: _ranks(found) for sparsity, found in by_sparsity.items()}
    known = [ranks["attention_recall"] for ranks in ranked.values() if "attention_recall" in ranks]
    facts = {"videos": videos, "known": sorted(known), "ranked": ranked, "by_sparsity": by_sparsity}
    if not known:
        return Judged(NOT_TESTABLE, facts)
    last = max(ranked)
    far = videos.get(Choice("random", last))
    facts |= {"disagreements": _disagreements(by_sparsity), "feedback": _feedback(videos, last), "last": last}
    facts |= {"washed": _washed(videos), "far": far.metrics.get("distance_rel_l2") if far else None}
    pictures = [_draw(videos, plots)]
    if any(videos.values(one, "distance") for one in videos.choices()):
        pictures.append(_draw_distance(videos, last, plots))
    verdict = CONFIRMED if min(known) >= 0.8 else CONTRADICTED if min(known) < 0 else CAVEAT
    return Judged(verdict, facts, [_table(videos, by_sparsity), *_washed_table(videos)], pictures)


def _is_usual(one):
    """Not with a remainder either: recall does not count what dropped blocks add as a whole."""
    return one.dense_steps == PAPER_STEPS and one.heads == "all" and not one.remainder


def _ranks(found):
    """{attention-level number: its rank correlation with PSNR}, of those that all configurations have."""
    psnr = [metrics["psnr"] for _, metrics in found]
    ranks = {
        name: spearman([sign * metrics[name] for _, metrics in found], psnr)
        for name, (_, sign) in NEARER.items()
        if all(name in metrics for _, metrics in found)
    }
    return {name: rank for name, rank in ranks.items() if rank is not None}


def _table(videos, by_sparsity):
    metrics = [name for name in videos.metrics() if name != "psnr"]
    found = [
        (
            sparsity,
            one.label,
            *(text_of(videos.over_heads(one, name), 3) for name in HEADS),
            steps_text(videos.get(one)),
            numbers.get("added_up_rel_l2"),
            numbers.get("distance_rel_l2"),
            *(text_of(videos.summary(one, name), 2 if name == "psnr" else 4) for name in ("psnr", *metrics)),
        )
        for sparsity, members in by_sparsity.items()
        for one, numbers in sorted(members, key=lambda row: -row[1]["psnr"])
    ]
    columns = ["sparsity", "blocks chosen by", *(f"{words} [95%]" for words in HEADS.values())]
    columns += ["one step's error [least, most]", "steps' errors added up", "distance at the end", "PSNR (dB) [95%]"]
    columns += [f"{METRICS[name]} [95%]" for name in metrics]
    return Table("recall_and_psnr", f"Best video first. {STEP_BY_STEP} {videos.where()}.", columns, found)


def _washed_table(videos):
    if not videos.washed:
        return []
    found = [
        (
            one.label,
            one.sparsity,
            *(text_of(interval(cell.arrays[name])) for name in ("contrast", "psnr", "psnr_matched")),
            len(cell.arrays["psnr"]),
        )
        for one, cell in sorted(videos.washed.items(), key=lambda pair: -mean(pair[1].arrays["psnr"]))
    ]
    columns = ["blocks chosen by", "sparsity", "contrast, of the dense clip's [95%]", "PSNR (dB) [95%]"]
    columns += ["PSNR with the dense clip's contrast (dB) [95%]", "clips"]
    caption = (
        "What PSNR rewards: contrast is the standard deviation of all pixels over the dense clip's; for the last PSNR each"
        f" channel's mean and standard deviation were made the dense clip's. {videos.where(videos.washed.values())}."
    )
    return [Table("contrast_videos", caption, columns, found, shown=0)]


def _washed(videos):
    """What is left of each way's gain over the paper's rule once every clip has the dense one's contrast: {"base", "contrast"
    of base, "gains"}; None where nothing can be compared."""
    base = next((one for one in videos.washed if one == draft(one.sparsity)), None)
    if base is None:
        return None
    own = videos.washed[base].arrays
    recall = _recall(videos, base)
    gains = []
    for one, cell in sorted(videos.washed.items(), key=lambda pair: pair[0].label):
        plain, fair = (videos.washed_difference(one, base, name) for name in ("psnr", "psnr_matched"))
        if one == base or plain is None:
            continue
        other = _recall(videos, one)
        left = fair[1] > 0 and None not in (recall, other) and other <= recall
        gains.append(
            {
                "label": one.label,
                "plain": plain[0],
                "fair": fair,
                "contrast": mean(cell.arrays["contrast"]),
                "left": left,
            }
        )
    return {"base": base.label, "contrast": mean(own["contrast"]), "gains": gains} if gains else None


def _recall(videos, one):
    return videos.get(one).metrics.get("attention_recall") if videos.get(one) else None


def _feedback(videos, sparsity):
    """How much of a clip's distance from the dense one is errors that fed back into later steps: [(label, errors added up,
    distance)]."""
    found = []
    for one in sorted(filter(_is_usual, videos.choices()), key=lambda one: one.label):
        if one.sparsity == sparsity and one.region == PAPER_REGION and (numbers := videos.fed_back(one)):
            found.append((one.label, *numbers))
    return found


def _disagreements(by_sparsity):
    """The pair of one sparsity that recall and PSNR order the other way round and that is furthest apart, for each."""
    disagreements = []
    for sparsity, members in by_sparsity.items():
        found, best, waiting = None, None, []  # best: the row of the highest PSNR with less recall than this one's
        for row in sorted(members, key=lambda row: row[1]["attention_recall"]):
            if waiting and waiting[0][1]["attention_recall"] < row[1]["attention_recall"]:
                best = max([*([best] if best else []), *waiting], key=lambda each: each[1]["psnr"])
                waiting = []
            waiting.append(row)
            if best and best[1]["psnr"] - row[1]["psnr"] > (found[0] if found else 0):
                found = (best[1]["psnr"] - row[1]["psnr"], best, row)
        if found:
            gap, (one, a), (other, b) = found
            errors = [
                f"{words} {short(a[name])} and {short(b[name])}"
                for name, (words, sign) in NEARER.items()
                if sign < 0 and name in a and name in b
            ]
            both = {
                "better": one.label,
                "worse": other.label,
                "recalls": (a["attention_recall"], b["attention_recall"]),
            }
            disagreements.append({"sparsity": sparsity, "gap": gap, "errors": errors, **both})
    return disagreements


def _draw(videos, folder):
    """One dot a configuration with the paper's dense steps, one colour a sparsity. (stem, caption)."""
    names = {
        name: words
        for name, words in PANELS.items()
        if any(name in videos.get(one).metrics for one in videos.choices())
    }
    figure, axes = style.panels(1, len(names), 3.6, sharey=True)
    colours = (style.BLUE, style.SKY, style.GREEN, style.ORANGE, style.RED, style.PURPLE)
    markers = {"draft": "o", "random": "D", "oracle": "^"}
    other = "x"  # of other systems
    chosen = [one for one in filter(_is_usual, videos.choices()) if videos.get(one).drawable]
    chosen = style.thinned(chosen, MOST_DOTS)
    sparsities = sorted({one.sparsity for one in chosen})
    colour_of = {sparsity: colours[place % len(colours)] for place, sparsity in enumerate(sparsities)}
    for axis, (name, words) in zip(axes[0], names.items()):
        for one in chosen:
            metrics = videos.get(one).metrics
            if name in metrics:
                look = {"marker": markers.get(one.policy, other), "color": colour_of[one.sparsity], "markersize": 5}
                axis.plot(metrics[name], metrics["psnr"], linestyle="none", **look)
        axis.set_xlabel(words)
    first = axes[0][0]
    first.set_ylabel("PSNR (dB)")
    style.percent_axis(first.xaxis)
    shown = sparsities[:MOST_SPARSITIES]
    handles = [first.plot([], [], linestyle="none", marker="s", color=colour_of[each])[0] for each in shown]
    if any(one.policy not in markers for one in chosen):
        markers["other systems"] = other
    handles += [
        first.plot([], [], linestyle="none", marker=marker, color=style.BLACK)[0] for marker in markers.values()
    ]
    style.legend_strip(figure, handles, [*(f"{100 * each:g}% sparsity" for each in shown), *markers], 4)
    caption = f"Attention-level numbers against videos, one dot a configuration. {videos.where()}."
    return style.save(figure, folder, "recall_against_psnr"), caption


def _draw_distance(videos, sparsity, folder):
    """Distance from the dense clips after each step, one line a way to choose blocks. (stem, caption)."""
    figure, axes = style.panels(1, 1, 3.6)
    axis = axes[0][0]
    looks = [(make(sparsity), label, variant) for make, label, variant in LOOKS]
    looks += [(draft(sparsity, rule=rule), f"draft, rule {rule}", None) for rule in ("row", "logits")]
    extra = iter(((style.PURPLE, "-.", "v"), (style.BLACK, "--", "x")))
    for choice, label, variant in looks:
        values = videos.values(choice, "distance")
        if not values:
            continue
        colour, line, marker = style.variant_style(variant) if variant else next(extra)
        steps = [(step, value) for step, value in enumerate(values, 1) if LARGEST_DRAWN > value > 1e-6]
        if steps:
            axis.plot(*zip(*steps), color=colour, linestyle=line, marker=marker, markersize=4, label=label)
    axis.set_yscale("log")
    axis.set_xlabel("denoising step")
    axis.set_ylabel("distance from dense (rel. L2)")
    style.legend_strip(figure, *axis.get_legend_handles_labels(), 3)
    caption = (
        f"How far the states are from the dense clips' after each step, at {100 * sparsity:g}%: {videos.looked_at()}."
        f" {videos.where()}."
    )
    return style.save(figure, folder, "distance_by_step"), caption
