import numpy as np
import pytest

from cmemd.errors import InputError
from cmemd.evaluation.features_file import order_by_name, read_features, write_features

SYSU = {
    "feats": np.ones((2, 3), np.float32),
    "pids": [1, 2],
    "camids": [1, 3],
    "frames": [1, 4],
}
REGDB = {"feats": np.ones((2, 3)), "pids": [0, 0], "modality": [0, 1]}
LLCM = {"feats": np.ones((2, 3)), "paths": ["test_vis/cam3/0005/b.jpg", "test_nir/cam9/0005/a.jpg"]}


@pytest.fixture
def save(tmp_path):
    def write(arrays):
        np.savez(tmp_path / "f.npz", **arrays)
        return tmp_path / "f.npz"

    return write


def test_sysu(save):
    samples = read_features(save(SYSU), "sysu")
    assert samples.modalities.tolist() == [0, 1]
    assert samples.frames.tolist() == [1, 4]
    assert samples.paths.tolist() == ["cam1/0001/0001.jpg", "cam3/0002/0004.jpg"]


def test_regdb(save):
    samples = read_features(save(REGDB), "regdb")
    assert samples.pids.tolist() == [0, 0]
    assert samples.modalities.tolist() == [0, 1]


def test_llcm_reads_the_last_folders_only(save):
    for above in ("", "/data/cam1/test_nir/", "C:\\x\\", "./"):
        paths = [above + path for path in LLCM["paths"]]
        samples = read_features(save(LLCM | {"paths": paths}), "llcm")
        labels = samples.pids, samples.camids, samples.modalities
        assert [label.tolist() for label in labels] == [[5, 5], [3, 9], [0, 1]], above


def test_names_give_the_order_that_sorted_file_names_have():
    # As strings: the released code sorts a folder's listing.
    assert order_by_name(np.array(["x/10.jpg", "y/2.jpg", "x/a.jpg"])).tolist() == [0, 1, 2]


def test_written_features_are_read_again(tmp_path, golden_samples, llcm_samples, regdb_samples):
    of_layouts = {"sysu": golden_samples, "llcm": llcm_samples, "regdb": regdb_samples}
    for layout, samples in of_layouts.items():
        write_features(samples, tmp_path / "new" / "f.npz")
        again = read_features(tmp_path / "new" / "f.npz", layout)
        for name in ("features", "pids", "camids", "modalities", "paths"):
            np.testing.assert_array_equal(getattr(again, name), getattr(samples, name), layout)


def test_arrays_that_a_data_set_does_not_have_are_refused(save):
    for layout, arrays, message in (
        ("sysu", REGDB, "for a sysu protocol, got feats, pids, modality: add camids, frames"),
        ("llcm", SYSU, "got feats, pids, camids, frames: add paths"),
        ("sysu", SYSU | {"pids": [1]}, "expected pids in .* as 2 integers"),
        ("sysu", SYSU | {"pids": [1.0, 2.0]}, "got float64"),
        ("sysu", SYSU | {"camids": [1, 7]}, r"expected camids in .* got \[7\]"),
        ("sysu", SYSU | {"camids": [0, 2]}, r"SYSU-MM01's camera numbers, got \[0\]"),
        (
            "sysu",
            SYSU | {"modality": [1, 0]},
            "another modality: check that the camera",
        ),
        ("sysu", SYSU | {"pids": [-1, 2]}, "expected identities of at least 0"),
        ("sysu", SYSU | {"feats": np.ones((2, 3, 1))}, r"of shape \(2, 3, 1\)"),
        ("sysu", SYSU | {"feats": np.ones((2, 3), int)}, "floats, got int64"),
        ("sysu", SYSU | {"feats": np.float32(1)}, "expected camids in .* as 1 integers"),
        ("regdb", REGDB | {"modality": [0, 2]}, r"0 or 1, got \[2\]"),
        ("llcm", LLCM | {"paths": [1, 2]}, "as a row of strings"),
        ("llcm", LLCM | {"paths": ["test_nir/cam3/0001/a.jpg"] * 2}, "expected a camera out of"),
        ("llcm", LLCM | {"paths": ["train_vis/cam3/0001/a.jpg"] * 2}, "expected paths like"),
        ("llcm", LLCM | {"paths": ["a.jpg"] * 2}, "got 'a.jpg'"),
        ("llcm", LLCM | {"paths": LLCM["paths"][:1]}, "expected pids as 2 integers"),
        ("regdb", REGDB | {"feats": np.array([{}, {}])}, "expected an npz file of plain arrays"),
    ):
        with pytest.raises(InputError, match=message):
            read_features(save(arrays), layout)


def test_files_that_are_not_npz_are_refused(tmp_path):
    for content in (b"", b"PK\x03\x04", b"hello", b"\x93NUMPY"):
        (tmp_path / "f.npz").write_bytes(content)
        with pytest.raises(InputError, match="expected an npz file"):
            read_features(tmp_path / "f.npz", "sysu")


def test_a_missing_file_a_folder_and_a_single_array_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected features at .*No such file"):
        read_features(tmp_path / "f.npz", "sysu")
    with pytest.raises(InputError, match="expected features at .*directory"):
        read_features(tmp_path, "sysu")
    np.save(tmp_path / "f.npy", np.ones(3))
    with pytest.raises(InputError, match="a single array"):
        read_features(tmp_path / "f.npy", "sysu")


def test_truncated_files_are_refused(save, tmp_path):
    whole = save(SYSU | {"feats": np.ones((2, 3000))}).read_bytes()
    for part in (len(whole) // 3, len(whole) - 10):
        (tmp_path / "f.npz").write_bytes(whole[:part])
        with pytest.raises(InputError, match="expected an npz file"):
            read_features(tmp_path / "f.npz", "sysu")
