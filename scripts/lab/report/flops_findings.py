"""Figure 1 and Table 1's PFLOPs column, from the flops experiment's records."""

from . import figures_flops
from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent, short
from .records import drawable, having

FIT_WITHIN = 0.1  # PFLOPs: the quadratic fit counts as exact

MODEL_WITHIN = 0.02  # relative: the linear model counts as the printed figure


def figure_1(records, paper, plots):
    title = "Figure 1: share of attention in the FLOPs"
    share, seconds = paper.value("figure_1_share") / 100, paper.value("figure_1_seconds")
    claim = (
        f"HunyuanVideo spends over {percent(share, 0)} of its computation on attention for 720p videos longer than"
        f" {seconds:g} s."
    )
    rule = (
        f"Rule: contradicted if a computed length of {seconds:g} s or more has a share of {percent(share, 0)} or less;"
        f" confirmed with a caveat if half that length is above it too, so that {seconds:g} s is not where it starts;"
        " else confirmed."
    )
    cells = sorted(
        having(
            (cell for cell in records.of("flops") if cell.config.get("part") == "duration"),
            ("attention_share", "pflops_total"),
            config=["seconds"],
            input=["tokens"],
        ),
        key=lambda cell: cell.config["seconds"],
    )
    long = [cell for cell in cells if cell.config["seconds"] >= seconds]
    if not long:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    above = [cell.config["seconds"] for cell in cells if cell.metrics["attention_share"] > share]
    holds = all(cell.metrics["attention_share"] > share for cell in long)
    verdict = CONTRADICTED if not holds else CAVEAT if above[0] <= seconds / 2 else CONFIRMED
    rows = [
        (cell.config["seconds"], cell.input["tokens"], cell.metrics["pflops_total"], cell.metrics["attention_share"])
        for cell in cells
    ]
    why = [
        (
            "The share is computed from the architecture (4 L^2 d an attention layer against the linear layers), not"
            " measured as time."
        ),
        "The abstract's 80% of the latency is another claim and needs a GPU and the model.",
    ]
    if above:
        why.insert(1, f"The shortest computed length above {percent(share, 0)} is {above[0]:g} s.")
    first = long[0]
    drawn = drawable(cell for cell in cells if cell.metrics["pflops_total"] > 0)
    return Finding(
        title,
        claim,
        verdict,
        rule,
        f"Computed at {first.config['seconds']:g} s: {percent(first.metrics['attention_share'])}.",
        why,
        [
            Table(
                "figure_1_flops",
                "HunyuanVideo 720p, 24 frames a second, 50 steps.",
                ("video length (s)", "tokens", "PFLOPs a video", "attention share"),
                rows,
            )
        ],
        [(figures_flops.draw_breakdown(drawn, plots), "FLOPs by part and video length.")] if drawn else [],
        f"{percent(first.metrics['attention_share'])} at {first.config['seconds']:g} s",
    )


def table_1_flops(records, paper, plots):
    title = "Table 1: the PFLOPs column"
    claim = "Printed PFLOPs fall from dense to sparse attention; the first 25% of the steps stay dense (section 4.1)."
    rule = (
        f"Rule: confirmed if the full count with the first 25% of the steps dense is within {percent(MODEL_WITHIN, 0)}"
        f" of every printed row; contradicted if it is not while base + A (1 - sparsity)^2 is within {FIT_WITHIN}"
        " PFLOPs of all; else confirmed with a caveat."
    )
    names = ("pflops_printed", "pflops_quadratic", "pflops_linear")
    cells = having(records.of("flops"), names, config=["sparsity"], input=["model", "resolution"])
    cells = [cell for cell in cells if cell.metrics["pflops_printed"] > 0]
    if not cells:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    cells.sort(
        key=lambda cell: (
            cell.input["model"],
            cell.input["resolution"],
            cell.config.get("method", ""),
            cell.config["sparsity"],
        )
    )
    fit = max(abs(cell.metrics["pflops_quadratic"] - cell.metrics["pflops_printed"]) for cell in cells)
    off = [cell.metrics["pflops_linear"] / cell.metrics["pflops_printed"] - 1 for cell in cells]
    worst = max(off, key=abs)
    verdict = CONFIRMED if abs(worst) <= MODEL_WITHIN else CONTRADICTED if fit <= FIT_WITHIN else CAVEAT
    names = (
        "pflops_printed",
        "pflops_quadratic",
        "pflops_reconstructed",
        "pflops_linear_as_printed",
        "pflops_linear",
        "pflops_linear_all_steps",
        "pflops_linear_released",
    )
    headers = (
        "printed",
        "quadratic fit",
        "reconstructed",
        "reconstructed, k for k^2",
        "linear, first 25% dense",
        "linear, none dense",
        "linear, released code's dense part",
    )
    rows = [
        (cell.input["model"], cell.input["resolution"], cell.config.get("method", ""), cell.config["sparsity"])
        + tuple(cell.shown(name) for name in names)
        for cell in cells
    ]
    tables = [
        Table(
            "table_1_flops",
            "PFLOPs a video; k = 1 - sparsity. quadratic fit: least squares of base + A k^2. reconstructed: the"
            " architecture counted as printed, the released code's dense part, the sparse part falling with k^2."
            " linear: the architecture counted in full, the sparse part falling with k.",
            ("model", "resolution", "method", "sparsity") + headers,
            rows,
            digits=5,
        )
    ]
    parts = [cell for cell in records.of("flops") if cell.config.get("part") == "breakdown"]
    parts = having(parts, input=["model", "resolution", "tokens"])
    if parts:
        names = (
            "pflops_attention",
            "pflops_projections",
            "pflops_mlp",
            "pflops_cross_attention",
            "pflops_other",
            "pflops_total",
            "pflops_printed",
            "attention_share",
        )
        rows = [
            (cell.input["model"], cell.input["resolution"], cell.input["tokens"], cell.config.get("counting", ""))
            + tuple(cell.shown(name) for name in names)
            for cell in parts
        ]
        tables.append(
            Table(
                "flops_parts",
                "One dense video. architecture: every matrix, the stated grid. printed: what reproduces Table 1 "
                "(for Wan2.1 one of the two MLP matrices, and 45 x 80 tokens a frame for 768p).",
                ("model", "resolution", "tokens", "counting") + names,
                rows,
                digits=5,
            )
        )
    why = [
        "Skipping a share of the blocks of QK^T and PV saves in proportion to the share.",
        (
            "The printed column falls with the square of the kept share: base + A (1 - sparsity)^2 meets every row"
            f" within {short(fit)} PFLOPs."
        ),
        f"The full count with the first 25% of the steps dense is off by up to {percent(worst)}.",
    ]
    same = [
        cell.metrics["pflops_linear_as_printed"] / cell.metrics["pflops_printed"] - 1
        for cell in cells
        if "pflops_linear_as_printed" in cell.metrics
    ]
    if same:
        why.append(
            "With everything counted as printed, and the kept share instead of its square, rows are up to"
            f" {percent(max(same))} higher."
        )
    rebuilt = [
        cell.metrics["pflops_reconstructed"] / cell.metrics["pflops_printed"] - 1
        for cell in cells
        if "pflops_reconstructed" in cell.metrics
    ]
    if rebuilt:
        why.append(f"The reconstruction meets every row within {percent(max(rebuilt, key=abs), 2)}.")
    wrong, drawn = _printed_mismatches(cells, paper), drawable(cells)
    if wrong:
        why.append(
            "Attention: these records' printed values are not those of data/paper/table1.csv: " + ", ".join(wrong) + "."
        )
    return Finding(
        title,
        claim,
        verdict,
        rule,
        f"{len(cells)} rows computed from the architectures.",
        why,
        tables,
        [figures_flops.draw_table_1(drawn, plots)] if drawn else [],
        f"full count off by up to {percent(worst)}; quadratic fit within {short(fit)} PFLOPs",
    )


def _printed_mismatches(cells, paper):
    printed = {}
    for row in paper.table("table1"):
        printed[(row["model"].split("-")[0], row["resolution"], row["method"], float(row["sparsity_percent"]))] = float(
            row["pflops"]
        )
    wrong = []
    for cell in cells:
        key = (
            cell.input["model"].split("-")[0],
            cell.input["resolution"],
            cell.config.get("method", "Ours"),
            round(100 * cell.config["sparsity"], 6),
        )
        if key in printed and abs(printed[key] - cell.metrics["pflops_printed"]) > 1e-9:
            wrong.append(f"{key[0]} {key[1]} {key[2]} {key[3]:g}%")
    return wrong
