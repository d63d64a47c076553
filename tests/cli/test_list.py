"""``cmemd list`` and the commands that read what it writes."""

import pytest

from cmemd.cli.main import main
from cmemd.data.layouts import own
from cmemd.standin import draw_own


@pytest.fixture
def crops(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_own(tmp_path / "crops", ids=5, per_camera=1, size=(40, 20), seed=0)
    return tmp_path / "crops"


def refusal(capsys, *words: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["list", *map(str, words)])
    error = capsys.readouterr().err
    assert end.value.code == 2, words
    assert error.count("\n") == 1, error
    return error


def test_its_output_in_the_working_folder_is_a_list_of_the_folder(crops, capsys, tmp_path):
    for root in ("crops", crops):
        assert main(["list", "--root", str(root)]) == 0
        (tmp_path / "people.csv").write_text(capsys.readouterr().out)
        listed = own.read_list("people.csv")
        assert [row._replace(number=0) for row in listed.rows] == own.read_folder(crops)[0].rows


def test_an_output_file_has_paths_relative_to_its_folder(crops, capsys):
    (crops / "lists").mkdir()
    words = ["list", "--root", "crops", "--output", "crops/lists/p.csv"]
    for _ in range(2):  # it replaces its own file
        assert main(words) == 0
        assert capsys.readouterr().out == "20 images in crops/lists/p.csv\n"
    assert (
        "\n../visible/p0001/cam1_0001.jpg,p0001,visible,cam1\n"
        in (crops / "lists/p.csv").read_text()
    )
    assert len(own.read_list(crops / "lists/p.csv").rows) == 20


def test_what_does_not_match_is_a_warning(crops, capsys):
    (crops / "visible/p0001/odd.jpg").touch()
    assert main(["list", "--root", "crops"]) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert "warning: left out, not named as the pattern (1): visible/p0001/odd.jpg" in warnings


def test_mistakes_are_one_line(crops, capsys):
    (crops / "mine.csv").write_text("a file of mine\n")
    for words, message in (
        (("--root", "none"), "no such folder"),
        (("--root", "crops", "--pattern", "{person}"), "'{person}'"),
        (("--root", "crops", "--visible", "x", "--thermal", "x"), "different words"),
        (("--root", "crops", "--visible", "x", "--modality", "visible"), "leave one"),
        (("--root", "crops", "--visible", "RGB", "--thermal", "IR"), "images in crops named as"),
        (("--root", "crops", "--output", "crops/mine.csv"), "a new file, or one that"),
        (("--root", "crops", "--output", "crops/p.txt"), "ends in .csv"),
    ):
        assert message in refusal(capsys, *words), words
    assert (crops / "mine.csv").read_text() == "a file of mine\n"


def test_the_doctor_reads_lists_and_folders(crops, capsys):
    doctor = ["doctor", "--layout", "own"]
    assert main([*doctor, "--list", "crops/people.csv"]) == 0
    assert main([*doctor, "--root", "crops", "--write-sums", "sums"]) == 0
    assert main([*doctor, "--root", "crops", "--sums", "sums"]) == 0
    next(crops.rglob("*.jpg")).unlink()
    assert main([*doctor, "--list", "crops/people.csv"]) == 1
    assert "listed images that are missing" in capsys.readouterr().out
    for words, message in (
        (doctor, "--root, the folder"),
        ([*doctor, "--list", "none.csv"], "a list of images at none.csv"),
        (["doctor", "--layout", "sysu", "--root", "crops", "--list", "a.csv"], "--layout own"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert message in capsys.readouterr().err, words
