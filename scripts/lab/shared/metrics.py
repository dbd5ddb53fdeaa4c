"""The table of metrics, harness/record/metrics.json: what each is called, its unit, which direction is better, its range."""

import json

from lab.shared.files import ROOT

TEST_RUNS = frozenset({"fuzz_dumps", "fuzz_records", "gpu_tests"})  # experiments that count tests, which no table shows
METRICS = json.loads((ROOT / "harness" / "record" / "metrics.json").read_text(encoding="utf-8"))


def label(name):
    """For axes and columns: "PSNR (dB)"."""
    metric = METRICS[name]
    return metric["label"] + (f" ({metric['unit']})" if "unit" in metric else "")


def direction(name):
    """1 where higher is better, -1 where lower is, 0 where neither is."""
    return {"higher": 1, "lower": -1}.get(METRICS[name].get("better"), 0)


def is_better(name, value, than):
    """Whether one value of a metric is better than another; None where no direction is."""
    sign = direction(name)
    return sign * value > sign * than if sign else None
