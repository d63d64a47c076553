import io
import os

import numpy as np
import pytest
from PIL import Image

from cmemd.data.image_files import Reason
from cmemd.data.modality import Modality
from cmemd.doctor import Severity, pixels
from cmemd.doctor.pixels import COLOURED, COLOURLESS, GREY, SWAPPED, Decoded, decode, report_decoded
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
    """What decoding a file of some bytes shows."""

    def decoded(content: bytes, name: str = "0001.jpg") -> Decoded:
        (tmp_path / name).write_bytes(content)
        return decode(tmp_path / name)

    return decoded


def test_size_is_the_files_own_and_chroma_the_channels_distance(seen):
    # |200 - 80| on the upper half, 0 on the lower one: 60 on average
    pixels = np.concatenate([flat(32, 40, 200, 100, 80), flat(32, 40, 90, 90, 90)])
    assert seen(encoded(pixels, "BMP"), "a.bmp")[:4] == (64, 40, 60.0, None)
    jpeg = seen(encoded(pixels, quality=95))
    assert jpeg[:2] == (64, 40)
    assert jpeg.chroma == pytest.approx(60, abs=1)


def test_grey_in_three_channels_stays_grey_through_jpeg(seen):
    grey = np.repeat(NOISE[..., :1], 3, axis=2)
    tinted = np.clip(grey + [1, 0, -1], 0, 255)  # channels nearly equal, as of thermal cameras
    for quality in (30, 75, 95):
        assert seen(encoded(grey, quality=quality)).chroma < GREY, quality
        assert seen(encoded(tinted, quality=quality)).chroma < COLOURED, quality


def test_every_mode_is_read(seen):
    for mode in ("L", "RGB", "CMYK", "1"):
        buffer = io.BytesIO()
        Image.new(mode, (20, 40)).save(buffer, "JPEG" if mode != "1" else "PNG")
        assert seen(buffer.getvalue())[:2] == (40, 20), mode


def test_a_jpeg_cut_anywhere_is_damaged(seen):
    for progressive in (False, True):
        whole = encoded(NOISE, quality=90, progressive=progressive)
        assert seen(whole).problem is None, progressive
        for share in (0.3, 0.5, 0.9, 0.99):
            kept = int(share * len(whole))
            for fill in (b"", b"\0"):
                damaged = whole[:kept] + fill * (len(whole) - kept)
                assert seen(damaged).problem, (progressive, share, fill)


def test_other_damage_is_named_in_one_line(seen):
    for content, name in (
        (b"", "a.jpg"),
        (b"a text", "a.jpg"),
        (encoded(NOISE)[:20], "a.jpg"),
        (encoded(NOISE, "BMP")[:-5], "a.bmp"),
        (encoded(NOISE, "PNG")[:-500], "a.png"),
        (encoded(NOISE, "PNG").replace(b"IDAT", b"IDOT"), "a.png"),
    ):
        problem = seen(content, name).problem
        assert problem, (content[:9], name)
        assert "\n" not in problem, problem


def test_a_folder_and_a_missing_file_are_problems(tmp_path):
    assert "directory" in decode(tmp_path).problem
    assert "No such file" in decode(tmp_path / "none.jpg").problem


def test_the_end_of_a_thumbnail_is_not_the_images(seen):
    exif = b"Exif\0\0" + encoded(NOISE[:8, :8])
    whole = encoded(NOISE, quality=90, exif=exif)
    assert seen(whole).problem is None
    assert seen(whole[:-900] + bytes(900)).problem == "Premature end of JPEG file"


def test_a_cut_end_that_was_closed_with_an_end_marker_is_damage(seen):
    whole = encoded(NOISE, quality=90)
    for share in (0.3, 0.9, 0.99):
        problem = seen(whole[: int(share * len(whole))] + b"\xff\xd9").problem
        assert "premature end" in problem, share


def test_bytes_of_the_middle_that_were_overwritten_are_found(seen):
    """All of 512 zero bytes here; tests/benchmarks/bm_damage.py counts for other damage."""
    whole = encoded(NOISE, quality=75)
    for at in range(700, len(whole) - 520, 211):
        found = seen(whole[:at] + bytes(512) + whole[at + 512 :])
        assert found.problem or Reason.DOUBTFUL in found.notes, at


def test_what_training_refuses_is_a_problem_here_too(seen, monkeypatch):
    deep = io.BytesIO()
    Image.fromarray(np.full((8, 4), 300, dtype=np.uint16)).save(deep, "PNG")
    assert "8 bits a channel" in seen(deep.getvalue(), "a.png").problem
    monkeypatch.setenv("CMEMD_MAX_MEGAPIXELS", "1")
    assert "at most 1,000,000 pixels" in seen(encoded(np.zeros((1001, 1000)), "PNG")).problem


def test_frames_are_an_error_and_an_orientation_a_note(seen):
    gif = io.BytesIO()
    Image.new("L", (8, 8)).save(
        gif, "GIF", save_all=True, append_images=[Image.new("L", (8, 8), 9)]
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = [seen(gif.getvalue()), seen(encoded(NOISE, exif=exif)), seen(encoded(NOISE))]
    assert [x.notes for x in decoded] == [(Reason.FRAMES,), (Reason.ROTATED,), ()]
    report = Report("SYSU-MM01", "here")
    files = [ImageFile(f"{n}.jpg", "cam", 1, Modality.VISIBLE) for n in range(3)]
    report_decoded(files, decoded, report)
    found = {f.problem: (f.severity, x) for f, x in report.findings.items() if "image" in f.problem}
    assert found["images of several frames"] == (Severity.ERROR, ["0.jpg"])
    assert found["images with an EXIF orientation, which is applied"] == (
        Severity.NOTE,
        ["1.jpg"],
    )


def test_stray_bytes_are_damage_in_a_few_images_and_the_cameras_habit_in_nearly_all():
    for stray, number, severity in (
        (1, 200, Severity.ERROR),
        (179, 200, Severity.ERROR),
        (180, 200, Severity.WARNING),
        (99, 99, Severity.ERROR),  # too few to call it a habit
    ):
        report = Report("SYSU-MM01", "here")
        files = [ImageFile(f"{n}.jpg", "cam", 1, Modality.THERMAL) for n in range(number)]
        notes = [(Reason.DOUBTFUL,)] * stray + [()] * (number - stray)
        report_decoded(files, [Decoded(4, 2, 0, None, note) for note in notes], report)
        [(fault, cases)] = report.findings.items()
        assert fault.severity is severity, (stray, number)
        assert len(cases) == (stray if severity is Severity.ERROR else 1), (stray, number)


def test_only_a_few_images_wait_in_memory(monkeypatch):
    begun = []
    monkeypatch.setattr(pixels, "decode", lambda path: begun.append(path))
    found = pixels._decode_all(range(100_000))
    for _ in range(10):
        next(found)
    assert len(begun) <= 12 + (pixels._AHEAD + 1) * (os.cpu_count() or 1)
    found.close()
    assert len(begun) < 1000


def test_padding_behind_the_end_of_a_jpeg_is_no_damage(seen):
    assert seen(encoded(NOISE) + b"\0" * 500).problem is None


def findings(modality: Modality, chroma: list[float]) -> dict[tuple[str, str], int]:
    """(severity, first words) -> number of cases, for one camera's images."""
    report = Report("SYSU-MM01", "here")
    files = [ImageFile(f"cam/0001/{n:04d}.jpg", "cam", 1, modality) for n in range(len(chroma))]
    report_decoded(files, [Decoded(4, 2, value, None) for value in chroma], report)
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
    decoded = [
        Decoded(10, 5, 50, None),
        Decoded(30, 9, 50, None),
        Decoded(20, 7, 50, None),
        Decoded(0, 0, 0, "x"),
    ]
    files = [ImageFile(f"{n}", "cam1", 1, Modality.VISIBLE) for n in range(4)]
    report_decoded(files, decoded, report)
    assert [(row.subject.split()[-1], row.found) for row in report.rows] == [
        ("median", "20x7"),
        ("most", "10x5 30x9"),
    ]
