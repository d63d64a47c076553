import io

import numpy as np
import pytest
from PIL import Image

from cmemd.data.modality import Modality
from cmemd.doctor import Severity
from cmemd.doctor.pixels import COLOURED, COLOURLESS, GREY, SWAPPED, Look, look, report_looks
from cmemd.doctor.report import Report
from cmemd.doctor.tree import ImageFile


def encoded(pixels, form="JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(buffer, form, **options)
    return buffer.getvalue()


def flat(height, width, *channels) -> np.ndarray:
    return np.broadcast_to(np.uint8(channels), (height, width, 3))


NOISE = np.random.default_rng(0).integers(0, 256, (120, 50, 3))


@pytest.fixture
def seen(tmp_path):
    """What looking at a file of some bytes tells."""

    def look_at(content: bytes, name: str = "0001.jpg") -> Look:
        (tmp_path / name).write_bytes(content)
        return look(tmp_path / name)

    return look_at


def test_size_is_the_files_own_and_chroma_the_channels_distance(seen):
    # |200 - 80| on the upper half, 0 on the lower one: 60 on average
    pixels = np.concatenate([flat(32, 40, 200, 100, 80), flat(32, 40, 90, 90, 90)])
    assert seen(encoded(pixels, "BMP"), "a.bmp") == (64, 40, 60.0, None)
    jpeg = seen(encoded(pixels, quality=95))
    assert jpeg[:2] == (64, 40)
    assert jpeg.chroma == pytest.approx(60, abs=1)


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_grey_in_three_channels_stays_grey_through_jpeg(seen, quality):
    grey = np.repeat(NOISE[..., :1], 3, axis=2)
    assert seen(encoded(grey, quality=quality)).chroma < GREY
    tinted = np.clip(grey + [1, 0, -1], 0, 255)  # channels nearly equal, as of thermal cameras
    assert seen(encoded(tinted, quality=quality)).chroma < COLOURED


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "1"])
def test_every_mode_is_read(seen, mode):
    buffer = io.BytesIO()
    Image.new(mode, (20, 40)).save(buffer, "JPEG" if mode != "1" else "PNG")
    assert seen(buffer.getvalue())[:2] == (40, 20)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("fill", [b"", b"\0"], ids=["cut", "zeros"])
def test_a_jpeg_cut_anywhere_is_damaged(seen, share, fill, progressive):
    whole = encoded(NOISE, quality=90, progressive=progressive)
    kept = int(share * len(whole))
    assert seen(whole).problem is None
    assert seen(whole[:kept] + fill * (len(whole) - kept)).problem


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "a.jpg"),
        (b"a text", "a.jpg"),
        (encoded(NOISE)[:20], "a.jpg"),
        (encoded(NOISE, "BMP")[:-5], "a.bmp"),
        (encoded(NOISE, "PNG")[:-500], "a.png"),
        (encoded(NOISE, "PNG").replace(b"IDAT", b"IDOT"), "a.png"),
    ],
    ids=["empty", "text", "header", "bmp", "png", "chunk"],
)
def test_other_damage_is_named_in_one_line(seen, content, name):
    problem = seen(content, name).problem
    assert problem
    assert "\n" not in problem


def test_a_folder_and_a_missing_file_are_problems(tmp_path):
    assert "directory" in look(tmp_path).problem
    assert "No such file" in look(tmp_path / "none.jpg").problem


def test_the_end_of_a_thumbnail_is_not_the_images(seen):
    exif = b"Exif\0\0" + encoded(NOISE[:8, :8])
    whole = encoded(NOISE, quality=90, exif=exif)
    assert seen(whole).problem is None
    assert seen(whole[:-900] + bytes(900)).problem == "the end of the JPEG is missing"


def test_padding_behind_the_end_of_a_jpeg_is_no_damage(seen):
    assert seen(encoded(NOISE) + b"\0" * 500).problem is None


def findings(modality: Modality, chroma: list[float]) -> dict[tuple[str, str], int]:
    """(severity, first words) -> number of cases, for one camera's images."""
    report = Report("SYSU-MM01", "here")
    shots = [ImageFile(f"cam/0001/{n:04d}.jpg", "cam", 1, modality) for n in range(len(chroma))]
    report_looks(shots, [Look(4, 2, value, None) for value in chroma], report)
    return {(f.severity, f.problem.split()[0]): len(x) for f, x in report.findings.items()}


def test_a_few_coloured_images_of_a_thermal_camera_are_listed():
    under = COLOURED - 0.01
    assert findings(Modality.THERMAL, [under] * 10) == {}
    assert findings(Modality.THERMAL, [under] * 9 + [COLOURED]) == {
        (Severity.WARNING, "coloured"): 1
    }


def test_a_thermal_camera_of_coloured_images_is_an_error():
    half = int(SWAPPED * 10)
    mixed = [0.0] * (10 - half) + [COLOURED] * half
    assert findings(Modality.THERMAL, mixed) == {(Severity.ERROR, "thermal"): 1}
    assert findings(Modality.THERMAL, [0.0, *mixed]) == {(Severity.WARNING, "coloured"): half}


def test_dark_visible_images_are_noted_and_a_grey_camera_warned_of():
    grey = GREY - 0.01
    most = int(COLOURLESS * 10)
    assert findings(Modality.VISIBLE, [GREY] * 10) == {}
    assert findings(Modality.VISIBLE, [grey] + [GREY] * 9) == {(Severity.NOTE, "grey"): 1}
    assert findings(Modality.VISIBLE, [grey] * most + [GREY] * (10 - most)) == {
        (Severity.WARNING, "visible"): 1
    }
    assert findings(Modality.VISIBLE, [grey] * (most - 1) + [GREY] * (11 - most)) == {
        (Severity.NOTE, "grey"): most - 1
    }


def test_sizes_are_of_whole_images_by_modality():
    report = Report("SYSU-MM01", "here")
    looks = [
        Look(10, 5, 50, None),
        Look(30, 9, 50, None),
        Look(20, 7, 50, None),
        Look(0, 0, 0, "x"),
    ]
    shots = [ImageFile(f"{n}", "cam1", 1, Modality.VISIBLE) for n in range(4)]
    report_looks(shots, looks, report)
    assert [(row.subject.split()[-1], row.found) for row in report.rows] == [
        ("median", "20x7"),
        ("most", "10x5 30x9"),
    ]
