import io
import re
import warnings

import numpy as np
import pytest
from PIL import Image
from tests.inference.one_matrix import noise
from tests.inference.refusal import refusal

from cmemd.config import load_config
from cmemd.data.images import read_rgb
from cmemd.inference.preprocess import UnusableImageError, from_array, read_image


@pytest.fixture(scope="module")
def evaluation_transform():
    """fast-reid's, of images of 48 x 24."""
    from fastreid.data.transforms import build_transforms

    return build_transforms(load_config("", ["INPUT.SIZE_TEST", "[48, 24]"]), is_train=False)


def by_evaluation(path, transform) -> np.ndarray:
    values = transform(read_rgb(path)).numpy().transpose(1, 2, 0)
    assert (values == values.astype(np.uint8)).all()
    return values.astype(np.uint8)


def test_drawn_people_come_out_as_in_evaluation(datasets, evaluation_transform):
    paths = sorted(datasets.glob("SYSU-MM01/cam[1236]/*/*1.jpg"))[::3]
    assert len(paths) > 10
    for path in paths:
        expected = by_evaluation(path, evaluation_transform)
        np.testing.assert_array_equal(read_image(path, 48, 24), expected)


def test_every_mode_and_size_comes_out_as_in_evaluation(tmp_path, evaluation_transform):
    for size in ((48, 24), (7, 91), (200, 100), (1, 1)):
        for mode in ("RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "turned"):
            image, options = Image.fromarray(noise(1, 3, *size)[0]), {}
            if mode == "turned":
                options["exif"] = image.getexif()
                options["exif"][0x0112] = 6  # a quarter turn, which evaluation ignores
            elif mode == "RGBA":
                image.putalpha(Image.fromarray(noise(1, 4, *size)[0, ..., 0]))
            else:
                image = image.convert(mode)
            path = tmp_path / ("a.jpg" if mode in ("CMYK", "turned") else "a.png")
            image.save(path, **options)
            found, expected = read_image(path, 48, 24), by_evaluation(path, evaluation_transform)
            assert (found.shape, found.dtype) == ((48, 24, 3), np.uint8), (size, mode)
            np.testing.assert_array_equal(found, expected, err_msg=f"{size} {mode}")


def test_alpha_changes_nothing_and_an_orientation_turns(tmp_path):
    image = Image.fromarray(noise(1, 3, 48, 24)[0])
    image.save(tmp_path / "plain.png")
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned clockwise: so the stored pixels are turned the other way
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    image.putalpha(0)
    image.save(tmp_path / "clear.png")
    plain, *others = (
        read_image(tmp_path / f"{n}.png", 48, 24) for n in ("plain", "turned", "clear")
    )
    for other in others:
        np.testing.assert_array_equal(other, plain)


def test_deep_greys_are_refused_rather_than_clipped(tmp_path):
    tif, png = tmp_path / "deep.tif", tmp_path / "deep.png"
    for dtype in (np.uint16, np.int32, np.float32):
        Image.fromarray(np.full((8, 4), 300, dtype=dtype)).save(tif)
        with pytest.raises(
            UnusableImageError, match=r"8 bits a channel in .*deep\.tif, got (16|32) bits"
        ):
            read_image(tif, 8, 4)
    Image.fromarray(np.arange(32, dtype=np.uint16).reshape(8, 4) * 2000).save(png)
    with pytest.raises(UnusableImageError, match="got 16 bits"):
        read_image(png, 8, 4)


def _jpeg() -> bytes:
    content = io.BytesIO()
    Image.fromarray(noise(1, 0, 40, 20)[0]).save(content, "JPEG")
    return content.getvalue()


def _png() -> bytes:
    content = io.BytesIO()
    Image.fromarray(noise(1, 0, 40, 20)[0]).save(content, "PNG")
    return content.getvalue()


def test_files_that_are_not_images_are_named(tmp_path):
    path = tmp_path / "bäd 'name'.jpg"
    for name, content in {
        "empty": b"",
        "text": b"a text",
        "cut": _jpeg()[:-300],
        "header": _jpeg()[:30],
        "cut png": _png()[:-300],
        "png header": _png()[:40],
        "png start": _png()[:20],
    }.items():
        path.write_bytes(content)
        with pytest.raises(UnusableImageError) as caught:
            read_image(path, 8, 4)
        assert re.search(r"bäd 'name'\.jpg, got a file that is trunc", str(caught.value)), name
        assert "\n" not in str(caught.value), name
    for missing in ("none.jpg", "."):
        with pytest.raises(UnusableImageError, match="expected an image in"):
            read_image(tmp_path / missing, 8, 4)


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.new("1", (1001, 1000)).save(path)
    read_image(path, 8, 4)
    monkeypatch.setenv("CMEMD_MAX_MEGAPIXELS", "1")
    with pytest.raises(UnusableImageError, match="at most 1,000,000 pixels in .*got 1001 x 1000"):
        read_image(path, 8, 4)


def test_an_array_equals_its_file(tmp_path):
    for size in ((8, 4), (20, 9)):
        image = noise(1, 5, *size)[0]
        Image.fromarray(image).save(tmp_path / "a.png")
        expected = read_image(tmp_path / "a.png", 8, 4)
        np.testing.assert_array_equal(from_array(image, False, 8, 4), expected, str(size))
        np.testing.assert_array_equal(from_array(image[..., ::-1], True, 8, 4), expected, str(size))


def test_a_grey_array_has_no_channel_order():
    image = noise(1)[0, ..., 0]
    for bgr in (True, False):
        found = from_array(image, bgr, 8, 4)
        np.testing.assert_array_equal(found, np.repeat(image[..., None], 3, axis=2), str(bgr))


def test_an_array_is_left_as_it_was():
    image = noise(1)[0]
    before = image.copy()
    image.flags.writeable = False
    from_array(image, True, 4, 2)
    np.testing.assert_array_equal(image, before)


def test_other_arrays_are_refused():
    for name, array in {
        "float": np.zeros((8, 4, 3)),
        "16-bit": np.zeros((8, 4, 3), dtype=np.uint16),
        "alpha": np.zeros((8, 4, 4), dtype=np.uint8),
        "channels first": np.zeros((3, 8, 4), dtype=np.uint8),
        "batch": np.zeros((1, 8, 4, 3), dtype=np.uint8),
        "row": np.zeros(8, dtype=np.uint8),
    }.items():
        found = refusal(from_array, array, False, 8, 4)
        assert f"got {array.dtype} of shape {array.shape}: convert it" in found, name


def test_an_array_without_pixels_is_unusable():
    for shape in ((0, 4, 3), (8, 0, 3), (0, 0)):
        with pytest.raises(UnusableImageError, match=r"at least one pixel, got shape \("):
            from_array(np.zeros(shape, dtype=np.uint8), False, 8, 4)


def test_the_caller_must_give_the_channel_order():
    for bgr in (None, 0, "bgr"):
        found = refusal(from_array, noise(1)[0], bgr, 8, 4)
        assert f"bgr=True (OpenCV's channel order) or bgr=False (RGB) with arrays, got {bgr!r}" in (
            found
        )


def test_reading_gives_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.fromarray(noise(1)[0]).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", 8, 4), noise(1)[0])


def test_a_key_embeds_the_box_as_its_crop(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    Image.fromarray(pixels[5:14, 3:10]).save(tmp_path / "crop.png")
    expected = read_image(tmp_path / "crop.png", 16, 8)
    np.testing.assert_array_equal(read_image(f"{tmp_path}/frame.png#xywh=3,5,7,9", 16, 8), expected)
    with pytest.raises(UnusableImageError, match="a box in 30 x 40 pixels"):
        read_image(f"{tmp_path}/frame.png#xywh=30,5,7,9", 16, 8)
    (tmp_path / "crop.png").rename(tmp_path / "odd#xywh=3,5,7,9")  # a file's own name comes first
    np.testing.assert_array_equal(read_image(f"{tmp_path}/odd#xywh=3,5,7,9", 16, 8), expected)
