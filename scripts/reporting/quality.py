"""The attention-level quality of every mask, indexed by head, choice of blocks, region and sparsity."""

from collections import Counter, defaultdict
from statistics import mean

EXPERIMENTS = ("bounds", "pooling", "regions")  # all carry the same quality metrics
PAPER_REGION = "8x16"
PAPER_RULE = "softmax"  # section 3.1: top entries of A_draft

VARIANT_NAMES = {
    ("oracle",): "oracle (true block mass)",
    ("random",): "random blocks",
}
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
        self.cells = [cell for cell in records.of(*EXPERIMENTS) if "attention_recall" in cell.metrics]
        newest = {}
        for cell in sorted(self.cells, key=lambda cell: (cell.time, cell.experiment)):
            key = (cell.head_key, cell.variant, cell.region, cell.sparsity)
            newest[key + (cell.config.get("seed") if cell.policy == "random" else None,)] = cell
        collected = defaultdict(list)
        for key, cell in newest.items():
            collected[key[:4]].append(cell.metrics)
        self._index = {key: _average(group) for key, group in collected.items()}
        self.heads = sorted({key[0] for key in self._index})
        self.captures = sorted({head[:3] for head in self.heads})
        self.dumps = sorted({head[:2] for head in self.heads})
        self.region = self._preferred((key[2] for key in self._index), PAPER_REGION)
        self.rule = self._preferred((key[1][2] for key in self._index if key[1][0] == "draft"), PAPER_RULE)

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

    def get(self, head, variant, region, sparsity, metric):
        return self._index.get((head, variant, region, sparsity), {}).get(metric)

    def has(self, variant, region=None):
        return any(key[1] == variant and region in (None, key[2]) for key in self._index)

    def measured_at(self):
        """Every (variant, region) that was measured."""
        return {key[1:3] for key in self._index}

    def sparsities(self, region=None, variant=None):
        return sorted({key[3] for key in self._index if region in (None, key[2]) and variant in (None, key[1])})

    def regions(self, sparsity=None):
        return region_order({key[2] for key in self._index if sparsity in (None, key[3])})

    def rules(self, pool="avg"):
        found = {key[1][2] for key in self._index if key[1][:2] == ("draft", pool)}
        return [rule for rule in ("logits", "softmax", "released", "row") if rule in found]

    def nearest_sparsity(self, wanted, region=None, variant=None):
        """The measured sparsity nearest to the one that the paper uses; None if there is none."""
        found = self.sparsities(region, variant)
        return min(found, key=lambda sparsity: (abs(sparsity - wanted), sparsity)) if found else None

    def values(self, variant, region, sparsity, metric, heads=None):
        """The metric of every head that has it, in the order of the heads."""
        found = (self.get(head, variant, region, sparsity, metric) for head in (self.heads if heads is None else heads))
        return [value for value in found if value is not None]

    def regions_and_heads(self, sparsity):
        """Regions of average pooling, and the heads measured at all of them: means over other heads do not compare."""
        variant = self.draft("avg")
        regions = region_order({key[2] for key in self._index if key[1] == variant and key[3] == sparsity})
        wanted = [(variant, region, sparsity) for region in regions]
        return regions, [head for head in self.heads if all((head, *key) in self._index for key in wanted)]

    def pairs(self, first, second, metric, dump=None):
        """[(head, value, value)] where both (variant, region, sparsity) were measured on the head (of the dump)."""
        rows = []
        for head in self.heads:
            if dump not in (None, head[:2]):
                continue
            a, b = self.get(head, *first, metric), self.get(head, *second, metric)
            if a is not None and b is not None:
                rows.append((head, a, b))
        return rows


def _average(group):
    if len(group) == 1:
        return group[0]
    names = set.intersection(*(set(metrics) for metrics in group))
    return {name: mean(metrics[name] for metrics in group) for name in sorted(names)}


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
