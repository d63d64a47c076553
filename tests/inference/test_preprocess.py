import io
import warnings

import numpy as np
import pytest
from PIL import Image
from tests.inference.one_matrix import noise

from cmemd.config import load_config
from cmemd.data.images import read_rgb
from cmemd.errors import InputError
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


@pytest.mark.parametrize("size", [(48, 24), (7, 91), (200, 100), (1, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "turned"])
def test_every_mode_and_size_comes_out_as_in_evaluation(mode, size, tmp_path, evaluation_transform):
    image, options = Image.fromarray(noise(1, 3, *size)[0]), {}
    if mode == "turned":
        options["exif"] = image.getexif()
        options["exif"][0x0112] = 6  # a quarter turn, which evaluation does not follow
    elif mode == "RGBA":
        image.putalpha(Image.fromarray(noise(1, 4, *size)[0, ..., 0]))
    else:
        image = image.convert(mode)
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "turned") else "a.png")
    image.save(path, **options)
    found = read_image(path, 48, 24)
    assert (found.shape, found.dtype) == ((48, 24, 3), np.uint8)
    np.testing.assert_array_equal(found, by_evaluation(path, evaluation_transform))


def test_alpha_and_orientation_change_nothing(tmp_path):
    image = Image.fromarray(noise(1, 3, 48, 24)[0])
    image.save(tmp_path / "plain.png")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    image.putalpha(0)
    image.save(tmp_path / "clear.png")
    plain, *others = (
        read_image(tmp_path / f"{n}.png", 48, 24) for n in ("plain", "turned", "clear")
    )
    for other in others:
        np.testing.assert_array_equal(other, plain)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_greys_are_refused_rather_than_clipped(dtype, tmp_path):
    path = tmp_path / "deep.tif"
    Image.fromarray(np.full((8, 4), 300, dtype=dtype)).save(path)
    with pytest.raises(UnusableImageError, match=r"8 bits a channel in .*deep\.tif, got mode [IF]"):
        read_image(path, 8, 4)


def test_a_16_bit_png_is_refused(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.arange(32, dtype=np.uint16).reshape(8, 4) * 2000).save(path)
    with pytest.raises(UnusableImageError, match=r"got mode I"):
        read_image(path, 8, 4)


def _jpeg() -> bytes:
    content = io.BytesIO()
    Image.fromarray(noise(1, 0, 40, 20)[0]).save(content, "JPEG")
    return content.getvalue()


def _png() -> bytes:
    content = io.BytesIO()
    Image.fromarray(noise(1, 0, 40, 20)[0]).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"a text", _jpeg()[:-300], _jpeg()[:30], _png()[:-300], _png()[:40], _png()[:20]],
    ids=["empty", "text", "cut", "header", "cut png", "png header", "png start"],
)
def test_other_files_are_named(content, tmp_path):
    path = tmp_path / "bäd 'name'.jpg"
    path.write_bytes(content)
    with pytest.raises(UnusableImageError, match=r"bäd 'name'\.jpg, got a file that is trunc") as e:
        read_image(path, 8, 4)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["none.jpg", "."])
def test_no_file_and_a_folder_are_named(name, tmp_path):
    with pytest.raises(UnusableImageError, match="expected an image in"):
        read_image(tmp_path / name, 8, 4)


def test_an_image_of_a_billion_pixels_is_not_decoded(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.new("1", (100, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnusableImageError, match="decompression bomb"):
        read_image(path, 8, 4)


@pytest.mark.parametrize("size", [(8, 4), (20, 9)])
def test_an_array_equals_its_file(size, tmp_path):
    image = noise(1, 5, *size)[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = read_image(tmp_path / "a.png", 8, 4)
    np.testing.assert_array_equal(from_array(image, False, 8, 4), expected)
    np.testing.assert_array_equal(from_array(image[..., ::-1], True, 8, 4), expected)


@pytest.mark.parametrize("bgr", [True, False])
def test_a_grey_array_has_no_channel_order(bgr):
    image = noise(1)[0, ..., 0]
    found = from_array(image, bgr, 8, 4)
    np.testing.assert_array_equal(found, np.repeat(image[..., None], 3, axis=2))


def test_an_array_is_left_as_it_was():
    image = noise(1)[0]
    before = image.copy()
    image.flags.writeable = False
    from_array(image, True, 4, 2)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 4, 3)),
        np.zeros((8, 4, 3), dtype=np.uint16),
        np.zeros((8, 4, 4), dtype=np.uint8),
        np.zeros((3, 8, 4), dtype=np.uint8),
        np.zeros((1, 8, 4, 3), dtype=np.uint8),
        np.zeros(8, dtype=np.uint8),
    ],
    ids=["float", "16-bit", "alpha", "channels first", "batch", "row"],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(InputError, match=f"got {array.dtype} of shape"):
        from_array(array, False, 8, 4)


@pytest.mark.parametrize("shape", [(0, 4, 3), (8, 0, 3), (0, 0)])
def test_an_array_without_pixels_is_unusable(shape):
    with pytest.raises(UnusableImageError, match="at least one pixel"):
        from_array(np.zeros(shape, dtype=np.uint8), False, 8, 4)


@pytest.mark.parametrize("bgr", [None, 0, "bgr"])
def test_channel_order_must_be_said(bgr):
    with pytest.raises(InputError, match="bgr=True"):
        from_array(noise(1)[0], bgr, 8, 4)


def test_same_pixels_whatever_pillow_warns_of(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.fromarray(noise(1)[0]).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", 8, 4), noise(1)[0])
