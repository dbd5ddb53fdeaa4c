"""Not in the paper: whether what the theorems and tables say holds for heads of every layer, step and kind."""

from statistics import mean, median

import numpy as np
import pandas as pd

from lab.shared.record_format import is_number

from .. import style
from ..bounds import median_of
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, PAPER_SPARSITY, Judged, table_of
from ..frame import HEAD, having, where, with_metrics
from ..quality import ORACLE, RANDOM, Quality, over_prompts, spearman

THIRDS = ("most concentrated third", "middle third", "most diffuse third")
OF_BOUNDS = ("delta_scaled", "tightness_3_3", "vacuity_3_5")
COLUMNS = {
    "heads": "group",
    "how many": "heads",
    "mass in the best blocks": "oracle",
    "delta scaled, median": "delta_scaled",
    "Theorem 3.3, left / right, median": "tightness_3_3",
    "eq. (10) / sqrt(2n), median": "vacuity_3_5",
    "recall, average": "average",
    "recall, max": "largest",
    "recall, random": "random",
    "output error, average": "average_error",
    "output error, max": "largest_error",
    "average better by both": "wins",
}
MOST_LAYERS = 16  # drawn
FEWEST = 12  # heads: below, groups by layer and step are single heads


def judge(records, paper, plots):
    quality = records.once(Quality)
    sparsity = quality.nearest_sparsity(PAPER_SPARSITY, quality.region, quality.draft("max"))
    facts = {"quality": quality, "sparsity": sparsity, "groups": 0}
    heads = None if sparsity is None else _heads(records, quality, sparsity)
    if heads is None or len(heads) < FEWEST:
        return Judged(NOT_TESTABLE, facts)
    groups = _groups(heads)
    found = [_row(name, group) for name, group in groups]
    table = table_of(
        "every_head",
        f"At {100 * sparsity:g}% sparsity, region {quality.region}, rule {quality.rule}; means but where it says median. Thirds"
        " are of the heads sorted by the mass in the best blocks, the oracle's recall.",
        pd.DataFrame(found, columns=list(COLUMNS.values()), dtype=object),
        COLUMNS,
        carries=lambda row: row["heads"] in ("all", *THIRDS),
    )
    holds = [row["average"] > row["largest"] and row["average_error"] < row["largest_error"] for row in found[1:]]
    facts |= {"groups": len(holds), "holds": sum(holds), "heads": len(heads), "prompts": heads["prompt"].nunique()}
    facts["wins"] = sum(heads["better"])
    facts["over"] = {
        name: over_prompts(heads.rename(columns={f"average{end}": "first", f"largest{end}": "second"}))
        for name, end in (("recall", ""), ("error", "_error"))
    }
    facts["by_spread"] = spearman(list(heads["oracle"]), list(heads["average"] - heads["largest"]))
    facts["against_oracle"] = median(heads["average"] / heads["oracle"])
    facts["least"] = min(heads["average"] / heads["oracle"])
    facts["failing"] = [name for (name, _), good in zip(groups[1:], holds) if not good]
    verdict = CONFIRMED if all(holds) else CAVEAT if any(holds) else CONTRADICTED
    picture = (
        _draw(heads, plots),
        "Left: the draft's recall against the oracle's, one dot a head; on the line it is as good as it can be. Right: the same"
        " ratio by layer and step, means over heads and prompts.",
    )
    return Judged(verdict, facts, [table], [picture])


def _heads(records, quality, sparsity):
    """A row a head that has all of recall by draft (both poolings), oracle and random, and the draft's output errors."""
    masks = {"average": quality.draft("avg"), "largest": quality.draft("max"), "oracle": ORACLE, "random": RANDOM}
    frames = {name: quality.at(variant, quality.region, sparsity) for name, variant in masks.items()}
    columns = {name: frame["attention_recall"] for name, frame in frames.items()}
    columns |= {f"{name}_error": frames[name]["output_rel_l2"] for name in ("average", "largest")}
    found = pd.concat(
        [frames["average"][[*HEAD, "prompt", "layer", "step"]], pd.DataFrame(columns)], axis=1, join="inner"
    )
    numbers = found[list(columns)]
    found = where(found, [all(map(is_number, row)) for row in numbers.itertuples(index=False)])
    found = found[found["oracle"] > 0]
    if found.empty:
        return None
    found = found.assign(
        **{name: found[name].astype(float) for name in columns},
        prompt=found["prompt"].fillna(""),
        better=(found["average"] > found["largest"]) & (found["average_error"] < found["largest_error"]),
    )
    bounds = having(with_metrics(records.judged("bounds"), *OF_BOUNDS), "sparsity")
    chosen = (bounds["policy"] == "draft") & (bounds["pool"] == "avg") & (bounds["rule"] == quality.rule)
    chosen &= (bounds["region"] == quality.region) & (bounds["sparsity"] == sparsity)
    bounds = bounds[chosen].drop_duplicates(HEAD, keep="last").set_index(HEAD)[list(OF_BOUNDS)]
    return found.join(bounds, on=HEAD)


def _groups(heads):
    """[(name, heads)]: all; by layer; by step; by thirds of concentration, each where there are at least two groups."""
    found = [("all", heads)]
    for key in ("layer", "step"):
        several = [(f"{key} {value:g}", group) for value, group in heads.dropna(subset=[key]).groupby(key)]
        found += several if len(several) > 1 else []
    order = heads.sort_values(["oracle", *HEAD], ascending=False, kind="stable")
    parts = np.array_split(np.arange(len(order)), len(THIRDS))
    return found + [(name, order.iloc[part]) for name, part in zip(THIRDS, parts)]


def _row(name, group):
    means = ("oracle", "average", "largest", "random", "average_error", "largest_error")
    return {
        "group": name,
        "heads": len(group),
        **{column: mean(group[column]) for column in means},
        **{column: median_of([None if pd.isna(value) else value for value in group[column]]) for column in OF_BOUNDS},
        "wins": f"{sum(group['better'])} of {len(group)}",
    }


def _draw(heads, folder):
    figure, axes = style.panels(1, 2, 3.6)
    left, right = axes[0]
    layers = style.thinned(sorted(heads["layer"].dropna().unique()), MOST_LAYERS)
    colours = style.shades(len(layers))
    for layer, colour in zip(layers, colours):
        group = heads[heads["layer"] == layer]
        left.scatter(group["oracle"], group["average"], color=colour, s=12, alpha=0.7, linewidths=0, rasterized=True)
    left.plot([0, 1], [0, 1], color=style.BLACK, linewidth=0.8, linestyle=":")
    left.set_xlim(0, 1)
    left.set_ylim(0, 1)
    left.set_xlabel("recall of the oracle's blocks")
    left.set_ylabel("recall of the draft's, average pooling")
    counts = heads.groupby("step").size()
    steps = sorted(counts[counts >= counts.max() / 2].index)  # other heads of a few more steps would bend the lines
    heads = heads[heads["step"].isin(steps)]
    for layer, colour in zip(layers, colours):
        group = heads[heads["layer"] == layer]
        ratios = (group["average"] / group["oracle"]).groupby(group["step"]).mean()
        right.plot(list(ratios.index), list(ratios), color=colour, marker="o", markersize=4, label=f"layer {layer:g}")
    if len(steps) <= 12:
        right.set_xticks(steps)
    right.set_ylim(0, 1.02)
    right.set_xlabel("denoising step")
    right.set_ylabel("draft's recall / oracle's")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return style.save(figure, folder, "every_head")
