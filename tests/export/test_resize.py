import pytest
from tests.conftest import CONFIGS

from cmemd import load_config
from cmemd.errors import InputError
from cmemd.export.network import inference_config


def test_a_model_of_other_pixels_than_its_users_give_is_refused():
    cfg = load_config(CONFIGS / "demo.yml", ["INPUT.RESIZE", "opencv"])
    with pytest.raises(InputError, match=r"INPUT\.RESIZE pillow.*got 'opencv'"):
        inference_config(cfg)
