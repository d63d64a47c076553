import warnings

import numpy as np
import pytest
from tests.inference.one_matrix import STATISTICS, grey, noise

from cmemd.data.appearance import MEASURES, apparent, measure, seems_other, summarise
from cmemd.data.images import chroma
from cmemd.data.modality import Modality
from cmemd.data.palettes import PALETTES, colours
from cmemd.errors import InputError
from cmemd.inference.guard import ModalityGuard, ModalityWarning

VISIBLE, THERMAL = Modality


def test_chroma_by_hand():
    # largest minus smallest: 30 - 10, 255 - 0, 0, 0; their mean
    image = np.array([[[10, 20, 30], [255, 0, 7]], [[9, 9, 9], [0, 0, 0]]], dtype=np.uint8)
    assert chroma(image) == (20 + 255) / 4


def test_chroma_ignores_the_order_of_channels_and_a_common_shift():
    for seed in range(5):
        image = noise(1, seed)[0] // 2
        assert chroma(image) == chroma(image[..., ::-1]) == chroma(image + np.uint8(100)), seed
        assert chroma(grey(1, seed)[0]) == 0, seed


def test_a_summary_of_101_images():
    # image k has chroma k in every pixel, so the quantiles 0.01, 0.5, 0.99 are 1, 50, 99
    images = (np.full((3, 2, 3), [0, 0, k], dtype=np.uint8) for k in range(101))
    found = summarise(map(measure, images))
    assert found["chroma"] == pytest.approx([1, 50, 99])
    assert found["images"] == 101
    assert set(found) == {*MEASURES, "images"}
    # the largest channel is k as well, so that the saturation is full, but for the black image
    assert found["saturation"] == pytest.approx([255, 255, 255])


def test_no_images_have_no_summary():
    with pytest.raises(InputError, match="channel statistics, got none: name a data set"):
        summarise([])


# Ranges apart: 0 and 10..60, so 5 is the limit. Ranges that overlap: 0..20 and 10..60.
OVERLAP = {**STATISTICS, "thermal": {"chroma": [0.0, 5.0, 20.0], "images": 100}}


def test_which_modality_an_image_cannot_be():
    for value, statistics, suspects in (
        (0.0, STATISTICS, {VISIBLE}),
        (4.9, STATISTICS, {VISIBLE}),
        (5.0, STATISTICS, set()),
        (5.1, STATISTICS, {THERMAL}),
        (200.0, STATISTICS, {THERMAL}),
        (9.0, OVERLAP, {VISIBLE}),
        (10.0, OVERLAP, set()),
        (20.0, OVERLAP, set()),
        (21.0, OVERLAP, {THERMAL}),
    ):
        found = {m for m in Modality if seems_other({"chroma": value}, m, statistics)}
        assert found == suspects, (value, statistics)


def crowd(seed: int, modality: Modality) -> list[np.ndarray]:
    """Fine noise with hues as visible images; smooth grey ramps as thermal ones."""
    rng = np.random.default_rng([seed, modality])
    if modality is VISIBLE:
        tints = rng.uniform(0.4, 1, (40, 1, 1, 3))
        return list((rng.integers(60, 256, (40, 48, 24, 1)) * tints).astype(np.uint8))
    ramp = np.linspace(40, 220, 48)[:, None, None] * rng.uniform(0.7, 1, (40, 1, 1, 1))
    return list(np.broadcast_to(ramp, (40, 48, 24, 3)).astype(np.uint8))


def test_dark_and_grey_visible_images_are_not_taken_for_thermal_ones():
    """Chroma alone, as earlier models have it, takes all of these for thermal images."""
    statistics = {m.name.lower(): summarise(map(measure, crowd(0, m))) for m in Modality}
    chroma_alone = {
        name: {key: of[key] for key in ("chroma", "images")} for name, of in statistics.items()
    }
    visible, thermal = crowd(1, VISIBLE), crowd(1, THERMAL)
    dark = [(image * 0.08).astype(np.uint8) for image in visible]
    grey_ones = [
        np.repeat(image.mean(2, keepdims=True), 3, 2).astype(np.uint8) for image in visible
    ]
    for name, images in (("dark", dark), ("grey", grey_ones)):
        old = sum(seems_other(measure(image), VISIBLE, chroma_alone) for image in images)
        new = sum(seems_other(measure(image), VISIBLE, statistics) for image in images)
        assert (old >= 35, new <= 2) == (True, True), (name, old, new)
    for images, given in ((visible, THERMAL), (thermal, VISIBLE)):
        noticed = sum(apparent(image, given, statistics) is not None for image in images)
        assert noticed >= 38, (given, noticed)
    for images, given in ((visible, VISIBLE), (thermal, THERMAL)):
        falsely = sum(apparent(image, given, statistics) is not None for image in images)
        assert falsely <= 2, (given, falsely)


def test_a_few_grey_images_among_the_measured_ones_end_the_warnings_of_such():
    """Visible images as smooth as thermal ones, so that nothing but the limits tells them apart."""
    day = [(image * [1.0, 0.7, 0.4]).astype(np.uint8) for image in crowd(0, THERMAL)]
    night, later = crowd(1, THERMAL), crowd(2, THERMAL)
    thermal = summarise(map(measure, crowd(3, THERMAL)))
    for grey_ones, least, most in ((0, 38, 40), (3, 0, 0)):
        visible = summarise(map(measure, day + night[:grey_ones]))
        statistics = {"visible": visible, "thermal": thermal}
        falsely = [apparent(image, VISIBLE, statistics) for image in later]
        assert least <= sum(look is not None for look in falsely) <= most, grey_ones
        assert all("--write-guard" in look for look in falsely if look), grey_ones
        # The other direction is as before.
        assert all(apparent(image, THERMAL, statistics) for image in day), grey_ones


def test_false_colours_are_named_under_either_modality():
    ramp = np.tile(np.linspace(0, 255, 48).astype(np.uint8)[:, None], (1, 24))
    for palette in PALETTES:
        image = colours(palette)[ramp]
        for modality in Modality:
            found = apparent(image, modality, STATISTICS)
            assert f"false colours of {palette}" in found, (palette, modality)
        assert apparent(image, VISIBLE, None) is None, palette


def test_it_warns_at_once_and_once_more_if_more_came():
    guard = ModalityGuard(THERMAL, strict=False)
    colour = "colour photographs"
    assert guard.inspect(["a", "b"], [None, None]) == 0
    with pytest.warns(ModalityWarning, match="1 of 4 images.*colour photographs.*first: c"):
        assert guard.inspect(["c", "d"], [colour, None]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert guard.inspect(["e", "f"], [colour, colour]) == 2
    with pytest.warns(ModalityWarning, match="3 of 6 images"):
        guard.finish()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard.finish()


def test_strict_refuses_instead():
    guard = ModalityGuard(VISIBLE, strict=True)
    with pytest.raises(InputError, match="expected visible images, got 1 of 2.*grey.*first: b"):
        guard.inspect(["a", "b"], [None, "grey or thermal images"])
