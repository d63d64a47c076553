"""Two views of each visible image: rows of a batch, random numbers, processes, memory."""

from collections import Counter

import numpy as np
import pytest
import torch
from tests.cases import cases
from tests.conftest import CONFIGS, TINY

import cmemd
from cmemd.data import dataset as dataset_module
from cmemd.data.build import build_dataset
from cmemd.data.modality import Modality
from cmemd.data.random_state import Draws
from cmemd.data.transform import build_transform
from cmemd.engine.trainer import Trainer

CAJ = {
    "SEED": 3,
    "DATALOADER.VISIBLE_VIEWS": 2,
    "INPUT.CHANNEL_ERASING.ENABLED": True,
    "INPUT.CHANNEL_EXCHANGE.ENABLED": True,
    "INPUT.CHANNEL_EXCHANGE.IMAGES": "second",
    "INPUT.CHANNEL_STEP.ENABLED": True,
    "SOLVER.IMS_PER_BATCH": 16,  # 4 identities x (2 + 2)
}
BATCHES = 4


def config(**keys: object):
    options = TINY | CAJ | {key.replace("__", "."): value for key, value in keys.items()}
    return cmemd.load_config(CONFIGS / "demo.yml", [str(w) for p in options.items() for w in p])


@pytest.fixture(autouse=True)
def root(datasets, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))


def taken(cfg, start: int = 0) -> list[dict]:
    loader = Trainer.build_train_loader(cfg)
    loader.batch_sampler.sampler.start = start
    return [batch for batch, _ in zip(loader, range(BATCHES - start), strict=False)]


def test_a_visible_image_takes_two_rows_with_equal_labels_and_a_thermal_one_takes_one():
    for batch in taken(config()):
        assert len(batch["images"]) == len(batch["img_paths"]) == 4 * (2 * 2 + 2)
        assert batch["rows"].visible.shape == (4, 4)
        assert batch["rows"].thermal.shape == (4, 2)
        assert batch["pairs"].shape == (8, 2)
        assert sorted(batch["pairs"].flatten().tolist()) == sorted(
            batch["rows"].visible.flatten().tolist()
        )
        first, second = batch["pairs"].unbind(1)
        for name in ("targets", "camids", "modalities"):
            assert torch.equal(batch[name][first], batch[name][second]), name
        assert (batch["modalities"][first] == int(Modality.VISIBLE)).all()
        paths = Counter(batch["img_paths"])
        assert all(batch["img_paths"][a] == batch["img_paths"][b] for a, b in batch["pairs"])
        assert sorted(paths.values()) == [1] * 8 + [2] * 8
        assert "views" not in batch


def test_each_view_is_what_its_transform_gives_with_its_own_random_numbers():
    cfg = config()
    data = build_dataset(cfg, "SYSUMM01")
    loader = Trainer.build_train_loader(cfg, data)
    keys, batch = next(iter(loader.batch_sampler)), next(iter(loader))
    row = 0
    for index, place in keys:
        item = data.train[index]
        pixels = np.asarray(dataset_module.read_pixels(item.path))
        for view in (1, 2) if item.modality is Modality.VISIBLE else (1,):
            kind = {"modality": item.modality, "view": view}
            expected = build_transform(cfg, training=True, **kind)(pixels, Draws(3, place, view))
            shown = batch["images"][row].permute(1, 2, 0).numpy()
            assert np.array_equal(shown, expected), (row, kind)
            row += 1
    assert row == len(batch["images"])
    first, second = batch["pairs"].unbind(1)
    assert (batch["images"][first] != batch["images"][second]).flatten(1).any(1).all()


def test_first_views_and_thermal_images_are_those_of_a_batch_without_second_views():
    plain = taken(config(DATALOADER__VISIBLE_VIEWS=1, INPUT__CHANNEL_EXCHANGE__ENABLED=False))
    for one, two in zip(plain, taken(config()), strict=True):
        kept = [row for row in range(len(two["images"])) if row not in two["pairs"][:, 1]]
        assert torch.equal(two["images"][kept], one["images"])
        assert [two["img_paths"][row] for row in kept] == one["img_paths"]
        assert "pairs" not in one


@cases("options", [{"DATALOADER__NUM_WORKERS": 1}, {"DATALOADER__NUM_WORKERS": 3}, {"start": 2}])
def test_workers_and_a_resumed_start_give_the_same_batches(options):
    start = options.pop("start", 0)
    for alone, other in zip(taken(config())[start:], taken(config(**options), start), strict=True):
        for name in ("images", "targets", "modalities", "pairs"):
            assert torch.equal(alone[name], other[name]), (options, name)
        assert all(map(torch.equal, alone["rows"], other["rows"])), options


def test_processes_share_the_rows_of_one(monkeypatch):
    whole = taken(config())
    for world_size in (2, 4):
        parts = []
        for rank in range(world_size):
            with monkeypatch.context() as patch:
                patch.setattr("cmemd.engine.trainer.comm.get_rank", lambda rank=rank: rank)
                patch.setattr("cmemd.engine.trainer.comm.get_world_size", lambda n=world_size: n)
                parts.append(taken(config()))
        for number, batch in enumerate(whole):
            own = [part[number] for part in parts]
            for name in ("images", "targets"):
                joined = torch.cat([one[name] for one in own])
                assert torch.equal(joined, batch[name]), (world_size, name)
            rows = len(batch["images"]) // world_size
            pairs = torch.cat([one["pairs"] + rows * rank for rank, one in enumerate(own)])
            assert torch.equal(pairs, batch["pairs"]), world_size


def test_a_file_is_read_once_for_all_its_views_and_a_cache_gives_the_same_pixels(
    monkeypatch, tmp_path
):
    read = []
    decode = dataset_module.read_pixels
    monkeypatch.setattr(
        dataset_module, "read_pixels", lambda path, **o: read.append(path) or decode(path, **o)
    )
    cfg = config()
    loader = Trainer.build_train_loader(cfg)
    keys = next(iter(loader.batch_sampler))
    plain = loader.collate_fn([loader.dataset[key] for key in keys])
    assert len(read) == len(keys) == 16
    cached = taken(config(DATALOADER__CACHE=tmp_path / "cache"))[0]
    assert torch.equal(cached["images"], plain["images"])
    assert torch.equal(cached["pairs"], plain["pairs"])
