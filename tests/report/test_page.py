"""The page of a run: complete, self-contained, escaped, and honest about what is missing."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.cli.test_compare import write as write_results_file
from tests.conftest import CONFIGS, start_train_net
from tests.report.conftest import SHORT

from cmemd.errors import InputError
from cmemd.report.page import LARGEST, write_report

SECTIONS = [
    *("metrics", "training", "rates", "galleries", "space", "plans", "stripes", "activations"),
    *("open-set", "provenance"),
]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a test asks of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.open, self.words = text, [], [], []
        self.section, self.lacking = "", {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page(folder: Path, output: Path, **options) -> Page:
    path = write_report(folder, output, **options)
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(finished_run, tmp_path_factory) -> Page:
    return page(finished_run, tmp_path_factory.mktemp("page"))


def test_every_section_is_there_and_filled(whole):
    assert [attrs["id"] for attrs in whole.all("section")] == SECTIONS
    assert not whole.open
    filled = set(re.findall(r'<li><a href="#([\w-]+)"', whole.text))
    # Twenty identities in one gallery: every query has its person there.
    assert filled >= set(SECTIONS) - {"open-set"}


def test_a_list_of_ones_own_has_its_times_and_mixed_galleries_their_words(
    datasets, tmp_path, monkeypatch
):
    rows = ["path,identity,modality,camera,time"]
    for number, path in enumerate(sorted((datasets / "Own").glob("*/*/*.*"))):
        camera, time = path.name.partition("_")[0], f"2026-03-01T{(0, 20)[number % 2]:02d}:30:00"
        rows.append(f"{path},{path.parts[-2]},{path.parts[-3]},{camera},{time}")
    (tmp_path / "people.csv").write_text("\n".join(rows))
    for protocols, sides in (
        ("('own-t2v', 'own-mixed')", "Thermal queries, visible gallery of"),
        ("('own-mixed', 'own-t2v')", "Queries and gallery of both modalities, of"),
    ):
        opts = SHORT | {
            "SOLVER.MAX_EPOCH": "1",
            "DATASETS.OWN.LIST": str(tmp_path / "people.csv"),
            "TEST.PROTOCOLS": protocols,
            "OUTPUT_DIR": str(tmp_path / protocols[6:9]),
        }
        assert start_train_net(monkeypatch, config=CONFIGS / "own_cpu.yml", opts=opts) == 0
        found = page(tmp_path / protocols[6:9], tmp_path / "page", seed=0)
        assert "time of day: night, 0 to 6 h" in found.text, protocols
        assert "evening, 18 to 24 h" in found.text, protocols
        assert sides in " ".join(found.words), protocols
        assert not [words for words in found.lacking if "time of day" in words], protocols


def test_nothing_is_loaded_and_nothing_runs(whole):
    for tag, attrs in whole.tags:
        assert tag not in ("script", "link", "iframe", "object"), tag
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "data", "action"):
                local = value.startswith(("data:image/", "#"))
                assert local, (tag, name, value[:80])
    assert not re.search(r"https?://|url\((?!#)|@import", whole.text)
    assert len(whole.text.encode()) < LARGEST


def test_headings_are_in_order_and_pictures_and_tables_have_their_words(whole):
    levels = [int(tag[1]) for tag, _ in whole.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all(attrs.get("alt") for attrs in whole.all("img"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in whole.all("th"))
    drawn = [attrs for attrs in whole.all("div") if attrs.get("role") == "img"]
    assert len(drawn) > 10
    assert all(len(attrs["aria-label"]) > 20 for attrs in drawn)


def test_the_head_says_what_decides_whether_numbers_count(whole, finished_run):
    words = " ".join(" ".join(whole.words).split())
    score = json.loads((finished_run / "results.json").read_text())["scores"][0]
    for said in (
        f"{score['mean']['rank1']:.1f} %",
        "stand-in for SYSU-MM01: drawn people",
        "last epoch, epoch 3",
        "Leak guard: clean",
        "Interruptions: none",
        json.loads((finished_run / "run.json").read_text())["digest"],
    ):
        assert said in words, said


def test_right_wrong_and_removed_differ_in_more_than_colour(whole):
    marks = {attrs.get("class") for attrs in whole.all("li")}
    assert {"query", "right", "wrong", "removed"} <= marks
    assert {"✓", "✗"} <= set(whole.words)
    alts = {attrs["alt"].split(":")[0] for attrs in whole.all("img")}
    assert {"Query", "Right", "Wrong", "Removed"} <= alts


def test_plans_of_every_granularity_are_shown_beside_their_costs(whole):
    titles = [word for word in whole.words if word.startswith(("Global", "Local:", "Accumulated"))]
    for title in ("Global", "Local: stripe 3 of 3", "Accumulated: stripes 1 to 3"):
        assert title in titles
    cells = [attrs for attrs in whole.all("span") if attrs.get("class") == "cell"]
    sides = [float(re.search(r"--side:([\d.]+)", attrs["style"])[1]) for attrs in cells]
    # Exact plans of as many visible as thermal images are matchings: whole squares, or none.
    assert set(sides) == {0.0, 1.0}
    assert len(cells) % 6 == 0  # 1 + 3 + 2 features


def test_the_same_run_gives_the_same_page(finished_run, tmp_path, whole):
    assert page(finished_run, tmp_path / "again.html").text == whole.text


def test_a_run_without_features_says_which_key_brings_them(finished_run, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("results.json", "results.per_query.npz", "run.json", "metrics.json"):
        shutil.copy(finished_run / name, bare)
    found = page(bare, tmp_path / "out")
    assert [attrs["id"] for attrs in found.all("section")] == SECTIONS
    assert found.text.count("TEST.SAVE_FEATURES True") >= 6
    assert "Rank-1 by query camera" in found.text  # needs no features


def test_an_unfinished_run_shows_its_curves(finished_run, tmp_path):
    started = tmp_path / "started"
    started.mkdir()
    for name in ("run.json", "metrics.json"):
        shutil.copy(finished_run / name, started)
    found = page(started, tmp_path / "out")
    assert "unfinished" in found.text
    assert "Total loss over iterations" in found.text
    assert "--resume" in found.text


def test_features_of_another_evaluation_are_not_shown(finished_run, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(finished_run, mixed)
    arrays = dict(np.load(mixed / "features.npz"))
    np.savez(mixed / "features.npz", **arrays | {"feats": arrays["feats"][::-1].copy()})
    found = page(mixed, tmp_path / "out")
    assert "features that give the results" in found.text
    assert not found.all("img")


def test_images_that_moved_are_found_below_images_or_their_absence_is_said(
    finished_run, datasets, tmp_path
):
    moved = tmp_path / "moved"
    shutil.copytree(finished_run, moved)
    arrays = dict(np.load(moved / "features.npz"))
    paths = np.array([p.replace(str(datasets), "/nowhere") for p in arrays["paths"].tolist()])
    np.savez(moved / "features.npz", **arrays | {"paths": paths})
    official = json.loads((moved / "results.json").read_text())["scores"][0]["draw"] == "official"
    found = page(moved, tmp_path / "lost")
    assert "--images FOLDER" in found.text
    assert official
    assert not found.all("img")
    found = page(moved, tmp_path / "found", images=datasets / "SYSU-MM01")
    assert len(found.all("img")) > 50


def test_the_last_line_of_an_iteration_counts_and_half_a_line_is_passed_over(
    finished_run, tmp_path
):
    from cmemd.report.run import open_run

    resumed = tmp_path / "resumed"
    resumed.mkdir()
    shutil.copy(finished_run / "run.json", resumed)
    lines = [{"iteration": n, "total_loss": float(n)} for n in (9, 19, 29)]
    lines += [{"iteration": n, "total_loss": 100.0 + n} for n in (19, 29)]
    text = "\n".join(map(json.dumps, lines)) + '\n{"iteration": 39, "total_l'
    (resumed / "metrics.json").write_text(text)
    x, y = open_run(resumed, "resumed").scalars["total_loss"]
    assert x.tolist() == [10, 20, 30]
    assert y.tolist() == [9, 119, 129]


def test_names_and_labels_are_escaped(tmp_path):
    odd = tmp_path / "<script>alert(1)</script>"
    write_results_file(
        odd / "results.json", 41.0, ("<b>proto</b>",), description="<img src=x onerror=alert(1)>"
    )
    found = page(odd, tmp_path / "out")
    assert not found.all("script")
    assert not found.all("b")
    assert not found.all("img")
    assert "&lt;b&gt;proto" in found.text


def test_runs_side_by_side_have_paired_differences(finished_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(finished_run, other)
    found = page(finished_run, tmp_path / "out", compare=[other])
    assert [attrs["id"] for attrs in found.all("section")][1] == "comparison"
    words = " ".join("".join(found.words).split())
    assert "other − run" in words
    assert "+0.00 [+0.00, +0.00]" in words
    assert "CMC of each run" in found.text


def test_what_cannot_be_reported_is_refused(finished_run, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(finished_run, old)
    document = json.loads((old / "results.json").read_text())
    (old / "results.json").write_text(json.dumps(document | {"version": 0}))
    empty, mine = tmp_path / "empty", tmp_path / "mine.html"
    empty.mkdir()
    mine.write_text("my own page")
    regdb = tmp_path / "regdb"
    write_results_file(regdb / "results.json", 1.0, ("regdb-v2t",))
    for options, message in (
        ({"folder": old}, "a results file of version 1"),
        ({"folder": empty}, "neither run.json nor results.json"),
        ({"folder": tmp_path / "none"}, "no such folder"),
        ({"compare": [regdb]}, "results files that share a protocol"),
        ({"compare": [finished_run]}, "each run once"),
        ({"output": mine}, "one that the same command wrote"),
        ({"images": mine}, "the data set's folder at --images"),
        ({"seed": -1}, "--seed from 0"),
    ):
        call = {"folder": finished_run, "output": tmp_path / "out"} | options
        with pytest.raises(InputError, match=message):
            write_report(call.pop("folder"), call.pop("output"), **call)
    assert not (tmp_path / "out").exists()
    assert mine.read_text() == "my own page"


ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "fastreid", "yacs", "openTSNE"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from cmemd.cli.main import main
raise SystemExit(main(["report", "--run", sys.argv[1], "--output", sys.argv[2]]))
"""


def test_without_torch_only_the_sections_of_the_network_are_skipped(finished_run, tmp_path):
    words = [sys.executable, "-c", ABSENT, str(finished_run), str(tmp_path / "out.html")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert text.count("torch is not installed; the network is needed") == 3
    assert set(re.findall(r'<li class="empty"><a href="#([\w-]+)"', text)) <= {
        *("plans", "stripes", "activations", "open-set")
    }
    assert "Principal components" in text
