"""Ablations: each yaml is its base and one block."""

import pytest
import yaml
from fastreid.config import CfgNode
from fastreid.modeling import build_model
from tests.conftest import CONFIGS

from cmemd import load_config

FOLDER = CONFIGS / "ablations"
# What all of them leave out of the demo's schedule.
SHORTER = {"SOLVER.MAX_EPOCH", "SOLVER.STEPS", "TEST.EVAL_PERIOD"}
# What each adds to its base; OUTPUT_DIR apart.
LADDER = {
    "baseline": ("../demo", {"MODEL.LOSSES.ALIGN.NAME", "MODEL.LOSSES.DL.WEIGHT"} | SHORTER),
    **{
        name: ("baseline", {"MODEL.LOSSES.ALIGN.NAME"})
        for name in (
            "uniform",
            "cm_emd",
            "cm_emd_debiased",
            "sinkhorn",
            "affinity",
            "centre",
            "kl",
            "mmd",
        )
    },
    **{
        f"{name}_cm_dl": (name, {"MODEL.LOSSES.DL.WEIGHT"})
        for name in ("uniform", "cm_emd", "cm_emd_debiased", "centre", "mmd")
    },
    "centre_cluster": ("baseline", {"MODEL.LOSSES.CENTRE.WEIGHT"}),
    "cm_emd_warmup": ("cm_emd", {"MODEL.LOSSES.ALIGN.WARMUP_ITERS"}),
    **{
        f"{name}_global": (name, {"MODEL.HEADS.GRANULARITIES"})
        for name in ("baseline", "uniform", "cm_emd", "cm_emd_cm_dl")
    },
    # the triplet's other options are fast-reid's defaults, and named all the same
    "agw_global": ("baseline_global", {"MODEL.LOSSES.NAME", "MODEL.LOSSES.TRI.MARGIN"}),
}
SMALL = ["MODEL.BACKBONE.WIDTH", "0.125", "MODEL.BACKBONE.FEAT_DIM", "64"]
SMALL += ["MODEL.HEADS.NUM_CLASSES", "3"]


def flat(cfg, prefix=""):
    """Key -> value of every leaf."""
    leaves = {}
    for name, value in cfg.items():
        inner = isinstance(value, CfgNode)
        leaves |= flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return leaves


def test_the_ladder_is_the_folder():
    assert {path.stem for path in FOLDER.glob("*")} == set(LADDER)


@pytest.mark.parametrize("name", LADDER)
def test_each_differs_from_its_base_in_its_own_block_alone(name):
    base, keys = LADDER[name]
    path = FOLDER / f"{name}.yml"
    assert yaml.safe_load(path.read_text())["_BASE_"] == f"{base}.yml"
    own, other = (flat(load_config(p)) for p in (path, FOLDER / f"{base}.yml"))
    assert own.keys() == other.keys()
    assert {key for key in own if own[key] != other[key]} == keys | {"OUTPUT_DIR"}
    assert own["OUTPUT_DIR"] == f"logs/ablations/{name}"


def test_the_whole_ladder_ends_at_the_demo_but_for_its_schedule():
    last, demo = (
        flat(load_config(FOLDER / "cm_emd_cm_dl.yml")),
        flat(load_config(CONFIGS / "demo.yml")),
    )
    assert {key for key in last if last[key] != demo[key]} == {"OUTPUT_DIR"} | SHORTER


@pytest.mark.parametrize("name", LADDER)
def test_each_builds_its_losses_and_granularities(name):
    model = build_model(load_config(FOLDER / f"{name}.yml", SMALL))
    aligned = name.split("_")[0] not in ("baseline", "agw") and name != "centre_cluster"
    expected = {"id"} | ({"align"} if aligned else set())
    expected |= {"dl"} if "cm_dl" in name else set()
    expected |= {"tri"} if name == "agw_global" else set()
    expected |= {"centre"} if name == "centre_cluster" else set()
    assert set(model.loss_modules) == expected
    granularities = ["global"] if name.endswith("_global") else ["global", "local", "accumulated"]
    assert list(model.heads.granularities) == granularities
