import numpy as np
import pytest
from scipy.io import savemat

from cmemd.data.layouts.sysu import RandPermCam, read_ids, read_rand_perm_cam
from cmemd.errors import InputError


def cells(values):
    array = np.empty((len(values), 1), dtype=object)
    for row, value in enumerate(values):
        array[row, 0] = value
    return array


def official(**changed):
    """Two identities under each of six cameras; identity 2 has no image under camera 1."""
    orders = np.array([np.roll(np.arange(1, 4), trial) for trial in range(10)], dtype=np.uint8)
    absent = np.empty((10, 0), dtype=np.uint8)
    cameras = [cells([orders, absent])] + [cells([orders, orders]) for _ in range(5)]
    for camera, value in changed.items():
        cameras[int(camera.removeprefix("camera")) - 1] = value
    return {"rand_perm_cam": cells(cameras)}


@pytest.mark.parametrize("text", ["3,1,20", "3,1,20\n", " 3, 1 ,20 \r\n\n", "\ufeff3,1,20"])
def test_one_line_of_integers(tmp_path, text):
    (tmp_path / "val_id.txt").write_text(text, encoding="utf-8")
    assert read_ids(tmp_path, "val_id") == [3, 1, 20]


def test_matlab_file_where_there_is_no_text_file(tmp_path):
    savemat(tmp_path / "test_id.mat", {"id": np.array([[6, 10, 300]], dtype=np.uint16)})
    ids = read_ids(tmp_path, "test_id")
    assert ids == [6, 10, 300]
    assert {type(number) for number in ids} == {int}
    (tmp_path / "test_id.txt").write_text("1,2")
    assert read_ids(str(tmp_path), "test_id") == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one line .* got 0 lines"),
        ("1,2\n3,4", "got 2 lines"),
        ("1,2,", "got ''"),
        ("1 2", "got '1 2'"),
        ("1,two", "got 'two'"),
        ("1,-2", "got '-2'"),
        ("1,²", "got '²'"),
        ("0,1", "the least 0"),
        ("1,2,1", "3 numbers, 2 different"),
    ],
)
def test_malformed_text_is_refused(tmp_path, text, message):
    (tmp_path / "train_id.txt").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_ids(tmp_path, "train_id")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ids": [1, 2]}, "expected variable 'id' .* got ids"),
        ({}, "got none"),
        ({"id": [1.5]}, "expected integers"),
        ({"id": "1,2"}, "expected integers"),
        ({"id": np.empty((1, 0))}, "got 0 numbers"),
    ],
)
def test_matlab_files_of_another_structure_are_refused(tmp_path, content, message):
    savemat(tmp_path / "train_id.mat", content)
    with pytest.raises(InputError, match=message):
        read_ids(tmp_path, "train_id")


def test_missing_list_and_unknown_name_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"train_id.txt or train_id.mat .* found neither"):
        read_ids(tmp_path, "train_id")
    with pytest.raises(InputError, match="got 'train'"):
        read_ids(tmp_path, "train")


def test_permutations_by_camera_and_identity(tmp_path):
    path = tmp_path / "rand_perm_cam.mat"
    savemat(path, official())
    perm = read_rand_perm_cam(path)
    assert perm.permutations(1, 1)[1].tolist() == [3, 1, 2]
    assert perm.permutations(1, 2).shape == (10, 0)
    assert perm.permutations(6, 2).dtype == np.int64


@pytest.mark.parametrize(("camera", "pid"), [(1, 3), (0, 1), (7, 1), (1, 0), (1, -1)])
def test_beyond_a_cameras_list_there_are_no_images(camera, pid):
    perm = RandPermCam([[np.ones((10, 1), dtype=int)] * 2] * 6)
    assert perm.permutations(camera, pid).shape == (10, 0)


def test_pairs_written_as_nothing_at_all_are_absent(tmp_path):
    savemat(tmp_path / "p.mat", official(camera4=cells([np.empty((0, 0)), np.ones((10, 1))])))
    perm = read_rand_perm_cam(tmp_path / "p.mat")
    assert perm.permutations(4, 1).shape == (10, 0)
    assert perm.permutations(4, 2).shape == (10, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": 1}, "expected variable 'rand_perm_cam' .* got other"),
        ({"rand_perm_cam": np.eye(3)}, "expected 6 cells .* got a float64 array of 9"),
        ({"rand_perm_cam": cells([1, 2])}, "expected 6 cells"),
        (official(camera2=np.eye(2)), "a cell per identity of camera 2"),
        (official(camera2=cells(["text"])), "expected numbers for camera 2, id 1"),
        (official(camera3=cells([np.ones((9, 1))])), r"shape \(9, 1\)"),
        (
            official(camera3=cells([np.zeros((10, 1))])),
            "10 permutations of 1..n for camera 3, id 1",
        ),
        (official(camera3=cells([np.ones((10, 2))])), "10 permutations"),
    ],
)
def test_other_structures_are_refused(tmp_path, content, message):
    savemat(tmp_path / "rand_perm_cam.mat", content)
    with pytest.raises(InputError, match=message):
        read_rand_perm_cam(tmp_path / "rand_perm_cam.mat")


@pytest.mark.parametrize("cut", [0, 10, 130, 200])
def test_files_that_are_not_matlabs_are_refused(tmp_path, cut):
    path = tmp_path / "rand_perm_cam.mat"
    savemat(path, official(), do_compression=True)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match="expected a MATLAB file"):
        read_rand_perm_cam(path)


def test_missing_permutations_are_refused(tmp_path):
    with pytest.raises(InputError, match="found no file; take it from SYSU-MM01's official"):
        read_rand_perm_cam(tmp_path / "rand_perm_cam.mat")
