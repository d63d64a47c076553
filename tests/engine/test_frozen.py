"""A frozen backbone: its features are computed once, and training on them is training on it."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastreid.utils.events import EventStorage
from tests.conftest import CONFIGS, REPOSITORY, TINY
from tests.engine.test_resume import EVERY_STEP, assert_same, killed_at, outcome
from tests.processes import TORCHRUN, python

import cmemd
from cmemd.data import pooled_features
from cmemd.data.pixel_cache import CachePlan
from cmemd.data.pooled_features import FeaturePlan, PooledFeatures, build_features
from cmemd.data.random_state import Draws
from cmemd.engine import preflight
from cmemd.engine.caching import open_features
from cmemd.engine.preflight import check_config
from cmemd.engine.rehearsal import outline
from cmemd.engine.trainer import Trainer
from cmemd.errors import InputError
from cmemd.files import shown_bytes
from cmemd.modeling.cmemd_net import CMEMDNet
from cmemd.modeling.multi_granularity import MultiGranularityHead

FROZEN = {"MODEL__BACKBONE__FROZEN": True, "INPUT__PADDING__ENABLED": False}
LONGER = FROZEN | {"SOLVER__MAX_EPOCH": 3, "TEST__EVAL_PERIOD": 3}


def load(folder: Path, **keys: object) -> Any:
    folder.mkdir(exist_ok=True)
    words = TINY | {"OUTPUT_DIR": str(folder)}
    words |= {name.replace("__", "."): str(value) for name, value in (FROZEN | keys).items()}
    return cmemd.load_config(CONFIGS / "demo.yml", [w for pair in words.items() for w in pair])


def folders(root: Path) -> list[Path]:
    return sorted(root.glob("cmemd-pooled-*"))


def backbone(tensors: Any) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in tensors.items() if name.startswith("backbone.")}


def test_losses_and_gradients_are_those_of_the_whole_network(datasets, tmp_path, monkeypatch):
    """Of the same images: mirrored ones as the ordinary loader draws them."""
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    cases = (
        {},
        {"INPUT__FLIP__ENABLED": False},
        {"DATALOADER__CACHE": tmp_path / "cache"},
        {"MODEL__HEADS__POOL_LAYER": "GeneralizedMeanPoolingP"},
        {"MODEL__HEADS__GRANULARITIES": "('global',)"},
        {"MODEL__HEADS__POOL_LAYER": "GlobalAvgPool", "MODEL__CHANNELS_LAST": True},
    )
    for number, keys in enumerate(cases):
        trainer = Trainer(load(tmp_path / str(number), **keys))
        network, loader = trainer._trainer.network, trainer.data_loader
        with torch.no_grad():  # statistics that a batch would not give
            for name, buffer in network.backbone.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
        network.train()
        batch = next(iter(loader))
        trainer._freeze()
        pooled = next(iter(loader))
        assert "images" not in pooled, keys
        assert pooled["img_paths"] == batch["img_paths"], keys
        found = []
        for one in (batch, pooled):
            network.zero_grad()
            with EventStorage(0):
                losses = network(one)
            sum(losses.values()).backward()
            grads = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
            found.append(({n: v.detach() for n, v in losses.items()}, grads))
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6, msg=str(keys))
        trained = {name.split(".")[0] for name in found[0][1]}
        assert trained == {"heads"}, keys
        assert not any(n.startswith("heads.global_pool") for n in found[0][1]), keys


def test_a_training_leaves_the_backbone_as_it_was(train_net, tmp_path):
    assert train_net(OUTPUT_DIR=tmp_path / "first")[0] == 0
    file = tmp_path / "first/model_final.pth"
    assert train_net(**LONGER, MODEL__WEIGHTS=file)[0] == 0
    at_first, trained = (
        torch.load(path, weights_only=True)["model"]
        for path in (file, tmp_path / "out/model_final.pth")
    )
    assert_same(backbone(trained), backbone(at_first))
    reduced = "heads.granularities.local.reduction"
    assert not torch.equal(trained[reduced], at_first[reduced])
    assert json.loads((tmp_path / "out/results.json").read_text())["scores"]


def test_the_yaml_for_ones_own_images_trains_and_warns_of_random_weights(
    train_net, datasets, tmp_path
):
    keys = {
        "DATASETS__OWN__LIST": datasets / "Own/people.csv",
        "MODEL__BACKBONE__DEPTH": "18x",
        "MODEL__BACKBONE__PRETRAIN": False,
        "SOLVER__IMS_PER_BATCH": 16,
        "SOLVER__WARMUP_ITERS": 1,
        "SOLVER__STEPS": [],
        "SEED": 0,
    }
    assert train_net(config=CONFIGS / "own_frozen.yml", **keys)[0] == 0
    log = (tmp_path / "out/log.txt").read_text()
    assert "MODEL.BACKBONE.FROZEN keeps random weights for good" in log
    assert "Computing pooled features of" in log


def test_a_killed_run_ends_as_a_whole_one_with_any_number_of_workers(train_net, tmp_path):
    assert train_net(**LONGER, OUTPUT_DIR=tmp_path / "whole")[0] == 0
    for workers in (0, 1, 3):
        keys = LONGER | EVERY_STEP | {"DATALOADER__NUM_WORKERS": workers}
        out = tmp_path / f"cut{workers}"
        for number in (1, 4):
            with killed_at(number):
                train_net("--resume", **keys, OUTPUT_DIR=out)
            if number == 4:  # what is lost is computed again
                (folders(out)[0] / "features.bin").unlink()
        assert train_net("--resume", **keys, OUTPUT_DIR=out)[0] == 0
        assert_same(outcome(out), outcome(tmp_path / "whole"), str(workers))
    kept = folders(tmp_path / "whole")[0]
    shutil.copytree(kept, tmp_path / "out" / kept.name)  # which then are not computed
    assert train_net(**LONGER)[0] == 0
    assert_same(outcome(tmp_path / "out"), outcome(tmp_path / "whole"))


def test_two_processes_train_as_one_does(train_net, datasets, tmp_path):
    """Without batch statistics, which are each process's own."""
    keys = LONGER | {"MODEL__HEADS__WITH_BNNECK": False}
    assert train_net(**keys, OUTPUT_DIR=tmp_path / "one")[0] == 0
    words = TINY | {name.replace("__", "."): str(value) for name, value in keys.items()}
    words["OUTPUT_DIR"] = str(tmp_path / "two")
    pairs = [word for pair in words.items() for word in pair]
    found = python(
        *("-c", TORCHRUN, "--config-file", CONFIGS / "demo.yml", *pairs),
        cwd=REPOSITORY,
        environment={"FASTREID_DATASETS": str(datasets)},
    )
    assert found.returncode == 0, found.stderr
    one, two = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"]
        for name in ("one", "two")
    )
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    assert len(folders(tmp_path / "two")) == 1


def test_other_weights_or_images_have_other_features(datasets, tmp_path, monkeypatch):
    """In a shared folder the old ones stay, and in a run's own they are removed."""
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    for shared in (False, True):
        root = tmp_path / str(shared)
        cfg = load(root, **({"DATALOADER__CACHE": root} if shared else {}))
        trainer = Trainer(cfg)
        network, items = trainer._trainer.network, trainer.data_loader.dataset.img_items
        features = open_features(cfg, items, network)
        before = features.draw(0, None)
        assert len(folders(root)) == 1
        with monkeypatch.context() as patch:
            patch.setattr(CMEMDNet, "pool", lambda *_: pytest.fail("computed again"))
            assert torch.equal(open_features(cfg, items, network).draw(0, None), before)
        with torch.no_grad():
            network.backbone.global_stream[0][0].conv1.weight.mul_(1.5)
        after = open_features(cfg, items, network).draw(0, None)
        assert not torch.equal(after, before)
        assert len(folders(root)) == 1 + shared
        open_features(cfg, items[1:], network)
        assert len(folders(root)) == 1 + 2 * shared


def plan_of(root: Path, images: int, monkeypatch) -> FeaturePlan:
    monkeypatch.setattr(pooled_features, "BLOCK", 4)
    files = tuple((f"{i}.png", i, i) for i in range(images))
    return FeaturePlan(CachePlan(root, files, 8, 4, "pillow"), "weights", 2, 3, 5)


def test_a_build_goes_on_behind_its_last_good_block(tmp_path, monkeypatch):
    plan = plan_of(tmp_path, 10, monkeypatch)
    numbers = np.random.default_rng(0).normal(size=plan.shape).astype(np.float32)
    asked: list[int] = []

    def compute(first: int, stop: int = 3):
        asked.append(first)
        for block in range(first, 3):
            if block == stop:
                raise KeyboardInterrupt
            yield numbers[4 * block : 4 * block + 4]

    for stop in (0, 1, 2):
        with pytest.raises(KeyboardInterrupt):
            build_features(plan, lambda first, stop=stop: compute(first, stop), alone=True)
    file = plan.folder / "features.bin"
    with open(file, "ab") as more:  # half of a block, as a kill leaves it
        more.write(b"half")
    build_features(plan, compute, alone=True)
    assert asked == [0, 0, 1, 2]
    build_features(plan, compute, alone=True)
    content = bytearray(file.read_bytes())
    content[5 * 4 * 2 * 3 * 5] ^= 1  # of the fifth image, in the second block
    file.write_bytes(content)
    build_features(plan, compute, alone=True)
    assert asked == [0, 0, 1, 2, 1]
    features = PooledFeatures(plan, 0.5)
    for image in range(10):
        assert np.array_equal(features.draw(image, None), numbers[image, 0]), image
    seen = [features.draw(0, Draws(0, place)).numpy() for place in range(400)]
    mirrored = np.mean([np.array_equal(one, numbers[0, 1]) for one in seen])
    assert abs(mirrored - 0.5) < 0.1  # four standard errors


def test_the_size_is_said_and_a_full_disk_is_refused(tmp_path, monkeypatch, caplog):
    plan = plan_of(tmp_path, 10, monkeypatch)
    assert plan.bytes == 10 * 2 * 3 * 5 * 4
    with monkeypatch.context() as patch:
        usage = type("Usage", (), {"free": plan.bytes - 1})
        patch.setattr(pooled_features.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(InputError, match=r"for MODEL.BACKBONE.FROZEN, got"):
            build_features(plan, lambda first: pytest.fail("computed"), alone=True)
    with caplog.at_level(logging.INFO, "cmemd"):
        build_features(plan, lambda first: [np.zeros((4, 2, 3, 5))] * 3, alone=True)
    assert f"10 images, {shown_bytes(plan.bytes)}" in caplog.text


def test_what_cannot_go_with_it_is_refused_in_one_line(train_net, tmp_path):
    cases = {
        "INPUT.PADDING.ENABLED: switch these off": {"INPUT__PADDING__ENABLED": True},
        "INPUT.GREY.ENABLED, INPUT.REA.ENABLED: switch": {
            "INPUT__REA__ENABLED": True,
            "INPUT__GREY__ENABLED": True,
        },
        "INPUT.GREY_EPOCHS": {"INPUT__GREY_EPOCHS": 1},
        "DATALOADER.VISIBLE_VIEWS": {"DATALOADER__VISIBLE_VIEWS": 2},
        "SOLVER.LAYER_DECAY: leave": {"SOLVER__LAYER_DECAY": 0.5},
        "CHECKPOINT_ACTIVATIONS: leave": {"MODEL__BACKBONE__CHECKPOINT_ACTIVATIONS": True},
    }
    for words, keys in cases.items():
        status, line = train_net(**FROZEN | keys)
        assert status == 2, words
        assert words in line, (words, line)
        assert line.count("\n") == 1, words
    assert not (tmp_path / "out").exists()


def test_forward_passes_of_ones_own_are_refused(tmp_path, monkeypatch):
    cfg = load(tmp_path)
    check_config(cfg)
    for part in (CMEMDNet, MultiGranularityHead):
        own = type("Own", (part,), {"forward": lambda self, *_: {}})
        with monkeypatch.context() as patch:
            network = outline(cfg)
            changed = network if part is CMEMDNet else network.heads
            changed.__class__ = own
            patch.setattr(preflight, "outline", lambda *_, network=network: network)
            with pytest.raises(InputError, match=r"for MODEL\.BACKBONE\.FROZEN, got others"):
                check_config(cfg)
