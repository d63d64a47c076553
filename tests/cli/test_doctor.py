import argparse
import json
import os
import signal
import subprocess
import sys

import pytest
from tests.trees import copy_tree

from cmemd.cli import doctor
from cmemd.cli.main import main
from cmemd.data.layouts import LAYOUTS
from cmemd.errors import readable_errors
from cmemd.standin import draw_sysu


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    args = parser.parse_args(list(map(str, words)))
    with readable_errors():
        return doctor.run(args)


@pytest.fixture
def copy(datasets, tmp_path):
    return copy_tree(datasets / "SYSU-MM01", tmp_path / "SYSU-MM01")


def empty(image):
    image.unlink()
    image.touch()


def test_a_drawn_standin_is_usable(datasets, capsys):
    assert run("--layout", "sysu", "--root", datasets / "SYSU-MM01") == 0
    out, err = capsys.readouterr()
    assert "visible images, train + val" in out
    assert "note: a drawn stand-in (1)\n  meta.jsonl says: SYSU-MM01\n  -> nothing: its " in out
    assert out.endswith("usable (errors: 0, warnings: 0, notes: 1)\n")
    assert "differs" not in out
    assert err == ""  # a progress bar is for terminals


def test_an_error_is_status_1_with_its_remedy(copy, capsys):
    images = sorted(copy.glob("cam1/*/*.jpg"))[:5]
    for image in images:
        empty(image)
    assert run("--layout", "sysu", "--root", copy) == 1
    out = capsys.readouterr().out
    assert "error: damaged or unreadable images (5)\n" in out
    assert f"  {images[0].relative_to(copy)}: no image\n" in out
    assert "  and 2 more\n  -> restore them from the data set\n" in out
    assert out.index("error:") < out.index("note:")
    assert out.endswith("not usable (errors: 1, warnings: 0, notes: 1)\n")


def test_a_warning_is_status_0(copy, capsys):
    (copy / "meta.jsonl").unlink()
    assert run("--layout", "sysu", "--root", copy) == 0
    out = capsys.readouterr().out
    assert "  train identities: 12, not 296\n" in out
    [row] = [line for line in out.splitlines() if line.startswith("train identities")]
    assert row.split() == ["train", "identities", "296", "12", "differs"]
    assert "usable (errors: 0, warnings: 1, notes: 0)" in out


def test_json_holds_every_case(copy, tmp_path, capsys):
    for image in sorted(copy.glob("cam1/*/*.jpg"))[:5]:
        empty(image)
    assert run("--layout", "sysu", "--root", copy, "--json", tmp_path / "out.json") == 1
    document = json.loads((tmp_path / "out.json").read_text())
    assert (document["usable"], document["standin"]) == (False, "SYSU-MM01")
    assert document["table"][0] == {
        "subject": "identities in the lists",
        "expected": 491,
        "found": 20,
    }
    error = document["findings"][0]
    assert (error["severity"], error["count"], len(error["cases"])) == ("error", 5, 5)


def test_json_to_nowhere_is_refused_before_the_examination(datasets, tmp_path, capsys):
    for out in ("none/out.json", "."):
        with pytest.raises(SystemExit, match="2"):
            run("--layout", "sysu", "--root", datasets / "SYSU-MM01", "--json", tmp_path / out)
        captured = capsys.readouterr()
        assert captured.out == "", out
        assert captured.err.startswith("error: expected a file in an existing folder for --json, ")
        assert captured.err.count("\n") == 1, out


def test_sums_are_written_of_a_usable_copy_only_and_never_over_a_file(copy, tmp_path, capsys):
    words = "--layout", "sysu", "--root", copy
    sums = tmp_path / "sums"
    for place in (copy / "meta.jsonl", tmp_path, tmp_path / "none/sums"):
        with pytest.raises(SystemExit, match="2"):
            run(*words, "--write-sums", place)
        assert "error: expected a new file in an existing folder for" in capsys.readouterr().err
    assert run(*words, "--write-sums", sums) == 0
    assert capsys.readouterr().out.endswith(f"checksums in {sums}\n")
    assert run(*words, "--sums", sums) == 0
    one, other = sorted(copy.glob("cam1/*/*.jpg"))[:2]
    one.unlink()
    one.write_bytes(other.read_bytes())
    assert run(*words) == 0
    assert run(*words, "--sums", sums) == 1
    empty(one)
    assert run(*words, "--write-sums", tmp_path / "again") == 1
    assert capsys.readouterr().out.endswith("no checksums written: they would certify this copy\n")
    assert not (tmp_path / "again").exists()


def test_an_interrupted_examination_leaves_no_process_and_one_line(datasets, tmp_path):
    """Ten thousand links, so that Ctrl-C comes in between."""
    copy = copy_tree(datasets / "SYSU-MM01", tmp_path / "SYSU-MM01")
    source = next(copy.glob("cam1/*/*.jpg"))
    for number in range(10, 10_000):
        os.link(source, source.with_name(f"{number:04d}.jpg"))
    code = (
        "import os, sys; from PIL import Image; from cmemd.doctor import pixels\n"
        "decode = pixels.decode\n"
        "def said(path):\n"
        "    os.write(1, b'decoding\\n')\n"  # in one piece, of whichever thread
        "    return decode(path)\n"
        "pixels.decode = said\n"
        "from cmemd.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for number, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        doctor = subprocess.Popen(
            [sys.executable, "-c", code, "doctor", "--layout", "sysu", "--root", str(copy)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert doctor.stdout.readline() == b"decoding\n"
        os.kill(doctor.pid, number)
        _, error = doctor.communicate(timeout=60)
        assert doctor.returncode == status, number
        assert error.count(b"\n") == (number == signal.SIGINT), error
        with pytest.raises(ProcessLookupError):  # nothing is left of its group
            os.killpg(doctor.pid, 0)


def test_no_such_root_is_one_line_and_status_2(tmp_path, capsys):
    for layout in LAYOUTS:
        with pytest.raises(SystemExit, match="2"):
            run("--layout", layout, "--root", tmp_path / "none")
        assert capsys.readouterr().err == (
            f"error: expected a data set's folder at {tmp_path / 'none'}, got no such folder: "
            "give --root the folder itself\n"
        )


def test_an_unknown_layout_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("--layout", "market", "--root", tmp_path)
    assert "invalid choice: 'market'" in capsys.readouterr().err


def test_draws_and_examines_without_torch_and_fastreid_in_fresh_interpreter(tmp_path):
    words = "--layout", "sysu", "--root", str(tmp_path / "new")
    code = (
        "import sys; from cmemd.cli import doctor, synth\n"
        "from cmemd.cli.main import main\n"
        "print({'numpy', 'scipy', 'PIL'} & set(sys.modules))\n"
        "few = '--ids 5 --per-camera 1 --size 40x20'.split()\n"
        f"print(main(['synth', *{words!r}, *few]), main(['doctor', *{words!r}]))\n"
        "print({'torch', 'torchvision', 'fastreid'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-2], lines[-1]) == ("set()", "0 0", "set()")


def test_a_file_of_another_kind_is_not_overwritten(tmp_path, capsys):
    draw_sysu(tmp_path / "copy", ids=5, per_camera=1, size=(40, 20), seed=0)
    mine = tmp_path / "mine.json"
    mine.write_text("mine")
    words = ["doctor", "--layout", "sysu", "--root", str(tmp_path / "copy"), "--json"]
    with pytest.raises(SystemExit, match="2"):
        main([*words, str(mine)])
    assert "got a file of another kind" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    for _ in range(2):  # its own file is replaced
        main([*words, str(tmp_path / "report.json")])


def test_a_machine_without_open_files_damages_no_image(tmp_path, capsys, monkeypatch):
    draw_sysu(tmp_path / "copy", ids=5, per_camera=1, size=(40, 20), seed=0)

    def fail(path):
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr("cmemd.doctor.pixels.read_bytes", fail)
    with pytest.raises(SystemExit, match="1"):
        main(["doctor", "--layout", "sysu", "--root", str(tmp_path / "copy")])
    assert "Too many open files: raise the limit" in capsys.readouterr().err
