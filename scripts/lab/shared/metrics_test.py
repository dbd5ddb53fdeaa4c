"""The table of metrics is well formed, and has every metric of the shipped records."""

from lab.shared.files import ROOT
from lab.shared.metrics import METRICS, TEST_RUNS, is_better, label
from lab.shared.record_file import read_all


def test_every_entry_is_well_formed():
    for name, metric in METRICS.items():
        assert set(metric) <= {"label", "unit", "better", "range", "may_be_not_applicable"}, name
        assert metric["label"] and metric.get("better", "lower") in ("higher", "lower"), name
        least, most = metric.get("range", [0, None])
        assert least is None or most is None or least < most, name
    assert list(METRICS) == sorted(METRICS), "harness/record/metrics.json: wanted its lines in alphabetical order"


def test_every_shipped_metric_is_there_and_in_its_range():
    seen = set()
    for path in sorted((ROOT / "results").rglob("*.jsonl")):
        for record in read_all(path):
            if record["experiment"] in TEST_RUNS:
                continue
            for name, value in record["metrics"].items():
                assert name in METRICS, f"{path}: {name}"
                seen.add(name)
                least, most = METRICS[name].get("range", [0, None])
                if value != "not_applicable":
                    assert least is None or value >= least - 1e-10, f"{path}: {name} is {value}"
                    assert most is None or value <= most + 1e-4, f"{path}: {name} is {value}"  # fp32's rounding
    assert len(seen) > 80


def test_words_and_direction():
    assert label("psnr") == "PSNR (dB)" and label("ssim") == "SSIM"
    assert is_better("psnr", 21.0, 20.0) and not is_better("psnr", 20.0, 20.0)
    assert is_better("lpips", 0.1, 0.2) and not is_better("lpips", 0.2, 0.1)
    assert is_better("kept_blocks", 1, 2) is None
