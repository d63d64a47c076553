import errno
import hashlib
import json
import pkgutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat
from scipy.spatial import cKDTree

from cmemd.data.layouts.sysu import CAMERAS, LAYOUT
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.standin import STANDINS, draw_sysu, standin, sysu

PEOPLE, PER_CAMERA = 40, 4
CROWD = {"ids": PEOPLE, "per_camera": PER_CAMERA, "size": (48, 24), "seed": 0}
FEW = {"ids": 9, "per_camera": 1, "size": (40, 20), "seed": 0}
LISTS = ("train", "val", "test", "available")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("crowd") / "SYSU-MM01"
    draw_sysu(root, **CROWD)
    return root


def read_ids(root: Path, name: str) -> list[int]:
    (line,) = (root / f"exp/{name}_id.txt").read_text().splitlines()
    return [int(number) for number in line.split(",")]


def read_meta(root: Path) -> tuple[dict, list[dict]]:
    header, *images = map(json.loads, (root / "meta.jsonl").read_text().splitlines())
    return header, images


def read_permutations(root: Path) -> np.ndarray:
    return loadmat(root / "exp/rand_perm_cam.mat")["rand_perm_cam"]


def cameras_of(pid: int) -> set[int]:
    return {sight.camera for sight in sysu._sights(0, pid)}


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


# ------------------------------------------------------------------------------- the layout


def test_images_lie_in_six_cameras_below_four_digit_identities_and_count_from_one(root):
    images = {path.relative_to(root).as_posix() for path in root.rglob("*.jpg")}
    seen = {tuple(path.split("/")[:2]) for path in images}
    assert {camera for camera, _ in seen} == {f"cam{camera}" for camera in range(1, 7)}
    assert {pid for _, pid in seen} == {f"{pid:04d}" for pid in range(1, PEOPLE + 1)}
    assert images == {
        f"{cam}/{pid}/{n:04d}.jpg" for cam, pid in seen for n in range(1, PER_CAMERA + 1)
    }


def test_every_person_is_seen_in_both_modalities(monkeypatch):
    monkeypatch.setattr(sysu, "_SHARE", 0.2)  # of those drawn so, many are seen in one
    for pid in range(1, 200):
        seen = cameras_of(pid)
        assert seen & set(LAYOUT.cameras[Modality.VISIBLE])
        assert seen & set(LAYOUT.cameras[Modality.THERMAL])


def test_cameras_1_and_2_share_some_of_the_people_and_the_others_saw_nearly_all():
    seen = [cameras_of(pid) for pid in range(1, 1001)]
    share = {camera: sum(camera in cameras for cameras in seen) / 1000 for camera in CAMERAS}
    assert all(0.5 < share[camera] < 0.7 for camera in (1, 2))
    assert all(0.93 < share[camera] < 1 for camera in (3, 4, 5, 6))
    assert sum({1, 2} <= cameras for cameras in seen) > 500


def test_lists_are_one_line_each_disjoint_and_together_all(root):
    lists = {name: read_ids(root, name) for name in LISTS}
    assert [len(lists[name]) for name in LISTS] == [24, 8, 8, PEOPLE]
    assert sorted(lists["train"] + lists["val"] + lists["test"]) == lists["available"]
    assert lists["available"] == list(range(1, PEOPLE + 1))


def test_no_list_is_empty_however_few_the_people(tmp_path):
    for ids in (5, 7, 8):
        root = tmp_path / str(ids)
        root.mkdir()
        sysu._write_lists(ids, 1, root, [])
        assert all(read_ids(root, name) for name in LISTS), ids


def test_the_seed_shuffles_the_split(tmp_path):
    tests = []
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        sysu._write_lists(10, seed, tmp_path / str(seed), [])
        tests.append(read_ids(tmp_path / str(seed), "test"))
    assert tests[0] != tests[1]


def test_sizes_vary_about_the_one_asked_for_and_so_does_the_aspect(root):
    shapes = np.array([cv2.imread(str(path)).shape[:2] for path in root.rglob("*.jpg")])
    assert (shapes >= (38, 16)).all()
    assert (shapes <= (58, 29)).all()
    assert (np.ptp(shapes, axis=0) > (12, 6)).all()
    assert np.ptp(shapes[:, 0] / shapes[:, 1]) > 0.8


def test_thermal_channels_are_equal_and_visible_ones_are_not(root):
    for camera, modality in CAMERAS.items():
        for path in sorted(root.glob(f"cam{camera}/*/0001.jpg"))[:5]:
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert image.shape[2] == 3
            assert (np.ptp(image, axis=2).max() == 0) == (modality is Modality.THERMAL)


def test_permutations_nest_and_count_like_the_genuine_ones(root):
    cells = read_permutations(root)
    assert cells.shape == (6, 1)
    for camera in CAMERAS:
        cell = cells[camera - 1][0]
        assert cell.shape == (len(cell), 1)
        for pid in range(1, len(cell) + 1):
            rows = cell[pid - 1][0]
            count = len(list(root.glob(f"cam{camera}/{pid:04d}/*.jpg")))
            assert rows.shape == (10, count)
            assert rows.dtype == np.uint8
            assert (np.sort(rows, axis=1) == np.arange(1, count + 1)).all()
        unlisted = [
            pid
            for pid in range(len(cell) + 1, PEOPLE + 1)
            if (root / f"cam{camera}/{pid:04d}").exists()
        ]
        assert unlisted == []


def test_cells_of_permutations_differ_in_length_and_hold_absences(root):
    cells = [cell[0] for cell in read_permutations(root)]
    assert len({len(cell) for cell in cells}) > 1
    assert all(len(cell) <= PEOPLE for cell in cells)
    assert any(people[0].shape == (10, 0) for cell in cells for people in cell)


def test_more_than_255_images_a_camera_still_fit_their_permutations(tmp_path):
    counts = Counter({(camera, 1): 300 for camera in CAMERAS})
    sysu._write_permutations(tmp_path / "rows.mat", counts, np.random.default_rng(0))
    rows = loadmat(tmp_path / "rows.mat")["rand_perm_cam"][0][0][0][0]
    assert (np.sort(rows, axis=1) == np.arange(1, 301)).all()


def test_the_first_line_of_meta_says_that_this_is_a_stand_in_and_how_it_was_drawn(root):
    header, _ = read_meta(root)
    assert header["standin"] == "SYSU-MM01"
    assert header["drawn_by"].startswith("cmemd ")
    assert {name: header[name] for name in CROWD} == CROWD | {"size": [48, 24]}


def test_meta_has_a_line_on_every_image(root):
    _, images = read_meta(root)
    assert sorted(image["path"] for image in images) == sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*.jpg")
    )
    for image in images:
        camera, pid, _ = image["path"].split("/")
        assert (camera, pid) == (f"cam{image['camera']}", f"{image['id']:04d}")
        assert image["modality"] == CAMERAS[image["camera"]].name.lower()
    assert {image["view"] for image in images} == {"front", "left", "back", "right"}
    assert {image["pose"] for image in images} == {"standing", "walking", "phone"}


# ---------------------------------------------------------------------------- the same bytes


def test_the_same_arguments_give_the_same_bytes_whatever_the_folder_is_called(tmp_path):
    for name in ("one", "other"):
        draw_sysu(tmp_path / name, **FEW)
    assert digest(tmp_path / "one") == digest(tmp_path / "other")


def test_another_seed_gives_other_bytes(tmp_path):
    for seed in (0, 1):
        draw_sysu(tmp_path / str(seed), **FEW | {"seed": seed})
    here, there = digest(tmp_path / "0"), digest(tmp_path / "1")
    alike = {name for name in here.keys() & there.keys() if here[name] == there[name]}
    assert alike == {"exp/available_id.txt"}


# --------------------------------------------------------- no short cut between the modalities


@pytest.fixture(scope="module")
def crowd(root) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Images, identities and cameras of 40 people."""
    _, meta = read_meta(root)
    images = [cv2.imread(str(root / image["path"])) for image in meta]
    return images, *(np.array([image[key] for image in meta]) for key in ("id", "camera"))


def times_chance(features: np.ndarray, pids: np.ndarray, cameras: np.ndarray) -> float:
    """Rank-1 of the nearest neighbour over a random ranking's, from thermal to visible.

    The gallery has one image per identity and camera: the first, then the second, and so on.
    """
    thermal = np.isin(cameras, LAYOUT.cameras[Modality.THERMAL])
    nth = np.arange(len(pids)) % PER_CAMERA
    hits, chances = [], []
    for shot in range(PER_CAMERA):
        gallery = ~thermal & (nth == shot)
        nearest = cKDTree(features[gallery]).query(features[thermal])[1]
        hits.append((pids[gallery][nearest] == pids[thermal]).mean())
        chances.append((pids[thermal][:, None] == pids[gallery][None]).mean())
    return float(np.mean(hits) / np.mean(chances))


def test_grey_levels_do_not_tell_who_it_is(crowd):
    images, pids, cameras = crowd
    small = [cv2.resize(image, (18, 36), interpolation=cv2.INTER_AREA) for image in images]
    grey = np.stack([image.mean(axis=2).ravel() for image in small])
    assert times_chance(grey, pids, cameras) < 2
    grey = grey - grey.mean(axis=1, keepdims=True)
    assert times_chance(grey / grey.std(axis=1, keepdims=True), pids, cameras) < 2.5


def test_histograms_do_not_tell_who_it_is(crowd):
    images, pids, cameras = crowd
    counts = [
        [np.histogram(image[..., channel], 16, (0, 256))[0] for channel in range(3)]
        for image in images
    ]
    histograms = np.array(counts, float).reshape(len(images), -1)
    histograms /= histograms.sum(axis=1, keepdims=True)
    assert times_chance(histograms, pids, cameras) < 2


def test_who_is_warm_says_nothing_about_who_is_bright():
    people = [standin.draw_person(np.random.default_rng(seed)) for seed in range(400)]
    bright = np.array([person.visible.mean(axis=1) for person in people])  # (400, parts)
    warm = np.array([person.thermal[:, 0] for person in people])
    for part in range(bright.shape[1]):
        # 0.2 is four standard deviations of the correlation of 400 independent pairs.
        assert abs(np.corrcoef(bright[:, part], warm[:, part])[0, 1]) < 0.2


# ------------------------------------------------------------------------------- bad input


def test_bad_numbers_are_refused_before_anything_is_made(tmp_path):
    for change, expected in (
        ({"ids": 4}, "expected 5 to 9999 --ids, .* got 4, 1 and 0: choose"),
        ({"ids": 10000}, "5 to 9999 --ids, .* got 10000"),
        ({"per_camera": 0}, "1 to 9999 --per-camera .* got 5, 0 and 0"),
        ({"per_camera": 10000}, "1 to 9999 --per-camera .* got 5, 10000"),
        ({"seed": -1}, "--seed of at least 0, got 5, 1 and -1"),
        ({"size": (31, 16)}, "--size of at least 32x16.* got 31x16"),
        ({"size": (32, 15)}, "--size of at least 32x16.* got 32x15"),
    ):
        arguments = {"ids": 5, "per_camera": 1, "size": (32, 16), "seed": 0} | change
        for draw in map(pkgutil.resolve_name, STANDINS.values()):
            with pytest.raises(InputError, match=expected):
                draw(tmp_path / "new/folder", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(InputError, match="new or empty folder.*in use.*another --root"):
        draw_sysu(tmp_path, **FEW)
    with pytest.raises(InputError, match="new or empty folder.*in use.*another --root"):
        draw_sysu(tmp_path / "mine", **FEW)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


def test_an_empty_folder_is_filled(tmp_path):
    draw_sysu(tmp_path, ids=5, per_camera=1, size=(32, 16), seed=0)
    assert (tmp_path / "meta.jsonl").is_file()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"to write .*SYSU-MM01, got .*: choose a --root") as error:
        draw_sysu(tmp_path / "file/SYSU-MM01", **FEW)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_drawing_leaves_nothing_behind(tmp_path, monkeypatch, failure):
    drawn = []

    def fail_at_the_ninth(*args, **kwargs):
        drawn.append(list(tmp_path.iterdir()))
        if len(drawn) == 9:
            raise failure
        return np.zeros((32, 16, 3), np.uint8)

    monkeypatch.setattr(standin, "render", fail_at_the_ninth)
    with pytest.raises(failure):
        draw_sysu(tmp_path / "SYSU-MM01", **FEW)
    assert len(drawn[-1]) == 1  # it was under way, beside its destination
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def fill(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(standin, "render", fill)
    with pytest.raises(InputError, match=r"got No space left.*enough space"):
        draw_sysu(tmp_path / "SYSU-MM01", **FEW)
    assert list(tmp_path.iterdir()) == []
