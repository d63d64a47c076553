import argparse
import json

import pytest

from cmemd.cli import compare
from cmemd.errors import InputError

METRICS = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")
COUNTS = (
    *("queries", "queries_without_positive", "gallery"),
    *("non_finite_features", "zero_features", "pairs_without_image"),
)


def write(path, value, protocols=("sysu-all-1shot",), **changed):
    entry = {
        **{"description": "", "draw": "official", "metric": "euclidean", "flip": False},
        **{"reranking": None, "cmc": "identities", "trials": 10},
        "mean": dict.fromkeys(METRICS, value),
        "std": dict.fromkeys(METRICS, 0.5),
        "per_trial": dict.fromkeys(METRICS, [value]),
        "counts": dict.fromkeys(COUNTS, 0),
    }
    document = {
        "schema": "cmemd-results",
        "version": 1,
        "scores": [entry | {"protocol": name} | changed for name in protocols],
        "run": {},
        "versions": dict.fromkeys(("python", "numpy", "cmemd", "commit")),
        "per_query": None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return str(path)


def run(*words):
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    return compare.run(parser.parse_args(words))


def names(text):
    return [line.split()[0] for line in text.splitlines()[3:5]]


def test_a_table_per_protocol_and_a_row_per_file_named_by_folder(tmp_path, capsys):
    both = ("sysu-all-1shot", "sysu-indoor-1shot")
    first = write(tmp_path / "baseline" / "results.json", 41.239, both)
    second = write(tmp_path / "cmemd" / "results.json", 50, both)
    assert run(first, second) == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert [table.split(":")[0] for table in tables] == list(both)
    for table in tables:
        lines = table.strip().splitlines()
        assert lines[3].split()[:2] == ["baseline", "41.24"]
        assert lines[4].split()[:2] == ["cmemd", "50.00"]
        assert lines[-1].split()[:4] == ["cmemd", "-", "baseline", "+8.76"]


def test_different_protocols_are_refused(tmp_path):
    first = write(tmp_path / "a" / "results.json", 1)
    second = write(tmp_path / "b" / "results.json", 2, ("sysu-indoor-1shot",))
    with pytest.raises(InputError, match="cannot be compared"):
        run(first, second)
    other_draw = write(tmp_path / "c" / "results.json", 2, draw="python")
    with pytest.raises(InputError, match="cannot be compared"):
        run(first, other_draw)


def test_names_can_be_given(tmp_path, capsys):
    path = write(tmp_path / "run" / "results.json", 1)
    other = write(tmp_path / "run2" / "results.json", 2)
    run(path, other, "--names", "before", "after")
    assert names(capsys.readouterr().out) == ["before", "after"]


def test_folders_of_one_name_are_told_apart_by_path(tmp_path, capsys):
    paths = [write(tmp_path / seed / "eval" / "results.json", 1) for seed in ("a", "b")]
    run(*paths)
    assert names(capsys.readouterr().out) == paths


def test_bad_names_and_files_are_refused(tmp_path):
    path = write(tmp_path / "run" / "results.json", 1)
    with pytest.raises(InputError, match="expected 1 different names"):
        run(path, "--names", "a", "b")
    with pytest.raises(InputError, match="expected 2 different names"):
        run(path, path)
    with pytest.raises(InputError, match="No such file"):
        run(str(tmp_path / "nothing.json"))
