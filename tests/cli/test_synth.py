import json

import pytest

from cmemd.cli import main as cli

FEW = ["--ids", "5", "--per-camera", "1", "--size", "40x20", "--seed", "3"]


def synth(root, *words: str) -> int:
    return cli.main(["synth", "--layout", "sysu", "--root", str(root), *words])


def test_draws_what_the_arguments_say(tmp_path, capsys):
    assert synth(tmp_path / "SYSU-MM01", *FEW) == 0
    header = json.loads((tmp_path / "SYSU-MM01/meta.jsonl").read_text().splitlines()[0])
    assert (header["ids"], header["per_camera"], header["size"]) == (5, 1, [40, 20])
    assert header["seed"] == 3
    captured = capsys.readouterr()
    assert captured.out == f"drew 5 people into {tmp_path / 'SYSU-MM01'}\n"
    assert captured.err == ""  # a progress bar is for terminals


def test_draws_the_other_layouts(tmp_path):
    for layout, standin in (("regdb", "RegDB"), ("llcm", "LLCM")):
        root = tmp_path / layout
        assert cli.main(["synth", "--layout", layout, "--root", str(root), *FEW]) == 0
        header = json.loads((root / "meta.jsonl").read_text().splitlines()[0])
        assert (header["standin"], header["ids"], header["seed"]) == (standin, 5, 3)


def test_a_size_that_is_not_height_x_width_is_refused(tmp_path, capsys):
    for size in ("144", "144x", "x72", "144,72", "-144x72", "144x72x3", "14.4x72"):
        with pytest.raises(SystemExit) as end:
            synth(tmp_path / "SYSU-MM01", f"--size={size}")
        assert end.value.code == 2, size
        assert capsys.readouterr().err == (
            f"error: expected --size as HxW, got '{size}': write it as in 144x72\n"
        )
    assert list(tmp_path.iterdir()) == []


def test_numbers_out_of_range_are_one_line_and_status_2(tmp_path, capsys):
    for words in (("--ids", "4"), ("--per-camera", "0"), ("--seed", "-1"), ("--size", "16x8")):
        with pytest.raises(SystemExit) as end:
            synth(tmp_path / "SYSU-MM01", *words)
        assert end.value.code == 2, words
        error = capsys.readouterr().err
        assert error.startswith("error: expected "), words
        assert error.count("\n") == 1, words
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(tmp_path, capsys):
    (tmp_path / "mine").touch()
    with pytest.raises(SystemExit) as end:
        synth(tmp_path, *FEW)
    assert end.value.code == 2
    assert f"{tmp_path}, which is in use" in capsys.readouterr().err


def test_an_unknown_layout_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["synth", "--layout", "market", "--root", str(tmp_path / "new")])
    assert end.value.code == 2
    assert "invalid choice: 'market'" in capsys.readouterr().err
