import numpy as np
import pytest

from cmemd.data.modality import Modality
from cmemd.data.palettes import PALETTES, colours, recognise, to_grey
from cmemd.data.sensors import PLAIN, Sensor, is_range
from cmemd.errors import InputError


def test_a_linear_range_by_hand():
    # (c - 1000) * 255 / 510 = (c - 1000) / 2, clipped and rounded to even
    counts = np.array([[0, 1000, 1002], [1200, 1510, 65535]])
    expected = [[0, 0, 1], [100, 255, 255]]
    for kind in (np.uint16, np.int32, np.float32, ">u2"):
        found = Sensor("1000:1510").grey_levels(counts.astype(kind))
        np.testing.assert_array_equal(found, expected, str(kind))
        assert found.dtype == np.uint8, kind
    celsius = Sensor("-10:41").grey_levels(np.array([[-20.0, -10.0, 0.0, 41.0, np.nan, np.inf]]))
    np.testing.assert_array_equal(celsius, [[0, 0, 50, 255, 0, 255]])


def test_percentiles_are_those_of_the_image():
    counts = np.random.default_rng(0).integers(2000, 60000, (40, 30)).astype(np.uint16)
    low, high = np.percentile(counts, (5, 90))
    expected = Sensor(f"{low}:{high}").grey_levels(counts)
    np.testing.assert_array_equal(Sensor("percentile:5,90").grey_levels(counts), expected)


def test_every_range_keeps_the_order_of_counts_and_large_images_map_as_small_ones():
    counts = np.random.default_rng(1).gamma(2, 3000, (300, 300)).clip(0, 65535)
    for text in ("500:9000", "percentile:1,99", "agc"):
        for kind in (np.uint16, np.float32):
            image = counts.astype(kind)
            grey = Sensor(text).grey_levels(image)
            order = np.argsort(image, axis=None)
            assert (np.diff(grey.ravel()[order].astype(int)) >= 0).all(), (text, kind)
            assert (grey.min(), grey.max()) == (0, 255), (text, kind)
    small = counts[:10].astype(np.uint16)  # too few for the table of all counts
    large = np.concatenate([small] * 30)
    for text in ("500:9000", "percentile:0,100"):
        levels = Sensor(text).grey_levels(small)
        np.testing.assert_array_equal(Sensor(text).grey_levels(large)[:10], levels, text)


def test_agc_gives_a_person_before_a_wide_background_more_grey_levels_than_a_line_does():
    rng = np.random.default_rng(2)
    counts = rng.normal(7000, 5, (100, 100))
    counts[40:60, 40:50] = rng.normal(9000, 200, (20, 10))
    counts[0, 0] = 65000  # one hot pixel
    person = np.s_[40:60, 40:50]
    spread = {
        text: np.ptp(Sensor(text).grey_levels(counts.astype(np.uint16))[person])
        for text in ("agc", "percentile:0,100")
    }
    assert spread["agc"] > 2 * spread["percentile:0,100"]


def test_flat_and_empty_counts_are_black():
    for counts in (np.full((4, 3), 7000, np.uint16), np.full((4, 3), np.nan, np.float32)):
        for text in ("percentile:1,99", "agc"):
            assert not Sensor(text).grey_levels(counts).any(), (counts.dtype, text)


def test_what_is_no_sensor_is_refused():
    for text in ("9:1", "5:5", "percentile:99,1"):
        with pytest.raises(InputError, match="LOW is below its HIGH"):
            Sensor(text)
        assert not is_range(text), text
    for text in ("abc", "1:", "1:2:3", "nan:1", "1:inf", "percentile:1", "percentile:-1,5", "AGC"):
        with pytest.raises(InputError, match="expected a thermal range LOW:HIGH, percentile"):
            Sensor(text)
        assert not is_range(text), text
    for options in ({"palette": "rainbow"}, {"polarity": "hot"}):
        with pytest.raises(InputError, match="expected a thermal p"):
            Sensor(**options)
    assert all(map(is_range, ("", "agc", "0:1", "percentile:0,100", "-3.5:1e4")))
    assert not is_range(7)


def test_a_sensor_survives_as_plain_types_and_leaves_visible_images_alone():
    sensor = Sensor("7000:9000", "jet", "black-hot")
    assert Sensor.from_dict(sensor.to_dict()) == sensor
    assert Sensor.from_dict(None) == PLAIN
    assert sensor.of(Modality.VISIBLE) == PLAIN
    assert sensor.of(Modality.THERMAL) == sensor


def test_black_hot_is_the_negative():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    np.testing.assert_array_equal(Sensor(polarity="black-hot").finish(pixels), 255 - pixels)
    assert PLAIN.finish(pixels) is pixels


def test_a_palette_gives_back_its_levels():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for palette in PALETTES:
        grey = to_grey(colours(palette)[levels], palette)
        error = np.abs(grey.astype(int) - levels[..., None])
        assert error.max() <= 4 * (palette == "jet"), palette  # see the module
        noisy = colours(palette)[levels] + np.random.default_rng(0).integers(-3, 4, (16, 16, 3))
        near = to_grey(noisy.clip(0, 255).astype(np.uint8), palette).astype(int)
        assert np.abs(near - levels[..., None]).mean() < 3, palette


def test_jet_and_inferno_are_those_of_opencv_too():
    cv2 = pytest.importorskip("cv2")
    levels = np.arange(256, dtype=np.uint8)[:, None]
    for palette, code in (("jet", cv2.COLORMAP_JET), ("inferno", cv2.COLORMAP_INFERNO)):
        theirs = cv2.applyColorMap(levels, code)[..., ::-1]
        error = np.abs(to_grey(theirs, palette)[..., 0].astype(int) - levels)
        assert error.max() <= 9, (palette, error.max())


def test_grey_images_pass_a_palette_and_other_colours_are_refused():
    grey = np.repeat(np.arange(60, dtype=np.uint8).reshape(6, 10, 1), 3, axis=2)
    assert to_grey(grey, "jet") is grey
    noise = np.random.default_rng(0).integers(0, 256, (30, 20, 3)).astype(np.uint8)
    with pytest.raises(InputError, match="colours of inferno, or a grey one in a.png, got other"):
        to_grey(noise, "inferno", " in a.png")


def test_recognised_are_false_colours_and_neither_photographs_nor_grey_images():
    rng = np.random.default_rng(0)
    heat = np.clip(np.add.outer(np.linspace(20, 230, 96), rng.normal(0, 8, 48)), 0, 255)
    heat = heat.astype(np.uint8)
    for palette in PALETTES:
        assert recognise(colours(palette)[heat]) == palette
    noise = rng.integers(0, 256, (64, 32, 3)).astype(np.uint8)
    orange = (heat[..., None] * [1.0, 0.6, 0.2]).astype(np.uint8)
    for name, image in (("noise", noise), ("grey", heat[..., None].repeat(3, 2)), ("hue", orange)):
        assert recognise(image) is None, name
