"""The data set holds every record of the shipped results, says what its fields mean, and refuses what it cannot make."""

import csv
import gzip
import json
import sys

import pytest

from lab.dataset import flat, tables
from lab.dataset.__main__ import main
from lab.shared.files import ROOT
from lab.shared.record_file import read_all

RESULTS = ROOT / "results"
csv.field_size_limit(2**27)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("dataset")
    assert main(["--results", str(RESULTS), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def rows(made):
    with open(made / "records.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def fields(made):
    with open(made / "fields.csv", newline="", encoding="utf-8") as stream:
        return {row["field"]: row for row in csv.DictReader(stream)}


def records(name):
    return read_all(RESULTS / name)


def test_every_record_is_a_row(made, rows):
    files = [*RESULTS.rglob("*.jsonl"), *RESULTS.rglob("*.jsonl.gz")]
    lines = {}
    for path in files:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            lines[path.relative_to(RESULTS).as_posix()] = sum(1 for _ in stream)
    found = {}
    for row in rows:
        found[row["file"]] = found.get(row["file"], 0) + 1
    assert found == lines and sum(lines.values()) > 40_000
    assert sorted(path.name for path in made.iterdir()) == ["fields.csv", "records.csv"]


def test_a_row_has_all_digits_of_its_record(rows):
    of_file = [row for row in rows if row["file"] == "gpu/latency.jsonl"]
    wanted = records("gpu/latency.jsonl")
    assert [int(row["line"]) for row in of_file] == list(range(1, len(wanted) + 1))
    for row, record in zip(of_file, wanted):
        assert float(row["timing.median_ms"]) == record["timing"]["median_ms"]
        assert json.loads(row["timing.samples_ms"]) == record["timing"]["samples_ms"]
        assert row["build.commit"] == record["build"]["commit"] and row["machine.gpu"] == record["machine"]["gpu"]
        assert row["input.head"] == "" and row["build.dirty"] == str(record["build"]["dirty"]).lower()


def test_statuses_are_kept(rows):
    skipped = [row for row in rows if row["status"] == "skipped"]
    assert len(skipped) > 100 and all(row["reason"] for row in skipped)


def test_the_dictionary_describes_every_column(rows, fields):
    assert list(fields) == list(rows[0])
    assert fields["timing.median_ms"] == {
        "field": "timing.median_ms",
        "type": "number",
        "unit": "ms",
        "better": "lower",
        "records": fields["timing.median_ms"]["records"],
        "meaning": fields["timing.median_ms"]["meaning"],
    }
    assert fields["metrics.attention_recall"]["better"] == "higher" and fields["metrics.psnr"]["unit"] == "dB"
    assert fields["metrics.attention_recall"]["meaning"] == "attention recall (share of true mass kept)"
    without = [name for name, row in fields.items() if not row["meaning"]]
    assert without == []
    for name in ("timing.median_ms", "config.sparsity", "metrics.psnr"):
        assert int(fields[name]["records"]) == sum(row[name] != "" for row in rows)


def test_a_field_without_a_meaning_would_be_seen():
    assert flat.meaning_of("metrics.nobody_knows") == "" and flat.meaning_of("config.nobody_knows") == ""
    assert flat.meaning_of("config.sparsity") == "share of the blocks that are dropped"


def test_flat_takes_objects_apart():
    assert flat.flat({"a": {"b": {"c": 1}, "d": None}, "e": [1, 2]}) == {"a.b.c": 1, "e": [1, 2]}
    assert flat.in_order(["metrics.x", "status", "experiment", "build.y"]) == [
        "experiment",
        "status",
        "build.y",
        "metrics.x",
    ]


@pytest.mark.parametrize(
    "values, kind",
    [
        ([True], "boolean"),
        ([1, 2], "integer"),
        ([1, 2.5], "number"),
        ([[1]], "list"),
        (["a", 1], "text"),
        ([True, 1], "text"),
    ],
)
def test_types(values, kind):
    assert flat.type_of(values) == kind


def small(tmp_path, *lines):
    """A folder of results with one file of these records."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "mine.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def record(**more):
    least = {"schema": 2, "experiment": "mine", "input": {}, "config": {}, "metrics": {}, "status": "ok"}
    return json.dumps(least | more)


def test_text_is_no_formula(tmp_path):
    results = small(tmp_path, record(reason='=HYPERLINK("x")', config={"kernel": "a,b\nc"}, metrics={"psnr": -1.5}))
    assert main(["--results", str(results), "--out", str(tmp_path / "out")]) == 0
    with open(tmp_path / "out" / "records.csv", newline="", encoding="utf-8") as stream:
        [row] = csv.DictReader(stream)
    assert row["reason"] == '\'=HYPERLINK("x")' and row["config.kernel"] == "a,b\nc" and row["metrics.psnr"] == "-1.5"


def refused(capsys, *arguments):
    assert main([str(each) for each in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("dataset: ")
    return said.err


def test_what_is_refused(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert "wanted files of records" in refused(capsys, "--results", tmp_path, "--out", out)
    results = small(tmp_path, record(), '{"schema": 2}')
    assert "mine.jsonl:2: experiment: wanted a name, found nothing" in refused(
        capsys, "--results", results, "--out", out
    )
    (results / "mine.jsonl").write_text(record() + "\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = refused(capsys, "--results", results, "--out", out, "--parquet")
    assert "--parquet: wanted the package pyarrow" in said
    assert not out.exists()  # nothing half-written


def test_parquet_has_the_same_rows(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "results"
    (folder / "gpu").mkdir(parents=True)
    for name in ("gpu/latency.jsonl", "gpu/verify.jsonl", "gpu_tests.jsonl"):
        (folder / name).write_bytes((RESULTS / name).read_bytes())
    (folder / "mine.jsonl").write_text(
        record(notes="text", metrics={"psnr": "not_applicable"}) + "\n" + record(metrics={"psnr": 3}) + "\n"
    )
    assert main(["--results", str(folder), "--out", str(tmp_path / "out"), "--parquet"]) == 0
    table = parquet.read_table(tmp_path / "out" / "records.parquet")
    assert str(table.column("timing.samples_ms").type).startswith("list<") and "double" in str(
        table.column("timing.samples_ms").type
    )
    assert table.schema.field("timing.median_ms").metadata[b"unit"] == b"ms"
    found = {
        (row["file"], row["line"]): row
        for row in table.select(["file", "line", "timing.median_ms", "timing.samples_ms", "metrics.psnr"]).to_pylist()
    }
    for line, wanted in enumerate(records("gpu/latency.jsonl"), 1):
        row = found["gpu/latency.jsonl", line]
        assert (
            row["timing.median_ms"] == wanted["timing"]["median_ms"]
            and row["timing.samples_ms"] == wanted["timing"]["samples_ms"]
        )
    assert found["mine.jsonl", 1]["metrics.psnr"] == "not_applicable" and found["mine.jsonl", 2]["metrics.psnr"] == "3"


def test_pyarrow_is_asked_for_by_name():
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        with pytest.raises(tables.Refused, match="pyarrow"):
            tables.need_pyarrow()
    else:
        assert tables.need_pyarrow().__name__ == "pyarrow"
