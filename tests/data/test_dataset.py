import numpy as np

from cmemd.data.dataset import VisibleThermalDataset
from cmemd.data.sysu_mm01 import SYSUMM01


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
