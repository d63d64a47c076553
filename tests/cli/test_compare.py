import argparse
import json

import pytest

from cmemd.cli import compare
from cmemd.errors import InputError

FIGURES = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")


def write(path, value, protocols=("sysu-all-1shot",)):
    entry = dict.fromkeys(FIGURES, value)
    entry |= {"std": dict.fromkeys(FIGURES, 0.5), "draw": "official", "metric": "euclidean"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"protocols": dict.fromkeys(protocols, entry)}))
    return str(path)


def run(*words):
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    return compare.run(parser.parse_args(words))


def rows(text):
    return [line.split()[:5] for line in text.splitlines()[2:]]


def test_a_row_per_protocol_and_file_named_by_folder(tmp_path, capsys):
    both = ("sysu-all-1shot", "sysu-indoor-1shot")
    first = write(tmp_path / "baseline" / "results.json", 41.239, both)
    second = write(tmp_path / "cmemd" / "results.json", 50, both)
    assert run(first, second) == 0
    assert rows(capsys.readouterr().out) == [
        ["sysu-all-1shot", "baseline", "official", "euclidean", "41.24"],
        ["sysu-all-1shot", "cmemd", "official", "euclidean", "50.00"],
        ["sysu-indoor-1shot", "baseline", "official", "euclidean", "41.24"],
        ["sysu-indoor-1shot", "cmemd", "official", "euclidean", "50.00"],
    ]


def test_names_of_ones_own(tmp_path, capsys):
    path = write(tmp_path / "run" / "results.json", 1)
    other = write(tmp_path / "run2" / "results.json", 2)
    run(path, other, "--names", "before", "after")
    assert [row[1] for row in rows(capsys.readouterr().out)] == ["before", "after"]


def test_folders_of_one_name_are_told_apart_by_path(tmp_path, capsys):
    paths = [write(tmp_path / seed / "eval" / "results.json", 1) for seed in ("a", "b")]
    run(*paths)
    assert [row[1] for row in rows(capsys.readouterr().out)] == paths


def test_bad_names_and_files_are_refused(tmp_path):
    path = write(tmp_path / "run" / "results.json", 1)
    with pytest.raises(InputError, match="expected 1 different names"):
        run(path, "--names", "a", "b")
    with pytest.raises(InputError, match="expected 2 different names"):
        run(path, path)
    with pytest.raises(InputError, match="No such file"):
        run(str(tmp_path / "nothing.json"))
