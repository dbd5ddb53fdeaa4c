"""Not in the paper: diffuse heads and empty rows, in videos of the small video DiT."""

from statistics import mean

from ..finding import CAVEAT, CONFIRMED, CONTRADICTED, NOT_TESTABLE, Judged, Table, percent
from ..frame import having, rows, with_metrics
from ..videos import HEADS, RULES, Choice, Videos, draft, interval, quality_table, text_of

PLACES = {"all": "in all", "diffuse": "in the diffuse heads alone", "others": "in the others alone"}


def judge(records, paper, plots):
    videos = records.once(Videos)
    sparsity = max((one.sparsity for one in videos.heads if one == draft(one.sparsity)), default=None)
    facts = {"measured": sparsity is not None, "videos": videos, "sparsity": sparsity}
    if sparsity is None:
        return Judged(NOT_TESTABLE, facts)
    choices = [draft(sparsity), draft(sparsity, rule="row"), Choice("random", sparsity), Choice("oracle", sparsity)]
    cells = {one: _by_place(videos, one) for one in choices}
    first = next(rows(videos.cells))
    blocks = first.frames * -(-first.height // 8) * -(-first.width // 16)
    own, chance = cells[choices[0]], cells[choices[2]]
    spread = videos.spread() or {place: cell.effective_blocks for place, cell in own.items()}
    diffuse = {place for place, value in spread.items() if value > blocks / 2}
    means, found = {}, []
    for one in choices:
        for kind, places in (("diffuse", diffuse), ("others", set(own) - diffuse)):
            there = [cells[one][place] for place in sorted(places) if place in cells[one]]
            if there:
                values = {name: interval([getattr(each, name) for each in there]) for name in HEADS}
                means[one, kind] = values["output_rel_l2"][0]
                found.append((kind, len(there), one.label, *(text_of(each, 3) for each in values.values())))
    columns = ["heads", "how many", "blocks chosen by", *(f"{words} [95% over heads]" for words in HEADS.values())]
    caption = f"At {percent(sparsity, 0)}; a diffuse head spreads over more than {blocks / 2:g} of {blocks} blocks."
    tables = [Table("diffuse_heads_videos", f"{caption} {videos.where()}.", columns, found, carries=_is_diffuse)]
    facts |= {"diffuse": len(diffuse), "own": len(own), "left_out": videos.left_out(*HEADS, "effective_blocks")}
    facts["means"] = [means.get((one, "diffuse")) for one in choices[:3]]
    if None in facts["means"]:
        return Judged(NOT_TESTABLE, facts, tables)
    drafted, by_row, _ = facts["means"]
    diffuse &= set(own) & set(chance)  # those that both were measured on
    worse = sum(own[place].output_rel_l2 > chance[place].output_rel_l2 for place in diffuse)
    facts |= {"diffuse": len(diffuse), "worse": worse, "alone": None, "rules": []}
    facts["empty"] = [
        mean(own[place].empty_rows_share for place in places) if places else None for places in (own, diffuse)
    ]
    apart = [draft(sparsity, rule=name, heads=heads) for heads in PLACES for name in RULES]
    apart = [one for one in apart if videos.get(one)]
    if any(one.heads != "all" for one in apart):
        caption = (
            "Masks in some heads alone, the others dense; these are in the means over heads, with a recall of 1 and next to"
            " no error."
        )
        tables.append(quality_table(videos, "heads_apart_videos", caption, apart, shown=0))
        facts |= _apart(videos, sparsity)
    confirmed = worse > len(diffuse) / 2 and by_row < drafted
    verdict = CONFIRMED if confirmed else CAVEAT if worse or by_row < drafted else CONTRADICTED
    return Judged(verdict, facts, tables)


def _is_diffuse(row):
    return row["heads"] == "diffuse"


def _by_place(videos, one):
    """{(layer, head): its cell}"""
    if one not in videos.heads:
        return {}
    cells = with_metrics(videos.heads[one], *HEADS, "effective_blocks")
    cells = having(cells, *HEADS, "effective_blocks", "layer")
    places = [(cell.layer, cell.input.get("head")) for cell in rows(cells)]
    return {place: cell for place, cell in zip(places, rows(cells)) if place[1] is not None}


def _apart(videos, sparsity):
    """What masks in the diffuse heads cost a video, and masks in the others; and which rule is better where."""
    found = {"rules": []}
    if all(videos.get(draft(sparsity, heads=heads)) for heads in ("diffuse", "others")):
        psnr = {heads: text_of(videos.summary(draft(sparsity, heads=heads), "psnr")) for heads in PLACES}
        found["alone"] = psnr
    for name in RULES:
        gains = []
        for heads in ("diffuse", "others", "all"):
            gain = videos.difference(draft(sparsity, rule=name, heads=heads), draft(sparsity, heads=heads), "psnr")
            if name != "softmax" and gain is not None:
                gains.append((PLACES[heads], gain))
        if len(gains) > 1:
            found["rules"].append((name, gains))
    return found
