"""What a training does with images that are none, or peculiar."""

import os
import re
from pathlib import Path

import pytest
from PIL import Image
from tests.trees import copy_tree


@pytest.fixture
def copy(datasets, tmp_path, monkeypatch, train_net) -> Path:
    """A copy to spoil, which is trained on."""
    root = copy_tree(datasets / "SYSU-MM01", tmp_path / "data/SYSU-MM01")
    monkeypatch.setenv("FASTREID_DATASETS", str(root.parent))
    return root


def save(path: Path, image: Image.Image, form: str = "JPEG", **options) -> None:
    path.unlink()  # it is a link
    image.save(path, form, **options)


def test_what_training_cannot_use_is_one_line_before_any_work(copy, train_net, tmp_path):
    path = next(copy.glob("cam1/*/0002.jpg"))
    grey = Image.new("L", (24, 48))
    for image, options, message in (
        (
            grey,
            {"form": "GIF", "save_all": True, "append_images": [Image.new("L", (24, 48), 9)]},
            r"one frame in .*0002\.jpg, got several",
        ),
        (Image.new("1", (8000, 7000)), {"form": "PNG"}, "at most 50,000,000 pixels in .*0002.jpg"),
        (Image.new("I;16", (24, 48)), {"form": "PNG"}, r"8 bits a channel in .*0002\.jpg"),
    ):
        save(path, image, **options)
        status, error = train_net()
        assert status == 2, message
        assert re.search(f"^error: expected {message}.*\n$", error), message
        assert not list(tmp_path.glob("out/*.pth")), message


def test_what_training_leaves_out_or_ignores_is_in_its_log(copy, train_net, tmp_path):
    folder = next(copy.glob("cam2/*"))
    os.mkfifo(folder / "0008.jpg")
    (folder / "0009.jpg").symlink_to("nowhere")
    exif = Image.Exif()
    exif[0x0112] = 6
    save(folder / "0001.jpg", Image.new("RGB", (24, 48)), exif=exif)
    status, _ = train_net()
    assert status == 0
    log = (tmp_path / "out/log.txt").read_text()
    for line in (
        f"SYSUMM01: left out, no file (1): {folder}/0009.jpg",
        f"left out, a folder, pipe, socket or device, not a file (1): {folder}/0008.jpg",
        f"WARNING: used, an EXIF orientation, which is applied (1): {folder}/0001.jpg",
    ):
        assert line in log, line
