"""What the paper does not show: rules, diffuse heads and empty rows in videos, and where recall and PSNR disagree."""

from . import figures_videos
from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent, short
from .quality import spearman
from .video_findings import quality_table
from .videos import Choice, draft, mean_of, text_of

RULES = ("logits", "softmax", "released", "row")


def rules(videos, plots):
    title = "Not in the paper: the four rules in videos"
    claim = (
        "Section 3.1 takes the top entries of the softmaxed map, Theorem 3.5 those of the map before it, the released"
        " code keeps ties: nothing is said of the difference, or of a budget for each row."
    )
    rule = (
        "Rule: confirmed if at every sparsity all rules' mean PSNR are within 0.5 dB of the paper's rule (softmax);"
        " contradicted if one differs by more with the 95% interval of the paired difference beyond 0.5 dB; else"
        " confirmed with a caveat."
    )
    found = {
        one: videos.difference(one, draft(one.sparsity), "psnr")
        for one in videos.choices()
        if one == draft(one.sparsity, rule=one.rule) and one.rule != "softmax" and videos.get(draft(one.sparsity))
    }
    if not found:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    apart = {one: gain for one, gain in found.items() if gain[1] > 0.5 or gain[2] < -0.5}
    near = all(abs(gain[0]) <= 0.5 for gain in found.values())
    verdict = CONTRADICTED if apart else CONFIRMED if near else CAVEAT
    text = f"{videos.where()}. PSNR against rule softmax: " + "; ".join(
        f"{one.rule} at {percent(one.sparsity, 0)} {text_of(gain)} dB"
        for one, gain in sorted(found.items(), key=lambda pair: (pair[0].sparsity, RULES.index(pair[0].rule)))
    )
    wanted = {one.sparsity for one in found}
    choices = [draft(each, rule=name) for each in sorted(wanted) for name in RULES]
    table = quality_table(videos, "rules_videos", "The same number of blocks by four rules.", choices)
    why = [
        "A global threshold on the softmaxed map leaves rows of diffuse heads without a block, whose output is then 0;"
        " a budget for each row never does."
    ]
    most = max(found, key=lambda one: abs(found[one][0]))
    headline = f"{most.rule} at {percent(most.sparsity, 0)}: {found[most][0]:+.2f} dB against softmax"
    return Finding(title, claim, verdict, rule, text + ".", why, [table], headline=headline)


def recall_and_psnr(videos, plots):
    """Do attention-level recall and the videos order the configurations alike?"""
    title = "Not in the paper: attention recall against videos"
    claim = "Masks are chosen, and argued for, by the attention that they keep; the paper's tables judge videos."
    rule = (
        "Rule, over configurations at one sparsity and with the paper's dense first steps: confirmed if recall and mean"
        " PSNR have a rank correlation of at least 0.8 at every sparsity with three configurations or more; contradicted"
        " if it is below 0 at one; else confirmed with a caveat."
    )
    by_sparsity = {}
    for one in videos.choices():
        cell = videos.get(one)
        if one.dense_steps == 0.25 and "attention_recall" in cell.metrics:
            by_sparsity.setdefault(one.sparsity, []).append(
                (one, cell.metrics["attention_recall"], cell.metrics.get("output_rel_l2"), cell.metrics["psnr"])
            )
    ranked = {
        sparsity: (
            spearman([row[1] for row in rows], [row[3] for row in rows]),
            spearman([-row[2] for row in rows], [row[3] for row in rows]),
            rows,
        )
        for sparsity, rows in sorted(by_sparsity.items())
        if len(rows) >= 3
    }
    if not ranked:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    known = [value for value, _, _ in ranked.values() if value is not None]
    verdict = CONFIRMED if min(known) >= 0.8 else CONTRADICTED if min(known) < 0 else CAVEAT
    text = f"{videos.where()}. Rank correlation with PSNR: " + "; ".join(
        f"{percent(sparsity, 0)}: recall {short(recall)}, output error {short(error)} ({len(rows)} configurations)"
        for sparsity, (recall, error, rows) in ranked.items()
    )
    rows = [
        (sparsity, one.label, recall, error, psnr, videos.get(one).metrics.get("empty_rows_share"))
        for sparsity, (_, _, found) in ranked.items()
        for one, recall, error, psnr in sorted(found, key=lambda row: -row[3])
    ]
    columns = ("sparsity", "blocks chosen by", "attention recall", "output error (rel. L2)", "PSNR (dB)", "empty rows")
    table = Table("recall_and_psnr", f"Best video first. {videos.where()}.", columns, rows, shown=60)
    why = _disagreements(ranked)
    picture = figures_videos.draw_recall_against_psnr(videos, plots)
    headline = f"rank correlation {short(min(known))} to {short(max(known))}"
    return Finding(title, claim, verdict, rule, text + ".", why, [table], [picture], headline)


def _disagreements(ranked):
    """The pairs of one sparsity that recall and PSNR order the other way round, the largest at each sparsity."""
    why = []
    for sparsity, (_, _, rows) in ranked.items():
        pairs = [
            (a[3] - b[3], a, b) for a in rows for b in rows if a[3] > b[3] and a[1] < b[1]
        ]
        if pairs:
            gap, better, worse = max(pairs, key=lambda pair: pair[0])
            why.append(
                f"At {percent(sparsity, 0)} {better[0].label} makes the better videos by {gap:.2f} dB with"
                f" {percent(better[1])} of the attention against {percent(worse[1])} for {worse[0].label}; their output"
                f" errors are {short(better[2])} and {short(worse[2])}."
            )
    return why or ["No two configurations of one sparsity are ordered the other way round."]


def diffuse_heads(videos, plots):
    title = "Not in the paper: diffuse heads and empty rows in videos"
    claim = "The threshold is global over a head's map; the paper does not say what becomes of rows that keep nothing."
    rule = (
        "Rule: a head is diffuse if its attention spreads over more than half as many blocks as there are. Confirmed"
        " (a global threshold hurts diffuse heads) if on them, at the highest sparsity measured, the draft's mean output"
        " error is above that of random blocks and the rule with a budget for each row is below the draft's;"
        " contradicted if neither holds; else confirmed with a caveat."
    )
    sparsity = max((one.sparsity for one in videos.heads if one == draft(one.sparsity)), default=None)
    if sparsity is None:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    choices = [draft(sparsity), draft(sparsity, rule="row"), Choice("random", sparsity), Choice("oracle", sparsity)]
    cells = {one: {_place(cell): cell.metrics for cell in videos.heads.get(one, ())} for one in choices}
    source = videos.cells[0].input
    blocks = source["frames"] * -(-source["height"] // 8) * -(-source["width"] // 16)
    own = cells[choices[0]]
    diffuse = {place for place, found in own.items() if found["effective_blocks"] > blocks / 2}
    rows = []
    means = {}
    for one in choices:
        for kind, places in (("diffuse", diffuse), ("others", set(own) - diffuse)):
            there = [cells[one][place] for place in sorted(places) if place in cells[one]]
            if there:
                values = {name: mean_of([each[name] for each in there]) for name in
                          ("attention_recall", "output_rel_l2", "empty_rows_share")}
                means[one, kind] = values["output_rel_l2"]
                rows.append((kind, len(there), one.label, *values.values()))
    table = Table(
        "diffuse_heads_videos",
        f"At {percent(sparsity, 0)}; a diffuse head spreads over more than {blocks / 2:g} of {blocks} blocks."
        f" {videos.where()}.",
        ("heads", "how many", "blocks chosen by", "attention recall", "output error (rel. L2)", "empty rows"),
        rows,
    )
    needed = [(choices[0], "diffuse"), (choices[1], "diffuse"), (choices[2], "diffuse")]
    if any(key not in means for key in needed):
        text = f"{len(diffuse)} of {len(own)} heads are diffuse; not every policy was measured on them."
        return Finding(title, claim, NOT_TESTABLE, rule, text, [], [table])
    drafted, by_row, by_chance = (means[key] for key in needed)
    signs = (drafted > by_chance, by_row < drafted)
    verdict = CONFIRMED if all(signs) else CAVEAT if any(signs) else CONTRADICTED
    text = (
        f"{videos.where()}. {len(diffuse)} of {len(own)} heads are diffuse. Their mean output error at"
        f" {percent(sparsity, 0)}: draft {short(drafted)}, with a budget for each row {short(by_row)}, random blocks"
        f" {short(by_chance)}."
    )
    headline = f"diffuse heads' output error: draft {short(drafted)}, by row {short(by_row)}, random {short(by_chance)}"
    why = [f"Empty rows output 0, which is an error of 100%: {percent(mean_of([own[p]['empty_rows_share'] for p in own]))}"
           " of all block rows of the draft's masks are empty."]
    return Finding(title, claim, verdict, rule, text, why, [table], headline=headline)


def _place(cell):
    return cell.input.get("layer"), cell.input.get("head")
