"""Table 1's PFLOPs column, against the architecture and a quadratic fit."""

import numpy as np

from .. import style
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, table_of
from ..frame import drawable, having, rows, with_metrics, with_shown

FIT_WITHIN = 0.1  # PFLOPs: the quadratic fit counts as exact
MODEL_WITHIN = 0.02  # relative: the linear model counts as the printed figure
MOST_MODELS = 4
COLUMNS = {
    **{name: name for name in ("model", "resolution", "method", "sparsity")},
    "printed": "pflops_printed",
    "quadratic fit": "pflops_quadratic",
    "reconstructed": "pflops_reconstructed",
    "reconstructed, k for k^2": "pflops_linear_as_printed",
    "linear, first 25% dense": "pflops_linear",
    "linear, none dense": "pflops_linear_all_steps",
    "linear, released code's dense part": "pflops_linear_released",
}
PARTS = ["pflops_attention", "pflops_projections", "pflops_mlp", "pflops_cross_attention", "pflops_other"]
PARTS += ["pflops_total", "pflops_printed", "attention_share"]
LINES = (  # metric, label, colour, line, marker
    ("pflops_printed", "printed in Table 1", style.BLACK, "", "o"),
    ("pflops_quadratic", r"fit: base + $A\,(1 - \mathrm{sparsity})^2$", style.RED, ":", ""),
    ("pflops_reconstructed", "from the architecture, counted as printed", style.PURPLE, "--", ""),
    ("pflops_linear_as_printed", "the same, saving in proportion to sparsity", style.SKY, "-", ""),
    ("pflops_linear", "counted in full, in proportion, first 25% of steps dense", style.BLUE, "-", ""),
)
QUADRATIC = ("pflops_quadratic", "pflops_reconstructed")  # straight lines over (1 - sparsity)^2


def judge(records, paper, plots):
    flops = records.of("flops")
    names = [name for name in COLUMNS.values() if name.startswith("pflops_")]
    cells = having(with_metrics(flops, *names), *names[:2], "pflops_linear", "sparsity", "model", "resolution")
    cells = cells[cells["pflops_printed"] > 0]
    facts = {"rows": len(cells)}
    if cells.empty:
        return Judged(NOT_TESTABLE, facts)
    cells = cells.assign(label=cells["method"].fillna("")).sort_values(
        ["model", "resolution", "label", "sparsity"], kind="stable"
    )
    facts["fit"] = max(abs(fit - printed) for fit, printed in zip(cells["pflops_quadratic"], cells["pflops_printed"]))
    facts["worst"] = max(_off(cells, "pflops_linear"), key=abs)
    facts["same"] = max(_off(cells, "pflops_linear_as_printed"), default=None)
    facts["rebuilt"] = max(_off(cells, "pflops_reconstructed"), key=abs, default=None)
    facts["wrong"] = _printed_mismatches(cells, paper)
    exact = abs(facts["worst"]) <= MODEL_WITHIN
    verdict = CONFIRMED if exact else CONTRADICTED if facts["fit"] <= FIT_WITHIN else CAVEAT
    table = table_of(
        "table_1_flops",
        "PFLOPs a video; k = 1 - sparsity. quadratic fit: least squares of base + A k^2. reconstructed: the"
        " architecture counted as printed, the released code's dense part, the sparse part falling with k^2."
        " linear: the architecture counted in full, the sparse part falling with k.",
        with_shown(cells, *names).assign(method=cells["label"]),
        COLUMNS,
        digits=5,
        shown=12,
        carries=lambda row: row["method"] != "SVG",  # printed once more with the same numbers
    )
    drawn = drawable(cells)
    pictures = [] if drawn.empty else [_draw(drawn, plots)]
    return Judged(verdict, facts, [table, *_parts_table(flops)], pictures)


def _off(cells, name):
    """How far this count is above the printed one, of the rows that have it."""
    pairs = zip(cells[name], cells["pflops_printed"])
    return [value / printed - 1 for value, printed in pairs if value is not None]


def _parts_table(flops):
    parts = having(flops[flops["part"] == "breakdown"], "model", "resolution", "tokens")
    if parts.empty:
        return []
    columns = {name: name for name in ("model", "resolution", "tokens", "counting", *PARTS)}
    caption = (
        "One dense video. architecture: every matrix, the stated grid. printed: what reproduces Table 1 (for Wan2.1 one"
        " of the two MLP matrices, and 45 x 80 tokens a frame for 768p)."
    )
    parts = with_shown(parts, *PARTS).assign(counting=parts["counting"].fillna(""))
    return [table_of("flops_parts", caption, parts, columns, digits=5, shown=0)]


def _printed_mismatches(cells, paper):
    printed = {
        (row["model"].split("-")[0], row["resolution"], row["method"], float(row["sparsity_percent"])): float(
            row["pflops"]
        )
        for row in paper.table("table1")
    }
    found = []
    for cell in rows(cells):
        method = "Ours" if cell.method is None else cell.method
        key = (cell.model.split("-")[0], cell.resolution, method, round(100 * cell.sparsity, 6))
        if key in printed and abs(printed[key] - cell.pflops_printed) > 1e-9:
            found.append(f"{key[0]} {key[1]} {key[2]} {key[3]:g}%")
    return found


def _between(points, power):
    """Joins points by a curve that is straight over (1 - sparsity) ** power."""
    known = sorted(((1 - sparsity) ** power, value) for sparsity, value in points)
    x = np.linspace(min(points)[0], max(points)[0], 100)
    return x, np.interp((1 - x) ** power, *zip(*known))


def _draw(cells, folder):
    """Printed PFLOPs against the quadratic fit and the linear models, one panel a model and resolution. (stem, caption)."""
    models = list(cells.groupby(["model", "resolution"]))
    caption = "Printed PFLOPs, the quadratic and the linear model." + style.left_out(len(models), MOST_MODELS, "models")
    models = models[:MOST_MODELS]
    figure, axes = style.panels(1, len(models), 3.9)
    for axis, ((model, resolution), members) in zip(axes[0], models):
        members = members.drop_duplicates("sparsity", keep="last").sort_values("sparsity")
        for name, label, colour, line, marker in LINES:
            known = having(members, name)
            points = list(zip(known["sparsity"], known[name]))
            if points and not line:
                axis.plot(*zip(*points), color=colour, linestyle="none", marker=marker, label=label, zorder=3)
            elif points:
                axis.plot(*_between(points, 2 if name in QUADRATIC else 1), color=colour, linestyle=line, label=label)
        axis.set_title(f"{model}\n{resolution}", loc="left", fontsize=9)
        axis.set_ylim(bottom=0)
        style.percent_axis(axis.xaxis, style.spaced(members["sparsity"], 0.15))
        axis.set_xlabel("sparsity")
    axes[0][0].set_ylabel("PFLOPs a video")
    style.legend_strip(figure, *axes[0][0].get_legend_handles_labels(), 2)
    return style.save(figure, folder, "table_1_flops"), caption
