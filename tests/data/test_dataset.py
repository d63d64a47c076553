import numpy as np
from tests.conftest import CONFIGS, TINY

from cmemd import load_config
from cmemd.data.dataset import VisibleThermalDataset
from cmemd.data.sysu_mm01 import SYSUMM01
from cmemd.engine.trainer import Trainer


def test_modality_travels_by_itself_while_cameras_are_renumbered(datasets):
    items = [item for item in SYSUMM01(root=datasets).train if item.camid in (2, 6)]
    batch = VisibleThermalDataset(items, np.asarray, relabel=True)
    assert {batch[i]["camids"] for i in range(len(items))} == {0, 1}
    for i, item in enumerate(items):
        assert batch[i]["modalities"] == int(item.camid == 6)


def test_training_renumbers_identities_in_order(datasets):
    items = SYSUMM01(root=datasets).train
    batch = VisibleThermalDataset(items, np.asarray, relabel=True)
    pids = sorted({item.pid for item in items})
    assert batch.num_classes == len(pids)
    assert all(pids[batch[i]["targets"]] == items[i].pid for i in range(len(items)))


def test_testing_keeps_genuine_numbers(datasets):
    items = SYSUMM01(root=datasets).query
    item = VisibleThermalDataset(items, np.asarray, relabel=False)[0]
    assert (item["targets"], item["camids"]) == (items[0].pid, items[0].camid)
    assert item["img_paths"] == items[0].path
    assert item["images"].shape[2] == 3


def test_visible_images_of_the_first_places_are_grey_and_no_others(datasets, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    keys = {"INPUT.GREY_EPOCHS": 1, "SOLVER.MAX_EPOCH": 2}
    words = [str(w) for pair in (TINY | keys).items() for w in pair]
    cfg = load_config(CONFIGS / "demo.yml", words)
    loader = Trainer.build_train_loader(cfg)
    plain = Trainer.build_train_loader(load_config(CONFIGS / "demo.yml", words[:-4]))
    each = len(loader.dataset) // cfg.SOLVER.IMS_PER_BATCH
    batches = zip(iter(loader.batch_sampler), iter(plain.batch_sampler), strict=False)
    for number, (keys, same) in zip(range(2 * each), batches, strict=False):
        for key, other in zip(keys, same, strict=True):
            ours, without = loader.dataset[key], plain.dataset[other]
            pixels = np.asarray(ours["images"])
            if ours["modalities"] == 0 and number < each:
                luma = np.asarray(without["images"]) @ (0.299, 0.587, 0.114)
                assert np.abs(pixels - luma[..., None]).max() <= 0.51, number
            else:
                assert np.array_equal(pixels, without["images"]), number
