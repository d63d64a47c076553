import json

import pytest

from cmemd.errors import InputError
from cmemd.evaluation.protocols import get_protocol
from cmemd.evaluation.results import (
    format_comparison,
    format_table,
    read_results,
    results_document,
    write_results,
)
from cmemd.evaluation.scoring import FIGURES, score_all


@pytest.fixture(scope="module")
def scores(random_samples):
    protocols = [get_protocol("sysu-indoor-1shot"), get_protocol("sysu-all-1shot")]
    return score_all(random_samples(0), protocols)


@pytest.fixture
def document(scores):
    return results_document(scores)


def test_schema(document):
    assert list(document) == ["protocols"]
    assert list(document["protocols"]) == ["sysu-indoor-1shot", "sysu-all-1shot"]
    entry = document["protocols"]["sysu-all-1shot"]
    assert set(entry) == {
        *FIGURES,
        *("std", "per_trial", "trials", "draw", "metric", "cmc"),
        *("queries", "queries_without_positive", "gallery"),
    }
    assert set(entry["std"]) == set(entry["per_trial"]) == set(FIGURES)
    assert entry["trials"] == 10 == len(entry["per_trial"]["mAP"])
    assert (entry["draw"], entry["metric"], entry["cmc"]) == ("python", "euclidean", "identities")
    assert (entry["queries"], entry["gallery"]) == (39, 26)


def test_figures_are_percent_and_not_rounded(document, scores, tmp_path):
    write_results(document, tmp_path / "results.json")
    stored = read_results(tmp_path / "results.json")
    assert stored == document
    entry, result = stored["protocols"]["sysu-all-1shot"], scores["sysu-all-1shot"]
    assert entry["mAP"] == 100 * result.mean()["mAP"]
    assert entry["std"]["mINP"] == 100 * result.std()["mINP"]
    assert entry["mAP"] != round(entry["mAP"], 6)


def test_writing_makes_the_folder_and_leaves_nothing_else(document, tmp_path):
    write_results(document, tmp_path / "new" / "results.json")
    write_results(document, tmp_path / "new" / "results.json")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(document, tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("old")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(InputError, match="No space left on device; choose another output folder"):
        write_results(document, path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_output_folder_that_is_a_file_is_refused(document, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another output folder"):
        write_results(document, tmp_path / "file" / "results.json")


def test_table_shows_mean_and_spread(document):
    entry = document["protocols"]["sysu-all-1shot"]
    table = format_table(document)
    lines = table.splitlines()
    headings = ["Protocol", "Draw", "Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP"]
    assert lines[0].split() == headings
    assert len(lines) == 4
    assert lines[3].startswith("sysu-all-1shot")
    assert f"{entry['mAP']:.2f} ± {entry['std']['mAP']:.2f}" in lines[3]


def test_comparison_keeps_the_rows_of_a_protocol_together(document):
    other = {"protocols": {"sysu-all-1shot": document["protocols"]["sysu-all-1shot"]}}
    lines = format_comparison({"1e5": document, "b": other}).splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [
        ["sysu-indoor-1shot", "1e5"],
        ["sysu-all-1shot", "1e5"],
        ["sysu-all-1shot", "b"],
    ]


def test_a_name_that_looks_like_a_number_stays_a_name(document):
    assert "1e5" in format_comparison({"1e5": document})


def broken(document, key, value):
    copy = json.loads(json.dumps(document))
    copy["protocols"]["sysu-all-1shot"][key] = value
    return json.dumps(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda _: "{", "expected JSON"),
        (lambda _: "[]", "got no protocols"),
        (lambda _: '{"protocols": {}}', "got no protocols"),
        (lambda _: '{"protocols": {"x": 1}}', "no figures for x"),
        (lambda d: broken(d, "mAP", "high"), "no mAP for sysu-all-1shot"),
        (lambda d: broken(d, "rank1", True), "no rank1 for sysu-all-1shot"),
        (lambda d: broken(d, "std", {}), "no rank1 for sysu-all-1shot"),
        (lambda d: broken(d, "draw", None), "no draw for sysu-all-1shot"),
    ],
)
def test_files_that_are_no_results_are_refused(document, tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_text(content(document))
    with pytest.raises(InputError, match=message):
        read_results(path)


def test_a_missing_file_and_one_that_is_not_text_are_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_results(tmp_path / "results.json")
    (tmp_path / "results.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="expected JSON"):
        read_results(tmp_path / "results.json")
