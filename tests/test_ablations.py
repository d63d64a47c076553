"""Ablations: each yaml is its base and one block."""

import pytest
import torch
import yaml
from fastreid.config import CfgNode
from fastreid.modeling import build_model
from tests.conftest import CONFIGS

from cmemd import load_config
from cmemd.engine.checkpoint import load_weights, read_checkpoint

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
            "sinkhorn_divergence",
            "partial",
            "unbalanced",
            "batch_transport",
            "batch_nearest",
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
    **{
        name: (base, {f"MODEL.LOSSES.ALIGN.{key}"})
        for name, base, key in (
            ("cm_emd_warmup", "cm_emd", "WARMUP_ITERS"),
            ("cm_emd_late", "cm_emd", "START_EPOCH"),
            ("cm_emd_euclidean", "cm_emd", "DISTANCE"),
            ("cm_emd_manhattan", "cm_emd", "DISTANCE"),
            ("cm_emd_kernel", "cm_emd", "DISTANCE"),
            ("cm_emd_one_plan", "cm_emd", "PLAN_FEATURE"),
            ("cm_emd_one_plan_all", "cm_emd", "PLAN_FEATURE"),
            ("cm_emd_debiased_kernel", "cm_emd_debiased", "DISTANCE"),
            ("cm_emd_debiased_clamp", "cm_emd_debiased", "CLAMP"),
            ("cm_emd_debiased_margin", "cm_emd_debiased_clamp", "WITHIN_GRADIENT"),
        )
    },
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


@pytest.fixture(scope="module")
def start_up(tmp_path_factory):
    """A checkpoint of the baseline, trained on other people, as start-up weights."""
    path = tmp_path_factory.mktemp("start-up") / "model_final.pth"
    torch.manual_seed(1)
    network = build_model(load_config(FOLDER / "baseline.yml", SMALL))
    torch.save({"model": network.state_dict()}, path)
    return read_checkpoint(path)


@pytest.mark.parametrize("name", [name for name in LADDER if not name.endswith("_global")])
def test_each_starts_from_the_baselines_weights_but_for_the_classifiers(name, start_up):
    # no alignment has parameters; more people have other classifiers
    options = [*SMALL[:-1], "4"]
    network = build_model(load_config(FOLDER / f"{name}.yml", options))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    load_weights(network, start_up, classifiers=False)
    after = network.state_dict()
    assert after.keys() == start_up.model.keys()
    for key, tensor in after.items():
        expected = before[key] if key.endswith("classifier") else start_up.model[key]
        assert torch.equal(tensor, expected), key


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
