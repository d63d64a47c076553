"""Stand-ins of RegDB and LLCM; what they share with SYSU-MM01's is in test_drawing.py."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cmemd.data import layouts
from cmemd.data.modality import Modality
from cmemd.standin import draw_llcm, draw_regdb, llcm, standin

SMALL = {"ids": 9, "per_camera": 2, "size": (40, 20), "seed": 0}
DRAW = {"RegDB": draw_regdb, "LLCM": draw_llcm}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("small")
    for name, draw in DRAW.items():
        draw(root / name, **SMALL)
    return root


def read_index(file: Path) -> list[tuple[str, int]]:
    return [(path, int(label)) for path, label in map(str.split, file.read_text().splitlines())]


def read_meta(root: Path) -> tuple[dict, list[dict]]:
    header, *images = map(json.loads, (root / "meta.jsonl").read_text().splitlines())
    return header, images


def digest(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", DRAW)
def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path, name):
    few = SMALL | {"ids": 5, "per_camera": 1, "size": (32, 16)}
    for folder, seed in (("one", 0), ("again", 0), ("other", 1)):
        DRAW[name](tmp_path / folder, **few | {"seed": seed})
    here, again, other = (digest(tmp_path / folder) for folder in ("one", "again", "other"))
    assert again == here
    assert not [path for path in here.keys() & other.keys() if here[path] == other[path]]


def test_the_seed_decides_who_people_are(tmp_path, monkeypatch):
    people = []

    def remember(rng):
        people.append(draw_person(rng))
        return people[-1]

    draw_person = standin.draw_person
    monkeypatch.setattr(standin, "draw_person", remember)
    monkeypatch.setattr(standin, "render", no_picture)
    for seed in (0, 1):
        draw_regdb(tmp_path / str(seed), **SMALL | {"ids": 5, "seed": seed})
    assert len({person.build for person in people}) == 10


@pytest.mark.parametrize("name", DRAW)
def test_meta_says_that_this_is_a_stand_in_and_has_a_line_on_every_image(root, name):
    header, images = read_meta(root / name)
    assert header["standin"] == name
    assert {key: header[key] for key in SMALL} == SMALL | {"size": [40, 20]}
    files = [path for path in digest(root / name) if path.endswith((".bmp", ".jpg"))]
    assert sorted(image["path"] for image in images) == sorted(files)


@pytest.mark.parametrize("name", DRAW)
def test_thermal_channels_are_equal_visible_ones_are_not_and_all_images_differ(root, name):
    _, images = read_meta(root / name)
    for image in images[::5]:
        pixels = cv2.imread(str(root / name / image["path"]), cv2.IMREAD_UNCHANGED)
        assert pixels.shape[2] == 3, image
        assert (np.ptp(pixels, axis=2).max() == 0) == (image["modality"] == "thermal"), image
    digests = digest(root / name)
    assert len({digests[image["path"]] for image in images}) == len(images)


def no_picture(*args, **kwargs) -> np.ndarray:
    return np.zeros((32, 16, 3), np.uint8)


def test_no_list_is_empty_however_few_the_people(tmp_path, monkeypatch):
    monkeypatch.setattr(standin, "render", no_picture)
    for ids in (5, 6):
        for name, draw in DRAW.items():
            root = tmp_path / f"{name}{ids}"
            draw(root, **SMALL | {"ids": ids, "per_camera": 1, "size": (32, 16)})
            lists = list((root / "idx").iterdir())
            assert len(lists) == {"RegDB": 40, "LLCM": 3}[name], root
            assert all(file.read_text().strip() for file in lists), root


# ----------------------------------------------------------------------------------- RegDB


def test_regdb_has_bitmaps_of_every_person_in_both_modalities(root):
    files = [path for path in digest(root / "RegDB") if path.startswith(("Visible/", "Thermal/"))]
    assert len(files) == 9 * 2 * 2
    assert all((root / "RegDB" / path).read_bytes().startswith(b"BM") for path in files)
    folders = {path.rsplit("/", 1)[0] for path in files}
    assert folders == {f"{m}/{pid}" for m in ("Visible", "Thermal") for pid in range(1, 10)}


def test_regdb_splits_are_halves_that_differ_and_their_labels_count_from_zero(root):
    halves = set()
    for trial in range(1, 11):
        pids = {}
        for part, count in (("train", 4), ("test", 5)):
            for modality in ("visible", "thermal"):
                where = f"RegDB/idx/{part}_{modality}_{trial}.txt"
                lines = read_index(root / where)
                labels = [label for _, label in lines]
                assert labels == [label for label in range(count) for _ in "ab"], where
                assert all((root / "RegDB" / path).is_file() for path, _ in lines), where
                assert {path.split("/")[0] for path, _ in lines} == {modality.title()}, where
                pids[part, modality] = {int(path.split("/")[1]) for path, _ in lines}
            assert pids[part, "visible"] == pids[part, "thermal"], (part, trial)
            assert len(pids[part, "visible"]) == count, (part, trial)
        assert pids["train", "visible"] | pids["test", "visible"] == set(range(1, 10)), trial
        halves.add(tuple(sorted(pids["train", "visible"])))
    assert len(halves) > 5


# ------------------------------------------------------------------------------------ LLCM


def test_llcm_trains_on_two_thirds_by_list_and_tests_the_others_by_folder(root):
    llcm = root / "LLCM"
    [line] = (llcm / "idx/test_id.txt").read_text().splitlines()
    test = {int(number) for number in line.split(",")}
    assert len(test) == 3
    for short in ("vis", "nir"):
        lines = read_index(llcm / f"idx/train_{short}.txt")
        assert sorted(path for path, _ in lines) == sorted(
            path.relative_to(llcm).as_posix() for path in llcm.glob(f"{short}/*/*.jpg")
        )
        train = {int(path.split("/")[1]): label for path, label in lines}
        assert train.keys() == set(range(1, 10)) - test
        assert sorted(train.values()) == list(range(6))
        folders = {path.parent.name for path in llcm.glob(f"test_{short}/cam*/*/*.jpg")}
        assert {int(folder) for folder in folders} == test


def test_llcm_cameras_see_some_people_only_and_the_third_none_in_thermal():
    sights = [llcm._sights(0, pid) for pid in range(1, 201)]
    for modality, cameras in layouts.llcm.LAYOUT.cameras.items():
        seen = [{s.camera for s in of if s.modality is modality} for of in sights]
        assert set().union(*seen) == set(cameras)
        assert min(map(len, seen)) >= 2
        assert sum(map(len, seen)) < 0.7 * 200 * len(cameras)
    assert 3 not in layouts.llcm.LAYOUT.cameras[Modality.THERMAL]


def test_llcm_lenses_tell_all_sights_of_a_person_apart():
    for pid in range(1, 50):
        lenses = [sight.lens for sight in llcm._sights(0, pid)]
        assert len(lenses) == len(set(lenses))
