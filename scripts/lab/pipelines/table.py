"""What a file of records says of whole videos: measured steps times how many of them a video has, or a complete run."""

import statistics
from collections import defaultdict

from lab.shared.video_time import PAPER_DENSE_STEPS, Parts, first_sparse_step

from . import configurations
from .recorder import EXPERIMENT


def lines(records):
    """The table as text. records: of a file; of a cell measured again the newest counts."""
    steps, parts, complete, lengths = defaultdict(dict), {}, {}, {}
    for record in records:
        if record["experiment"] != EXPERIMENT or record["status"] != "ok":
            continue
        config, key = record["config"], (record["input"]["shape"], record["config"].get("configuration"))
        lengths[key[0]] = record["input"]["steps"]
        if config["part"] == "steps":
            steps[key][config["turn"]] = record["metrics"]["step_ms"] / 1e3
        elif config["part"] == "complete":
            complete[key] = record["metrics"]["whole_s"]
        elif "timing" in record:
            parts[key[0], config["part"]] = record["timing"]["median_ms"] / 1e3
    found = ["shape           configuration     turns  step (s)  video (s)  complete (s)"]
    medians = {key: statistics.median(turns.values()) for key, turns in steps.items()}
    for (shape, name), step_s in sorted(medians.items(), key=lambda item: (item[0][0], -item[1])):
        configuration = configurations.parse(name)
        dense_s = medians.get((shape, configuration.dense))
        count = first_sparse_step(PAPER_DENSE_STEPS, lengths[shape]) if configuration.is_draft else lengths[shape]
        whole, run = "-", complete.get((shape, name))
        if dense_s is not None:
            more = {f"{part}_s": parts.get((shape, part)) for part in ("text", "vae", "file")}
            whole = f"{Parts(dense_s, step_s, count, lengths[shape], **more).whole_s:.1f}"
        turns, text = len(steps[shape, name]), "-" if run is None else f"{run:.1f}"
        found.append(f"{shape:<15} {name:<17} {turns:>5}  {step_s:8.3f}  {whole:>9}  {text:>12}")
    return found + ["video: timed steps times how many of their kind there are; complete: one run of all steps"]
