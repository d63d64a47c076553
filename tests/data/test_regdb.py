import shutil

import pytest
from tests.trees import copy_tree

from cmemd.data.modality import Modality
from cmemd.data.regdb import RegDB
from cmemd.errors import InputError


def ids(items) -> set[int]:
    return {item.pid for item in items}


@pytest.fixture
def copy(datasets, tmp_path):
    """A copy to spoil, below a parent whose name looks like a camera's."""
    copy_tree(datasets / "RegDB", tmp_path / "cam1/RegDB")
    return tmp_path / "cam1"


def replace(file, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_every_split_trains_and_tests_on_different_halves(datasets):
    halves = set()
    for trial in range(1, 11):
        data = RegDB(root=datasets, trial=trial)
        assert len(ids(data.train)) == len(ids(data.query)) == 12, trial
        assert ids(data.query) == ids(data.gallery), trial
        assert ids(data.train) | ids(data.query) == set(range(1, 25)), trial
        assert data.trial == trial
        halves.add(tuple(sorted(ids(data.train))))
    assert len(halves) > 5


def test_lists_every_image_once(datasets):
    data = RegDB(root=datasets)
    listed = sorted(item.path for part in (data.train, data.query, data.gallery) for item in part)
    assert listed == sorted(map(str, (datasets / "RegDB").glob("*/*/*.bmp")))


def test_identity_camera_and_modality_come_from_the_folders(datasets):
    data = RegDB(root=datasets)
    for item in data.train + data.query + data.gallery:
        folder = {1: "Visible", 2: "Thermal"}[item.camid]
        assert item.path.startswith(f"{datasets}/RegDB/{folder}/{item.pid}/")
        assert item.modality.name.lower() == folder.lower()
    assert {item.modality for item in data.query} == {Modality.VISIBLE}
    assert {item.modality for item in data.gallery} == {Modality.THERMAL}


def test_an_identity_has_one_number_in_all_splits(datasets):
    """The lists number them anew in each; the folders do not."""
    numbers = [{i.path: i.pid for i in RegDB(root=datasets, trial=k).train} for k in (1, 2)]
    shared = numbers[0].keys() & numbers[1].keys()
    assert shared
    assert all(numbers[0][path] == numbers[1][path] for path in shared)


def test_holds_out_a_share_of_the_training_identities(datasets):
    whole, data = RegDB(root=datasets), RegDB(root=datasets, validation_share=0.25)
    assert whole.validation == []
    assert len(ids(data.validation)) == 3
    assert ids(data.train).isdisjoint(ids(data.validation))
    assert sorted(data.train + data.validation) == sorted(whole.train)
    assert (data.query, data.gallery) == (whole.query, whole.gallery)
    assert {item.modality for item in data.validation} == set(Modality)


def test_any_spelling_of_the_root_gives_the_same_items(copy, tmp_path, monkeypatch):
    (tmp_path / "test_vis").symlink_to(copy)
    monkeypatch.chdir(copy)
    found = []
    for root in (copy, ".", "../cam1/", tmp_path / "test_vis"):
        data = RegDB(root=root)
        parts = (data.train, data.query, data.gallery)
        found.append([[(i.path[-30:], *i[1:]) for i in part] for part in parts])
    assert found[0][0]
    assert all(items == found[0] for items in found)


def test_other_files_are_left_alone(copy):
    before = RegDB(root=copy).train
    for name in ("Thumbs.db", ".hidden.bmp", "Visible/1/Thumbs.db", "idx/notes.txt"):
        (copy / "RegDB" / name).touch()
    assert RegDB(root=copy).train == before


def test_windows_lists_say_the_same(copy):
    before = RegDB(root=copy).train
    for file in (copy / "RegDB/idx").iterdir():
        file.write_bytes(file.read_bytes().replace(b"/", b"\\").replace(b"\n", b"\r\n"))
    assert RegDB(root=copy).train == before


def test_a_trial_that_does_not_exist_is_refused(copy):
    for k in range(4, 11):
        (copy / f"RegDB/idx/train_visible_{k}.txt").unlink()
    for trial in (0, 11, -1):
        message = rf"from 1 to 10, got {trial}: choose a split in .*/idx: 1, 2, 3$"
        with pytest.raises(InputError, match=message):
            RegDB(root=copy, trial=trial)


def test_a_missing_list_is_named(copy):
    (copy / "RegDB/idx/test_thermal_2.txt").unlink()
    assert RegDB(root=copy, trial=1).query
    with pytest.raises(InputError, match=r"idx/test_thermal_2\.txt, got no file"):
        RegDB(root=copy, trial=2)


def test_a_path_of_the_other_modality_is_refused(copy):
    replace(copy / "RegDB/idx/train_visible_1.txt", "Visible/", "Thermal/")
    with pytest.raises(InputError, match=r"a path as Visible/<identity>/<image> in .*, line 1"):
        RegDB(root=copy)


def test_a_folder_that_is_no_identity_is_refused(copy):
    before = str(min(ids(RegDB(root=copy).train)))
    for folder in ("0", "01", "one", "1/2"):
        replace(copy / "RegDB/idx/train_visible_1.txt", f"Visible/{before}/", f"Visible/{folder}/")
        before = folder
        with pytest.raises(InputError, match=f"a path as Visible.* line 1, got 'Visible/{folder}/"):
            RegDB(root=copy)


def test_lists_of_different_identities_are_refused(copy):
    file = copy / "RegDB/idx/test_thermal_1.txt"
    pid = min(ids(RegDB(root=copy).query))
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if f"/{pid}/" not in line))
    with pytest.raises(
        InputError, match=rf"same identities in .*test_\*_1\.txt, got \[{pid}\] in one"
    ):
        RegDB(root=copy)


def test_training_on_test_identities_is_refused(copy):
    for modality in ("visible", "thermal"):
        idx = copy / "RegDB/idx"
        shutil.copy(idx / f"train_{modality}_1.txt", idx / f"test_{modality}_1.txt")
    with pytest.raises(InputError, match="expected different training and test identities"):
        RegDB(root=copy)


def test_other_bad_input_is_refused(copy):
    with pytest.raises(InputError, match="COMBINEALL"):
        RegDB(root=copy, combineall=True)
    with pytest.raises(InputError, match=r"expected RegDB in .*/none, got no such folder"):
        RegDB(root=copy, folder="none")
    with pytest.raises(InputError, match="VALIDATION_SHARE"):
        RegDB(root=copy, validation_share=1)


def test_there_is_no_official_draw(datasets):
    assert RegDB(root=datasets).rand_perm_cam is None
