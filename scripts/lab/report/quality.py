"""The attention-level quality of every mask, indexed by head, choice of blocks, region and sparsity."""

from collections import Counter, defaultdict
from statistics import mean

from lab.shared.record_format import is_number

from .records import NOTHING, left_out

EXPERIMENTS = ("bounds", "pooling", "regions")  # all carry the same quality metrics
PAPER_REGION = "8x16"
PAPER_RULE = "softmax"  # section 3.1: top entries of A_draft

VARIANT_NAMES = {("oracle",): "oracle (true block mass)", ("random",): "random blocks"}
POOL_NAMES = {"avg": "average pooling", "max": "max pooling"}


def variant_name(variant):
    if variant in VARIANT_NAMES:
        return VARIANT_NAMES[variant]
    if variant[0] == "draft":
        return f"draft, {POOL_NAMES.get(variant[1], variant[1])}, rule {variant[2]}"
    return variant[0]


def region_area(region):
    height, width = region.split("x")
    return int(height) * int(width)


def region_order(regions):
    return sorted(regions, key=lambda region: (region_area(region), region))


class Quality:
    """Metrics of one cell are averaged over the seeds of the random policy; nothing else is averaged."""

    def __init__(self, records):
        self.cells = [
            cell
            for cell in records.of(*EXPERIMENTS)
            if "attention_recall" in cell.metrics and cell.region and cell.sparsity is not None
        ]
        newest = {}
        for cell in sorted(self.cells, key=lambda cell: (cell.time, cell.experiment)):
            key = (cell.head_key, cell.variant, cell.region, cell.sparsity)
            newest[key + (cell.config.get("seed") if cell.policy == "random" else None,)] = cell
        collected = defaultdict(list)
        for key, cell in newest.items():
            collected[key[:4]].append(cell)
        self.heads = sorted({key[0] for key in collected})
        self.captures = sorted({head[:3] for head in self.heads})
        self.dumps = sorted({head[:2] for head in self.heads})
        self._index = defaultdict(dict)  # {(variant, region, sparsity): {head: metrics}}, heads in their order
        for key in sorted(collected, key=lambda key: key[0]):
            self._index[key[1:]][key[0]] = _average(collected[key])
        self._of_dump = {}
        self.region = self._preferred((key[2] for key in collected), PAPER_REGION)
        self.rule = self._preferred((key[1][2] for key in collected if key[1][0] == "draft"), PAPER_RULE)
        self.heads_of = Counter(head[:2] for head in self.heads)
        self._regions_at = defaultdict(set)
        for _, region, sparsity in self._index:
            self._regions_at[sparsity].add(region)

    @staticmethod
    def _preferred(values, wanted):
        counts = Counter(values)
        if not counts or wanted in counts:
            return wanted
        return max(sorted(counts), key=counts.get)

    def __bool__(self):
        return bool(self._index)

    def draft(self, pool="avg", rule=None):
        return ("draft", pool, rule or self.rule)

    def _of(self, variant, region, sparsity):
        return self._index.get((variant, region, sparsity), {})

    def get(self, head, variant, region, sparsity, metric):
        return self._of(variant, region, sparsity).get(head, {}).get(metric)

    def has(self, variant, region=None):
        return any(key[0] == variant and region in (None, key[1]) for key in self._index)

    def measured_at(self):
        """Every (variant, region) that was measured."""
        return {key[:2] for key in self._index}

    def sparsities(self, region=None, variant=None):
        return sorted({key[2] for key in self._index if region in (None, key[1]) and variant in (None, key[0])})

    def regions(self, sparsity=None):
        found = self._regions_at.values() if sparsity is None else [self._regions_at.get(sparsity, ())]
        return region_order(set().union(*found))

    def rules(self, pool="avg"):
        found = {key[0][2] for key in self._index if key[0][:2] == ("draft", pool)}
        return [rule for rule in ("logits", "softmax", "released", "row") if rule in found]

    def nearest_sparsity(self, wanted, region=None, variant=None):
        """The measured sparsity nearest to the one that the paper uses; None if there is none."""
        found = self.sparsities(region, variant)
        return min(found, key=lambda sparsity: (abs(sparsity - wanted), sparsity)) if found else None

    def values(self, variant, region, sparsity, metric, heads=None):
        """The metric of every head (of these, a set) that has it, in the order of the heads."""
        found = self._of(variant, region, sparsity)
        chosen = found.values() if heads is None else (metrics for head, metrics in found.items() if head in heads)
        return [metrics[metric] for metrics in chosen if is_number(metrics.get(metric))]

    def both(self, variant, region, sparsity):
        """(recalls, output errors) of the heads that have both."""
        found = [
            (metrics["attention_recall"], metrics["output_rel_l2"])
            for metrics in self._of(variant, region, sparsity).values()
            if is_number(metrics.get("output_rel_l2"))
        ]
        return [recall for recall, _ in found], [error for _, error in found]

    def over_heads(self, reduce, variant, region, sparsity, metric, heads=None):
        """`reduce` of the values; of none "n/a" where they are all relative to nothing, else None."""
        values = self.values(variant, region, sparsity, metric, heads)
        if values:
            return reduce(values)
        found = self._of(variant, region, sparsity).items()
        nothing = any(metrics.get(metric) == NOTHING for head, metrics in found if heads is None or head in heads)
        return NOTHING if nothing else None

    def regions_and_heads(self, sparsity):
        """Regions of average pooling, and the heads measured at all of them: means over other heads do not compare."""
        variant = self.draft("avg")
        regions = region_order(
            region for region in self._regions_at.get(sparsity, ()) if (variant, region, sparsity) in self._index
        )
        measured = [set(self._of(variant, region, sparsity)) for region in regions]
        return regions, set.intersection(*measured) if measured else set()

    def pairs(self, first, second, metric, dump=None):
        """[(head, value, value)] where both (variant, region, sparsity) were measured on the head (of the dump)."""
        others, rows = self._of(*second), []
        for head, metrics in self._of_that_dump(first, dump):
            a, b = metrics.get(metric), others.get(head, {}).get(metric)
            if is_number(a) and is_number(b):
                rows.append((head, a, b))
        return rows

    def _of_that_dump(self, cell, dump):
        """[(head, metrics)] of one (variant, region, sparsity), of one dump or (None) of all."""
        if dump is None:
            return self._of(*cell).items()
        return self._by_dump(cell).get(dump, ())

    def _by_dump(self, cell):
        if cell not in self._of_dump:
            found = defaultdict(list)
            for head, metrics in self._of(*cell).items():
                found[head[:2]].append((head, metrics))
            self._of_dump[cell] = dict(found)
        return self._of_dump[cell]

    def dumps_with(self, cell):
        """The dumps that one (variant, region, sparsity) was measured on."""
        return sorted(self._by_dump(cell))

    def left_out(self, *metrics):
        """What is to be said of these metrics where they are relative to nothing, or ""."""
        return left_out(self.cells, metrics)


def _average(group):
    """Of the records of one cell: what all of them have; a metric that is relative to nothing in one is left out there."""
    if len(group) == 1:
        return {**dict.fromkeys(group[0].not_applicable, NOTHING), **group[0].metrics}
    names = set.intersection(*(set(cell.metrics) | cell.not_applicable for cell in group))
    found = {name: [cell.metrics[name] for cell in group if name in cell.metrics] for name in sorted(names)}
    return {name: mean(values) if values else NOTHING for name, values in found.items()}


def spearman(first, second):
    """Rank correlation; None below three pairs or without spread."""
    if len(first) < 3:
        return None
    a, b = _ranks(first), _ranks(second)
    mean_a, mean_b = mean(a), mean(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b))
    spread = (sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)) ** 0.5
    return covariance / spread if spread > 0 else None


def _ranks(values):
    order = sorted(range(len(values)), key=lambda index: values[index])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for position in range(start, end + 1):
            ranks[order[position]] = (start + end) / 2
        start = end + 1
    return ranks
