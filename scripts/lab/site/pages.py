"""Writes the site: pages of templates, data as scripts, the report's plots and the videos' pictures; all of it or nothing."""

import os
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import jinja2
from PIL import Image

from lab.dataset.flat import better_of, meaning_of, unit_of
from lab.report.foreign import plain
from lab.report.frame import rows, where
from lab.report.page import CLIPS, PAGE_OF_VERDICTS
from lab.shared.files import ROOT
from lab.shared.metrics import TEST_RUNS

from . import boards, heads, store, verdicts

HERE = Path(__file__).parent
PAGES = (
    (PAGE_OF_VERDICTS, "Verdicts"),
    ("leaderboard.html", "Leaderboard"),
    ("heads.html", "Heads"),
    ("kernels.html", "Kernels"),
    ("videos.html", "Videos"),
    ("records.html", "Records"),
)
D3 = (ROOT / "node_modules/d3/dist/d3.min.js", Path("/usr/share/nodejs/d3/dist/d3.min.js"))  # npm's, Debian's
MARK = 'name="generator" content="lab.site"'
SVG_SIZE = re.compile(r'width="([\d.]+)pt" height="([\d.]+)pt"')
MOVING, STRIP = "dense_beside_draft.gif", "dense_beside_draft_frames.png"


class Unfit(ValueError):
    """What the site cannot be made of, or where it cannot be written: one line."""


def find_d3(path=None):
    """The file of the library D3. Raises Unfit where there is none."""
    for each in [Path(path)] if path else D3:
        if each.is_file():
            return each
    wanted = path or "D3 (Debian: node-d3; npm: d3; or --d3 FILE)"
    raise Unfit(f"wanted {wanted}, found {'no file there' if path else 'none of ' + ', '.join(map(str, D3))}")


def require_own(out):
    """Raises Unfit where the site would replace what is no site."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    index = out / "index.html"
    if not index.is_file() or MARK not in index.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise Unfit(f"{out}: wanted an empty folder or a site of lab.site, found something else; it is kept")


def write(sources, paper, results, out, d3):
    """Makes the site in `out`; returns its size in bytes, and what pages.problems_of says. Raises Unfit, OSError; then `out` is as it was."""
    results, out = Path(results), Path(out)
    require_own(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=out.parent))
    try:
        unfinished.chmod(0o755)
        problems = _make(sources, paper, results, unfinished, os.path.relpath(results, out), d3)
        if out.exists():
            shutil.rmtree(out)
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file()), problems


def _make(sources, paper, results, folder, back, d3):
    index = store.index_of(sources.every.frame)
    found = verdicts.findings(sources.reported, index.loc[sources.reported.frame.index], paper)
    shutil.copytree(HERE / "assets", folder / "assets")
    shutil.copyfile(d3, folder / "assets" / "d3.min.js")
    sizes = _copy_plots(found, results, folder)
    stills, strip = _copy_pictures(results / "video" / "pictures", folder / "pictures")
    every = sources.every
    of_heads = heads.heads(every.of("maps"), sources.masks.of("policies"))
    data = folder / "data"
    (data / "records").mkdir(parents=True)
    shards = store.shards(every.frame) | store.shards(sources.masks.frame)
    for name, shard in shards.items():
        _write_script(data, f"records/{name}", shard)
    fields = {field for shard in shards.values() for field in shard["fields"]}
    _write_script(
        data,
        "catalogue",
        {"shards": {name: shard["count"] for name, shard in shards.items()}, "fields": _described(fields)},
    )
    of_videos = boards.videos(every)
    board = {
        "policies": boards.policies(every, index),
        "kernels": boards.kernels(every),
        "videos": [row for row, _ in of_videos],
    }
    _write_script(data, "boards", board)
    _write_script(data, "times", boards.times(every))
    _write_script(data, "heads", of_heads)
    _write_script(data, "clips", [clips for _, clips in of_videos])
    context = {
        "pages": PAGES,
        "findings": found,
        "counts": verdicts.counts(found),
        "measured": verdicts.measured_of(sources.reported, index),
        "heads": len(of_heads),
        "sizes": sizes,
        "stills": stills,
        "strip": strip,
        "problems": [*problems_of(every, index), *failed_tests(every, index)],
        "significant": store.SIGNIFICANT,
        "results": back,
        "records": len(every.frame),
        "files": every.frame["file"].nunique(),
        **_provenance(every),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name, _ in PAGES:
        text = environment.get_template(f"{name}.j2").render(page=name, **context)
        text = text.replace('href="../', f'href="{back}/../')  # the report's words link as results/report.md does
        (folder / name).write_text(text, encoding="utf-8")
    return problems_of(every, index)


def problems_of(records, index):
    """[(words, link or "")] on failed records and lines that a stopped run left."""
    failed = records.of(status="failed")
    failed = index.loc[failed.index[~failed["experiment"].isin(TEST_RUNS)]]
    found = [(f"{len(failed)} failed records", store.records_link(failed, {"status": "failed"}))] if len(failed) else []
    return found + [(f"unreadable: {plain(text)}", "") for text in records.incomplete]


def failed_tests(records, index):
    """[(words, link)] on runs of tests that failed: no number of the site is theirs, so they are said, and that is all."""
    failed = records.of(status="failed")
    failed = failed[failed["experiment"].isin(TEST_RUNS)]
    return [
        (
            plain(f"{row.experiment}: {row.config.get('suite', 'a run')} {row.reason}"),
            store.records_link(index.loc[[row.Index]], {}),
        )
        for row in failed.itertuples()
    ]


def _write_script(data, name, value):
    (data / f"{name}.js").write_text(store.script(name, value), encoding="ascii")


def _described(fields):
    """{field: {"meaning", "unit", "better"}} of those that the format describes."""
    found = {}
    for field in sorted(fields):
        known = {"meaning": meaning_of(field), "unit": unit_of(field), "better": better_of(field)}
        if known := {name: text for name, text in known.items() if text}:
            found[field] = known
    return found


def _copy_plots(found, results, folder):
    """{stem: (width, height)}, so that a page knows the plots' places before it loads them."""
    sizes = {}
    (folder / "plots").mkdir()
    for stem in sorted({stem for section in found for stem, _, _ in section.pictures}):
        source = results / "plots" / f"{stem}.svg"
        if not source.is_file():
            raise Unfit(
                f"{source}: wanted the report's plot, found none: python3 -m lab.report makes it of these records"
            )
        shutil.copyfile(source, folder / "plots" / source.name)
        with open(source, encoding="utf-8") as stream:
            size = SVG_SIZE.search(stream.read(2000))
        sizes[stem] = [round(float(side) * 2) for side in size.groups()] if size else (1152, 576)
    return sizes


def _copy_pictures(source, target):
    """Stills as [(file, words, size)], and the moving clips as one picture of all frames, one below the other; None without."""
    target.mkdir()
    stills, strip = [], None
    for name, words in CLIPS:
        if not (source / name).is_file():
            continue
        if name != MOVING:
            shutil.copyfile(source / name, target / name)
            with Image.open(source / name) as still:
                stills.append((name, words, still.size))
            continue
        with Image.open(source / name) as moving:
            width, height, frames = *moving.size, moving.n_frames
            whole = Image.new("RGB", (width, height * frames))
            for number in range(frames):
                moving.seek(number)
                whole.paste(moving.convert("RGB"), (0, number * height))
        whole.quantize(256).save(target / STRIP, optimize=True)
        strip = {"file": STRIP, "width": width, "height": height, "frames": frames, "words": words}
    return stills, strip


def _provenance(records):
    commits = Counter(
        plain(cell.commit) for cell in rows(where(records.frame, [bool(text) for text in records.frame["commit"]]))
    )
    machines = {plain(gpu or cpu or "") for gpu, cpu in zip(records.frame["gpu"], records.frame["cpu"])}
    return {"commits": [name for name, _ in commits.most_common()], "machines": sorted(machines - {""})}
