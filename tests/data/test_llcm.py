import pytest
from tests.trees import copy_tree

from cmemd.data.layouts import llcm
from cmemd.data.layouts.identity_lists import read_ids
from cmemd.data.llcm import LLCM
from cmemd.data.modality import Modality
from cmemd.errors import InputError


def ids(items) -> set[int]:
    return {item.pid for item in items}


@pytest.fixture
def copy(datasets, tmp_path):
    """A copy to spoil, below parents whose names look like the data set's own."""
    copy_tree(datasets / "LLCM", tmp_path / "cam1/test_vis/0099/LLCM")
    return tmp_path / "cam1/test_vis/0099"


def test_trains_on_the_lists_and_tests_on_the_other_identities(datasets):
    data = LLCM(root=datasets)
    assert ids(data.query) == ids(data.gallery) == set(read_ids(datasets / "LLCM/idx", "test_id"))
    assert ids(data.train) == set(range(1, 19)) - ids(data.query)
    assert (data.trial, data.rand_perm_cam, data.validation) == (None, None, [])


def test_lists_every_image_once(datasets):
    data = LLCM(root=datasets)
    listed = sorted(item.path for part in (data.train, data.query, data.gallery) for item in part)
    assert listed == sorted(map(str, (datasets / "LLCM").rglob("*.jpg")))


def test_labels_are_those_of_folders_and_names(datasets):
    data = LLCM(root=datasets)
    for item in data.train + data.query + data.gallery:
        short = {Modality.VISIBLE: "vis", Modality.THERMAL: "nir"}[item.modality]
        test = item not in data.train
        folder = f"test_{short}/cam{item.camid}" if test else short
        name = f"{item.pid:04d}/{item.pid:04d}_c{item.camid:02d}_"
        assert item.path.startswith(f"{datasets}/LLCM/{folder}/{name}")
        assert item.camid in llcm.LAYOUT.cameras[item.modality]
    assert {item.modality for item in data.query} == {Modality.VISIBLE}
    assert {item.modality for item in data.gallery} == {Modality.THERMAL}


def test_a_training_image_is_found_and_named_wherever_the_list_says(copy):
    """Folder cam<digit>, or else the file's name, or else unknown."""
    cameras = {
        "vis/0099/cam7/0099_c03_f1.jpg": 7,
        "train_vis/cam7/0099/a.jpg": 7,
        "vis/0099/0099_c03_s1_f1_vis.jpg": 3,
        "vis/0099/a.jpg": 0,
        "vis/camera7/0099/a_cam7.jpg": 0,
        "vis/cam77/0099/a.jpg": 0,
    }
    for path in cameras:
        file = copy / "LLCM" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with (copy / "LLCM/idx/train_vis.txt").open("a") as lines:
        lines.writelines(f"{path} 999\n" for path in cameras)
    assert [item[:4] for item in LLCM(root=copy).train if item.pid == 99] == [
        (str(copy / "LLCM" / path), 99, camera, Modality.VISIBLE)
        for path, camera in cameras.items()
    ]


def test_a_third_thermal_camera_is_not_read(copy):
    before = LLCM(root=copy).gallery
    pid = before[0].pid
    folder = copy / f"LLCM/test_nir/cam3/{pid:04d}"
    folder.mkdir(parents=True)
    (folder / "a.jpg").touch()
    assert LLCM(root=copy).gallery == before


def test_any_spelling_of_the_root_gives_the_same_items(copy, tmp_path, monkeypatch):
    (tmp_path / "cam2").symlink_to(copy)
    monkeypatch.chdir(copy)
    found = []
    for root in (copy, ".", "../0099/", tmp_path / "cam2"):
        data = LLCM(root=root)
        parts = (data.train, data.query, data.gallery)
        found.append([[(i.path.partition("LLCM/")[2], *i[1:]) for i in part] for part in parts])
    assert found[0][0]
    assert all(items == found[0] for items in found)


def test_other_files_and_identities_are_left_alone(copy):
    before = LLCM(root=copy)
    item = before.query[0]
    folder = f"test_vis/cam{item.camid}"
    for name in (f"{item.pid:04d}/Thumbs.db", f"{item.pid:04d}/.a.jpg", "Thumbs.db", "0555/a.jpg"):
        path = copy / "LLCM" / folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    after = LLCM(root=copy)
    assert (after.train, after.query, after.gallery) == (before.train, before.query, before.gallery)


def test_holds_out_a_share_of_the_training_identities(datasets):
    whole, data = LLCM(root=datasets), LLCM(root=datasets, validation_share=0.25)
    assert len(ids(data.validation)) == 3
    assert ids(data.train).isdisjoint(ids(data.validation))
    assert sorted(data.train + data.validation) == sorted(whole.train)
    assert {item.modality for item in data.validation} == set(Modality)


def test_testing_a_training_identity_is_refused(copy):
    pid = min(ids(LLCM(root=copy).train))
    (copy / "LLCM/idx/test_id.txt").write_text(f"500,{pid}\n")
    with pytest.raises(
        InputError, match=rf"different training and test identities .* got \[{pid}\]"
    ):
        LLCM(root=copy)


def test_a_missing_list_is_named(copy):
    for name in ("test_id.txt", "train_nir.txt", "train_vis.txt"):  # read in the other order
        (copy / "LLCM/idx" / name).unlink()
        with pytest.raises(InputError, match=rf"{name}.*copy the data set's idx folder whole"):
            LLCM(root=copy)


def test_a_path_without_an_identity_is_refused(copy):
    (copy / "LLCM/vis/0000").mkdir()
    for path in ("vis/12.jpg", "vis/12", "vis/0000/a.jpg"):
        (copy / "LLCM" / path).touch()
        (copy / "LLCM/idx/train_vis.txt").write_text(f"{path} 1\n")
        with pytest.raises(InputError, match=f"expected a path as .* line 1, got '{path}'"):
            LLCM(root=copy)


def test_one_modality_only_is_refused(copy):
    for folder, modality in (("test_vis", "visible"), ("test_nir", "thermal")):
        (copy / "LLCM" / folder).rename(copy / "away")
        with pytest.raises(InputError, match=f"expected {modality} test images"):
            LLCM(root=copy)
        (copy / "away").rename(copy / "LLCM" / folder)


def test_other_bad_input_is_refused(copy):
    with pytest.raises(InputError, match="COMBINEALL"):
        LLCM(root=copy, combineall=True)
    with pytest.raises(InputError, match=r"expected LLCM in .*/none, got no such folder"):
        LLCM(root=copy, folder="none")
    with pytest.raises(InputError, match="VALIDATION_SHARE"):
        LLCM(root=copy, validation_share=-1)
