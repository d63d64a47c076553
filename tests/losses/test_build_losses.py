from pathlib import Path

import pytest

from cmemd import load_config
from cmemd.errors import InputError
from cmemd.losses.build import build_losses
from cmemd.losses.cm_dl import CMDLLoss
from cmemd.losses.cm_emd import CMEMDLoss
from cmemd.losses.identity import IdentityLoss

DEMO = Path(__file__).parents[2] / "projects/CMEMD/configs/demo.yml"


def losses_with(**options):
    """Builds the table; EMD_WEIGHT=1.0 stands for MODEL.LOSSES.EMD.WEIGHT 1.0."""
    cfg = load_config(DEMO).clone()
    cfg.defrost()
    for option, value in options.items():
        loss, key = option.split("_")
        cfg.MODEL.LOSSES[loss][key] = value
    return build_losses(cfg)


def test_the_table_holds_every_loss_with_its_options_and_weight():
    table = losses_with(
        CE_SCALE=2.0,
        CE_EPSILON=0.1,
        EMD_WEIGHT=0.25,
        EMD_DISTANCE="cosine",
        EMD_NORMALIZE=False,
        DL_WEIGHT=0.5,
        DL_EPS=0.01,
    )
    assert {name: (type(loss.module), loss.weight) for name, loss in table.items()} == {
        "id": (IdentityLoss, 2.0),
        "emd": (CMEMDLoss, 0.25),
        "dl": (CMDLLoss, 0.5),
    }
    assert table["id"].module.label_smoothing == 0.1
    assert (table["emd"].module.distance, table["emd"].module.normalize) == ("cosine", False)
    assert table["dl"].module.eps == 0.01


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        ({"EMD_WEIGHT": 0.0}, ["id", "dl"]),
        ({"DL_WEIGHT": 0.0}, ["id", "emd"]),
        ({"EMD_WEIGHT": 0.0, "DL_WEIGHT": 0.0}, ["id"]),
        ({"CE_SCALE": 0.0}, ["id", "emd", "dl"]),
    ],
)
def test_a_weight_of_0_leaves_a_loss_out_but_identity_is_always_there(weights, names):
    assert list(losses_with(**weights)) == names


@pytest.mark.parametrize(
    ("option", "name"), [("CE_SCALE", "id"), ("EMD_WEIGHT", "emd"), ("DL_WEIGHT", "dl")]
)
@pytest.mark.parametrize("weight", [-0.1, float("nan")])
def test_a_weight_that_is_not_at_least_0_is_refused(option, name, weight):
    with pytest.raises(InputError, match=f"loss '{name}'"):
        losses_with(**{option: weight})


@pytest.mark.parametrize(
    ("option", "value"),
    [("EMD_DISTANCE", "manhattan"), ("DL_EPS", 0.0), ("CE_EPSILON", -1.0)],
)
def test_a_bad_option_of_a_loss_is_refused(option, value):
    with pytest.raises(InputError, match="expected"):
        losses_with(**{option: value})
