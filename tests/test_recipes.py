"""Recipes: each yaml says where it comes from, loads, builds its network and trains a step."""

import re
from typing import Any

import pytest
import torch
import yaml
from fastreid.modeling import build_model
from fastreid.utils.events import EventStorage
from tests.cases import cases
from tests.conftest import CONFIGS

import cmemd
from cmemd.engine.preflight import check_config
from cmemd.engine.room import rows_of_step
from cmemd.engine.schedule import Schedule
from cmemd.engine.trainer import Trainer

RECIPES = sorted((CONFIGS / "recipes").glob("*.yml"))
IMAGES = 34167  # of SYSU-MM01's training and validation identities

# A step on small images of the stand-in: 4 identities, and otherwise as the yaml says.
SMALL: dict[str, Any] = {
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.PRETRAIN": False,
    "MODEL.BACKBONE.DEPTH": "18x",
    "MODEL.BACKBONE.WIDTH": 0.125,
    "MODEL.BACKBONE.FEAT_DIM": 64,
    "MODEL.BACKBONE.WITH_NL": False,
    "INPUT.SIZE_TRAIN": [48, 24],
    "INPUT.SIZE_TEST": [48, 24],
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.NUM_VISIBLE": 2,
    "DATALOADER.NUM_THERMAL": 2,
    "SOLVER.IMS_PER_BATCH": 16,
    "SEED": 0,
}


def small(path) -> Any:
    keys = dict(SMALL)
    if load(path).MODEL.BACKBONE.NAME == "build_two_stream_timm_backbone":
        keys["MODEL.BACKBONE.TIMM.NAME"] = "test_vit"
    return cmemd.load_config(path, [str(word) for pair in keys.items() for word in pair])


def load(path) -> Any:
    return cmemd.load_config(path, ["MODEL.DEVICE", "cpu"])


def test_there_are_recipes():
    assert {"caj", "caj_plus", "rle", "mcja"} <= {path.stem for path in RECIPES}


@cases("path", RECIPES)
def test_a_recipe_says_its_source_licence_metrics_and_differences(path):
    header = path.read_text(encoding="utf-8").split("_BASE_")[0]
    text = " ".join(line.lstrip("# ") for line in header.splitlines())
    assert f"--config-file projects/CMEMD/configs/recipes/{path.name}" in text
    for word in ("Source", "licence", "Published", "on licensed data here", "written afresh"):
        assert word in text, (path.name, word)
    assert re.search("[Dd]ifferent|[Dd]iffers", text), path.name
    assert load(path).OUTPUT_DIR == f"logs/recipes/{path.stem}"
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["_BASE_"].endswith(".yml")


@cases("path", RECIPES)
def test_a_recipe_passes_all_checks_of_a_start_that_need_no_data(path):
    cfg = load(path)
    check_config(cfg)
    assert not Schedule.of(cfg, IMAGES).warnings(), path.name


@cases("path", RECIPES)
def test_a_recipe_trains_a_step_with_finite_losses_and_gradients(datasets, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(datasets))
        cfg = small(path)
        batch = next(iter(Trainer.build_train_loader(cfg)))
    assert len(batch["images"]) == rows_of_step(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.HEADS.NUM_CLASSES = 20
    network = build_model(cfg).train()
    network.epoch_length = 1
    with EventStorage(0):
        losses = network(batch)
    total = sum(losses.values())
    total.backward()
    assert {
        name: bool(loss.isfinite()) for name, loss in losses.items() if not loss.isfinite()
    } == {}
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None or not p.grad.isfinite().all()] == []
    assert torch.stack([p.grad.norm() for p in trained.values()]).norm() > 0


def test_the_rates_fall_after_the_authors_epochs():
    epochs = {"caj": [20, 50], "caj_plus": [20, 50], "rle": [20, 80, 120], "mcja": [80, 120]}
    for name, expected in epochs.items():
        schedule = Schedule.of(load(CONFIGS / f"recipes/{name}.yml"), IMAGES)
        assert schedule.decays() == expected, name


def test_caj_reads_each_visible_image_twice():
    for name in ("caj", "caj_plus"):
        assert rows_of_step(load(CONFIGS / f"recipes/{name}.yml")) == 8 * (4 + 4 + 4)
    losses = cmemd.losses.build.build_losses(load(CONFIGS / "recipes/caj_plus.yml"))
    assert {name: loss.weight for name, loss in losses.items()} == {"id": 1, "soft": 1, "wrt": 1}
