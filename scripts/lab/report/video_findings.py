"""Tables 1, 4 and 5 and the dense first steps, judged by videos of the small video DiT."""

from . import figures_videos
from .comparison import printed_psnr
from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent
from .videos import DENSE, METRICS, PAPER_STEPS, Choice, draft, text_of

PAPER_SPARSITY = 0.9
HEADS = {
    "attention_recall": "attention recall",
    "output_rel_l2": "heads' output error (rel. L2)",
    "empty_rows_share": "empty rows",
}
SCALE = (
    "A model of 15 M parameters on procedural video: the numbers are its own, only their order says anything of the"
    " paper's models."
)


def judged(videos, first, second):
    """CONFIRMED if first is better by every metric with the whole interval, CONTRADICTED likewise, else CAVEAT."""
    signs = []
    for metric in videos.metrics():
        found, better = videos.difference(first, second, metric), -1 if metric == "lpips" else 1
        signs.append(0 if found is None else better if found[1] > 0 else -better if found[2] < 0 else 0)
    return CONFIRMED if min(signs) > 0 else CONTRADICTED if max(signs) < 0 else CAVEAT


RULE_PAIRED = (
    "Rule, by videos: the paired differences over clips (first - second) with their 95% bootstrap intervals; confirmed"
    " if every metric is better (PSNR and SSIM higher, LPIPS lower) with its whole interval; contradicted if every one is"
    " worse; else confirmed with a caveat."
)


def difference_words(videos, first, second, names):
    parts = []
    for metric in videos.metrics():
        found, digits = videos.difference(first, second, metric), 2 if metric == "psnr" else 4
        if found is None:
            continue
        wins = videos.wins(first, second, metric)
        count = len(videos.values(first, metric))
        parts.append(f"{METRICS[metric]} {text_of(found, digits)} (better in {wins} of {count} clips)")
    return f"{names[0]} minus {names[1]}: " + "; ".join(parts) + "."


def quality_table(videos, name, caption, choices):
    """One row a configuration: metrics with intervals, kept blocks and FLOPs, attention-level numbers."""
    metrics = videos.metrics()
    rows = []
    for choice in choices:
        cell = videos.get(choice)
        if cell is None:
            continue
        found = [videos.summary(choice, metric) for metric in metrics]
        texts = [text_of(each, 2 if metric == "psnr" else 4) for metric, each in zip(metrics, found)]
        found += [videos.over_heads(choice, metric) for metric in HEADS]
        texts += [text_of(each, 3) for each in found[len(metrics) :]]
        get = cell.shown
        label = choice.label if choice != DENSE else f"dense, {cell.config.get('kernel')}"
        rows.append(
            (label, choice.sparsity, get("kept_share"), get("flops_share"), *texts, steps_text(cell), get("clips"))
            + tuple(value for each in found for value in (each or (None, None, None)))
        )
    columns = ("blocks chosen by", "sparsity", "blocks kept, all steps", "FLOPs, of dense")
    columns += tuple(f"{words} [95%]" for words in (*(METRICS[metric] for metric in metrics), *HEADS.values()))
    columns += ("one step's error (rel. L2) [least, most]", "clips")
    shown = len(columns)
    columns += tuple(f"{metric} {part}" for metric in (*metrics, *HEADS) for part in ("mean", "low", "high"))
    return Table(
        name,
        f"{caption} Means and their 95% intervals, over clips; of recall, heads' error and empty rows over"
        f" the heads, at two steps of {videos.looked_at()}. One step's error: of the model's output, all the row's"
        f" masks in place, at the dense clips' states, over the sparse steps. {videos.where()}.",
        columns,
        rows,
        shown=40,
        columns_shown=shown,
    )


def steps_text(cell):
    """ "0.172 [0.150, 0.201]": mean, least and most error of a sparse step."""
    values = cell.arrays.get("one_step")
    return f"{sum(values) / len(values):.3f} [{min(values):.3f}, {max(values):.3f}]" if values else "-"


def table_1(videos, paper, plots):
    title = "Table 1, in videos of the small model"
    claim = (
        "At the same sparsity DraftAttention's videos are closer to the dense model's than Sparse VideoGen's; PSNR and"
        " SSIM fall as sparsity rises (HunyuanVideo 768p: 32.08, 29.19 and 24.22 dB at 60, 80 and 90%)."
    )
    rule = (
        "Rule: SVG is not measured here; blocks by chance take its place, which any method must beat. Confirmed with a"
        " caveat if the draft's PSNR is above that of random blocks at every sparsity, with the 95% interval of the"
        " paired difference above 0, and falls from each sparsity to the next; contradicted if random blocks are above"
        " it, with the interval, at some sparsity; else not decided, and a caveat."
    )
    sparsities = [each for each in videos.sparsities() if videos.get(draft(each))]
    both = [each for each in sparsities if videos.difference(draft(each), Choice("random", each), "psnr")]
    if not both:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    gains = {each: videos.difference(draft(each), Choice("random", each), "psnr") for each in both}
    lost = [each for each, found in gains.items() if found[2] < 0]
    won = [each for each, found in gains.items() if found[1] > 0]
    steps = [videos.difference(draft(low), draft(high), "psnr") for low, high in zip(sparsities, sparsities[1:])]
    falls = all(found and found[1] > 0 for found in steps)
    verdict = CONTRADICTED if lost else CAVEAT
    choices = [DENSE, *(draft(each) for each in sparsities)]
    for name in ("random", "oracle"):
        choices += [Choice(name, each) for each in videos.sparsities(name)]
    text = (
        f"{videos.where()}. PSNR of draft average pooling: "
        + "; ".join(f"{percent(each, 0)} {text_of(videos.summary(draft(each), 'psnr'))}" for each in sparsities)
        + f". Above random blocks, with its interval, at {len(won)} of {len(both)} sparsities, below at {len(lost)}; "
        + ("it falls from each sparsity to the next." if falls else "it does not fall everywhere as sparsity rises.")
    )
    why = [SCALE]
    if videos.rounding is not None:
        values = videos.rounding.arrays["psnr"]
        why.append(
            f"Rounding alone, dense attention by kernel {videos.rounding.config.get('kernel')} at every step instead of"
            f" PyTorch's, changes videos to {min(values):.1f} dB at worst: differences near that mean nothing."
        )
    if videos.reference is not None:
        why.append("The dense clips were made twice and are the same bits.")
    if videos.without_lpips():
        why.append(f"LPIPS: {videos.without_lpips()}.")
    top = text_of(videos.summary(draft(sparsities[-1]), "psnr"))
    headline = f"draft {top} dB at {percent(sparsities[-1], 0)}; above random at {len(won)} of {len(both)} sparsities"
    tables = [quality_table(videos, "table_1_videos", "Videos against the dense ones.", choices)]
    text += videos.left_out(*HEADS, "kept_share", "flops_share")
    pictures = [figures_videos.draw_quality(videos, plots)]
    return Finding(title, claim, verdict, rule, text, why, tables, pictures, headline)


def paired_section(videos, title, claim, pairs, names, table):
    """The finding on `pairs` of configurations (first, second), judged at the sparsity nearest the paper's; names: of
    first and second; table: the rows that go with it. Not measured without pairs."""
    if not pairs:
        return Finding(title, claim, NOT_TESTABLE, RULE_PAIRED, NOT_MEASURED)
    first, second = min(pairs, key=lambda pair: abs(pair[0].sparsity - PAPER_SPARSITY))
    text = f"At {percent(first.sparsity, 0)}, {videos.where()}. " + difference_words(videos, first, second, names)
    found = videos.difference(first, second, "psnr")
    headline = (
        f"{found[0]:+.2f} dB [{found[1]:+.2f}, {found[2]:+.2f}] against {names[1]} at {percent(first.sparsity, 0)}"
    )
    verdict = judged(videos, first, second)
    return Finding(title, claim, verdict, RULE_PAIRED, text, [SCALE], [table], headline=headline)


def pairs_of(videos, **changes):
    """[(the paper's draft, the same with these changes)] at every sparsity that has both."""
    both = [(draft(each), draft(each, **changes)) for each in videos.sparsities()]
    return [pair for pair in both if videos.difference(*pair, "psnr")]


def table_of(videos, name, caption, pairs, key, *free):
    """quality_table of the drafts at these pairs' sparsities that differ from the paper's in the `free` fields alone,
    ordered by sparsity and `key`."""
    wanted = {first.sparsity for first, _ in pairs}
    choices = [
        one
        for one in videos.choices()
        if one.sparsity in wanted and one == draft(one.sparsity, **{field: getattr(one, field) for field in free})
    ]
    return quality_table(videos, name, caption, sorted(choices, key=lambda one: (one.sparsity, key(one))))


def table_4(videos, paper, plots):
    pairs = pairs_of(videos, pool="max")
    found = paired_section(
        videos,
        "Table 4, in videos of the small model",
        f"Average pooling gives better videos than max pooling at 90%. Printed: {printed_psnr(paper, 'table4', 'pool')}.",
        pairs,
        ("average", "max"),
        table_of(videos, "table_4_videos", "Average and max pooling.", pairs, lambda one: one.pool, "pool"),
    )
    for _, most in pairs[-1:]:
        if videos.get(chance := Choice("random", most.sparsity)):
            words = difference_words(videos, most, chance, ("max", "random blocks"))
            found.why.append(f"Max pooling beside chance, at {percent(most.sparsity, 0)}: {words}")
    return found


def table_5(videos, paper, plots):
    pairs = pairs_of(videos, region="16x16")
    return paired_section(
        videos,
        "Table 5, in videos of the small model",
        f"8x16 gives better videos than 16x16 at 90%. Printed: {printed_psnr(paper, 'table5', 'region')}.",
        pairs,
        ("8x16", "16x16"),
        table_of(
            videos,
            "table_5_videos",
            "Region sizes, average pooling.",
            pairs,
            lambda one: [int(side) for side in one.region.split("x")],
            "region",
        ),
    )


def dense_steps(videos, plots):
    pairs = pairs_of(videos, dense_steps=0.0)
    return paired_section(
        videos,
        "Section 4.1: the first 25% of the steps stay dense",
        "Full attention in the first 25% of the denoising steps preserves the quality of the videos.",
        pairs,
        (f"{percent(PAPER_STEPS, 0)} of the steps dense", "none"),
        table_of(
            videos,
            "dense_steps_videos",
            "By the share of the steps, the first, that stay dense.",
            pairs,
            lambda one: one.dense_steps,
            "dense_steps",
        ),
    )
