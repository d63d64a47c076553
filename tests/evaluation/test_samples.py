import numpy as np
import pytest

from cmemd.errors import InputError
from cmemd.evaluation.samples import Samples

GOOD = {
    "features": np.ones((2, 3)),
    "pids": [1, 2],
    "camids": [1, 3],
    "modalities": [0, 1],
    "frames": [1, 1],
    "paths": ["cam1/0001/0001.jpg", "cam3/0002/0001.jpg"],
}


def test_sequences_become_arrays():
    samples = Samples(**GOOD)
    assert samples.pids.tolist() == [1, 2]
    assert samples.features.shape == (2, 3)


def test_wrong_columns_are_refused():
    for wrong, message in (
        ({"features": np.ones(2)}, r"floats, got float64 of shape \(2,\): stack one row"),
        ({"features": np.ones((0, 3))}, "non-empty"),
        ({"features": np.ones((2, 3), dtype=int)}, "floats, got int64"),
        ({"pids": [1]}, "expected pids as 2 integers"),
        ({"camids": [1.0, 3.0]}, "expected camids"),
        ({"frames": [[1], [1]]}, "expected frames"),
        ({"paths": [1, 2]}, "expected paths as 2 strings"),
        ({"modalities": [0, 2]}, r"\(visible, thermal\), got \[0, 2\]"),
    ):
        with pytest.raises(InputError, match=message):
            Samples(**GOOD | wrong)


def test_images_that_are_not_finite_are_marked_and_features_without_any_other_refused():
    for value in (np.nan, np.inf, -np.inf):
        features = np.ones((2, 3))
        features[1, 1:] = value
        assert Samples(**GOOD | {"features": features}).finite.tolist() == [True, False], value
        features[0, 0] = value
        with pytest.raises(InputError, match="for all 2 images: the network has diverged"):
            Samples(**GOOD | {"features": features})
