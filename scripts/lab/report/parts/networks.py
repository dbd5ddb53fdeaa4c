"""Not in the paper: networks that others trained, on one frame or on text. What of the video model's findings they share."""

import numpy as np
import pandas as pd

from lab.shared.record_format import is_number

from .. import style
from ..bounds import median_of
from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, PAPER_SPARSITY, Judged, table_of
from ..frame import HEAD, left_out, rows, where, with_metrics
from ..quality import PAPER_REGION, interval, region_order
from .policies import DRAFT, ENDS, variant_of

BOUNDED = ("check_3_3", "tightness_3_3", "check_3_5", "vacuity_3_5", "delta_scaled")
QUALITY = ("attention_recall", "output_rel_l2", "kept_blocks", "total_blocks")
MAX, ROW, POOLED = "draft, max pooling", "draft, rule row", "draft + remainder"
NETWORKS = {
    "network": "network",
    "heads": "heads",
    "region": "region",
    "bounds violated": "broken",
    "3.3, left / right": "tightness",
    "3.5 below its ceiling": "telling",
    "recall: draft": "draft",
    "oracle": "oracle",
    "random": "random",
    "draft's way from random to oracle, 95%": "way",
    "recall, average less max pooling, 95%": "pooling",
    "output error, rule row less softmax, 95%": "rule",
    "output error, remainder less none, 95%": "remainder",
}
STEPS = {"network": "network", "step": "step", "noise level": "level", "heads": "heads", "delta, median": "delta"}
STEPS |= {"recall: draft": "draft", "oracle": "oracle", "random": "random", "max pooling": "max"}
STEPS |= {"output error of the draft": "error", "with remainder": "pooled"}
REGIONS = {"network": "network", "region": "region", "tokens": "tokens", "recall: draft": "draft", "oracle": "oracle"}
REGIONS |= {"random": "random", "output error of the draft": "error"}


def judge(records, paper, plots):
    stills = _judged(records, True)
    if stills.empty or stills[stills["sparsity"] == PAPER_SPARSITY].empty:
        return Judged(NOT_TESTABLE, {"networks": []})
    video = _judged(records, False)
    video = video[(video["region"] == PAPER_REGION) & (video["dump"] != "")]
    found = [_network(model, cells) for model, cells in stills.groupby("model", sort=True)]
    if len(video):
        found += [_network(f"{model} (video)", cells) for model, cells in video.groupby("model", sort=True)]
    found = [one for one in found if one]
    own = [one for one in found if "(video)" not in one["network"]]
    if not own:  # no network has all that its row wants
        return Judged(NOT_TESTABLE, {"networks": []})
    cells = _cells(records, "policies")
    policies, language, regions = _policies(cells), _language(cells), _regions(_cells(records, "regions"))
    steps = [row for model, cells in stills.groupby("model", sort=True) for row in _steps(model, cells)]
    facts = {
        "networks": own,
        "video": [one for one in found if "(video)" in one["network"]],
        "sparsity": PAPER_SPARSITY,
        "broken": sum(map(_violates, stills["metrics"])),
        "masks": len(stills),
        "levels": _levels(steps),
        "leaders": _leaders(policies),
        "best_regions": _best_regions(regions),
        "left_out": left_out(stills, *BOUNDED),
    }
    tables = [
        table_of(
            "networks",
            f"At {100 * PAPER_SPARSITY:g}% sparsity, means over heads; intervals (Student's t) over heads, which share layers and"
            " inputs: they say how much heads differ. Regions are in tokens; of causal heads a sparsity counts blocks on"
            " and below the diagonal.",
            pd.DataFrame(found, dtype=object),
            NETWORKS,
        )
    ]
    if steps:
        caption = "The network's noise levels by step, from pure noise (0) downwards: means over the same heads."
        known = {title: name for title, name in STEPS.items() if any(row[name] is not None for row in steps)}
        tables.append(table_of("networks_steps", caption, pd.DataFrame(steps, dtype=object), known, shown=0))
    if len(policies):
        caption = (
            f"Policies at {100 * PAPER_SPARSITY:g}% sparsity, sorted by what their output error (relative L2) is more than the"
            " draft's: means over heads, 95% intervals over heads. Policies that are not for causal heads have none there."
        )
        tables.append(table_of("networks_policies", caption, policies, {each: each for each in policies}, shown=0))
    if len(language):
        caption = "Causal networks at several sparsities, of blocks on and below the diagonal: means over heads."
        tables.append(table_of("networks_language", caption, language, {each: each for each in language}, shown=0))
    if len(regions):
        caption = (
            f"Region sizes at {100 * PAPER_SPARSITY:g}% sparsity, average pooling, rule softmax: means over heads."
        )
        tables.append(table_of("networks_regions", caption, regions, REGIONS, shown=0))
    sure = all(one["pooling_low"] > 0 and one["way_low"] > 0 for one in own)
    verdict = CONTRADICTED if facts["broken"] else CONFIRMED if sure else CAVEAT
    return Judged(verdict, facts, tables, [(_draw(found, plots), "The draft between random blocks and the oracle.")])


def _judged(records, stills):
    """Records of bounds with and without a remainder, a row a head and mask, `variant` as in the table of policies."""
    cells = [records.judged("bounds", remainder, stills=stills) for remainder in ("", "pooled")]
    cells = with_metrics(pd.concat(cells), *BOUNDED, *QUALITY)
    cells = where(cells, [is_number(value) for value in cells["attention_recall"]])
    cells = cells.assign(variant=[variant_of(cell) for cell in rows(cells)])
    return cells.sort_values("time", kind="stable").drop_duplicates(
        [*HEAD, "variant", "region", "sparsity"], keep="last"
    )


def _by_variant(cells, metric):
    """{variant: its numbers by head}."""
    return {name: group.set_index(HEAD)[metric].astype(float) for name, group in cells.groupby("variant")}


def _said(found, digits=3):
    return None if found is None else f"{found[0]:.{digits}g} ({found[1]:.{digits}g} to {found[2]:.{digits}g})"


def _network(model, cells):
    """The row of one network; None where it lacks the draft, an end of the scale, or a second head."""
    at = cells[cells["sparsity"] == PAPER_SPARSITY]
    recall, error = _by_variant(at, "attention_recall"), _by_variant(at, "output_rel_l2")
    if any(name not in recall for name in (DRAFT, MAX, *ENDS)):
        return None
    draft, oracle, random = (recall[name] for name in (DRAFT, *ENDS))
    way, pooling = interval(((draft - random) / (oracle - random)).dropna()), interval((draft - recall[MAX]).dropna())
    if way is None or pooling is None:
        return None
    bounded = cells[(cells["variant"] == DRAFT) & cells["vacuity_3_5"].notna()]
    others = {name: (error[name] - error[DRAFT]).dropna() for name in (ROW, POOLED) if name in error}
    return {
        "network": model,
        "heads": len(draft),
        "region": at["region"].iloc[0],
        "broken": sum(map(_violates, cells["metrics"])),
        "tightness": median_of(cells[cells["variant"] == DRAFT]["tightness_3_3"]),
        "telling": f"{sum(bounded['vacuity_3_5'] < 1)} of {len(bounded)}",
        "draft": draft.mean(),
        "oracle": oracle.mean(),
        "random": random.mean(),
        "way": _said(way),
        "way_mean": way[0],
        "way_low": way[1],
        "way_high": way[2],
        "pooling": _said(pooling),
        "pooling_low": pooling[1],
        "pooling_mean": pooling[0],
        "pooling_wins": int(((draft - recall[MAX]) > 0).sum()),
        "rule": _said(interval(others[ROW])) if ROW in others else None,
        "remainder": _said(interval(others[POOLED])) if POOLED in others else None,
        "remainder_wins": int((others[POOLED] < 0).sum()) if POOLED in others else None,
        "error": error[DRAFT].mean(),
        "error_paired": error[DRAFT].reindex(others[POOLED].index).mean() if POOLED in others else None,
        "remainder_heads": len(others[POOLED]) if POOLED in others else 0,
        "error_random": error["random"].mean(),
        "error_pooled": error[POOLED].mean() if POOLED in error else None,
    }


def _violates(metrics):
    return any(value == 0 for name, value in metrics.items() if name.startswith("check_"))


def _steps(model, cells):
    """A row a noise level, of a network that has several."""
    at = cells[cells["sparsity"] == PAPER_SPARSITY]
    if at["step"].nunique() < 2:
        return []
    found = []
    for step, own in at.groupby("step"):
        recall, error = _by_variant(own, "attention_recall"), _by_variant(own, "output_rel_l2")
        if any(name not in recall for name in (DRAFT, MAX, *ENDS)):
            continue
        means = {
            name: recall[key].mean() for name, key in zip(("draft", "oracle", "random", "max"), (DRAFT, *ENDS, MAX))
        }
        levels = own["timestep"].dropna()  # records of earlier builds have none
        level = levels.iloc[0] if len(levels) else None
        found.append({"network": model, "step": step, "level": level, "heads": len(recall[DRAFT]), **means})
        found[-1]["delta"] = median_of(own[own["variant"] == DRAFT]["delta_scaled"])
        found[-1] |= {"error": error[DRAFT].mean(), "pooled": error[POOLED].mean() if POOLED in error else None}
    return found


def _levels(steps):
    """By network, what its noise levels have from pure noise downwards; levels that records do not tell are steps."""
    found = []
    for network in sorted({row["network"] for row in steps}):
        own = [row for row in steps if row["network"] == network]
        one = {key: [row[key] for row in own] for key in ("step", "level", "draft", "oracle", "error", "pooled")}
        one["falls"] = all(after["oracle"] < before["oracle"] for before, after in zip(own, own[1:]))
        if len(own) > 1:
            found.append({"network": network, **one})
    return found


def _cells(records, experiment):
    """Records of the networks with a recall, `variant` as in the table of policies; the newest of a head and mask."""
    cells = with_metrics(records.of(experiment, stills=True), *QUALITY)
    cells = where(cells, [is_number(value) for value in cells["attention_recall"]])
    cells = cells.assign(variant=[variant_of(cell) for cell in rows(cells)])
    return cells.sort_values("time", kind="stable").drop_duplicates(
        [*HEAD, "variant", "region", "sparsity"], keep="last"
    )


def _policies(cells):
    """A row a policy; of each network its recall, output error, and what that is more than the draft's."""
    cells = cells[cells["sparsity"] == PAPER_SPARSITY]
    found = {}
    for model, own in cells.groupby("model", sort=True):
        recall, error = _by_variant(own, "attention_recall"), _by_variant(own, "output_rel_l2")
        for name in recall:
            gain = (error[name] - error[DRAFT]).dropna() if DRAFT in error else []
            row = found.setdefault(name, {"policy": name})
            row |= {f"recall, {model}": float(recall[name].mean()), f"error, {model}": float(error[name].mean())}
            row[f"error less the draft's, {model}"] = None if name == DRAFT else _said(interval(gain), 2)
            row.setdefault("gains", []).append(error[name].mean() - error[DRAFT].mean() if DRAFT in error else 0.0)
    board = sorted(found.values(), key=lambda row: (-len(row["gains"]), sum(row.pop("gains"))))
    return pd.DataFrame(board, dtype=object)


def _language(cells):
    """The policies of causal networks by sparsity: a row a network and policy, in the order of their last error."""
    cells = where(cells, [bool(source.get("causal")) for source in cells["input"]])
    cells = cells[cells["sparsity"].notna()]
    found = []
    for (model, name), own in cells.groupby(["model", "variant"]):
        row = {"network": model, "policy": name}
        for sparsity, at in own.groupby("sparsity"):
            row[f"recall, {100 * sparsity:g}%"] = at["attention_recall"].astype(float).mean()
            row[f"error, {100 * sparsity:g}%"] = at["output_rel_l2"].astype(float).mean()
            kept = at["kept_blocks"].astype(float) / at["total_blocks"].astype(float)
            row[f"blocks kept, {100 * sparsity:g}%"] = kept.mean()
        found.append(row)
    frame = pd.DataFrame(found, dtype=object)
    last = [name for name in frame.columns if name.startswith("error")][-1:]
    return frame.sort_values(["network", *last], kind="stable") if last else frame


def _leaders(policies):
    """{network: its policies with less error than the draft, ends and remainders apart}, best first."""
    found = {}
    for column in policies.columns:
        if not column.startswith("error, "):
            continue
        errors = dict(zip(policies["policy"], policies[column]))
        if not is_number(errors.get(DRAFT)):
            continue
        names = [name for name, error in errors.items() if is_number(error) and error < errors[DRAFT]]
        names = [name for name in names if not name.startswith(ENDS) and "remainder" not in name]
        found[column.removeprefix("error, ")] = sorted(names, key=lambda name: (errors[name], name))
    return found


def _regions(cells):
    cells = cells[cells["sparsity"] == PAPER_SPARSITY]
    found = []
    for model, of_model in cells.groupby("model", sort=True):
        for region in region_order(set(of_model["region"])):
            own = of_model[of_model["region"] == region]
            recall, error = _by_variant(own, "attention_recall"), _by_variant(own, "output_rel_l2")
            if any(name not in recall for name in (DRAFT, *ENDS)):
                continue
            means = {name: recall[name].mean() for name in (DRAFT, *ENDS)}
            height, width = map(int, region.split("x"))
            found.append({"network": model, "region": region, "tokens": height * width, **means})
            found[-1]["error"] = error[DRAFT].mean()
    return pd.DataFrame(found, columns=list(REGIONS.values()), dtype=object)


def _best_regions(regions):
    """{network: the region with the draft's least error}."""
    return {
        model: min(rows(own), key=lambda row: row.error).region for model, own in regions.groupby("network", sort=True)
    }


def _draw(found, plots):
    """Recall of the draft, max pooling left out, between both ends, a row a network."""
    figure, axes = style.panels(1, 1, 0.6 + 0.45 * len(found))
    axis = axes[0][0]
    for place, one in enumerate(reversed(found)):
        axis.hlines(place, one["random"], one["oracle"], color=style.GREY, linewidth=1.2)
        for name, key in zip(("random", "avg", "oracle"), ("random", "draft", "oracle")):
            colour, _, marker = style.VARIANT_STYLES[name]
            label = {"avg": "draft"}.get(name, name) if place == 0 else None
            axis.scatter(one[key], place, color=colour, marker=marker, s=34, label=label, zorder=3)
    axis.set_yticks(np.arange(len(found)), [one["network"] for one in reversed(found)])
    axis.set_ylim(-0.6, len(found) - 0.4)
    axis.set_xlim(0, 1)
    axis.set_xlabel(f"attention recall at {100 * PAPER_SPARSITY:g}% sparsity, mean over heads")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return style.save(figure, plots, "networks")
