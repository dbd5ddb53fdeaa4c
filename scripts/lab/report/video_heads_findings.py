"""What the paper does not show: rules, diffuse heads and empty rows in videos, and where recall and PSNR disagree."""

from . import figures_videos
from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent, short
from .quality import spearman
from .records import having
from .video_findings import HEADS, quality_table, steps_text
from .videos import METRICS, PAPER_REGION, PAPER_STEPS, WASHED, Choice, draft, interval, mean_of, text_of

RULES = ("logits", "softmax", "released", "row")
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
        for one, gain in sorted(found.items(), key=lambda pair: (pair[0].sparsity, _rank(pair[0].rule)))
    )
    wanted = {one.sparsity for one in found}
    choices = [draft(each, rule=name) for each in sorted(wanted) for name in RULES]
    more = [ratio - 1 for one in found if one.rule == "row" and (ratio := _kept(videos, one, draft(one.sparsity)))]
    caption = "The same sparsity by four rules."
    if more:
        caption += f" Rule row rounds up in each row and keeps up to {percent(max(more))} more blocks in a sparse call."
    table = quality_table(videos, "rules_videos", caption, choices)
    why = [
        f"A global threshold leaves rows of diffuse heads without a block, and such a row {videos.empty_row()}; a budget"
        " for each row never does."
    ]
    most = max(found, key=lambda one: abs(found[one][0]))
    headline = f"{most.rule} at {percent(most.sparsity, 0)}: {found[most][0]:+.2f} dB against softmax"
    return Finding(title, claim, verdict, rule, text + ".", why, [table], headline=headline)


def _kept(videos, one, other):
    """Blocks that `one` keeps in a sparse call over those of `other`, or None."""
    shares = [videos.over_heads(each, "kept_share") for each in (one, other)]
    return shares[0][0] / shares[1][0] if None not in shares and shares[1][0] else None


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
        if one.dense_steps == PAPER_STEPS and one.heads == "all" and "attention_recall" in cell.metrics:
            by_sparsity.setdefault(one.sparsity, []).append((one, cell.metrics))
    ranked = {
        sparsity: {
            name: spearman([sign * found[name] for _, found in rows], [found["psnr"] for _, found in rows])
            for name, (_, sign) in NEARER.items()
            if all(name in found for _, found in rows)
        }
        for sparsity, rows in sorted(by_sparsity.items())
        if len(rows) >= 3
    }
    if not ranked:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    known = [found["attention_recall"] for found in ranked.values() if found["attention_recall"] is not None]
    if not known:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    verdict = CONFIRMED if min(known) >= 0.8 else CONTRADICTED if min(known) < 0 else CAVEAT
    text = f"{videos.where()}. Rank correlation with PSNR: " + "; ".join(
        f"{percent(sparsity, 0)}: "
        + ", ".join(f"{NEARER[name][0]} {short(value)}" for name, value in found.items() if value is not None)
        + f" ({len(by_sparsity[sparsity])} configurations)"
        for sparsity, found in ranked.items()
    )
    metrics = [name for name in videos.metrics() if name != "psnr"]
    rows = [
        (
            sparsity,
            one.label,
            *(text_of(videos.over_heads(one, name), 3) for name in HEADS),
            steps_text(videos.get(one)),
        )
        + (found.get("added_up_rel_l2"), found.get("distance_rel_l2"))
        + tuple(text_of(videos.summary(one, name), 2 if name == "psnr" else 4) for name in ("psnr", *metrics))
        for sparsity in ranked
        for one, found in sorted(by_sparsity[sparsity], key=lambda row: -row[1]["psnr"])
    ]
    columns = ("sparsity", "blocks chosen by", *(f"{words} [95%]" for words in HEADS.values()))
    columns += ("one step's error [least, most]", "steps' errors added up", "distance at the end", "PSNR (dB) [95%]")
    columns += tuple(f"{METRICS[name]} [95%]" for name in metrics)
    table = Table("recall_and_psnr", f"Best video first. {STEP_BY_STEP} {videos.where()}.", columns, rows, shown=60)
    why = _disagreements({sparsity: by_sparsity[sparsity] for sparsity in ranked})
    why += _feedback(videos, max(ranked))
    pictures = [figures_videos.draw_recall_against_psnr(videos, plots)]
    if any(videos.values(one, "distance") for one in videos.choices()):
        pictures.append(figures_videos.draw_distance(videos, max(ranked), plots))
    headline = f"rank correlation {short(min(known))} to {short(max(known))}"
    tables = [table, *_washed_table(videos)]
    why += _washed_words(videos)
    return Finding(title, claim, verdict, rule, text + ".", why, tables, pictures, headline)


def _washed_table(videos):
    if not videos.washed:
        return []
    rows = []
    for one, cell in sorted(videos.washed.items(), key=lambda pair: -mean_of(pair[1].arrays["psnr"])):
        found = {name: interval(cell.arrays[name]) for name in ("contrast", "psnr", "psnr_matched")}
        rows.append(
            (
                one.label,
                one.sparsity,
                text_of(found["contrast"]),
                text_of(found["psnr"]),
                text_of(found["psnr_matched"]),
                len(cell.arrays["psnr"]),
            )
        )
    columns = ("blocks chosen by", "sparsity", "contrast, of the dense clip's [95%]", "PSNR (dB) [95%]")
    columns += ("PSNR with the dense clip's contrast (dB) [95%]", "clips")
    caption = (
        "What PSNR rewards: contrast is the standard deviation of all pixels over the dense clip's; for the last PSNR each"
        f" channel's mean and standard deviation were made the dense clip's. {videos.where(videos.washed.values())}."
    )
    return [Table("contrast_videos", caption, columns, rows)]


def _washed_words(videos):
    """What is left of each way's gain over the paper's rule once every clip has the dense one's contrast."""
    base = next((one for one in videos.washed if one == draft(one.sparsity)), None)
    if base is None:
        return []

    def gain(one, name):
        return interval(
            [a - b for a, b in zip(videos.washed[one].arrays[name], videos.washed[base].arrays[name], strict=True)]
        )

    parts, left = [], []
    for one, cell in sorted(videos.washed.items(), key=lambda pair: pair[0].label):
        if one == base or any(len(cell.arrays[name]) != len(videos.washed[base].arrays[name]) for name in WASHED):
            continue
        plain, fair = gain(one, "psnr"), gain(one, "psnr_matched")
        parts.append(
            f"{one.label} {plain[0]:+.2f} and {fair[0]:+.2f} dB (contrast {mean_of(cell.arrays['contrast']):.2f})"
        )
        found = [videos.get(each).metrics.get("attention_recall") if videos.get(each) else None for each in (one, base)]
        if fair[1] > 0 and None not in found and found[0] <= found[1]:
            left.append(f"{one.label} ({fair[0]:+.2f} dB [{fair[1]:+.2f}, {fair[2]:+.2f}])")
    if not parts:
        return []
    words = [
        "PSNR rewards washed-out clips: a grey one is nearer to the dense one than a wrong one of full contrast. Against"
        f" {base.label} (contrast {mean_of(videos.washed[base].arrays['contrast']):.2f}), by PSNR and by PSNR with the dense"
        f" clips' contrast: {'; '.join(parts)}."
    ]
    if left:
        words.append(
            f"Contrast does not explain all: with no more of the attention than {base.label}, {', '.join(left)} is"
            " still nearer to the dense clips."
        )
    return words


def _feedback(videos, sparsity):
    """How much of a clip's distance from the dense one is errors that fed back into later steps."""
    parts = []
    for one in sorted(videos.choices(), key=lambda one: one.label):
        found = videos.get(one).metrics
        usual = (
            one.sparsity == sparsity
            and found.get("added_up_rel_l2", 0) > 0
            and one.dense_steps == PAPER_STEPS
            and one.heads == "all"
        )
        if usual and one.region == PAPER_REGION and {"added_up_rel_l2", "distance_rel_l2"} <= set(found):
            parts.append(
                f"{one.label} {short(found['added_up_rel_l2'])} and {short(found['distance_rel_l2'])}"
                f" ({found['distance_rel_l2'] / found['added_up_rel_l2']:.1f} times)"
            )
    if not parts:
        return []
    words = "; ".join(parts)
    far = videos.get(Choice("random", sparsity))
    end = (
        f" Distances end near that of random blocks' clips, {short(far.metrics['distance_rel_l2'])}."
        if far and "distance_rel_l2" in far.metrics
        else ""
    )
    return [
        f"A step's errors feed back: they change the states in which later steps choose and attend. Errors added up"
        f" without that, and the distance that the clips really have at the end, at {percent(sparsity, 0)}: {words}.{end}"
    ]


def _disagreements(by_sparsity):
    """The pair of one sparsity that recall and PSNR order the other way round and that is furthest apart, for each."""
    why = []
    for sparsity, rows in by_sparsity.items():
        found, best, waiting = None, None, []  # best: the row of the highest PSNR with less recall than this one's
        for row in sorted(rows, key=lambda row: row[1]["attention_recall"]):
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
            why.append(
                f"At {percent(sparsity, 0)} {one.label} makes the better videos by {gap:.2f} dB with"
                f" {percent(a['attention_recall'])} of the attention against {percent(b['attention_recall'])} for"
                f" {other.label} ({'; '.join(errors)})."
            )
    return why or ["No two configurations of one sparsity are ordered the other way round."]


def diffuse_heads(videos, plots):
    title = "Not in the paper: diffuse heads and empty rows in videos"
    claim = "The threshold is global over a head's map; the paper does not say what becomes of rows that keep nothing."
    rule = (
        "Rule: a head is diffuse if its attention spreads over more than half as many blocks as there are. Confirmed"
        " (a global threshold hurts diffuse heads) if, at the highest sparsity measured, the draft's output error is above"
        " that of random blocks in most of them and the mean error of the rule with a budget for each row is below the"
        " draft's; contradicted if the first holds in none and the second does not hold; else confirmed with a caveat."
    )
    sparsity = max((one.sparsity for one in videos.heads if one == draft(one.sparsity)), default=None)
    if sparsity is None:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    choices = [draft(sparsity), draft(sparsity, rule="row"), Choice("random", sparsity), Choice("oracle", sparsity)]
    cells = {
        one: {
            _place(cell): cell.metrics
            for cell in having(videos.heads.get(one, ()), (*HEADS, "effective_blocks"), input=["layer", "head"])
        }
        for one in choices
    }
    grid = videos.cells[0].grid
    blocks = grid["frames"] * -(-grid["height"] // 8) * -(-grid["width"] // 16)
    own = cells[choices[0]]
    spread = videos.spread() or {place: found["effective_blocks"] for place, found in own.items()}
    diffuse = {place for place, value in spread.items() if value > blocks / 2}
    rows = []
    means = {}
    for one in choices:
        for kind, places in (("diffuse", diffuse), ("others", set(own) - diffuse)):
            there = [cells[one][place] for place in sorted(places) if place in cells[one]]
            if there:
                values = {name: interval([each[name] for each in there]) for name in HEADS}
                means[one, kind] = values["output_rel_l2"][0]
                rows.append((kind, len(there), one.label, *(text_of(each, 3) for each in values.values())))
    table = Table(
        "diffuse_heads_videos",
        f"At {percent(sparsity, 0)}; a diffuse head spreads over more than {blocks / 2:g} of {blocks} blocks."
        f" {videos.where()}.",
        ("heads", "how many", "blocks chosen by", *(f"{words} [95% over heads]" for words in HEADS.values())),
        rows,
    )
    without_value = videos.left_out(*HEADS, "effective_blocks")
    needed = [(choices[0], "diffuse"), (choices[1], "diffuse"), (choices[2], "diffuse")]
    if any(key not in means for key in needed):
        text = f"{len(diffuse)} of {len(own)} heads are diffuse; not every policy was measured on them.{without_value}"
        return Finding(title, claim, NOT_TESTABLE, rule, text, [], [table])
    drafted, by_row, by_chance = (means[key] for key in needed)
    chance = cells[choices[2]]
    diffuse = {place for place in diffuse if place in own and place in chance}  # those that both were measured on
    worse = sum(own[place]["output_rel_l2"] > chance[place]["output_rel_l2"] for place in diffuse)
    if worse > len(diffuse) / 2 and by_row < drafted:
        verdict = CONFIRMED
    else:
        verdict = CAVEAT if worse or by_row < drafted else CONTRADICTED
    text = (
        f"{videos.where()}. {len(diffuse)} of {len(own)} heads are diffuse. Their mean output error at"
        f" {percent(sparsity, 0)}: draft {short(drafted)}, with a budget for each row {short(by_row)}, random blocks"
        f" {short(by_chance)}; the draft's is above that of random blocks in {worse} of {len(diffuse)}.{without_value}"
    )
    headline = f"worse than random blocks in {worse} of {len(diffuse)} diffuse heads; by row {short(by_row)} against {short(drafted)}"
    why = [
        f"An empty row {videos.empty_row()}: {percent(mean_of([own[p]['empty_rows_share'] for p in own]))}"
        f" of all block rows of the draft's masks are empty, {percent(mean_of([own[p]['empty_rows_share'] for p in diffuse]))}"
        " of the diffuse heads'."
    ]
    apart = [draft(sparsity, rule=name, heads=heads) for heads in ("all", "diffuse", "others") for name in RULES]
    apart = [one for one in apart if videos.get(one)]
    tables = [table]
    if any(one.heads != "all" for one in apart):
        tables.append(
            quality_table(
                videos,
                "heads_apart_videos",
                "Masks in some heads alone, the others dense; these"
                " are in the means over heads, with a recall of 1 and next to no error.",
                apart,
            )
        )
        why += _apart_words(videos, sparsity)
    return Finding(title, claim, verdict, rule, text, why, tables, headline=headline)


def _apart_words(videos, sparsity):
    """What masks in the diffuse heads cost a video, and masks in the others; and which rule is better where."""
    words = []
    alone = {heads: draft(sparsity, heads=heads) for heads in ("diffuse", "others")}
    if all(videos.get(one) for one in alone.values()):
        words.append(
            "The paper's rule in the diffuse heads alone leaves videos of"
            f" {text_of(videos.summary(alone['diffuse'], 'psnr'))} dB, in the others alone"
            f" {text_of(videos.summary(alone['others'], 'psnr'))} dB, in all"
            f" {text_of(videos.summary(draft(sparsity), 'psnr'))} dB."
        )
    for name in RULES:
        parts = []
        for heads, where in (
            ("diffuse", "in the diffuse heads alone"),
            ("others", "in the others alone"),
            ("all", "in all"),
        ):
            gain = videos.difference(draft(sparsity, rule=name, heads=heads), draft(sparsity, heads=heads), "psnr")
            if name != "softmax" and gain is not None:
                parts.append(f"{gain[0]:+.2f} dB [{gain[1]:+.2f}, {gain[2]:+.2f}] {where}")
        if len(parts) > 1:
            words.append(f"Rule {name} against softmax: {', '.join(parts)}.")
    return words


def _rank(rule):
    return (RULES.index(rule), "") if rule in RULES else (len(RULES), rule)


def _place(cell):
    return cell.input.get("layer"), cell.input.get("head")
