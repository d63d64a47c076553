import io

import numpy as np
import pytest
from PIL import Image

from cmemd.data.images import check_images, chroma, list_images, read_rgb
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
    Image.new("L", (4, 4)).save(tmp_path / "grey.bmp")
    check_images(list_images(tmp_path))


def test_other_files_are_named(tmp_path):
    path = tmp_path / "bad.jpg"
    for content in (jpeg()[:-300], jpeg()[:30], b"", b"a text"):
        path.write_bytes(content)
        for use in (lambda path: check_images([path]), read_rgb):
            with pytest.raises(InputError, match=r"^expected an image in .*bad\.jpg, got .* leave"):
                use(path)


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
    with pytest.raises(InputError, match=r"8 bits a channel in .*deep\.png, got mode I"):
        use(tmp_path / "deep.png")


def test_chroma_is_the_mean_distance_of_the_channels():
    # |200 - 80| on the upper half, 0 on the lower one: 60 on average
    pixels = np.array([[[200, 100, 80]] * 4] * 3 + [[[90, 90, 90]] * 4] * 3, np.uint8)
    assert chroma(pixels) == chroma(pixels[..., ::-1]) == 60.0
    assert chroma(pixels[3:]) == 0.0
    noise = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)
    plain = [int(max(p)) - int(min(p)) for row in noise for p in row]
    assert chroma(noise) == sum(plain) / len(plain)
