import warnings

import numpy as np
import pytest
from tests.inference.one_matrix import STATISTICS, grey, noise

from cmemd.data.images import chroma
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.inference.guard import (
    ModalityGuard,
    ModalityWarning,
    looks_like_the_other,
    summarise,
)

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
    assert summarise(images) == {"chroma": pytest.approx([1, 50, 99]), "images": 101}


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
        found = {m for m in Modality if looks_like_the_other(value, m, statistics)}
        assert found == suspects, (value, statistics)


def test_it_warns_at_once_and_once_more_if_more_came():
    guard = ModalityGuard(THERMAL, STATISTICS, strict=False)
    assert guard.inspect(["a", "b"], [0.0, 0.0]) == 0
    with pytest.warns(ModalityWarning, match="1 of 4 images.*colour photographs.*first: c"):
        assert guard.inspect(["c", "d"], [50.0, 0.0]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert guard.inspect(["e", "f"], [50.0, 50.0]) == 2
    with pytest.warns(ModalityWarning, match="3 of 6 images"):
        guard.finish()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard.finish()


def test_strict_refuses_instead():
    guard = ModalityGuard(VISIBLE, STATISTICS, strict=True)
    with pytest.raises(InputError, match="expected visible images, got 1 of 2.*grey.*first: b"):
        guard.inspect(["a", "b"], [30.0, 0.0])


def test_without_statistics_nothing_is_suspect():
    guard = ModalityGuard(VISIBLE, None, strict=False)
    assert guard.inspect(["a"], [0.0]) == 0
