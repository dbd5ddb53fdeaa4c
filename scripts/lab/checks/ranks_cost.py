"""How long all heads of a HunyuanVideo step take on 1 to 64 ranks: the table of harness/ranks/README.md, made of the records
of results/gpu/hunyuan_scale.jsonl.

    PYTHONPATH=scripts python3 -m lab.checks.ranks_cost   # writes the table into the README
"""

import datetime
import json
import math

from lab.shared.files import ROOT

RECORDS = ROOT / "results" / "gpu" / "hunyuan_scale.jsonl"
README = ROOT / "harness" / "ranks" / "README.md"
BEGIN, END = "<!-- made by lab.checks.ranks_cost -->\n", "<!-- end -->\n"

LAYERS, HEADS = 60, 24  # 20 dual-stream and 40 single-stream blocks, of 24 heads
TOKENS, HEAD_DIM, BYTES = 33 * 48 * 80 + 256, 128, 2  # 129 frames of 768 x 1280, bfloat16
STEPS = 50
RANKS = (1, 2, 8, 64)
HASHING = 1e9  # bytes/s of one core: assumed; no record has it
WRITING = 1e8  # bytes/s of records, on their way to the first rank and into the file: assumed


def measured():
    """(seconds a head on one GPU, bytes of records a head, heads, seconds in all) of the dump's run of `bounds`."""
    heads, times, size, tokens = set(), [], 0, set()
    with RECORDS.open() as lines:
        for line in lines:
            record = json.loads(line)
            if record["experiment"] != "bounds":
                continue
            source = record["input"]
            grid = source["grid"]
            tokens.add(grid["frames"] * grid["height"] * grid["width"] + source["text_tokens"])
            heads.add((source["capture"], source["head"]))
            times.append(datetime.datetime.fromisoformat(record["time"].replace("Z", "+00:00")))
            size += len(line)
    (count,) = tokens
    seconds = (max(times) - min(times)).total_seconds()
    # From the first head's end to the last one's; the work grows with the square of the tokens.
    return seconds / (len(heads) - 1) * (TOKENS / count) ** 2, size / len(heads), len(heads), seconds


def table():
    a_head, record_bytes, heads_measured, seconds = measured()
    heads = LAYERS * HEADS
    head_bytes = 3 * TOKENS * HEAD_DIM * BYTES
    hashing = heads * head_bytes / HASHING
    writing = heads * record_bytes / WRITING
    lines = [
        f"Measured: {heads_measured} heads of 126,736 tokens on one H200 in {seconds:.0f} s from the first one's end to the last",
        f"one's, reading included, which is {a_head:.2f} s for a head of {TOKENS:,} tokens; {record_bytes / 1e3:.1f} kB of records a",
        "head (`bounds --device cuda --pool avg --rule softmax --sparsity 0.9`). Assumed: a dump is hashed at "
        f"{HASHING / 1e9:.0f} GB/s, records",
        f"travel and are written at {WRITING / 1e6:.0f} MB/s. Computed: everything in the table. No run of several GPUs was measured.",
        "",
        "| ranks, a GPU each | heads a rank | hashing the dump, s | computing, s | writing, s | in all, s | over one rank | "
        f"{STEPS} steps, h | reading, GB/s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    alone = hashing + heads * a_head + writing
    for ranks in RANKS:
        share = math.ceil(heads / ranks)
        computing = share * a_head
        total = hashing + computing + writing
        lines.append(
            f"| {ranks} | {share:,} | {hashing:.0f} | {computing:,.0f} | {writing:.1f} | {total:,.0f} | {alone / total:.1f} "
            f"| {STEPS * total / 3600:.1f} | {ranks * head_bytes / a_head / 1e9:.2f} |"
        )
    return "\n".join(lines) + "\n"


def with_table(text):
    """The README's text with today's table."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{README}: wanted the lines {BEGIN!r} and {END!r}")
    return before + begin + table() + end + after


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
