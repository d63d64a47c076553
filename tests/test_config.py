"""Configurations: every yaml, every key, and what is refused."""

from pathlib import Path

import pytest
from fastreid.config import CfgNode
from fastreid.modeling import build_model
from tests.conftest import CONFIGS, REPOSITORY

import cmemd
from cmemd.engine.setup import check_config
from cmemd.errors import InputError

YAMLS = sorted([*CONFIGS.rglob("*.yml"), *(REPOSITORY / "configs").glob("*.yml")])
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False", "MODEL.HEADS.NUM_CLASSES", "3"]


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_yaml_has_known_keys_and_a_batch_that_fits(path):
    cfg = cmemd.load_config(path, ["MODEL.DEVICE", "cpu"])
    check_config(cfg)
    assert cfg.is_frozen()


@pytest.mark.parametrize("name", ["sysu", "regdb", "llcm", "demo"])
def test_every_method_yaml_builds_its_network(name):
    model = build_model(cmemd.load_config(CONFIGS / f"{name}.yml", SMALL))
    assert type(model) is cmemd.CMEMDNet


def test_sysu_is_the_follow_ups_setting():
    cfg = cmemd.load_config(CONFIGS / "sysu.yml")
    assert (cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.LAST_STRIDE) == ("50x", 1)
    assert list(cfg.INPUT.SIZE_TRAIN) == list(cfg.INPUT.SIZE_TEST) == [384, 192]
    assert (cfg.MODEL.HEADS.STRIPES, cfg.MODEL.HEADS.EMBEDDING_DIM) == (6, 256)
    assert cfg.SOLVER.IMS_PER_BATCH == 6 * (8 + 8)
    assert (cfg.DATALOADER.NUM_VISIBLE, cfg.DATALOADER.NUM_THERMAL) == (8, 8)


@pytest.mark.parametrize(("name", "images"), [("sysu", 34167), ("regdb", 4120), ("llcm", 30921)])
def test_the_rate_warms_up_for_10_epochs_and_drops_after_20_and_50(name, images):
    """Replays fast-reid's LRScheduler hook; HEADS_LR_FACTOR 10 makes the heads' rate 0.1."""
    import torch
    from fastreid.solver import build_lr_scheduler

    cfg = cmemd.load_config(CONFIGS / f"{name}.yml")
    epoch_length = images // cfg.SOLVER.IMS_PER_BATCH
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    schedule = build_lr_scheduler(cfg, optimizer, epoch_length)
    rates = []
    for epoch in range(cfg.SOLVER.MAX_EPOCH):
        rates.append(optimizer.param_groups[0]["lr"])
        for iteration in range(epoch * epoch_length, (epoch + 1) * epoch_length):
            optimizer.step()
            if iteration + 1 <= cfg.SOLVER.WARMUP_ITERS:
                schedule["warmup_sched"].step()
        if (epoch + 1) * epoch_length > cfg.SOLVER.WARMUP_ITERS:
            schedule["lr_sched"].step()
    assert rates[0] == pytest.approx(0.001)
    assert all(earlier < later for earlier, later in zip(rates[:10], rates[1:11], strict=True))
    assert rates[10:20] == pytest.approx([0.01] * 10)
    assert rates[20:50] == pytest.approx([0.001] * 30)
    assert rates[50:] == pytest.approx([0.0001] * 50)


def test_adding_keys_leaves_fastreids_defaults_alone():
    from fastreid.config import get_cfg

    ours, theirs = get_cfg(), get_cfg()
    cmemd.add_cmemd_config(ours)

    def compare(node: CfgNode, other: CfgNode) -> None:
        for name, value in other.items():
            if isinstance(value, CfgNode):
                compare(node[name], value)
            else:
                assert node[name] == value

    compare(ours, theirs)
    assert "SEED" not in get_cfg()


def test_every_key_of_ours_is_explained():
    """Each assignment in add_cmemd_config follows a comment."""
    lines = Path(cmemd.config.__file__).read_text().split("def add_cmemd_config")[1]
    lines = lines.split("def load_config")[0].splitlines()
    for i, line in enumerate(lines):
        if line.strip().startswith("cfg.") and "CfgNode()" not in line:
            assert "#" in lines[i - 1] or lines[i - 1].strip().startswith("cfg."), line


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.HEADS.STRIPS", "6"], "MODEL.HEADS.STRIPS"),
        (["MODEL.HEADS.STRIPES", "six"], "six"),
        (["MODEL.HEADS.STRIPES"], "KEY VALUE pairs"),
        (["NOSUCH.KEY", "1"], "NOSUCH.KEY"),
    ],
)
def test_bad_overrides(opts, message):
    with pytest.raises(InputError, match=message) as error:
        cmemd.load_config("", opts)
    assert "\n" not in str(error.value)


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match="got no file"):
        cmemd.load_config(tmp_path / "none.yml")
    broken = tmp_path / "broken.yml"
    broken.write_text("MODEL: [")
    with pytest.raises(InputError, match="keys and values of the configuration"):
        cmemd.load_config(broken)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SOLVER.IMS_PER_BATCH", "95", "use a multiple of 16"),
        ("DATALOADER.NUM_VISIBLE", "0", "at least 1"),
        ("TEST.EVAL_PERIOD", "0", "EVAL_PERIOD"),
        ("SOLVER.SELECTION", "best", "last, validation, best_on_test"),
        ("MODEL.BACKBONE.WIDTH", "0.0", "above 0"),
        ("MODEL.BACKBONE.NORM", "LN", r"BACKBONE\.NORM .* FrozenBN"),
        ("MODEL.HEADS.NORM", "", r"HEADS\.NORM .* got ''"),
        ("MODEL.BACKBONE.DEPTH", "51x", "DEPTH"),
        ("MODEL.BACKBONE.FEAT_DIM", "512", "set it to 2048"),
        ("MODEL.HEADS.POOL_LAYER", "Flatten", "POOL_LAYER"),
        ("MODEL.HEADS.LOCAL_WEIGHTS", "none", "LOCAL_WEIGHTS"),
        ("MODEL.HEADS.CLS_LAYER", "ArcSoftmax", "CLS_LAYER"),
        ("MODEL.HEADS.NECK_FEAT", "middle", "NECK_FEAT"),
        ("MODEL.LOSSES.ALIGN.DISTANCE", "manhattan", "manhattan"),
        ("MODEL.LOSSES.ALIGN.WEIGHT", "-1.0", "ALIGN.WEIGHT of at least 0"),
    ],
)
def test_bad_values_name_their_key(key, value, message):
    def start() -> None:
        cfg = cmemd.load_config(CONFIGS / "sysu.yml", [*SMALL, key, value])
        check_config(cfg)
        build_model(cfg)

    with pytest.raises(InputError, match=message):
        start()
