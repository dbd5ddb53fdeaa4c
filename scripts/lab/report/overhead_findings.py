"""Table 3: what drafting and reordering cost beside the attention and a whole video."""

from . import figures_overhead, projection
from .finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_MEASURED, NOT_TESTABLE, Finding, Table, percent, short
from .overhead_parts import DRAFT_PARTS, MOVES, PARTS, by_sparsity, parts
from .records import drawable, left_out
from .timings import by_call, choose, commit, kernel, main_kernel, median_ms, paper_masks, provenance

PAPER_SHAPE, PAPER_SPARSITY = "hunyuan_768p", 0.9


def drafted(cells):
    """The overhead records of the paper's kind of mask; of a part timed with several kernels the main one's."""
    found = []
    for name in PARTS:
        of_part = choose(paper_masks(cells), part=name)
        found += [cell for cell in of_part if kernel(cell) == main_kernel(of_part)]
    return found


def end_to_end(latency):
    """{(call, sparsity): the latency record in token order whose projection says how long a video takes}."""
    found = {}
    for call, cells in by_call([cell for cell in paper_masks(latency) if projection.speedup(cell) is not None]):
        for cell in choose(cells, kernel=main_kernel(cells), order="token", policy="draft"):
            found.setdefault((call, cell.sparsity), cell)
    return found


def shares(found, video):
    """Times of drafting, and of drafting and moving tokens, in ms and as shares of attention and of a whole video;
    video: the record of end_to_end, or None."""
    attention = median_ms(found["attention"]) if "attention" in found else None
    rows = {}
    for name, needed in (("draft", ("draft",)), ("draft and moving", ("draft",) + MOVES)):
        if all(part in found for part in needed):
            spent = sum(median_ms(found[part]) for part in needed)
            rows[name] = {
                "ms": spent,
                "attention": spent / attention if attention else None,
                "video": projection.share(video, spent) if video else None,
            }
    return rows


def table_3(records, paper, plots):
    title = "Table 3: overhead of the draft"
    printed = paper.value("table_3_overhead") / 100
    most = 1.1 * printed
    claim = (
        f"Drafting and reordering take about {percent(printed)} of the latency. The table's numbers are lost in the"
        " extracted text."
    )
    rule = (
        f"Rule, for HunyuanVideo 768p at {percent(PAPER_SPARSITY, 0)}: confirmed if drafting and moving q, k, v and the"
        f" output take no more than {percent(most, 2)} ({percent(printed)} as printed) of the end-to-end latency, by"
        " the projection of Figure 4; confirmed with a caveat if drafting alone does; else contradicted. Without a"
        " projection the share of sparse attention, which is larger, may confirm but not contradict."
    )
    cells = drafted(records.of("overhead"))
    if not cells:
        return Finding(title, claim, NOT_TESTABLE, rule, NOT_MEASURED)
    videos = end_to_end(records.of("latency"))
    table = overhead_table(cells, videos)
    pictures = figures_overhead.overhead_pictures(drawable(cells), plots)
    judged = []
    for call, members in by_call(cells):
        if call.shape == PAPER_SHAPE:
            found = shares(parts(members, PAPER_SPARSITY), videos.get((call, PAPER_SPARSITY)))
            if found:
                judged.append((call, found))
    count = f"{len(cells)} records of parts of single attention calls."
    count += left_out(cells, ("share_of_attention", "gb_per_s"))
    if not judged:
        text = f"{count} None of them is of the paper's shape and sparsity."
        return Finding(title, claim, NOT_TESTABLE, rule, text, [], [table], pictures)
    verdicts = [_verdict(found, most) for _, found in judged]
    verdict = next(word for word in (CONTRADICTED, NOT_TESTABLE, CAVEAT, CONFIRMED) if word in verdicts)
    text = " ".join(_sentence(call, found) for call, found in judged)
    why = [
        "The end-to-end latency is the projection of Figure 4 and not the time of a video; the rest of a real model"
        " takes longer, which makes these shares smaller.",
        "A kernel that reads regions straight from token order moves nothing: then drafting is all that is added.",
        "Shares are of this project's attention kernel. A slower one makes them smaller.",
    ]
    first = judged[0][1]
    headline = "; ".join(f"{name}: {_headline_share(row)}" for name, row in first.items())
    return Finding(title, claim, verdict, rule, f"{count} {text}", why, [table], pictures, headline)


def _verdict(found, most):
    """By shares of the whole video; by shares of attention, which are larger, where there is no projection."""
    if all(row["video"] is None and row["attention"] is None for row in found.values()):
        return NOT_TESTABLE
    below = {
        name: share <= most
        for name, row in found.items()
        if (share := row["video"] if row["video"] is not None else row["attention"]) is not None
    }
    if below.get("draft and moving"):
        return CONFIRMED
    if below.get("draft"):
        return CAVEAT
    return CONTRADICTED if found["draft"]["video"] is not None else NOT_TESTABLE


def _headline_share(row):
    if row["video"] is not None:
        return f"{percent(row['video'], 2)} of the projected video"
    return f"{percent(row['attention'], 2)} of sparse attention"


def _sentence(call, found):
    each = [
        f"{name} {short(row['ms'])} ms, {percent(row['attention'], 2)} of sparse attention"
        + (f" and {percent(row['video'], 2)} of the projected video" if row["video"] is not None else "")
        for name, row in found.items()
    ]
    return f"{call.label} on {call.gpu} at {percent(PAPER_SPARSITY, 0)}: {'; '.join(each)}."


def overhead_table(cells, projected):
    rows, videos, groups = [], [], {}
    for call, members in by_call(cells):
        for sparsity, found in by_sparsity(members).items():
            groups.setdefault(sparsity, []).append((call, found))
    for sparsity in sorted(groups, reverse=True):
        for call, members in groups[sparsity]:
            video = projected.get((call, sparsity))
            videos += [video] if video else []
            for name, cell in parts(members, sparsity).items():
                added = name in DRAFT_PARTS + ("draft",) + MOVES
                rows.append(
                    (
                        call.label,
                        sparsity,
                        name,
                        median_ms(cell),
                        cell.timing.get("p10_ms"),
                        cell.timing.get("p90_ms"),
                        cell.shown("share_of_attention"),
                        projection.share(video, median_ms(cell)) if video and added else None,
                        cell.shown("gb_per_s"),
                        cell.config.get("kernel"),
                        cell.metrics.get("bytes"),
                        call.gpu,
                        commit(cell),
                    )
                )
    columns = (
        "call, data",
        "sparsity",
        "part",
        "median (ms)",
        "10% (ms)",
        "90% (ms)",
        "share of attention",
        "share of the projected video",
        "GB/s",
        "kernel",
        "bytes",
        "GPU",
        "commit",
    )
    caption = f"Parts of one sparse call; draft = pool_q to lists timed as one piece. {provenance(cells + videos)}"
    return Table("table_3_overhead", caption, columns, rows, shown=33, columns_shown=9)
