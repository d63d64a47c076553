import numpy as np
import pytest
from scipy.io import savemat

from cmemd.data.layouts.permutations import RandPermCam, read_rand_perm_cam
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


def test_permutations_by_camera_and_identity(tmp_path):
    path = tmp_path / "rand_perm_cam.mat"
    savemat(path, official())
    perm = read_rand_perm_cam(path)
    assert perm.permutations(1, 1)[1].tolist() == [3, 1, 2]
    assert perm.permutations(1, 2).shape == (10, 0)
    assert perm.permutations(6, 2).dtype == np.int64


def test_beyond_a_cameras_list_there_are_no_images():
    perm = RandPermCam([[np.ones((10, 1), dtype=int)] * 2] * 6)
    for camera, pid in ((1, 3), (0, 1), (7, 1), (1, 0), (1, -1)):
        assert perm.permutations(camera, pid).shape == (10, 0), (camera, pid)


def test_pairs_written_as_nothing_at_all_are_absent(tmp_path):
    savemat(tmp_path / "p.mat", official(camera4=cells([np.empty((0, 0)), np.ones((10, 1))])))
    perm = read_rand_perm_cam(tmp_path / "p.mat")
    assert perm.permutations(4, 1).shape == (10, 0)
    assert perm.permutations(4, 2).shape == (10, 1)


def test_other_structures_are_refused(tmp_path):
    path = tmp_path / "rand_perm_cam.mat"
    again = "take the official file again"
    for content, message in (
        ({"other": 1}, "expected variable 'rand_perm_cam' in .*, got other: check that this"),
        (
            {"rand_perm_cam": np.eye(3)},
            f"expected 6 cells in .*, got a float64 array of 9: {again}",
        ),
        ({"rand_perm_cam": cells([1, 2])}, "expected 6 cells"),
        (official(camera2=np.eye(2)), f"a cell per identity of camera 2 .*, got no cells: {again}"),
        (
            official(camera2=cells(["text"])),
            f"expected numbers for camera 2, id 1 in .*, got other data: {again}",
        ),
        (official(camera3=cells([np.ones((9, 1))])), r"an array of shape \(9, 1\)"),
        (
            official(camera3=cells([np.zeros((10, 1))])),
            "expected 10 permutations of 1..n for camera 3, id 1",
        ),
        (official(camera3=cells([np.ones((10, 2))])), "10 permutations"),
    ):
        savemat(path, content)
        with pytest.raises(InputError, match=message):
            read_rand_perm_cam(path)


def test_files_that_are_not_matlabs_are_refused(tmp_path):
    path = tmp_path / "rand_perm_cam.mat"
    savemat(path, official(), do_compression=True)
    whole = path.read_bytes()
    for cut in (0, 10, 130, 200):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="expected a MATLAB file .* or damaged file"):
            read_rand_perm_cam(path)


def test_missing_permutations_are_refused(tmp_path):
    with pytest.raises(InputError, match="got no file: take it from SYSU-MM01's official"):
        read_rand_perm_cam(tmp_path / "rand_perm_cam.mat")
