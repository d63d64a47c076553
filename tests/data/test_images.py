import io
import logging
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from cmemd.data import images
from cmemd.data.image_files import Reason, Tally
from cmemd.data.images import check_images, chroma, damage, list_images, max_pixels, read_rgb
from cmemd.errors import InputError


def jpeg(mode: str = "RGB", **options) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_lists_images_by_name_and_nothing_else(tmp_path):
    for name in ("0010.jpg", "0002.JPG", "0003.bmp", "Thumbs.db", ".hidden.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_images(tmp_path)] == ["0002.JPG", "0003.bmp", "0010.jpg"]


def test_whole_images_pass_whatever_follows_the_end_marker(tmp_path):
    (tmp_path / "whole.jpg").write_bytes(jpeg())
    (tmp_path / "padded.jpg").write_bytes(jpeg() + b"\0" * 500)
    (tmp_path / "film.jpg").write_bytes(jpeg() + b"\0\xff\xda" * 500)
    Image.new("L", (4, 4)).save(tmp_path / "grey.bmp")
    check_images(list_images(tmp_path))


def test_other_files_are_named(tmp_path):
    path = tmp_path / "bad.jpg"
    for content in (jpeg()[:-300], jpeg()[:30], b"", b"a text"):
        path.write_bytes(content)
        for use in (lambda path: check_images([path]), read_rgb):
            with pytest.raises(InputError, match=r"^expected an image in .*bad\.jpg, got .* leave"):
                use(path)


def test_a_file_cut_anywhere_is_named_in_every_format(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8)
    for form in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, form)
        whole = buffer.getvalue()
        (tmp_path / "a.png").write_bytes(whole)
        check_images([tmp_path / "a.png"])
        for kept in range(20, len(whole) - 1, 97):
            (tmp_path / "a.png").write_bytes(whole[:kept])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's
                try:
                    check_images([tmp_path / "a.png"])
                    found = ""
                except InputError as error:
                    found = str(error)
            assert "a.png" in found, (form, kept)


def test_a_jpeg_whose_missing_end_was_filled_is_named(tmp_path):
    """It decodes without an error; the rest of the picture is wrong."""
    path = tmp_path / "filled.jpg"
    thumbnail = b"Exif\0\0" + jpeg()  # has an end marker of its own
    whole = jpeg(exif=thumbnail)
    path.write_bytes(whole)
    check_images([path])
    path.write_bytes(whole[:-100] + bytes(300))
    assert read_rgb(path).size == (20, 40)
    with pytest.raises(InputError, match=r"filled\.jpg, got a JPEG whose end is missing: restore"):
        check_images([path])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.jpg"):
        check_images([tmp_path / "none.jpg"])


def test_reads_every_mode_as_rgb(tmp_path):
    for mode in ("RGB", "L", "CMYK"):
        (tmp_path / "a.jpg").write_bytes(jpeg(mode))
        image = read_rgb(tmp_path / "a.jpg")
        assert (image.mode, image.size) == ("RGB", (20, 40)), mode


def test_grey_images_have_equal_channels(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg("L"))
    red, green, blue = np.moveaxis(np.asarray(read_rgb(tmp_path / "a.jpg")), 2, 0)
    assert (red == green).all()
    assert (red == blue).all()


@pytest.mark.parametrize("use", [read_rgb, lambda path: check_images([path])])
def test_deep_images_are_named_not_clipped(tmp_path, use):
    counts = np.arange(0, 60000, 1000, dtype=np.uint16).reshape(6, 10)
    Image.fromarray(counts).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"8 bits a channel in .*deep\.png, got 16 bits"):
        use(tmp_path / "deep.png")


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG of any size, without pixels."""
    content = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checked = b"IHDR" + content
    chunk = struct.pack(">I", 13) + checked + struct.pack(">I", zlib.crc32(checked))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT"


def jpeg_header(width: int, height: int) -> bytes:
    whole = jpeg()
    at = whole.find(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", height, width) + whole[at + 4 :]


def test_an_image_of_too_many_pixels_is_refused_by_its_header_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for width, height, name in (
            (10_000, 5_001, "a.png"),
            (30_000, 30_000, "a.png"),  # Pillow warns
            (2**31 - 1, 2**31 - 1, "a.png"),  # Pillow raises
            (65_500, 65_500, "a.jpg"),
        ):
            content = (png_header if name == "a.png" else jpeg_header)(width, height)
            (tmp_path / name).write_bytes(content)
            for use in (read_rgb, lambda path: check_images([path])):
                with pytest.raises(
                    InputError, match=f"50,000,000 pixels .* got {width} x {height}"
                ):
                    use(tmp_path / name)


def test_the_pixel_limit_is_a_setting(monkeypatch):
    assert max_pixels() == 50_000_000
    monkeypatch.setenv("CMEMD_MAX_MEGAPIXELS", "200")
    assert max_pixels() == 200_000_000
    for text in ("0", "-1", "1e9", "", "many", "10000000"):
        monkeypatch.setenv("CMEMD_MAX_MEGAPIXELS", text)
        with pytest.raises(InputError, match="CMEMD_MAX_MEGAPIXELS from 1"):
            max_pixels()


def test_no_more_bytes_are_read_than_an_image_needs(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    tracemalloc.start()
    read_rgb(tmp_path / "a.jpg")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    monkeypatch.setattr(images, "_MAX_BYTES", len(jpeg()))
    read_rgb(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(jpeg() + b"x")
    with pytest.raises(InputError, match=r"at most [0-9,]+ bytes in .*a\.jpg"):
        read_rgb(tmp_path / "a.jpg")


def frames(form: str) -> bytes:
    first, second = (Image.new("L", (8, 8), grey) for grey in (0, 200))
    buffer = io.BytesIO()
    first.save(buffer, form, save_all=True, append_images=[second])
    return buffer.getvalue()


def test_of_several_frames_training_refuses_and_embedding_takes_the_first(tmp_path):
    for form in ("GIF", "TIFF", "PNG", "WEBP", "MPO"):
        path = tmp_path / "a.png"  # the content decides, not the extension
        path.write_bytes(frames(form))
        with pytest.raises(InputError, match=r"expected one frame in .*a\.png, got several"):
            check_images([path])
        tally = Tally()
        assert np.asarray(read_rgb(path, tally)).max() < 20, form
        assert tally.names(Reason.FRAMES) == [str(path)], form


def test_an_exif_orientation_is_applied_and_counted(tmp_path, caplog):
    image, number = Image.new("RGB", (8, 4)), 0
    for turn in (1, 3, 6, 8, 9):
        exif = image.getexif()
        exif[0x0110], exif[0x0112] = "camera", turn
        for form in ("JPEG", "PNG", "WEBP"):
            path = tmp_path / f"{turn}{form}.jpg"
            image.save(path, form, exif=exif)
            tally = Tally()
            seen = (4, 8) if turn in (6, 8) else (8, 4)
            assert read_rgb(path, tally).size == seen, (turn, form)
            turned = turn in (3, 6, 8)
            assert tally.names(Reason.ROTATED) == [str(path)] * turned, (turn, form)
            number += turned
    with caplog.at_level(logging.WARNING):
        check_images(sorted(tmp_path.iterdir()))
    [line] = caplog.messages
    assert line.startswith(f"used, an EXIF orientation, which is applied ({number}")


def test_a_broken_exif_is_no_damage(tmp_path):
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        (tmp_path / "a.jpg").write_bytes(jpeg(exif=exif))
        tally = Tally()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's
            read_rgb(tmp_path / "a.jpg", tally)
        assert not tally.lines(), exif


def test_a_changed_byte_of_a_png_is_found_wherever_it_is(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)).save(
        buffer, "PNG"
    )
    whole = buffer.getvalue()
    (tmp_path / "a.png").write_bytes(whole)
    check_images([tmp_path / "a.png"])
    for at in range(len(whole)):
        (tmp_path / "a.png").write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        for use in (lambda path: check_images([path]), lambda path: read_rgb(path, Tally())):
            with pytest.raises(InputError, match=r"a\.png"):
                use(tmp_path / "a.png")


def test_a_jpeg_cut_anywhere_is_found_whatever_stands_at_its_end(tmp_path):
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        for mode in ("RGB", "L", "CMYK"):
            whole = jpeg(mode, **options)
            assert damage(whole, "JPEG") is None, (options, mode)
            start = whole.find(b"\xff\xda")
            for kept in range(start, len(whole) - 3, 37):
                for end in (b"", b"\xff\xd9", bytes(300)):
                    found = damage(whole[:kept] + end, "JPEG")
                    assert found, (options, mode, kept, end[:2])


def test_what_the_strict_decoder_does_not_know_is_judged_by_its_end():
    whole = bytearray(jpeg())
    whole[whole.find(b"\xff\xc0") + 11] = 0x31  # three times as many grey columns as colour ones
    assert damage(bytes(whole), "JPEG") is None
    assert damage(bytes(whole[:-300]), "JPEG") == "the end of the JPEG is missing"


def test_a_progressive_jpeg_cut_between_two_scans_is_found():
    whole = jpeg(progressive=True)
    at = len(whole)
    cuts = 0
    while (at := whole.rfind(b"\xff\xda", 0, at)) > whole.find(b"\xff\xda"):
        assert damage(whole[:at] + b"\xff\xd9", "JPEG"), at
        cuts += 1
    assert cuts > 5


def test_embedding_refuses_a_damaged_jpeg_and_counts_one_with_stray_bytes(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg()[:-200] + b"\xff\xd9")
    assert read_rgb(path).size == (20, 40)  # Pillow notices nothing
    with pytest.raises(InputError, match=r"a damaged one \(Corrupt JPEG data: premature end"):
        read_rgb(path, Tally())
    path.write_bytes(jpeg()[:-2] + bytes(20) + b"\xff\xd9")
    tally = Tally()
    read_rgb(path, tally)
    assert tally.names(Reason.DOUBTFUL) == [str(path)]


def test_only_pictures_of_known_formats_are_read(tmp_path):
    for form in ("EPS", "TGA"):  # an EPS would run another program
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png", form)
        with pytest.raises(InputError, match=r"no image \(no JPEG, PNG, BMP, GIF, .*or PPM\)"):
            read_rgb(tmp_path / "a.png")


def test_chroma_is_the_mean_distance_of_the_channels():
    # |200 - 80| on the upper half, 0 on the lower one: 60 on average
    pixels = np.array([[[200, 100, 80]] * 4] * 3 + [[[90, 90, 90]] * 4] * 3, np.uint8)
    assert chroma(pixels) == chroma(pixels[..., ::-1]) == 60.0
    assert chroma(pixels[3:]) == 0.0
    noise = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)
    plain = [int(max(p)) - int(min(p)) for row in noise for p in row]
    assert chroma(noise) == sum(plain) / len(plain)
