"""Figure 4 and section 4.2's "over 2x", by projection from timed attention calls."""

from . import figures_latency, projection
from .finding import CAVEAT, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent
from .latency_table import latency_table
from .records import drawable, left_out
from .timings import PAPER_SHAPES, call_of, choose, commit, kernel, main_kernel, order, paper_masks, policy

TEXT_SPARSITY = 0.9
GPUS = ("H100", "A100")  # of the figure
PROJECTION = (
    "This is a projection, not the time of a video: the attention calls of one video at the measured time, the first"
    " 25% of the steps dense, and everything else in the model at the measured rate of a matrix product."
)


def projected_cells(records):
    """Sparse draft calls of the paper's shapes by this project's main kernel, in token order or through a gather."""
    cells = [
        cell
        for cell in paper_masks(records.of("latency"))
        if projection.speedup(cell) is not None and policy(cell) == "draft" and order(cell) in ("token", "gather")
    ]
    return choose(cells, kernel=main_kernel(cells)) if cells else []


def printed_labels(paper, shape):
    """{sparsity: {gpu: (speed-up as printed, certainty)}} of one of the paper's shapes."""
    labels = {}
    for row in paper.table("figure4"):
        if (row["model"], row["resolution"]) == PAPER_SHAPES.get(shape) and row["speedup_x"]:
            if float(row["sparsity_percent"]) > 0:
                found = labels.setdefault(float(row["sparsity_percent"]) / 100, {})
                found[row["gpu"]] = (row["speedup_x"], row["certainty"])
    return labels


def _lowest(cells, shape, sparsity):
    """The smallest projection of a shape in token order: of captured and random data, and of several GPUs."""
    found = [cell for cell in choose(cells, order="token", sparsity=sparsity) if cell.input.get("shape") == shape]
    return min(found, key=projection.speedup, default=None)


def compare(cells, paper):
    """[(shape, sparsity, gpu, printed, certainty, cell or None, reached)] for every printed label."""
    rows = []
    for shape in PAPER_SHAPES:
        for sparsity, gpus in sorted(printed_labels(paper, shape).items()):
            cell = _lowest(cells, shape, sparsity)
            for gpu, (text, certainty) in sorted(gpus.items(), reverse=True):
                reached = cell and projection.speedup(cell) >= float(text) - projection.tolerance(text)
                rows.append((shape, sparsity, gpu, text, certainty, cell, bool(reached)))
    return rows


def _verdict(rows):
    measured = [row for row in rows if row[5]]
    if not measured:
        return NOT_TESTABLE
    return CAVEAT if any(all(row[6] for row in measured if row[2] == gpu) for gpu in GPUS) else CONTRADICTED


def figure_4(records, paper, plots):
    best = max((row for row in paper.table("figure4") if row["speedup_x"]), key=lambda row: float(row["speedup_x"]))
    title = "Figure 4: end-to-end speedup"
    claim = (
        f"Up to {best['speedup_x']}x ({best['model']} {best['resolution']}, {best['gpu']}, {best['sparsity_percent']}%"
        " sparsity). Most labels of the figure had to be placed by inference: data/paper/figure4.csv."
    )
    rule = (
        "Rule, by projection: a printed label is reached if the projected speed-up in token order at the same model and"
        " sparsity, the lowest one where there are several, is at least the label less half a unit of its last digit."
        " Reproduced, which a projection makes no more than confirmed with a caveat, if every measured label of the"
        " H100 or every one of the A100 is reached; else contradicted."
    )
    cells = records.of("latency")
    if not cells:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    tables = [latency_table(cells)]
    pictures = figures_latency.pictures(drawable(cells), drawable(records.of("overhead")), plots)
    projected = projected_cells(records)
    rows = compare(projected, paper)
    measured = [row for row in rows if row[5]]
    count = f"{len(cells)} records of single attention calls."
    without_value = left_out(cells, ("projected_speedup", "rate_over_dense", "speedup_over_dense", "share_of_matmul"))
    if not measured:
        text = f"{count} None of them is of a model and sparsity of the figure, so that nothing is projected."
        text += without_value
        return Finding(title, claim, NOT_TESTABLE, rule, text, [], tables, pictures)
    tables.insert(0, figure_4_table(rows, projected))
    if all(row[5].drawable for row in measured):
        pictures.insert(0, figures_latency.figure_4(rows, drawable(projected), plots))
    reached = sum(row[6] for row in measured)
    absent = sorted({f"{' '.join(PAPER_SHAPES[row[0]])} at {percent(row[1], 0)}" for row in rows if not row[5]})
    devices = ", ".join(sorted({call_of(row[5]).gpu or "a GPU not named" for row in measured}))
    text = (
        f"{count} {PROJECTION} On {devices}, kernel {kernel(measured[0][5])} in token order, {reached} of"
        f" {len(measured)} printed labels are reached."
        + (f" Not measured: {'; '.join(absent)}." if absent else "")
        + without_value
    )
    top = max(measured, key=lambda row: projection.speedup(row[5]))
    headline = f"projected {projection.speedup(top[5]):.2f}x at {percent(top[1], 0)} ({devices}); "
    headline += f"{reached} of {len(measured)} labels reached"
    return Finding(title, claim, _verdict(rows), rule, text, _why(measured, devices, paper), tables, pictures, headline)


def _why(measured, devices, paper):
    why = [
        f"What differs: the paper's bars are videos on an H100 and an A100; these are projections on {devices}, whose"
        " ratio of attention to matrix product is its own.",
        "The rest of a real model runs below the rate of a matrix product, which makes real speed-ups smaller; a faster"
        " dense kernel does the same to a projection, because attention is then a smaller part of the dense video.",
    ]
    for shape in PAPER_SHAPES:
        cells = [row[5] for row in measured if row[0] == shape]
        limits = [limit for cell in cells if (limit := projection.limit(cell))]
        if limits:
            why.append(
                f"{' '.join(PAPER_SHAPES[shape])}: with sparse attention that takes no time the projection would be"
                f" {max(limits):.2f}x."
            )
    return why


def figure_4_table(rows, projected):
    found = []
    for shape, sparsity, gpu, text, certainty, cell, reached in rows:
        gather = None
        if cell:
            same = [
                other
                for other in choose(projected, order="gather", sparsity=sparsity)
                if call_of(other) == call_of(cell)
            ]
            gather = projection.speedup(same[0]) if same else None
        found.append(
            (
                " ".join(PAPER_SHAPES[shape]),
                sparsity,
                gpu,
                text,
                certainty,
                projection.speedup(cell) if cell else None,
                gather,
                ("yes" if reached else "no") if cell else "not measured",
                cell and cell.metrics.get("projected_dense_s"),
                cell and cell.metrics.get("projected_sparse_s"),
                cell and call_of(cell).source,
                cell and call_of(cell).gpu,
                cell and commit(cell),
            )
        )
    return Table(
        "figure_4",
        "Printed end-to-end speed-ups beside the projected ones. gather = tokens moved to region order and back.",
        (
            "model",
            "sparsity",
            "printed for",
            "printed (x)",
            "place of the label",
            "projected (x)",
            "projected with gather (x)",
            "reached",
            "dense video, projected (s)",
            "sparse video, projected (s)",
            "data",
            "projected on",
            "commit",
        ),
        found,
    )


def over_2x(records, paper):
    title = "Section 4.2: over 2x at 90% sparsity"
    wanted = paper.value("text_speedup_a100")
    claim = f"{paper.claims['text_speedup_a100']['claim']}. The abstract: up to {paper.value('abstract_speedup'):g}x."
    rule = (
        f"Rule, by projection: reproduced, which a projection makes no more than confirmed with a caveat, if a model of"
        f" the figure is above {wanted:g}x at {percent(TEXT_SPARSITY, 0)} in token order; else contradicted."
    )
    cells = projected_cells(records)
    lowest = {}
    for shape in PAPER_SHAPES:
        if printed_labels(paper, shape) and (cell := _lowest(cells, shape, TEXT_SPARSITY)):
            lowest[shape] = cell
    if not lowest:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    above = [projection.speedup(cell) > wanted for cell in lowest.values()]
    verdict = CAVEAT if any(above) else CONTRADICTED
    each = "; ".join(
        f"{' '.join(PAPER_SHAPES[shape])} {projection.speedup(cell):.2f}x on {call_of(cell).gpu}"
        f" ({call_of(cell).source}, commit {commit(cell)})"
        for shape, cell in lowest.items()
    )
    why = [
        f"The claim is about an A100. Figure 4 prints {wanted:.2f}x for HunyuanVideo, and its Wan2.1 labels end at 75%."
    ]
    for shape, cell in lowest.items():
        limit = projection.limit(cell)
        if limit and projection.speedup(cell) <= wanted:
            why.append(f"{' '.join(PAPER_SHAPES[shape])}: at most {limit:.2f}x with sparse attention in no time.")
    headline = "; ".join(
        f"projected {projection.speedup(cell):.2f}x {PAPER_SHAPES[shape][0]}" for shape, cell in lowest.items()
    )
    return Finding(title, claim, verdict, rule, f"{PROJECTION} {each}.", why, headline=headline)
