import os
import socket
from pathlib import Path

import pytest

from cmemd.data.image_files import Reason, Tally, find_images, list_images, why_left_out
from cmemd.data.images import check_images, read_rgb
from cmemd.errors import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """One image, and one file or folder for each way not to be one."""
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    folder = tmp_path / "f"
    folder.mkdir()
    for name in ("a.JPG", "notes.txt", "._a.jpg", "b.txt"):
        (folder / name).touch()
    for name in ("folder.png", "sub", ".trash"):
        (folder / name).mkdir()
        (folder / name / "c.bmp").touch()
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe")
    (folder / "gone.jpg").symlink_to("nowhere")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "up").symlink_to(tmp_path)
    (folder / "null.png").symlink_to("/dev/null")
    (folder / "zero.bmp").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("f/socket.jpg")
    open(os.fsencode(folder) + b"/\xff.jpg", "w").close()
    return folder


def names(tally: Tally, reason: Reason) -> list[str]:
    return sorted(Path(name).name for name in tally.names(reason))


BOTH = {
    Reason.EXTENSION: ["b.txt", "notes.txt"],
    Reason.MISSING: ["gone.jpg", "loop.jpg"],
    Reason.NOT_REGULAR: [
        "folder.png",
        "null.png",
        "pipe",
        "pipe.jpg",
        "socket.jpg",
        "zero.bmp",
    ],
    Reason.HIDDEN: ["._a.jpg", ".trash"],
    Reason.NOT_UTF8: ["\udcff.jpg"],
}


def test_whatever_is_no_image_is_counted_and_named_by_its_reason(folder):
    for search, found, others in (
        (list_images, ["a.JPG"], {Reason.SUBFOLDER: ["sub", "up"]}),
        (find_images, ["a.JPG", "c.bmp"], {Reason.LINKED_FOLDER: ["up"]}),
    ):
        tally = Tally()
        assert [path.name for path in search(folder, tally)] == found, search
        expected = BOTH | others
        assert {r: names(tally, r) for r in Reason if names(tally, r)} == expected, search
        assert all(line.isprintable() for line in tally.lines()), search
        assert len(tally.lines()) == len(expected), search


def test_no_reader_waits_for_a_pipe_a_socket_or_a_device(folder):
    for name in ("pipe.jpg", "socket.jpg", "null.png", "zero.bmp", "folder.png"):
        assert why_left_out(folder / name) is Reason.NOT_REGULAR, name
        for read in (read_rgb, lambda path: check_images([path])):
            with pytest.raises(InputError, match="got a folder .directory., pipe, socket or dev"):
                read(folder / name)


def test_the_same_file_under_two_names_is_used_and_counted(tmp_path):
    for name in ("a.jpg", "d.jpg"):
        (tmp_path / name).touch()
    os.link(tmp_path / "a.jpg", tmp_path / "b.jpg")
    (tmp_path / "c.jpg").symlink_to("a.jpg")
    tally = Tally()
    assert len(find_images(tmp_path, tally)) == 4
    first = tmp_path / "a.jpg"
    assert tally.names(Reason.SAME_FILE) == [f"{tmp_path / x}.jpg = {first}" for x in "bc"]
    assert tally.left_out() == ""


def test_a_summary_names_the_first_and_counts_the_rest():
    tally = Tally()
    assert (tally.lines(), tally.faults(), tally.left_out()) == ([], "", "")
    for n in range(5):
        tally.add(Reason.HIDDEN, f"{n}\x1b[31m")
    tally.add(Reason.MISSING, "x")
    hidden = "0\\x1b[31m, 1\\x1b[31m, 2\\x1b[31m and 2 more"
    assert tally.lines() == [
        f"left out, hidden: the name starts with a dot (5): {hidden}",
        "left out, no file (1): x",
    ]
    assert tally.faults() == "no file (1): x"
    named = f"hidden: the name starts with a dot (5): {hidden}; no file (1): x"
    assert tally.left_out() == named
