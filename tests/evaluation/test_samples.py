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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": np.ones(2)}, "of shape"),
        ({"features": np.ones((0, 3))}, "non-empty"),
        ({"features": np.ones((2, 3), dtype=int)}, "floats; got int64"),
        ({"pids": [1]}, "expected pids as 2 integers"),
        ({"camids": [1.0, 3.0]}, "expected camids"),
        ({"frames": [[1], [1]]}, "expected frames"),
        ({"paths": [1, 2]}, "expected paths as 2 strings"),
        ({"modalities": [0, 2]}, "visible, thermal"),
    ],
)
def test_wrong_columns_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Samples(**GOOD | wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite_are_told_and_none_but_such_is_refused(value):
    features = np.ones((2, 3))
    features[1, 1:] = value
    assert Samples(**GOOD | {"features": features}).finite.tolist() == [True, False]
    features[0, 0] = value
    with pytest.raises(InputError, match="for all 2 images; the network has diverged"):
        Samples(**GOOD | {"features": features})
