import shutil

import pytest
from tests.trees import copy_tree

from cmemd.data.layouts.identity_lists import read_ids
from cmemd.data.modality import Modality
from cmemd.data.sysu_mm01 import SYSUMM01
from cmemd.errors import InputError


def ids(items) -> set[int]:
    return {item.pid for item in items}


@pytest.fixture
def copy(datasets, tmp_path):
    """A copy to spoil, below a parent whose name looks like a camera's."""
    root = tmp_path / "cam1"
    copy_tree(datasets / "SYSU-MM01", root / "SYSU-MM01")
    return root


def test_trains_on_train_and_val_by_default(datasets):
    exp = datasets / "SYSU-MM01/exp"
    train, val = set(read_ids(exp, "train_id")), set(read_ids(exp, "val_id"))
    data = SYSUMM01(root=datasets)
    assert (ids(data.train), data.validation) == (train | val, [])


def test_holds_out_the_validation_identities_in_both_modalities(datasets):
    exp = datasets / "SYSU-MM01/exp"
    data = SYSUMM01(root=datasets, train_with_val=False)
    assert ids(data.train) == set(read_ids(exp, "train_id"))
    for modality in Modality:
        held = [item for item in data.validation if item.modality is modality]
        assert ids(held) == set(read_ids(exp, "val_id"))
    assert sorted(data.train + data.validation) == sorted(SYSUMM01(root=datasets).train)


def test_has_no_trial(datasets):
    assert SYSUMM01(root=datasets).trial is None


def test_queries_are_thermal_and_the_gallery_is_visible(datasets):
    data = SYSUMM01(root=datasets)
    test = set(read_ids(datasets / "SYSU-MM01/exp", "test_id"))
    assert ids(data.query) == ids(data.gallery) == test
    assert {item.camid for item in data.query} <= {3, 6}
    assert {item.camid for item in data.gallery} <= {1, 2, 4, 5}
    assert {item.modality for item in data.query} == {Modality.THERMAL}
    assert {item.modality for item in data.gallery} == {Modality.VISIBLE}


def test_lists_every_image_of_the_folders_once(datasets):
    data = SYSUMM01(root=datasets)
    listed = sorted(item.path for part in (data.train, data.query, data.gallery) for item in part)
    assert listed == sorted(map(str, (datasets / "SYSU-MM01").glob("cam*/*/*.jpg")))


def test_labels_come_from_the_folders_below_the_data_set(copy):
    (copy / "SYSU-MM01/cam1/Thumbs.db").write_bytes(b"")
    for item in SYSUMM01(root=copy).train:
        assert item.path.endswith(f"SYSU-MM01/cam{item.camid}/{item.pid:04d}/{item.path[-8:]}")


def test_works_through_a_symbolic_link(datasets, tmp_path):
    (tmp_path / "link").symlink_to(datasets)
    assert len(SYSUMM01(root=tmp_path / "link").train) == len(SYSUMM01(root=datasets).train)


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        SYSUMM01(root=tmp_path)
    (tmp_path / "SYSU-MM01").mkdir()
    with pytest.raises(InputError, match="an empty folder"):
        SYSUMM01(root=tmp_path)


def test_overlapping_lists(copy):
    exp = copy / "SYSU-MM01/exp"
    for one, other, uses in (
        ("train", "test", "training and test"),
        ("val", "test", "training and test"),
        ("train", "val", "training and validation"),
    ):
        before = (exp / f"{other}_id.txt").read_text()
        shutil.copy(exp / f"{one}_id.txt", exp / f"{other}_id.txt")
        with pytest.raises(InputError, match=f"expected different {uses} identities in {exp}, got"):
            SYSUMM01(root=copy)
        (exp / f"{other}_id.txt").write_text(before)


def test_one_modality_only(copy):
    for camera in (3, 6):
        (copy / f"SYSU-MM01/cam{camera}").rename(copy / f"away{camera}")
    with pytest.raises(InputError, match="expected thermal training images"):
        SYSUMM01(root=copy)
    for camera in (3, 6):
        (copy / f"away{camera}").rename(copy / f"SYSU-MM01/cam{camera}")
    for camera in (1, 2, 4, 5):
        shutil.rmtree(copy / f"SYSU-MM01/cam{camera}")
    with pytest.raises(InputError, match="expected visible training images"):
        SYSUMM01(root=copy)


def test_refuses_to_train_on_the_test_identities(datasets):
    with pytest.raises(InputError, match="COMBINEALL"):
        SYSUMM01(root=datasets, combineall=True)


def test_finds_the_official_draw_where_it_is(copy):
    permutations = copy / "SYSU-MM01/exp/rand_perm_cam.mat"
    assert SYSUMM01(root=copy).rand_perm_cam == permutations
    permutations.unlink()
    assert SYSUMM01(root=copy).rand_perm_cam is None
