import re
from pathlib import Path

import pytest
from tests.cases import cases

from cmemd import load_config
from cmemd.errors import InputError
from cmemd.losses.alignment import CloudAlignment, PairAlignment
from cmemd.losses.build import LOSSES, WeightedLoss, build_losses
from cmemd.losses.centre_cluster import CentreClusterLoss
from cmemd.losses.cm_dl import CMDLLoss
from cmemd.losses.hetero_centre_triplet import HeteroCentreTripletLoss
from cmemd.losses.identity import IdentityLoss
from cmemd.losses.pmt import DCLLoss, MSELLoss
from cmemd.losses.transport import exact_plan
from cmemd.losses.triplet import TripletLoss, WeightedTripletLoss

DEMO = Path(__file__).parents[2] / "projects/CMEMD/configs/demo.yml"


def losses_with(**options):
    """Build the table; ALIGN_WEIGHT=1.0 stands for MODEL.LOSSES.ALIGN.WEIGHT 1.0."""
    cfg = load_config(DEMO).clone()
    cfg.defrost()
    for option, value in options.items():
        nodes = [name for name in cfg.MODEL.LOSSES if option.startswith(f"{name}_")]
        if nodes:
            loss, key = nodes[0], option.removeprefix(f"{nodes[0]}_")
            cfg.MODEL.LOSSES[loss][key] = value
        else:
            cfg.MODEL.LOSSES[option] = value
    return build_losses(cfg)


def test_the_table_holds_every_loss_with_its_options_and_weight():
    table = losses_with(
        CE_SCALE=2.0,
        CE_EPSILON=0.1,
        ALIGN_WEIGHT=0.25,
        ALIGN_DISTANCE="cosine",
        ALIGN_NORMALIZE=False,
        ALIGN_WARMUP_ITERS=50,
        ALIGN_START_EPOCH=2,
        DL_WEIGHT=0.5,
        DL_EPS=0.01,
        NAME=("CrossEntropyLoss", "TripletLoss"),
        TRI_SCALE=0.75,
        TRI_MARGIN=0.0,
        TRI_NORM_FEAT=True,
        TRI_HARD_MINING=True,
        CENTRE_WEIGHT=1.5,
        CENTRE_MARGIN=0.2,
        CENTRE_NORMALIZE=False,
        WRT_WEIGHT=1.25,
        WRT_SQUARED=True,
        HCT_WEIGHT=1.75,
        HCT_MARGIN=0.4,
        MSEL_WEIGHT=0.375,
        MSEL_START_EPOCH=6,
        DCL_WEIGHT=0.625,
        DCL_START_EPOCH=7,
    )
    assert {name: (type(loss.module), *loss[2:]) for name, loss in table.items()} == {
        "id": (IdentityLoss, 2.0, 0, 0),
        "align": (PairAlignment, 0.25, 50, 2),
        "dl": (CMDLLoss, 0.5, 0, 0),
        "tri": (TripletLoss, 0.75, 0, 0),
        "centre": (CentreClusterLoss, 1.5, 0, 0),
        "wrt": (WeightedTripletLoss, 1.25, 0, 0),
        "hct": (HeteroCentreTripletLoss, 1.75, 0, 0),
        "msel": (MSELLoss, 0.375, 0, 6),
        "dcl": (DCLLoss, 0.625, 0, 7),
    }
    modules = {name: loss.module for name, loss in table.items()}
    assert modules["id"].label_smoothing == 0.1
    align, tri, centre = (modules[name] for name in ("align", "tri", "centre"))
    assert (align.distance, align.normalize, align.plan) == ("cosine", False, exact_plan)
    assert modules["dl"].eps == 0.01
    assert (tri.margin, tri.normalize, tri.hard) == (0.0, True, True)
    assert (centre.margin, centre.normalize) == (0.2, False)
    assert modules["wrt"].squared
    assert modules["hct"].margin == 0.4


def test_the_default_is_the_papers_method():
    table = build_losses(load_config(""))
    assert {name: loss[2:] for name, loss in table.items()} == {
        "id": (1.0, 0, 0),
        "align": (0.1, 0, 0),
        "dl": (0.1, 0, 0),
    }
    assert table["align"].module.plan is exact_plan


def test_the_alignment_goes_by_its_name():
    assert type(losses_with(ALIGN_NAME="centre")["align"].module) is CloudAlignment
    assert "align" not in losses_with(ALIGN_NAME="none")


@cases(
    ("warmup_iters", "weights"),
    [(0, [3.0, 3.0, 3.0, 3.0]), (2, [0.0, 1.5, 3.0, 3.0]), (4, [0.0, 0.75, 1.5, 2.25])],
)
def test_a_weight_is_constant_or_rises_linearly_from_0(warmup_iters, weights):
    loss = WeightedLoss(CMDLLoss(), ("holistic", "rows"), 3.0, warmup_iters)
    assert [loss.weight_at(iteration) for iteration in range(4)] == weights
    assert loss.weight_at(10**6) == 3.0
    assert loss.is_constant == (warmup_iters == 0)


@cases(
    ("warmup_iters", "weights"),
    [(0, [0.0] * 6 + [3.0] * 3), (2, [0.0] * 6 + [0.0, 1.5, 3.0])],
)
def test_a_weight_may_start_after_some_epochs(warmup_iters, weights):
    loss = WeightedLoss(CMDLLoss(), ("holistic", "rows"), 3.0, warmup_iters, start_epoch=2)
    assert [loss.weight_at(iteration, epoch_length=3) for iteration in range(9)] == weights
    assert not loss.is_constant


@cases(
    ("weights", "names"),
    [
        ({"ALIGN_WEIGHT": 0.0}, ["id", "dl"]),
        ({"DL_WEIGHT": 0.0}, ["id", "align"]),
        ({"ALIGN_WEIGHT": 0.0, "DL_WEIGHT": 0.0}, ["id"]),
        ({"CE_SCALE": 0.0}, ["id", "align", "dl"]),
        ({"CENTRE_WEIGHT": 1.0}, ["id", "align", "dl", "centre"]),
        ({"NAME": ("CrossEntropyLoss", "TripletLoss")}, ["id", "align", "dl", "tri"]),
        ({"NAME": ("TripletLoss", "CrossEntropyLoss"), "TRI_SCALE": 0.0}, ["id", "align", "dl"]),
    ],
)
def test_a_weight_of_0_leaves_a_loss_out_but_identity_is_always_there(weights, names):
    assert list(losses_with(**weights)) == names


WITH_TRIPLETS = ("CrossEntropyLoss", "TripletLoss")


@cases("weight", [-0.1, float("nan")])
@cases("key", [f"{row.node}.{row.weight}" for row in LOSSES.values()])
def test_a_weight_that_is_not_at_least_0_is_refused(key, weight):
    words = rf"expected MODEL\.LOSSES\.{key} of at least 0, got {weight}: "
    with pytest.raises(InputError, match=words):
        losses_with(**{key.replace(".", "_"): weight, "NAME": WITH_TRIPLETS})


# Option, a bad value, and what switches its loss on and off.
BAD_OPTIONS = [
    ("ALIGN_NAME", "emd", {"ALIGN_WEIGHT": 1.0}, {"ALIGN_WEIGHT": 0.0}),
    ("ALIGN_DISTANCE", "chebyshev", {}, {"ALIGN_NAME": "kl"}),
    ("ALIGN_EPSILON", 0.0, {"ALIGN_NAME": "sinkhorn"}, {}),
    ("ALIGN_WARMUP_ITERS", -1, {}, {"ALIGN_WEIGHT": 0.0}),
    ("ALIGN_START_EPOCH", -1, {}, {"ALIGN_WEIGHT": 0.0}),
    ("ALIGN_SHARE", 2.0, {"ALIGN_NAME": "cm_emd_debiased"}, {}),
    ("DL_EPS", 0.0, {}, {"DL_WEIGHT": 0.0}),
    ("TRI_MARGIN", -1.0, {"NAME": WITH_TRIPLETS}, {}),
    ("TRI_MARGIN", -1.0, {"NAME": WITH_TRIPLETS}, {"NAME": WITH_TRIPLETS, "TRI_SCALE": 0.0}),
    ("CENTRE_MARGIN", -1.0, {"CENTRE_WEIGHT": 1.0}, {}),
    ("CE_EPSILON", -1.0, {}, None),
]


@cases(("option", "value", "on", "off"), BAD_OPTIONS)
def test_a_bad_option_is_refused_if_its_loss_is_on(option, value, on, off):
    key = option.replace("_", ".", 1)
    with pytest.raises(InputError, match=rf"expected .*MODEL\.LOSSES\.{key}") as caught:
        losses_with(**{option: value}, **on)
    assert f"got {value!r}: " in str(caught.value)
    if off is not None:
        losses_with(**{option: value}, **off)


@cases("names", [("TripletLoss",), (), ("CrossEntropyLoss", "CircleLoss")])
def test_other_lists_of_fastreids_names_are_refused(names):
    words = "expected MODEL.LOSSES.NAME with CrossEntropyLoss, and TripletLoss or no other"
    with pytest.raises(InputError, match=re.escape(f"{words}, got {list(names)}: ")):
        losses_with(NAME=names)


def test_a_fastreid_loss_is_off_unless_its_name_is_listed_whatever_its_weight():
    assert "tri" not in losses_with(TRI_SCALE=5.0)
    assert losses_with(TRI_SCALE=5.0, NAME=WITH_TRIPLETS)["tri"].weight == 5.0
