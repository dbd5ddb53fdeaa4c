"""The attention-level quality of every mask, by head, choice of blocks, region and sparsity; and two choices compared."""

from collections import Counter
from statistics import mean

import pandas as pd
from scipy.stats import spearmanr, t

from lab.shared.record_format import is_number

from .finding import CAVEAT, CONFIRMED, CONTRADICTED, table_of
from .frame import CAPTURE, DUMP, HEAD, NOTHING, having, left_out, where, with_remainder, with_shown

EXPERIMENTS = ("bounds", "pooling", "regions")  # all carry the same quality metrics
METRICS = ("attention_recall", "output_rel_l2", "output_cosine", "empty_rows", "kept_blocks", "total_blocks")
CHOICE = ["policy", "pool", "rule", "region", "sparsity"]
PAPER_REGION = "8x16"
LEVEL = 0.95  # of intervals over prompts
PAPER_RULE = "softmax"  # section 3.1: top entries of A_draft
RULES = ("logits", "softmax", "released", "row")
ORACLE, RANDOM = ("oracle", "", ""), ("random", "", "")  # variants: (policy, pool, rule)
VARIANT_NAMES = {ORACLE: "oracle (true block mass)", RANDOM: "random blocks"}
POOL_NAMES = {"avg": "average pooling", "max": "max pooling"}


def variant_name(variant):
    policy, pool, rule = variant
    if policy == "draft":
        return f"draft, {POOL_NAMES.get(pool, pool)}, rule {rule}"
    return VARIANT_NAMES.get(variant, policy)


def region_order(regions):
    def area(region):
        height, width = region.split("x")
        return int(height) * int(width)

    return sorted(regions, key=lambda region: (area(region), region))


class Quality:
    """Metrics of one cell are averaged over the seeds of the random policy; nothing else is averaged. A metric is a number,
    "n/a" or None. A mask is ((policy, pool, rule), region, sparsity)."""

    def __init__(self, records):
        cells = having(with_shown(with_remainder(records.of(*EXPERIMENTS)), *METRICS), "sparsity")
        cells = cells[cells["region"] != ""]
        self.cells = where(cells, [is_number(value) for value in cells["attention_recall"]])
        self.heads = _one_a_mask(self.cells)
        self._at = self.heads.groupby(CHOICE, sort=False).indices
        self._frames = {}
        sparsities = self.heads["sparsity"]  # as the records have them: keys may be floats of whole ones
        self.masks = [(key[:3], key[3], sparsities.iat[places[0]]) for key, places in self._at.items()]
        heads = self.heads.drop_duplicates(HEAD)
        self.dumps = {key: len(found) for key, found in heads.groupby(DUMP)["head"]}  # heads of each
        self.captures = list(heads[CAPTURE].drop_duplicates().itertuples(index=False, name=None))
        drafts = self.heads[self.heads["policy"] == "draft"]
        self.region = _preferred(self.heads["region"], PAPER_REGION)
        self.rule = _preferred(drafts["rule"], PAPER_RULE)

    def __bool__(self):
        return bool(self.masks)

    def draft(self, pool="avg", rule=None):
        return ("draft", pool, rule or self.rule)

    def paper_variants(self):
        return [self.draft("avg"), self.draft("max"), ORACLE, RANDOM]

    def at(self, variant, region, sparsity):
        """The heads that one mask was measured on, by `place`."""
        key = (*variant, region, sparsity)
        if key not in self._frames:
            self._frames[key] = self.heads.iloc[self._at.get(key, [])].set_index("place")
        return self._frames[key]

    def has(self, variant, region=None):
        return any(mask[0] == variant and region in (None, mask[1]) for mask in self.masks)

    def sparsities(self, region=None, variant=None):
        return sorted({mask[2] for mask in self.masks if region in (None, mask[1]) and variant in (None, mask[0])})

    def regions(self, sparsity=None):
        return region_order({mask[1] for mask in self.masks if sparsity in (None, mask[2])})

    def rules(self, pool="avg"):
        found = {variant[2] for variant, _, _ in self.masks if variant[:2] == ("draft", pool)}
        return [rule for rule in RULES if rule in found]

    def nearest_sparsity(self, wanted, region=None, variant=None):
        """The measured sparsity nearest to the one that the paper uses; None if there is none."""
        found = self.sparsities(region, variant)
        return min(found, key=lambda sparsity: (abs(sparsity - wanted), sparsity)) if found else None

    def values(self, mask, metric, heads=None):
        """The metric of every head (of these, a set of places) that has it, in the order of the heads."""
        found = self.at(*mask)[metric]
        return [value for place, value in found.items() if is_number(value) and (heads is None or place in heads)]

    def over_heads(self, reduce, mask, metric, heads=None):
        """`reduce` of the values; of none "n/a" where they are all relative to nothing, else None."""
        if values := self.values(mask, metric, heads):
            return reduce(values)
        found = self.at(*mask)[metric]
        there = found if heads is None else found[found.index.isin(heads)]
        return NOTHING if (there == NOTHING).any() else None

    def summary(self, mask, heads=None):
        """{"heads", "recall", "error"}: how many heads have a recall, its mean and the output error's; None without one."""
        if not (recall := self.values(mask, "attention_recall", heads)):
            return None
        error = self.over_heads(mean, mask, "output_rel_l2", heads)
        return {"heads": len(recall), "recall": mean(recall), "error": error}

    def regions_and_heads(self, sparsity):
        """Regions of average pooling, and the heads measured at all of them: means over other heads do not compare."""
        masks = [(self.draft("avg"), region, sparsity) for region in self.regions(sparsity)]
        measured = {mask[1]: set(found.index) for mask in masks if len(found := self.at(*mask))}
        return list(measured), set.intersection(*measured.values()) if measured else set()

    def pairs(self, first, second, metric):
        """A row a head that has the metric as a number with both masks: dump, sha, prompt, first, second; by `place`."""
        return _both(self.at(*first)[[*DUMP, "prompt", metric]], self.at(*second)[metric])

    def pairs_of_metrics(self, mask, first, second):
        """The same of two metrics with one mask."""
        return _both(self.at(*mask)[[*DUMP, "prompt", first]], self.at(*mask)[second])

    def left_out(self, *metrics):
        """What is to be said of these metrics where they are relative to nothing, or ""."""
        return left_out(self.cells, *metrics)

    def where(self):
        """The dumps, for sentences."""
        return ", ".join(f"{name} ({count} heads)" for (name, _), count in self.dumps.items())


def _both(first, second):
    found = first.set_axis([*DUMP, "prompt", "first"], axis=1).join(second.rename("second"), how="inner")
    return where(found, [is_number(a) and is_number(b) for a, b in zip(found["first"], found["second"])])


def _one_a_mask(cells):
    """The newest row of each head and mask, with the heads' places in their order."""
    drafted, by_chance = cells["policy"] == "draft", cells["policy"] == "random"
    cells = cells.assign(
        pool=cells["pool"].where(drafted, ""),
        rule=cells["rule"].where(drafted, ""),
        seed=cells["seed"].where(by_chance, None),
    )
    cells = cells.sort_values(["time", "experiment"], kind="stable")
    cells = cells.drop_duplicates([*HEAD, *CHOICE, "seed"], keep="last")
    several = cells.duplicated([*HEAD, *CHOICE], keep=False)
    if several.any():
        means = [_average(group) for _, group in cells[several].groupby([*HEAD, *CHOICE], sort=False)]
        cells = pd.concat([cells[~several], pd.DataFrame(means, dtype=object)])
    cells = cells.sort_values(HEAD, kind="stable")
    return cells.assign(place=cells.groupby(HEAD, sort=False).ngroup())


def _average(group):
    """One row of those of one cell: what all of them have; a metric that is relative to nothing in one is left out there."""
    row = group.iloc[0].copy()
    for name in METRICS:
        values = [value for value in group[name] if is_number(value)]
        row[name] = None if group[name].isna().any() else mean(values) if values else NOTHING
    return row


def _preferred(values, wanted):
    counts = Counter(values)
    if not counts or wanted in counts:
        return wanted
    return max(sorted(counts), key=counts.get)


def over_prompts(pairs):
    """What first minus second is over the prompts of Quality.pairs, {"gain", "low", "high", "prompts"}: mean and 95%
    interval (Student's t) of the prompts' means, each over its dumps' means. Heads of one prompt are not independent; prompts are. None below two."""
    means = (pairs["first"] - pairs["second"]).groupby([pairs["sha"], pairs["prompt"].fillna("")]).mean()
    of_prompts = means.groupby(level="prompt").mean().astype(float)
    found = interval(of_prompts)
    return found and dict(zip(("gain", "low", "high"), found)) | {"prompts": len(of_prompts)}


def interval(values):
    """(mean, low, high): the mean of some numbers and its 95% interval (Student's t). None below two."""
    values = pd.Series(values, dtype=float)
    if len(values) < 2:
        return None
    middle, width = values.mean(), t.ppf(1 - (1 - LEVEL) / 2, len(values) - 1) * values.std() / len(values) ** 0.5
    return middle, middle - width, middle + width


def compare(recall, error):
    """How often and by how much the first mask is better than the second, of Quality.pairs of recalls and of output errors;
    None without any."""
    if recall.empty or error.empty:
        return None
    return {
        "heads": len(recall),
        "error_heads": len(error),  # fewer where the error of a head is relative to nothing
        "recall_wins": int((recall["first"] > recall["second"]).sum()),
        "error_wins": int((error["first"] < error["second"]).sum()),
        "recall_first": mean(recall["first"]),
        "recall_second": mean(recall["second"]),
        "error_first": mean(error["first"]),
        "error_second": mean(error["second"]),
        "recall_over": over_prompts(recall),
        "error_over": over_prompts(error),
    }


def compared(quality, first, second):
    """compare of two masks over all heads."""
    return compare(*(quality.pairs(first, second, metric) for metric in ("attention_recall", "output_rel_l2")))


def better(result):
    """The verdict on "the first is better than the second"."""
    recall_gain = result["recall_first"] - result["recall_second"]
    error_gain = result["error_second"] - result["error_first"]
    most = result["recall_wins"] > result["heads"] / 2 and result["error_wins"] > result["error_heads"] / 2
    over = [(result["recall_over"], 1), (result["error_over"], -1)]
    sure = all(each is None or sign * each["low"] > 0 < sign * each["high"] for each, sign in over)
    if recall_gain > 0 and error_gain > 0 and most and sure:
        return CONFIRMED
    return CONTRADICTED if recall_gain < 0 and error_gain < 0 else CAVEAT


COMPARED = {
    "dump": "dump",
    "sparsity": "sparsity",
    "heads": "heads",
    "mean recall, first": "recall_first",
    "mean recall, second": "recall_second",
    "heads where first has more recall": "recall_wins",
    "mean output error (rel. L2), first": "error_first",
    "mean output error, second": "error_second",
    "heads where first has less error": "error_wins",
}


def compare_table(name, caption, quality, pairs):
    """One row a dump and pair of masks."""
    found = []
    for place, (first, second) in enumerate(pairs):
        recall, error = (quality.pairs(first, second, metric) for metric in ("attention_recall", "output_rel_l2"))
        errors = dict(list(error.groupby(DUMP)))
        for dump, of_dump in recall.groupby(DUMP):
            if dump in errors:
                result = compare(of_dump, errors[dump])
                found.append((dump, place, {"dump": dump[0], "sparsity": first[2], **result}))
    found.sort(key=lambda row: row[:2])
    return table_of(
        name, caption, pd.DataFrame([row for _, _, row in found], columns=list(COMPARED.values())), COMPARED
    )


def spearman(first, second):
    """Rank correlation; None below three pairs or without spread."""
    if len(first) < 3 or min(len(set(first)), len(set(second))) < 2:
        return None
    return float(spearmanr(first, second)[0])


def printed_psnr(paper, name, key):
    first, second = paper.table(name)[:2]
    return f"{first[key]}: PSNR {first['psnr_db']} dB; {second[key]}: PSNR {second['psnr_db']} dB"
