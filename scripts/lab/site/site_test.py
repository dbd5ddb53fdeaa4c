"""The site of the shipped results: its size, its links, its numbers against the records; and what is refused."""

import base64
import csv
import gzip
import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import parse_qsl, unquote

import numpy as np
import pytest

pytest.importorskip("markdown_it")
pytest.importorskip("PIL")

from lab.report.frame import load as load_frame
from lab.shared.files import ROOT
from lab.site import heads, pages, sources, store, verdicts
from lab.site.__main__ import MOST_BYTES, main

RESULTS = ROOT / "results"
SITE = re.compile(r'site\.packed\("([^"]+)","([^"]+)"\);\n')


def data_of(site, name):
    """What a page reads of data/NAME.js."""
    found, text = SITE.fullmatch((site / "data" / f"{name}.js").read_text()).groups()
    assert found == name
    return json.loads(gzip.decompress(base64.b64decode(text)))


def column(packed):
    """The values of a column of a shard."""
    if "t" in packed:
        return [None if place is None else packed["t"][place] for place in packed["i"]]
    return packed["n"] if "n" in packed else packed["v"]


class Links(HTMLParser):
    """href and src of a page, and the counts of records that its links print."""

    def __init__(self, text):
        super().__init__()
        self.found, self.counted, self._open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.found += [given[name] for name in ("href", "src") if given.get(name)]
        self._open = given.get("href") if tag == "a" else self._open

    def handle_data(self, text):
        if self._open and re.fullmatch(r"[\d,]+", text):
            self.counted.append((self._open, int(text.replace(",", ""))))
        self._open = None


@pytest.fixture(scope="module")
def site(shipped):
    return shipped


class Catalogue:
    """Who would be found by a link to the page of records."""

    def __init__(self, site):
        self.site, self.shards = site, {}

    def count(self, link):
        page, _, fragment = link.partition("#")
        assert page == "records.html", link
        given = dict(parse_qsl(fragment, keep_blank_values=True))
        names, wanted = given.pop("in").split(","), given.pop("id", None)
        total = 0
        for name in names:
            if name not in self.shards:
                shard = data_of(self.site, f"records/{name}")
                index = {key: np.array(column(values), dtype=object) for key, values in shard["index"].items()}
                index["id"] = np.array([f"{a}:{b}" for a, b in zip(index["file"], index["line"])], dtype=object)
                self.shards[name] = index
            index = self.shards[name]
            chosen = np.ones(len(index["id"]), dtype=bool)
            for key, text in {**given, **({"id": wanted} if wanted else {})}.items():
                chosen &= index[key] == text
            total += int(chosen.sum())
        return total


def links_in(value):
    """Every "link" of data of boards, times and heads."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "link":
                yield each
            else:
                yield from links_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from links_in(each)


def test_it_is_small_and_of_files_alone(site):
    files = [path for path in site.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    for name, _ in pages.PAGES:
        text = (site / name).read_text()
        links = Links(text).found
        assert len(links) > 6, name
        assert not [link for link in links if re.match(r"(https?:)?//", link)], name
        for link in links:
            target = unquote(link.partition("#")[0])
            if target and not target.startswith("data:"):
                there = (site / target).resolve()
                # Links back into the checkout hold where the site stands in results/site.
                assert there.exists() or target.startswith("../"), f"{name}: {link}"


def test_every_link_leads_to_records_and_counts_are_right(site):
    catalogue = Catalogue(site)
    page = Links((site / "index.html").read_text())
    assert len(page.counted) > 400
    for link, count in page.counted:
        assert catalogue.count(link) == count, link
    for name in ("boards", "times", "heads", "clips"):
        links = set(links_in(data_of(site, name)))
        assert len(links) > 10, name
        for link in links:
            assert catalogue.count(link) >= 1, f"{name}: {link}"
    link, count = page.counted[0]
    assert catalogue.count(link + "&policy=nobody") == 0  # the check can fail


def anchors(text):
    return set(re.findall(r' id="([^"]+)"', text))


def test_the_reports_links_lead_to_places_of_the_site(site):
    """results/report.md is short because the site has the rest: every link of it ends at an element that is there."""
    report = (RESULTS / "report.md").read_text()
    links = re.findall(r"\]\(site/([^)#]*)(?:#([^)]*))?\)", report)
    places = {name: anchors((site / name).read_text()) for name in {name for name, _ in links}}
    assert len(links) > 60 and "#table_latency" in report
    assert [(name, anchor) for name, anchor in links if anchor and anchor not in places[name]] == []
    assert "table_no_such_table" not in places["index.html"]  # the check can fail


def test_every_row_of_every_table_is_there_with_a_link(site):
    """Of the files beside the report, which has only some of them; but all_measurements.csv, which is the records."""
    text = (site / "index.html").read_text()
    found = dict(re.findall(r'<details id="table_(\w+)">(.*?)</details>', text, re.DOTALL))
    assert set(found) == {path.stem for path in (RESULTS / "tables").glob("*.csv")} - {"all_measurements"}
    for name, table in found.items():
        with open(RESULTS / "tables" / f"{name}.csv", newline="", encoding="utf-8") as stream:
            columns, *rows = csv.reader(stream)
        assert table.count('<th scope="row">') == len(rows), name
        assert table.count('<th scope="col"') == len(columns) + 1, name  # and the link
        assert table.count('<a href="records.html#') == len(rows), name


def test_every_verdict_of_records_has_a_link_to_them(site):
    sections = re.findall(
        r'<section class="panel claim" id="(\w+)"(.*?)</section>', (site / "index.html").read_text(), re.DOTALL
    )
    without = {name for name, text in sections if "records were read" not in text}
    assert len(sections) > 30 and without == {"table_2", "figure_5", "figure_6"}  # nothing was measured for them


def test_every_record_is_there(site):
    of_report, others, masks = sources.files_of(RESULTS)
    shards = data_of(site, "catalogue")["shards"]
    cells = [len(load_frame(files).frame) for files in (others, masks)]
    report = re.search(r"([\d,]+) records in \d+ files", (site / "index.html").read_text())[1]
    assert sum(shards.values()) == int(report.replace(",", "")) + cells[1]
    assert len(of_report) == 11 and set(others.values()) >= {"gpu/verify.jsonl", "gpu/peers_8bit.jsonl"}


def test_a_record_is_what_its_line_says(site):
    shard = data_of(site, "records/latency")
    lines = (RESULTS / "gpu" / "latency.jsonl").read_text().splitlines()
    files, numbers = column(shard["index"]["file"]), column(shard["index"]["line"])
    seen = 0
    for row, (file, number) in enumerate(zip(files, numbers)):
        if file != "gpu/latency.jsonl":
            continue
        record = json.loads(lines[int(number) - 1])
        assert column(shard["fields"]["timing.median_ms"])[row] == pytest.approx(
            record["timing"]["median_ms"], rel=1e-8
        )
        assert len(column(shard["fields"]["timing.samples_ms"])[row]) == len(record["timing"]["samples_ms"])
        assert column(shard["fields"]["build.commit"])[row] == record["build"]["commit"]
        assert column(shard["index"]["kernel"])[row] == record["config"]["kernel"]
        seen += 1
    assert seen > 50


def test_masks_and_maps_agree_with_their_records(site):
    """The mass that the explorer sees dropped is the record's: maps are float32, of up to 96 terms a row."""
    found = data_of(site, "heads")
    assert len(found) == 15
    masks = 0
    for head in found:
        mass = np.frombuffer(base64.b64decode(head["mass"]), dtype="<f4").astype(float)
        side = round(mass.size**0.5)
        mass = mass.reshape(side, side)
        frames, rows, columns = head["regions"]
        assert side == frames * rows * columns
        (_, height, width), (tall, wide) = head["grid"], head["region"]
        tokens = [
            min(tall, height - tall * row) * min(wide, width - wide * place)
            for row in range(rows)
            for place in range(columns)
        ]
        weights = np.array(tokens * frames, dtype=float)
        assert weights.sum() == np.prod(head["grid"])
        for name, budgets in head["masks"].items():
            for mask in budgets.values():
                packed = np.frombuffer(base64.b64decode(mask["bits"]), dtype=np.uint8)
                bits = np.unpackbits(packed)[: side * side].reshape(side, side)
                dropped = (mass * (1 - bits)).sum(axis=1) @ weights / weights.sum()
                assert 1 - dropped == pytest.approx(mask["metrics"]["attention_recall"], abs=2e-5), (
                    head["capture"],
                    name,
                )
                masks += 1
    assert masks > 1000


def test_a_mask_that_is_not_the_records_would_be_seen(site):
    head = data_of(site, "heads")[0]
    budgets = head["masks"]["oracle"]
    mass = np.frombuffer(base64.b64decode(head["mass"]), dtype="<f4").astype(float)
    wrong = np.unpackbits(np.frombuffer(base64.b64decode(budgets["0.5"]["bits"]), dtype=np.uint8))[: mass.size]
    side = round(mass.size**0.5)
    assert abs((mass * wrong).sum() / side - budgets["0.9"]["metrics"]["attention_recall"]) > 1e-3


def test_bits_are_packed_row_by_row():
    packed = base64.b64decode(heads.packed_mask(["101", "010", "111"]))
    assert [f"{byte:08b}" for byte in packed] == ["10101011", "10000000"]


def test_traced_records_know_what_was_asked():
    frame = load_frame([RESULTS / "gpu" / "remainder.jsonl"]).frame
    records = sources.Traced(frame)

    def shared(found):
        return len(found.of("latency"))

    records.of("peers")
    records.once(shared)
    assert records.asked == {"peers", "latency"}
    records.asked = set()
    records.once(shared)  # not made again, but asked for by this part too
    assert records.asked == {"latency"}
    records.of("bounds", stills=True)
    assert records.asked == {"latency", "bounds_stills"}


def test_rows_name_their_records():
    cells = sources._load({RESULTS / "gpu" / "latency.jsonl": "gpu/latency.jsonl"})
    cells.frame = sources._named(cells)
    index = store.index_of(cells.frame)
    found, chosen = verdicts.behind(
        {"kernel": "wgmma", "sparsity": 0.9, "policy": "no policy of a record", "heads": 24}, index
    )
    assert chosen == {"kernel": "wgmma", "sparsity": "0.9"}
    assert 0 < len(found) < len(index) and set(found["kernel"]) == {"wgmma"}
    assert verdicts.behind({"share": 0.5}, index)[1] == {}
    bounds = sources._load({RESULTS / "gpu" / "all_heads.jsonl.gz": "gpu/all_heads.jsonl.gz"})
    bounds.frame = sources._named(bounds)
    found, chosen = verdicts.behind({"heads": "layer 3"}, store.index_of(bounds.frame))
    assert chosen == {"layer": "3"} and set(found["layer"]) == {"3"} and len(found) > 100
    assert verdicts.behind({"heads": "the middle third"}, index)[1] == {}


def test_text_of_records_is_no_markup():
    from lab.report.foreign import inert

    assert verdicts.html(inert("<script>alert(1)</script> [x](javascript:alert(1))")).count("<") == 0
    assert verdicts.html("a `b` [c](d.md)") == 'a <code>b</code> <a href="d.md">c</a>'
    value = json.loads(gzip.decompress(base64.b64decode(SITE.fullmatch(store.script("x", ["</script>"]))[2])))
    assert value == ["</script>"]


FEW = ("remainder.jsonl", "peers.jsonl")


def few_records():
    """What the site says of their number."""
    return f"{sum(len((RESULTS / 'gpu' / name).read_text().splitlines()) for name in FEW)} records"


@pytest.fixture
def small(tmp_path):
    """A folder of few records, and a file that stands for D3."""
    results = tmp_path / "results"
    (results / "gpu").mkdir(parents=True)
    for name in FEW:
        shutil.copyfile(RESULTS / "gpu" / name, results / "gpu" / name)
    shutil.copytree(RESULTS / "plots", results / "plots")
    d3 = tmp_path / "d3.min.js"
    d3.write_text("// D3\n")
    return results, tmp_path / "site", d3


def made(small, capsys, *more):
    results, out, d3 = small
    status = main(["--results", str(results), "--out", str(out), "--d3", str(d3), *more])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_few_records_make_a_site_too_and_twice_the_same(small, capsys):
    assert made(small, capsys)[0] == 0
    first = {path.relative_to(small[1]): path.read_bytes() for path in small[1].rglob("*") if path.is_file()}
    status, out, err = made(small, capsys)
    assert (status, err) == (0, "") and few_records() in out
    assert first == {path.relative_to(small[1]): path.read_bytes() for path in small[1].rglob("*") if path.is_file()}


def test_failed_records_are_said(small, capsys):
    results, out, _ = small
    lines = (results / "gpu" / "remainder.jsonl").read_text().splitlines(keepends=True)
    first = json.loads(lines[0]) | {"status": "failed", "reason": "<b>wrong</b>"}
    (results / "gpu" / "remainder.jsonl").write_text(json.dumps(first) + "\n" + "".join(lines[1:])[:-20])
    status, said, err = made(small, capsys)
    assert status == 1 and few_records() not in said
    assert "site: 1 failed records" in err and "remainder.jsonl:8: an incomplete last line" in err
    index = (out / "index.html").read_text()
    assert 'role="alert"' in index and "1 failed records" in index
    assert Catalogue(out).count(Links(index[index.index('role="alert"') :]).found[0]) == 1
    shard = data_of(out, "records/latency")
    assert "<b>wrong</b>" in column(shard["fields"]["reason"])


def test_failed_runs_of_tests_are_said_and_stop_nothing(small, capsys):
    results, out, _ = small
    run = json.loads((RESULTS / "gpu_tests.jsonl").read_text().splitlines()[-1])
    failed = run | {"status": "failed", "reason": "failed: <b>Kernels</b>.NaN"}
    passed = run | {"status": "ok"}
    (results / "gpu_tests.jsonl").write_text(f"{json.dumps(failed)}\n")
    status, _, err = made(small, capsys)
    assert (status, err) == (0, "")
    alert = (out / "index.html").read_text()
    alert = alert[alert.index('role="alert"') :]
    assert f"gpu_tests: {run['config']['suite']} failed: &lt;b&gt;Kernels&lt;/b&gt;.NaN" in alert
    assert Catalogue(out).count(Links(alert).found[0]) == 1
    (results / "gpu_tests.jsonl").write_text(f"{json.dumps(failed)}\n{json.dumps(passed)}\n")
    assert made(small, capsys)[0] == 0 and 'role="alert"' not in (out / "index.html").read_text()


def refused(small, capsys, *more):
    before = sorted(small[1].rglob("*")) if small[1].exists() else None
    status, out, err = made(small, capsys, *more)
    assert status == 2 and out == "" and err.count("\n") == 1 and err.startswith("site: "), (status, out, err)
    assert (sorted(small[1].rglob("*")) if small[1].exists() else None) == before
    assert not list(small[1].parent.glob(".unfinished-*"))
    return err


def test_what_is_refused(small, capsys, monkeypatch):
    results, out, d3 = small
    assert "wanted" in refused(small, capsys, "--d3", str(d3) + ".none")
    monkeypatch.setattr(pages, "D3", (results / "no_d3.js",))
    with pytest.raises(pages.Unfit, match="node-d3"):
        pages.find_d3()
    shutil.rmtree(results / "plots")
    assert ".svg: wanted the report's plot" in refused(small, capsys)
    (results / "gpu" / "remainder.jsonl").write_text('{"schema": 2}\n')
    assert "experiment: wanted a name, found nothing" in refused(small, capsys)
    shutil.rmtree(results / "gpu")
    assert "wanted files of records such as records.jsonl, found none" in refused(small, capsys)


def test_what_is_no_site_is_kept(small, capsys):
    small[1].mkdir()
    (small[1] / "index.html").write_text("<p>mine</p>")
    assert "it is kept" in refused(small, capsys)
    assert (small[1] / "index.html").read_text() == "<p>mine</p>"
