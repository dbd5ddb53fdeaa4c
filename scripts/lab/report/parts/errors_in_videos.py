"""Not in the paper: when a rule that makes larger errors in the heads makes the better videos, and what becomes of an error
on its way to the last step. On every model whose clips the records hold."""

from dataclasses import dataclass
from statistics import mean

from .. import style
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, PAPER_SPARSITY, Judged, Table
from ..videos import PAPER_REGION, PAPER_STEPS, draft, every_set, interval, text_of

RULES = ("softmax", "row")  # the paper's, and the one with the smallest errors; each against `logits`
NOISE = "noise"
MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Pair:
    """`logits` against another rule, one model and share of dense first steps."""

    videos: object
    first: object  # Choice of rule logits
    second: object

    @property
    def model(self):
        return model_of(self.videos)

    @property
    def share(self):
        return self.first.dense_steps

    def numbers(self, name):
        return [self.videos.get(each).metrics.get(name) for each in (self.first, self.second)]

    def gain(self):
        """(mean, low, high) of PSNR that logits has more, paired by clip."""
        return self.videos.difference(self.first, self.second, "psnr")


def model_of(videos):
    return next(iter(videos.cells["model"])) or "a model without a name"


def judge(records, paper, plots):
    sets = [videos for videos in every_set(records) if videos]
    pairs = [pair for videos in sets for pair in _pairs(videos)]
    growth = [(model_of(videos), cell) for videos in sets for cell in _disturbed(videos)]
    facts = {"pairs": pairs, "sets": sets, "growth": (kinds := _growth(growth)), "calm": _is_calm(kinds)}
    facts |= {"held": 0, "against": [], "fair": [], "alone": []}
    if not pairs:
        return Judged(NOT_TESTABLE, facts)
    held = [_holds(pair) for pair in pairs]
    verdict = (
        CONFIRMED if all(each == 1 for each in held) else CONTRADICTED if all(each == -1 for each in held) else CAVEAT
    )
    facts |= {
        "held": sum(each == 1 for each in held),
        "against": [pair for pair, each in zip(pairs, held) if each == -1],
        "fair": [(pair, found) for pair in pairs if (found := _fair(pair))],
        "alone": [_alone(videos) for videos in sets],
    }
    facts["alone"] = [each for each in facts["alone"] if each]
    tables = [_table(pairs), *([_growth_table(growth)] if growth else [])]
    pictures = [picture] if (picture := _draw(sets, plots)) else []
    return Judged(verdict, facts, tables, pictures)


def _pairs(videos):
    found = []
    for one in sorted(videos.choices(), key=lambda one: one.dense_steps):
        if one != draft(PAPER_SPARSITY, rule="logits", dense_steps=one.dense_steps):
            continue
        for rule in RULES:
            pair = Pair(videos, one, draft(PAPER_SPARSITY, rule=rule, dense_steps=one.dense_steps))
            if videos.get(pair.second) and None not in pair.numbers("output_rel_l2") and pair.gain():
                found.append(pair)
    return found


def _holds(pair):
    """1 if the rule with the larger error in the heads has the worse videos with the whole interval, -1 the better ones."""
    larger, smaller = pair.numbers("output_rel_l2")
    _, low, high = pair.gain()
    sign = 1 if high < 0 else -1 if low > 0 else 0
    return sign * (1 if larger > smaller else -1 if larger < smaller else 0)


def _fair(pair):
    """(the gain once all clips have the dense ones' contrast, the contrasts), or None."""
    found = pair.videos.washed_difference(pair.first, pair.second, "psnr_matched")
    cells = (pair.videos.washed.get(each) for each in (pair.first, pair.second))
    return None if found is None else (found, [mean(cell.arrays["contrast"]) for cell in cells])


def _alone(videos):
    """(model, gain of logits where the diffuse heads alone are sparse, and where the others are), or None."""
    gains = [
        videos.difference(*(draft(PAPER_SPARSITY, rule=rule, heads=heads) for rule in ("logits", "softmax")), "psnr")
        for heads in ("diffuse", "others")
    ]
    return None if None in gains else (model_of(videos), *map(text_of, gains))


def _disturbed(videos):
    return [cell for cell in videos.disturbed if cell.arrays.get("growth")]


def _by(cell):
    return NOISE if cell.config.get("disturbed_by") == NOISE else f"masks, rule {cell.rule}"


def _growth(growth):
    """{model: {what disturbed: [(step, mean growth)]}}."""
    found = {}
    for model, cell in sorted(growth, key=lambda pair: pair[1].config.get("step") or 0):
        places = found.setdefault(model, {}).setdefault(_by(cell), [])
        places.append((cell.config.get("step"), interval(cell.arrays["growth"])[0]))
    return found


def _is_calm(growth):
    """Whether noise shrinks everywhere, and what masks change grows more from the same step of the same model."""
    noise = {(model, step): value for model, kinds in growth.items() for step, value in kinds.get(NOISE, [])}
    others = [
        value > noise.get((model, step), value)
        for model, kinds in growth.items()
        for kind, places in kinds.items()
        if kind != NOISE
        for step, value in places
    ]
    return bool(noise) and bool(others) and max(noise.values()) < 1 and all(others)


def _ratio(videos, one):
    """Distance at the end over the steps' errors added up, or None."""
    numbers = videos.fed_back(one)
    return numbers[1] / numbers[0] if numbers else None


def _table(pairs):
    names = ("output_rel_l2", "one_step_rel_l2", "added_up_rel_l2", "distance_rel_l2", "empty_rows_share")
    gains = {}  # (videos, configuration of rule logits): what it gains over the others
    for pair in pairs:
        words = f"{pair.second.rule} {text_of(pair.gain())}"
        gains.setdefault((pair.videos, pair.first), []).append(words)
    rows = []
    for videos, one in dict.fromkeys((pair.videos, one) for pair in pairs for one in (pair.first, pair.second)):
        metrics, washed = videos.get(one).metrics, videos.washed.get(one)
        *errors, empty = [metrics.get(name) for name in names]
        rows.append(
            (
                model_of(videos),
                f"{100 * one.dense_steps:g}%",
                one.rule,
                *errors,
                _ratio(videos, one),
                empty,
                text_of(interval(washed.arrays["contrast"])) if washed else "-",
                text_of(videos.summary(one, "psnr")),
                "; ".join(gains.get((videos, one), ["-"])),
            )
        )
    columns = [
        "model",
        "dense first steps",
        "rule",
        "heads' output error",
        "one step's error",
        "steps' errors added up",
    ]
    columns += ["distance at the end", "distance / added up", "empty rows", "contrast [95%]", "PSNR (dB) [95%]"]
    columns += ["PSNR of logits less that of (dB) [95%]"]
    places = "; ".join(dict.fromkeys(pair.videos.where() for pair in pairs))
    caption = f"At {100 * PAPER_SPARSITY:g}%. Errors and distances are relative L2, means. {places}."
    return Table("errors_in_videos", caption, columns, rows, carries=_is_paper)


def _is_paper(row):
    return row["dense first steps"] == f"{100 * PAPER_STEPS:g}%"


def _growth_table(growth):
    rows = [
        (
            model,
            _by(cell),
            cell.config.get("step"),
            cell.config.get("size"),
            text_of(interval(cell.arrays["growth"])),
            len(cell.arrays["growth"]),
        )
        for model, cell in sorted(growth, key=lambda pair: (pair[0], pair[1].config.get("step") or 0, _by(pair[1])))
    ]
    columns = ["model", "disturbed by", "before step", "size, of the state", "growth [95% over clips]", "clips"]
    caption = (
        "A dense run is disturbed once and goes on densely. Growth is the distance of the last states over the size of the"
        " disturbance: noise in a random direction, or what masks at 90% change of that one step, scaled to the size."
    )
    return Table("feedback_videos", caption, columns, rows, shown=0)


def _draw(sets, folder):
    """A dot a configuration: errors added up against the distance at the end; one colour a model. (stem, caption)."""
    figure, axes = style.panels(1, 1, 4.2)
    axis = axes[0][0]
    colours = (style.BLUE, style.RED, style.GREEN, style.ORANGE)
    shares = sorted({one.dense_steps for videos in sets for one in videos.choices()})[: len(MARKERS)]
    drawn = []
    for videos, colour in zip(sets, colours):
        for one in videos.choices():
            numbers = style.room(videos.fed_back(one) or (), style.SMALLEST_DRAWN)
            if one.dense_steps not in shares or len(numbers) < 2 or one.region != PAPER_REGION:
                continue
            marker = MARKERS[shares.index(one.dense_steps)]
            axis.plot(*numbers, linestyle="none", marker=marker, color=colour, markersize=5, alpha=0.8)
            drawn += numbers
    if not drawn:
        style.plt.close(figure)
        return None
    ends = [min(drawn), max(drawn)]
    axis.plot(ends, ends, color=style.BLACK, linestyle=":", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_yscale("log")
    for each in (axis.xaxis, axis.yaxis):
        style.plain_log(each)
    axis.set_xlabel("errors of all steps, added up without feedback (rel. L2)")
    axis.set_ylabel("distance from the dense clips (rel. L2)")
    handles = [axis.plot([], [], linestyle="none", marker="o", color=colour)[0] for _, colour in zip(sets, colours)]
    handles += [
        axis.plot([], [], linestyle="none", marker=marker, color=style.GREY)[0] for marker in MARKERS[: len(shares)]
    ]
    labels = [model_of(videos) for videos in sets[: len(colours)]] + [
        f"{100 * each:g}% of steps dense" for each in shares
    ]
    style.legend_strip(figure, handles, labels, 3)
    caption = (
        "What errors add up to at the dense clips' states, and how far the clips end from the dense ones. On the dotted line"
        " nothing feeds back."
    )
    return style.save(figure, folder, "errors_in_videos"), caption
