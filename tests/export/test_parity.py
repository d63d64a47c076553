"""What counts as the same network."""

import numpy as np
import pytest
from tests.inference.refusal import refusal

from cmemd.errors import InputError
from cmemd.export.images import Probes
from cmemd.export.parity import Measured, check_finite, check_parity, measure_parity, same_rankings

MODALITIES = np.array([1, 0, 0])  # one query, two images to rank


def vectors(*angles):
    return np.array([[np.cos(a), np.sin(a)] for a in angles], dtype=np.float32)


def test_rankings_are_those_of_cosines_across_modalities():
    reference = vectors(0.0, 0.5, 1.0)
    assert same_rankings(vectors(0.0, 0.4, 1.2), reference, MODALITIES)
    assert not same_rankings(vectors(0.0, 1.0, 0.5), reference, MODALITIES)


def test_a_tie_within_rounding_may_fall_either_way():
    reference = vectors(0.0, 0.5, -0.5)
    assert same_rankings(vectors(0.0, 0.5 + 5e-7, -0.5), reference, MODALITIES)
    assert not same_rankings(vectors(0.0, 0.5 + 1e-4, -0.5), reference, MODALITIES)


def test_nan_ranks_like_nothing():
    broken = vectors(0.0, 0.5, 1.0)
    broken[1] = np.nan
    assert not same_rankings(broken, vectors(0.0, 0.5, 1.0), MODALITIES)


def test_measures_against_the_reference():
    reference = vectors(0.0, 0.5, 1.0)
    probes = Probes(np.zeros((3, 4, 2, 3), np.uint8), MODALITIES, "nothing")
    shifted = reference + np.float32(0.25)
    measured = measure_parity("onnx", 12, lambda images, modalities: shifted, probes, reference)
    assert measured.difference == pytest.approx(0.25)
    # smallest of |v|^2 + 0.25 (cos a + sin a) over the three angles: at 0, 1.25
    assert measured.cosine == pytest.approx(1.25)
    assert measured.bytes == 12
    assert measured.images_per_second > 0


def test_the_limits():
    for name, difference, rankings, passes in (
        ("torch-export", 1e-5, True, True),
        ("torch-export", 1.1e-5, True, False),
        ("onnx", 1e-4, True, True),
        ("onnx", 1.1e-4, True, False),
        ("onnx", 0.0, False, False),
        ("safetensors", float("nan"), True, False),
    ):
        found = refusal(check_parity, Measured(name, 1, difference, 1.0, rankings, 1.0))
        case = name, difference, rankings
        assert found.startswith(f"expected the {name} model to embed") is not passes, case
        assert not (passes and found), case


def test_a_variant_without_numbers_is_refused():
    half = Measured("half", 1, float("nan"), float("nan"), False, 1.0)
    with pytest.raises(InputError, match="finite embeddings of half.*without --half"):
        check_finite([half])
    check_finite([])
