"""Figure 1: the share of attention in the FLOPs, computed from the architecture."""

from .. import style
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, table_of
from ..frame import drawable, having, rows, with_metrics

MOST_BARS = 16
PARTS = (  # metric, label, colour
    ("pflops_attention", r"attention ($QK^T$ and $PV$)", style.BLUE),
    ("pflops_projections", "Q, K, V, O projections", style.ORANGE),
    ("pflops_mlp", "MLP", style.GREEN),
    ("pflops_cross_attention", "cross-attention", style.PURPLE),
    ("pflops_other", "modulation, embeddings", style.GREY),
)
COLUMNS = {
    "video length (s)": "seconds",
    "tokens": "tokens",
    "PFLOPs a video": "pflops_total",
    "attention share": "attention_share",
}


def judge(records, paper, plots):
    share, seconds = paper.value("figure_1_share") / 100, paper.value("figure_1_seconds")
    cells = with_metrics(records.of("flops"), "attention_share", "pflops_total", *(name for name, *_ in PARTS))
    cells = having(cells[cells["part"] == "duration"], "attention_share", "pflops_total", "seconds", "tokens")
    cells = cells.sort_values("seconds", kind="stable")
    long = cells[cells["seconds"] >= seconds]
    facts = {"share": share, "seconds": seconds, "measured": len(long)}
    if long.empty:
        return Judged(NOT_TESTABLE, facts)
    above = list(cells["seconds"][cells["attention_share"] > share])
    holds = (long["attention_share"] > share).all()
    verdict = CONTRADICTED if not holds else CAVEAT if above[0] <= seconds / 2 else CONFIRMED
    facts |= {"first": next(rows(long)), "above": above}
    table = table_of("figure_1_flops", "HunyuanVideo 720p, 24 frames a second, 50 steps.", cells, COLUMNS)
    drawn = drawable(cells[cells["pflops_total"] > 0])
    pictures = [] if drawn.empty else [(_draw(list(rows(drawn)), plots), "FLOPs by part and video length.")]
    return Judged(verdict, facts, [table], pictures)


def _draw(cells, folder):
    """Shares by video length; the dashed line is the paper's 80%."""
    cells = style.thinned(cells, MOST_BARS)
    figure, axes = style.panels(1, 1, 3.7)
    axis = axes[0][0]
    x = range(len(cells))
    bottom = [0.0] * len(cells)
    for name, label, colour in PARTS:
        shares = [(getattr(cell, name) or 0) / cell.pflops_total for cell in cells]
        if max(shares) < 1e-3:
            continue
        axis.bar(x, shares, bottom=bottom, color=colour, width=0.72, label=label, hatch="")
        bottom = [low + share for low, share in zip(bottom, shares)]
    for position, cell in zip(x, cells):
        axis.annotate(
            f"{100 * cell.attention_share:.0f}%",
            (position, cell.attention_share / 2),
            horizontalalignment="center",
            color="#FFFFFF",
            fontsize=9,
        )
    axis.axhline(0.8, color=style.BLACK, linestyle="--", linewidth=1, label="the paper's 80%")
    axis.set_xticks(list(x), [f"{cell.seconds:g} s\n{cell.tokens / 1000:,.0f}k" for cell in cells])
    axis.set_xlabel("video length at 24 frames a second, and tokens of self-attention")
    axis.set_ylabel("share of FLOPs")
    axis.set_ylim(0, 1)
    style.percent_axis(axis.yaxis)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return style.save(figure, folder, "figure_1_flops")
