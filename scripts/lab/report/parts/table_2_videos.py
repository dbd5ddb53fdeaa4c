"""Table 2's "the same with FP8 weights", in videos of the small model, with 8-bit attention beside it; and which rounding the
error comes from."""

from lab.shared.metrics import direction

from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, PAPER_SPARSITY, Judged, Table
from ..frame import having, rows
from ..videos import METRICS, SHAPE, draft, every_set, interval, set_of, text_of

EXPERIMENT = "video_eight_bits"
NEAR = 0.5  # dB
PLAIN = f"draft_{100 * PAPER_SPARSITY:g}"
JUDGED = (f"{PLAIN}_fp8", f"{PLAIN}_8bit", f"{PLAIN}_8bit_fp8")
SVG = f"svg_{100 * PAPER_SPARSITY:g}_fp8"
SOURCES = {  # of the error: suffix of a configuration that has it alone
    "Q and K to INT8": "qk",
    "P to E4M3": "p",
    "V to E4M3": "v",
    "linear layers to FP8": "fp8",
}
TOGETHER = {"8-bit attention": "8bit", "8-bit attention and FP8 layers": "8bit_fp8"}


class Rounded:
    """The records of the set of clips with most of them, of equal ones the newest, and the same set's plain draft."""

    def __init__(self, records):
        found = [(set_of(cell), cell) for cell in rows(having(records.of(EXPERIMENT), *SHAPE))]
        order = [(cell.clips, cell.time, name) for name, cell in found]
        chosen = max(order)[-1] if order else None
        found = sorted((cell for name, cell in found if name == chosen), key=lambda cell: cell.time)
        self.cells = {cell.config.get("configuration"): cell for cell in found}
        self.videos = next((one for one in every_set(records) if chosen in set(one.cells["clip_set"])), None)
        if self.videos and (plain := self.videos.get(draft(PAPER_SPARSITY))):
            self.cells[PLAIN] = plain
        self.skipped = sorted({cell.reason for cell in rows(records.of(EXPERIMENT, status="skipped")) if cell.reason})

    def values(self, name, metric):
        """One number a clip, or None."""
        return self.cells[name].arrays.get(metric) if name in self.cells else None

    def text(self, name, metric):
        values = self.values(name, metric)
        return text_of(interval(values), 2 if metric.startswith("psnr") else 4) if values else "-"

    def difference(self, first, second, metric):
        """(mean, low, high) of first - second, paired by clip, or None."""
        a, b = self.values(first, metric), self.values(second, metric)
        return interval([x - y for x, y in zip(a, b)]) if a and b and len(a) == len(b) else None

    def step(self, name):
        """One step's error beside 16-bit numbers, or None."""
        return self.cells[name].metrics.get("one_step_bf16_rel_l2") if name in self.cells else None

    def names(self):
        """In the order of the tables: dense ones, then drafts, each by its suffix."""
        suffixes = ["", *(f"_{each}" for each in ("fp8", "8bit", "8bit_fp8", "qk", "p", "v"))]
        found = [f"{mask}{suffix}" for mask in ("dense", PLAIN) for suffix in suffixes]
        return [name for name in [*found, SVG] if name in self.cells]


def judge(records, paper, plots):
    rounded = Rounded(records)
    losses = {name: rounded.difference(name, PLAIN, "psnr") for name in JUDGED}
    losses = {name: found for name, found in losses.items() if found}
    printed = {row["method"]: row["psnr_db"] for row in paper.table("table2") if row["sparsity_percent"] == "90"}
    facts = {"losses": losses, "printed": printed, "skipped": rounded.skipped}
    if not losses:
        return Judged(NOT_TESTABLE, facts)
    against = {
        metric: found
        for metric in METRICS
        if (found := rounded.difference(JUDGED[0], SVG, f"{metric}_alike")) is not None
    }
    signs = [direction(metric) * (found[1] > 0 or -(found[2] < 0)) for metric, found in against.items()]
    lost = any(found[2] < -NEAR for found in losses.values()) or (signs and max(signs) < 0)
    kept = all(found[1] > -NEAR for found in losses.values()) and (not signs or min(signs) > 0)
    missing = [name for name in JUDGED if name not in losses] + ([] if against else [SVG])
    cell = rounded.cells[next(iter(losses))]
    facts |= {
        "where": rounded.videos.where([cell]),
        "texts": {name: text_of(found) for name, found in losses.items()},
        "worst": min(losses.values()),
        "apart": {name: rounded.text(name, "psnr_bf16") for name in losses},
        "against": {METRICS[metric]: text_of(found, 2 if metric == "psnr" else 4) for metric, found in against.items()},
        "missing": missing,
        "sources": {mask: _shares(rounded, mask) for mask in ("dense", PLAIN)},
        "emulated": any(rounded.cells[name].config.get("rounds") for name in losses),
    }
    verdict = CONTRADICTED if lost else CONFIRMED if kept and not missing else CAVEAT
    return Judged(verdict, facts, [_table(rounded, facts["where"]), _sources(rounded)])


def _shares(rounded, mask):
    """{source: share of the sources' summed squares} of one step's error, largest first; {} unless all are there."""
    errors = {source: rounded.step(f"{mask}_{suffix}") or 0 for source, suffix in SOURCES.items()}
    squares = {source: error * error for source, error in errors.items()}
    if not all(squares.values()):
        return {}
    total = sum(squares.values())
    return {source: squares[source] / total for source in sorted(squares, key=squares.get, reverse=True)}


def _table(rounded, where):
    metrics = [metric for metric in METRICS if any(rounded.values(name, metric) for name in rounded.names())]
    found = []
    for name in rounded.names():
        cell = rounded.cells[name]
        texts = [rounded.text(name, f"{metric}{suffix}") for suffix in ("", "_bf16", "_alike") for metric in metrics]
        gain = rounded.difference(name, PLAIN, "psnr") if name.startswith(f"{PLAIN}_") else None
        how = cell.config.get("kernel", "-") + (f" of {rounds}" if (rounds := cell.config.get("rounds")) else "")
        linear = cell.config.get("linear", "not quantised")
        found.append((name, how, linear, texts[0], text_of(gain), *texts[1:]))
    of = {"": "", "_bf16": ", to 16 bits", "_alike": ", to dense of the same rounding"}
    columns = [f"{METRICS[metric]}{words} [95%]" for words in of.values() for metric in metrics]
    columns = ["configuration", "attention", "linear layers", columns[0], "less draft_90's [95%]", *columns[1:]]
    caption = (
        "Videos against the dense ones of 16-bit numbers; against those of the same policy with 16-bit numbers; and against"
        " dense ones with the same rounding, as the paper compares. Attention: the kernel (auto: of 16-bit operands), or an"
        f" emulation that rounds what is named. Bootstrap intervals over clips. {where}."
    )
    return Table("table_2_videos", caption, columns, found)


def _sources(rounded):
    found = []
    for mask in ("dense", PLAIN):
        shares = _shares(rounded, mask)
        for source, suffix in (SOURCES | TOGETHER).items():
            name = f"{mask}_{suffix}"
            if (error := rounded.step(name)) is not None:
                steps = rounded.cells[name].arrays.get("one_step_bf16") or [error]
                found.append(
                    (mask, source, error, min(steps), max(steps), shares.get(source), rounded.text(name, "psnr_bf16"))
                )
        parts = [rounded.step(f"{mask}_{suffix}") for suffix in SOURCES.values()]
        if None not in parts:
            found.append(
                (mask, "root of the sources' summed squares", sum(x * x for x in parts) ** 0.5, None, None, 1.0, "-")
            )
    columns = ["mask", "rounded", "one step's error (rel. L2)", "least", "most", "share of the squares"]
    caption = (
        "What each rounding does alone: the error of one step of the model beside 16-bit numbers at the dense clips' states,"
        " over the steps in which the mask is in place, and what becomes of the video."
    )
    return Table("table_2_sources", caption, [*columns, "PSNR to 16 bits (dB) [95%]"], found, shown=0)
