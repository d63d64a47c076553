"""Files of thermal cameras: every format, 8 and more bits, told and untold."""

import io
import logging
import struct

import numpy as np
import pytest
from PIL import Image

from cmemd.data import images
from cmemd.data.image_files import Reason, Tally
from cmemd.data.images import check_images, check_items, decode, open_image, read_pixels
from cmemd.data.items import ImageItem
from cmemd.data.modality import Modality
from cmemd.data.sensors import PICTURES, Sensor
from cmemd.errors import InputError

COUNTS = (np.arange(12 * 8, dtype=np.uint16).reshape(12, 8) * 300 + 5000)[:, ::-1]
SENSOR = Sensor("5000:33500")


def pillow(form, dtype):
    def write(path):
        Image.fromarray(np.ascontiguousarray(COUNTS).astype(dtype)).save(path, form)

    return write


def opencv(suffix, channels):
    def write(path):
        cv2 = pytest.importorskip("cv2")
        image = COUNTS if channels == 1 else np.repeat(COUNTS[..., None], channels, axis=2)
        path.write_bytes(cv2.imencode(suffix, image)[1].tobytes())

    return write


def twelve_bits(path):
    # Pillow stretches counts below 4095 to 65535
    path.write_bytes(b"P5\n# a comment\n8 12\n4095\n" + (COUNTS // 10).astype(">u2").tobytes())


DEEP = {
    "16-bit PNG": (pillow("PNG", np.uint16), 1),
    "16-bit PNG of three channels": (opencv(".png", 3), 1),
    "16-bit PNG with alpha": (opencv(".png", 4), 1),
    "16-bit TIFF": (pillow("TIFF", np.uint16), 1),
    "32-bit TIFF": (pillow("TIFF", np.int32), 1),
    "float TIFF": (pillow("TIFF", np.float32), 1),
    "16-bit TIFF of three channels": (opencv(".tiff", 3), 1),
    "16-bit PGM": (opencv(".pgm", 1), 1),
    "16-bit PPM": (opencv(".ppm", 3), 1),
    "12-bit PGM": (twelve_bits, 10),
}


def test_deep_images_are_refused_until_a_range_is_told(tmp_path):
    for name, (write, divided) in DEEP.items():
        path = tmp_path / "a.png"  # the content decides, not the extension
        write(path)
        message = r"8 bits a channel in .*a\.png, got \d+ bits: say"
        for use in (read_pixels, lambda p: read_pixels(p, Tally()), lambda p: check_images([p])):
            with pytest.raises(InputError, match=message):
                use(path)
        sensor = SENSOR if divided == 1 else Sensor("500:3350")
        expected = sensor.grey_levels(COUNTS // divided)
        for tally in (None, Tally()):
            found = read_pixels(path, tally, sensor)
            np.testing.assert_array_equal(found, expected[..., None].repeat(3, 2), name)
        check_images([path], sensor_of=lambda path, sensor=sensor: sensor)
        assert np.ptp(read_pixels(path, None, PICTURES)) > 200, name


def test_a_range_leaves_images_of_8_bits_alone(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8)).astype(np.uint8)
    for form in ("PNG", "TIFF", "PPM", "BMP", "GIF"):
        Image.fromarray(pixels).save(tmp_path / "a", form)
        plain = read_pixels(tmp_path / "a")
        np.testing.assert_array_equal(plain, pixels[..., None].repeat(3, 2), form)
        np.testing.assert_array_equal(read_pixels(tmp_path / "a", None, SENSOR), plain, form)
    Image.fromarray(pixels).save(tmp_path / "a", "JPEG")
    found = read_pixels(tmp_path / "a", None, SENSOR)
    np.testing.assert_array_equal(found, read_pixels(tmp_path / "a"))


def test_different_deep_channels_and_damaged_files_are_refused(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "a.png"
    colour = np.random.default_rng(0).integers(0, 65536, (12, 8, 3)).astype(np.uint16)
    path.write_bytes(cv2.imencode(".png", colour)[1].tobytes())
    with pytest.raises(InputError, match=r"one channel, or of equal ones, in .*a\.png"):
        read_pixels(path, None, SENSOR)
    path.write_bytes(b"P2\n2 2\n4095\n1 2 3 4\n")
    with pytest.raises(InputError, match=r"a binary PGM \(P5\) .*a\.png"):
        read_pixels(path, None, SENSOR)
    for suffix, channels in ((".pgm", 1), (".png", 1), (".png", 3), (".tiff", 1)):
        opencv(suffix, channels)(path)
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(InputError, match=r"an image in .*a\.png"):
            read_pixels(path, Tally(), SENSOR)
    path.write_bytes(b"P5\n50000 50000\n65535\n" + bytes(100))
    with pytest.raises(InputError, match="at most 50,000,000 pixels"):
        read_pixels(path, None, SENSOR)


def test_every_orientation_turns_pixels_as_pillow_does(tmp_path):
    from PIL import ImageOps

    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        for form in ("PNG", "JPEG", "WEBP", "TIFF"):
            path = tmp_path / "a"
            options = {"lossless": True} if form == "WEBP" else {}
            Image.fromarray(pixels).save(path, form, exif=exif, **options)
            with Image.open(path) as image:
                expected = np.asarray(ImageOps.exif_transpose(image.convert("RGB")))
                if form == "TIFF":  # Pillow turns it as it loads it
                    expected = np.asarray(image)
            for tally in (None, Tally()):
                found = read_pixels(path, tally)
                np.testing.assert_array_equal(found, expected, f"{turn} {form}")
            data = path.read_bytes()
            np.testing.assert_array_equal(decode(data, open_image(data, path), path), expected)
            sizes = []
            check_images([path], lambda path, *size, sizes=sizes: sizes.append(size))
            assert sizes == [expected.shape[1::-1]], (turn, form)


def flir(path):
    """A JPEG with a segment as FLIR cameras write it before the others."""
    content = io.BytesIO()
    Image.new("RGB", (8, 16), (200, 30, 90)).save(content, "JPEG")
    data = content.getvalue()
    segment = b"FLIR\0\1\0\0" + bytes(50)
    length = struct.pack(">H", len(segment) + 2)
    path.write_bytes(data[:2] + b"\xff\xe1" + length + segment + data[2:])


def test_flirs_radiometric_jpegs_are_explained(tmp_path):
    path, tally = tmp_path / "a.jpg", Tally()
    flir(path)
    assert read_pixels(path, tally).shape == (16, 8, 3)
    assert tally.names(Reason.RADIOMETRIC) == [str(path)]
    for tally in (None, Tally()):
        with pytest.raises(InputError, match=r"FLIR's counts.*16-bit TIFF or PNG"):
            read_pixels(path, tally, SENSOR)
    with pytest.raises(InputError, match=r"FLIR's counts.*16-bit TIFF or PNG"):
        check_images([path], sensor_of=lambda path: SENSOR)


def test_a_start_converts_a_sample_and_reading_refuses_the_rest(tmp_path, monkeypatch):
    """Counts of different channels: of the files past the sample, every second is converted."""
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(images, "_CONVERTED", 2)
    monkeypatch.setattr(images, "_EVERY", 2)
    pillow("PNG", np.uint16)(tmp_path / "good.png")
    colour = np.random.default_rng(0).integers(0, 65536, (12, 8, 3)).astype(np.uint16)
    (tmp_path / "bad.png").write_bytes(cv2.imencode(".png", colour)[1].tobytes())
    for place, converted in enumerate((True, True, False, True, False, True)):
        paths = [tmp_path / "good.png"] * place + [tmp_path / "bad.png"]
        if converted:
            with pytest.raises(InputError, match=r"or of equal ones, in .*bad\.png"):
                check_images(paths, sensor_of=lambda path: SENSOR)
        else:
            check_images(paths, sensor_of=lambda path: SENSOR)
        with pytest.raises(InputError, match=r"8 bits a channel in .*(good|bad)\.png"):
            check_images(paths)  # without a range every file is refused by its header
    with pytest.raises(InputError, match=r"or of equal ones, in .*bad\.png"):
        read_pixels(tmp_path / "bad.png", None, SENSOR)


def test_the_start_of_a_training_refuses_other_colours_and_tells_of_wide_images(tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 256, (20, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    item = ImageItem(str(tmp_path / "a.png"), 1, 1, Modality.VISIBLE)
    with caplog.at_level(logging.WARNING):
        check_items([item], Sensor(palette="jet"))  # of thermal images only
    assert "wider than a person" in caplog.text
    with pytest.raises(InputError, match=r"colours of jet, or a grey one in .*a\.png"):
        check_items([item._replace(modality=Modality.THERMAL)], Sensor(palette="jet"))


def test_training_and_its_cache_see_the_grey_levels_of_thermal_counts(tmp_path):
    from cmemd.data.dataset import VisibleThermalDataset
    from cmemd.data.pixel_cache import CachePlan, PixelCache, build_cache
    from cmemd.data.transform import Transform

    pillow("PNG", np.uint16)(tmp_path / "t.png")
    Image.fromarray(np.zeros((12, 8, 3), np.uint8)).save(tmp_path / "v.png")
    items = [ImageItem(str(tmp_path / f"{m.name.lower()[0]}.png"), 1, 1 + m, m) for m in Modality]
    expected = SENSOR.grey_levels(COUNTS)[..., None].repeat(3, 2)
    plans = [
        CachePlan.of(tmp_path, [i.path for i in items], 12, 8, "pillow", sensor, [False, True])
        for sensor in (SENSOR, Sensor("5000:40000"))
    ]
    assert plans[0].folder != plans[1].folder
    build_cache(plans[0])
    for cache in (None, PixelCache(plans[0])):
        data = VisibleThermalDataset(
            items, Transform(12, 8), relabel=False, cache=cache, sensor=SENSOR
        )
        np.testing.assert_array_equal(data[1]["images"], expected, str(cache))
        assert not np.asarray(data[0]["images"]).any(), cache
