import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from tests.trees import copy_tree

from cmemd.data.layouts import LAYOUTS
from cmemd.doctor import Severity, examine
from cmemd.errors import InputError


def encoded(form: str, chroma: int) -> bytes:
    """A noisy image whose channels lie ``chroma`` apart."""
    grey = np.random.default_rng(0).integers(50, 200, (24, 12, 1))
    buffer = io.BytesIO()
    Image.fromarray((grey + [chroma, 0, 0]).astype(np.uint8)).save(buffer, form)
    return buffer.getvalue()


VISIBLE, THERMAL = encoded("JPEG", 40), encoded("JPEG", 0)


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def draw_sysu(root: Path) -> None:
    """Identities 1 to 4 under all cameras, two images each."""
    for camera in range(1, 7):
        for pid in range(1, 5):
            for n in (1, 2):
                image = THERMAL if camera in (3, 6) else VISIBLE
                write(root / f"cam{camera}/{pid:04d}/{n:04d}.jpg", image)
    for name, ids in (("train", "1"), ("val", "2"), ("test", "3,4"), ("available", "1,2,3,4")):
        write(root / f"exp/{name}_id.txt", ids)
    write_permutations(root, 2)


def write_permutations(root: Path, images: int) -> None:
    people = np.empty((4, 1), object)
    for pid in range(4):
        people[pid, 0] = np.tile(np.arange(1, images + 1), (10, 1))
    cameras = np.empty((6, 1), object)
    for camera in range(6):
        cameras[camera, 0] = people
    savemat(root / "exp/rand_perm_cam.mat", {"rand_perm_cam": cameras})


def draw_regdb(root: Path) -> None:
    """Identities 1 to 4, two images of each modality; odd splits train on 1 and 2."""
    for folder, image in (("Visible", encoded("BMP", 40)), ("Thermal", encoded("BMP", 0))):
        for pid in range(1, 5):
            for n in (1, 2):
                write(root / f"{folder}/{pid}/a_{n}.bmp", image)
        for trial in range(1, 11):
            halves = ((1, 2), (3, 4)) if trial % 2 else ((3, 4), (1, 2))
            for part, ids in zip(("train", "test"), halves, strict=True):
                lines = [
                    f"{folder}/{pid}/a_{n}.bmp {label}\n"
                    for label, pid in enumerate(ids)
                    for n in (1, 2)
                ]
                write(root / f"idx/{part}_{folder.lower()}_{trial}.txt", "".join(lines))


def draw_llcm(root: Path) -> None:
    """Identities 1 and 2 train, 3 tests; all cameras but near-infrared camera 3."""
    for modality, image in (("vis", VISIBLE), ("nir", THERMAL)):
        lines = ""
        for label, pid in enumerate((1, 2)):
            path = f"{modality}/{pid:04d}/{pid:04d}_c01_s1_f1_{modality}.jpg"
            write(root / path, image)
            lines += f"{path} {label}\n"
        write(root / f"idx/train_{modality}.txt", lines)
        for camera in range(1, 10):
            if (modality, camera) != ("nir", 3):
                write(root / f"test_{modality}/cam{camera}/0003/0003_c01_f1.jpg", image)
    write(root / "idx/test_id.txt", "3\n")


DRAW = {"sysu": draw_sysu, "regdb": draw_regdb, "llcm": draw_llcm}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A stand-in of each layout without a fault, below a parent named like a camera."""
    parent = tmp_path_factory.mktemp("trees") / "cam1"
    for layout, draw in DRAW.items():
        draw(parent / layout)
        write(parent / layout / "meta.jsonl", json.dumps({"standin": LAYOUTS[layout].title}))
    return parent


@pytest.fixture
def tree(request, whole, tmp_path) -> Path:
    """A copy to spoil, of the layout that the test's name begins with."""
    layout = request.node.name.split("_")[1]
    copy_tree(whole / layout, tmp_path / layout)
    return tmp_path / layout


def findings(root: Path) -> dict[str, list[str]]:
    """ "severity: problem" -> cases, but for the note that it is a stand-in."""
    report = examine(root.name, root)
    return {
        f"{fault.severity.value}: {fault.problem}": cases
        for fault, cases in report.findings.items()
        if fault.problem != "a drawn stand-in"
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_standin_is_usable_and_named_whatever_its_path(
    whole, layout, tmp_path, monkeypatch
):
    (tmp_path / "cam2").symlink_to(whole / layout)
    monkeypatch.chdir(whole)
    first = examine(layout, whole / layout)
    assert [(f.severity, f.problem, x) for f, x in first.findings.items()] == [
        (Severity.NOTE, "a drawn stand-in", [f"meta.jsonl says: {LAYOUTS[layout].title}"])
    ]
    assert first.usable
    assert first.differing  # shown, but no fault
    for root in (layout, f"../cam1/{layout}/", tmp_path / "cam2"):
        report = examine(layout, root)
        assert (report.rows, report.findings) == (first.rows, first.findings), root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_counts_of_what_is_no_standin_are_compared(whole, layout, tmp_path):
    copy_tree(whole / layout, tmp_path / layout)
    (tmp_path / layout / "meta.jsonl").write_text('["standin"]')
    report = examine(layout, tmp_path / layout)
    assert report.usable
    [(fault, cases)] = report.findings.items()
    assert (fault.severity, len(cases)) == (Severity.WARNING, len(report.differing))
    assert fault.problem == "counts that are not the genuine data set's"


def test_an_empty_folder_is_not_usable(tmp_path):
    for layout in LAYOUTS:
        assert not examine(layout, tmp_path).usable, layout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_foreign_files_are_noted_and_nothing_else(whole, layout, tmp_path):
    root = tmp_path / layout
    copy_tree(whole / layout, root)
    folder = next(
        path.parent for path in sorted(root.rglob("*")) if path.suffix in (".jpg", ".bmp")
    )
    for place in (root, folder, folder.parent, next(root.glob("*/train*")).parent):
        write(place / "Thumbs.db", b"")
        write(place / ".hidden.jpg", VISIBLE)
        write(place / ".trash/0001.jpg", VISIBLE)
    [(problem, cases)] = findings(root).items()
    assert problem == "note: files and folders that are not part of the data set"
    assert len(cases) == len(set(cases)) == 12


@pytest.mark.parametrize("layout", LAYOUTS)
def test_image_names_that_are_no_file_are_reported_and_never_opened(whole, layout, tmp_path):
    root = tmp_path / layout
    copy_tree(whole / layout, root)
    image = next(path for path in sorted(root.rglob("*")) if path.suffix in (".jpg", ".bmp"))
    folder = next(root.glob("test_vis/cam1/*")) if layout == "llcm" else image.parent
    os.link(next(folder.iterdir()), folder / "0007.jpg")
    os.mkfifo(folder / "0008.jpg")
    (folder / "0009.jpg").symlink_to("nowhere")
    (folder / "0010.jpg").mkdir()
    (root / "meta.jsonl").unlink()
    os.mkfifo(root / "meta.jsonl")
    found = examine(layout, root).findings
    cases = {fault.problem: x for fault, x in found.items()}
    where = folder.relative_to(root).as_posix()
    assert cases["image names that are no readable file"] == [
        f"{where}/0009.jpg (no file)",
        f"{where}/0008.jpg (a folder, pipe, socket or device, not a file)",
        f"{where}/0010.jpg (a folder, pipe, socket or device, not a file)",
    ]
    [same] = cases["images that are one file under two names"]
    assert "0007.jpg" in same


def test_a_missing_root_and_a_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"folder at .*none, got no such folder: give --root"):
        examine("sysu", tmp_path / "none")
    write(tmp_path / "file", b"")
    with pytest.raises(InputError, match="got a file: give --root"):
        examine("sysu", tmp_path / "file")


def test_sysu_three_planted_faults(tree):
    image = tree / "cam1/0001/0002.jpg"
    write(image, image.read_bytes()[:-200])
    write(tree / "cam3/0002/0001.jpg", VISIBLE)
    write(tree / "exp/train_id.txt", "1,3")
    found = findings(tree)
    assert [case.split(":")[0] for case in found["error: damaged or unreadable images"]] == [
        "cam1/0001/0002.jpg"
    ]
    [coloured] = found["warning: coloured images where thermal ones belong"]
    assert coloured.startswith("cam3/0002/0001.jpg: chroma ")
    assert found["error: identities in two lists"] == ["identity 3 in train_id and test_id"]
    assert len(found) == 3


def test_sysu_counts(whole):
    rows = {row.subject: row for row in examine("sysu", whole / "sysu").rows}
    assert (rows["visible images"].expected, rows["visible images"].found) == (30_071, 32)
    assert rows["thermal images, train + val"].found == 8
    assert rows["cam3 (thermal): test images"].found == 4
    assert rows["cam1 (visible): test identities"].found == 2


def test_sysu_lists_that_cannot_be_read(tree):
    (tree / "exp/val_id.txt").unlink()
    for content in (None, "1;2", ""):
        if content is not None:
            write(tree / "exp/val_id.txt", content)
        [(problem, cases)] = findings(tree).items()
        assert problem == "error: unreadable identity lists", content
        assert "val_id.txt" in cases[0], content


def test_sysu_identities_without_folder_or_list(tree):
    write(tree / "exp/train_id.txt", "1,7")
    write(tree / "exp/test_id.txt", "3")
    assert findings(tree) == {
        "warning: listed identities without any image": ["identity 7 in train_id"],
        "note: identities with images, but in no list": ["identity 4"],
    }


def test_sysu_folders_that_are_empty_misnamed_or_missing(tree):
    shutil.rmtree(tree / "cam6")
    (tree / "cam1/0009").mkdir()
    for name in ("1", "0000", "00012", "٣003"):
        write(tree / f"cam2/{name}/0001.jpg", VISIBLE)
    found = findings(tree)
    assert found.pop("warning: missing folders") == ["cam6"]
    assert found.pop("note: identity folders without images") == ["cam1/0009"]
    assert found.pop("warning: folders whose names are no identity") == [
        f"cam2/{name}" for name in ("0000", "00012", "1", "٣003")
    ]
    # all of camera 6 is missing against rand_perm_cam.mat too
    assert [problem.split(":")[0] for problem in found] == ["warning"]


def test_sysu_without_one_modality(tree):
    for camera in (3, 6):
        shutil.rmtree(tree / f"cam{camera}")
    assert findings(tree)["error: splits without images of a modality"] == [
        "no thermal training images",
        "no thermal test images",
    ]


def test_sysu_training_needs_both_modalities_in_train_and_val_together(tree):
    (tree / "exp/rand_perm_cam.mat").unlink()
    for pid in (1, 2):
        shutil.rmtree(tree / f"cam3/{pid:04d}")
        assert "error: splits without images of a modality" not in findings(tree)
        shutil.rmtree(tree / f"cam6/{pid:04d}")
    assert findings(tree)["error: splits without images of a modality"] == [
        "no thermal training images"
    ]


def test_sysu_gallery_images_against_the_permutations(tree):
    (tree / "cam1/0003/0001.jpg").rename(tree / "cam1/0003/0003.jpg")  # 2, 3: a gap
    write(tree / "cam2/0001/0003.jpg", VISIBLE)  # one too many, of a training identity
    (tree / "cam3/0004/0002.jpg").unlink()  # a query: no gallery permutes it
    found = findings(tree)
    assert found == {
        "note: identity folders whose images are not numbered 1 to n without a gap": [
            "cam1/0003: 2 images, the last 0003.jpg"
        ],
        "error: test identities whose visible images are not those of rand_perm_cam.mat": [
            "cam1/0003: 2 images, 1 to 2 in rand_perm_cam.mat"
        ],
        "warning: other folders whose images are not those of rand_perm_cam.mat": [
            "cam2/0001: 3 images, 1 to 2 in rand_perm_cam.mat",
            "cam3/0004: 1 images, 1 to 2 in rand_perm_cam.mat",
        ],
    }


def test_sysu_a_gallery_folder_missing_altogether(tree):
    shutil.rmtree(tree / "cam5/0004")
    [(problem, cases)] = findings(tree).items()
    assert problem.startswith("error: test identities whose visible images")
    assert cases == ["cam5/0004: 0 images, 1 to 2 in rand_perm_cam.mat"]


def test_sysu_permutations_missing_or_damaged(tree):
    write(tree / "exp/rand_perm_cam.mat", "no MATLAB file")
    [problem] = findings(tree)
    assert problem == "error: an unreadable exp/rand_perm_cam.mat"
    (tree / "exp/rand_perm_cam.mat").unlink()
    assert findings(tree) == {"warning: no exp/rand_perm_cam.mat": ["rand_perm_cam.mat"]}


def test_sysu_names_that_are_no_number_matter_for_test_identities(tree):
    (tree / "exp/rand_perm_cam.mat").unlink()
    for pid in (1, 3):
        write(tree / f"cam1/{pid:04d}/a.jpg", VISIBLE)
    (tree / "cam1/0002/0001.jpg").rename(tree / "cam1/0002/a.jpg")
    (tree / "cam1/0002/0002.jpg").unlink()
    found = findings(tree)
    assert found["error: test images whose file names are no number"] == ["cam1/0003/a.jpg"]
    gaps = found["note: identity folders whose images are not numbered 1 to n without a gap"]
    assert [case[:9] for case in gaps] == ["cam1/0001", "cam1/0002", "cam1/0003"]


def test_regdb_lists_against_folders(tree):
    (tree / "Thermal/1/a_2.bmp").unlink()
    write(tree / "Visible/2/new.bmp", VISIBLE)
    (tree / "idx/test_visible_2.txt").unlink()
    found = findings(tree)
    missing = found.pop("error: listed images that are missing")
    assert missing[0] == "idx/train_thermal_1.txt:2: Thermal/1/a_2.bmp"
    assert len(missing) == 10
    assert found.pop("warning: images in no list") == ["Visible/2/new.bmp"]
    assert found == {"error: missing index files": ["idx/test_visible_2.txt"]}


BAD_LINES = [
    ("Visible/1/a_1.bmp", "error: lines of index files that are not `relative/path label`"),
    ("Visible/1/a_1.bmp one", "error: lines of index files that are not"),
    ("0", "error: lines of index files that are not"),
    ("Visible/1/a_1.bmp -1", "error: lines of index files that are not"),
    ("/Visible/1/a_1.bmp 0", "error: listed paths that name no identity folder"),
    ("Visible/../Visible/1/a_1.bmp 0", "error: listed paths that name no identity folder"),
    ("Visible/1/more/a_1.bmp 0", "error: listed paths that name no identity folder"),
    ("Visible/a_1.bmp 0", "error: listed paths that name no identity folder"),
    ("Thermal/1/a_1.bmp 0", "error: listed paths that name no identity folder"),
    ("Visible/one/a_1.bmp 0", "error: listed paths that name no identity folder"),
    ("Visible/1/a_1.bmp 0", "warning: images listed twice in one file"),
    (".\\Visible\\1\\a_1.bmp\t0", "warning: images listed twice in one file"),
    ("Visible/1/a 1.bmp 0", "error: listed images that are missing"),
    ("Visible/1/../1 0", "error: listed paths that name no identity folder"),
]


def test_regdb_each_bad_line_is_named(tree):
    file = tree / "idx/train_visible_3.txt"
    whole = file.read_text()
    for line, problem in BAD_LINES:
        write(file, f"{whole}\n{line}\r\n")  # after a blank one
        [(found, [case])] = findings(tree).items()
        assert found.startswith(problem), line
        assert case.startswith("idx/train_visible_3.txt:6: "), line


def test_regdb_an_empty_list(tree):
    write(tree / "idx/test_visible_3.txt", "\n")
    assert findings(tree)["error: lines of index files that are not `relative/path label`"] == [
        "idx/test_visible_3.txt: empty"
    ]


def test_regdb_labels_go_with_one_identity_each(tree):
    name = "idx/train_visible_1.txt"
    lines = [f"Visible/{pid}/a_{n}.bmp" for pid in (1, 2) for n in (1, 2)]
    write(tree / name, "".join(f"{x} {i}\n" for x, i in zip(lines, (0, 1, 1, 1), strict=True)))
    assert findings(tree) == {
        "error: labels that do not go with one identity each": [
            f"{name}: identity 1 has labels 0, 1",
            f"{name}: label 1 is of identities 1, 2",
        ]
    }


def test_regdb_splits_that_overlap_or_differ_between_modalities(tree):
    for folder in ("Visible", "Thermal"):
        shutil.copy(
            tree / f"idx/train_{folder.lower()}_1.txt", tree / f"idx/test_{folder.lower()}_1.txt"
        )
    shutil.copy(tree / "idx/test_thermal_3.txt", tree / "idx/train_thermal_4.txt")
    write(tree / "idx/train_thermal_4.txt", "Thermal/3/a_1.bmp 0\n")
    assert findings(tree) == {
        "error: identities listed for training and for testing": [
            "split 1: identity 1",
            "split 1: identity 2",
        ],
        "error: splits whose visible and thermal lists name different identities": [
            "idx/train_*_4.txt: identity 4"
        ],
    }


def test_regdb_identities_of_one_modality(tree):
    write(tree / "Visible/9/a_1.bmp", VISIBLE)
    assert findings(tree) == {
        "warning: identities with images of one modality only": ["identity 9"],
        "warning: images in no list": ["Visible/9/a_1.bmp"],
    }


def test_regdb_rows_of_a_split(whole):
    rows = {row.subject: row for row in examine("regdb", whole / "regdb").rows}
    row = rows["split 10: training and test identities"]
    assert (row.expected, row.found) == ("206 206", "2 2")
    row = rows["split 10: visible and thermal test images"]
    assert (row.expected, row.found) == ("2060 2060", "4 4")


def test_llcm_counts(whole):
    rows = {row.subject: row for row in examine("llcm", whole / "llcm").rows}
    assert (rows["images"].expected, rows["images"].found) == (46_767, 4 + 9 + 8)
    assert (rows["training identities"].found, rows["test identities"].found) == (2, 1)
    assert (rows["train_nir: images"].found, rows["test_vis/cam3: images"].found) == (2, 1)


def test_llcm_training_lists_against_folders(tree):
    (tree / "nir/0001/0001_c01_s1_f1_nir.jpg").unlink()
    write(tree / "vis/0002/new.jpg", VISIBLE)
    assert findings(tree) == {
        "error: listed images that are missing": [
            "idx/train_nir.txt:1: nir/0001/0001_c01_s1_f1_nir.jpg"
        ],
        "note: images outside the test folders and in no training list": ["vis/0002/new.jpg"],
    }


def test_llcm_paths_that_name_no_identity(tree):
    paths = ("vis/0000/a.jpg", "vis/a.jpg", "vis/../vis/0001/a.jpg", "1", "/vis/0001/a.jpg")
    with (tree / "idx/train_vis.txt").open("a") as file:
        file.writelines(f"{path} 0\n" for path in paths)
    assert findings(tree) == {
        "error: listed paths that name no identity folder of their modality": [
            f"idx/train_vis.txt:{line}: {path}" for line, path in enumerate(paths, 3)
        ]
    }


def test_llcm_the_identity_is_the_last_numbered_folder(tree):
    for n, path in enumerate(("7/0002/a.jpg", "0002/cam1/a.jpg")):
        write(tree / path, VISIBLE)
        with (tree / "idx/train_vis.txt").open("a") as file:
            file.write(f"{path} {1 - n}\n")
    assert findings(tree) == {
        "error: labels that do not go with one identity each": [
            "idx/train_vis.txt: identity 2 has labels 0, 1",
            "idx/train_vis.txt: label 0 is of identities 1, 2",
        ]
    }


def test_llcm_a_training_identity_that_is_tested(tree):
    write(tree / "idx/test_id.txt", "2,3")
    assert findings(tree) == {
        "error: identities listed for training and for testing": ["idx: identity 2"],
        "warning: test identities without any image": ["identity 2"],
    }


def test_llcm_test_identities_without_list(tree):
    write(tree / "test_vis/cam1/0004/a.jpg", VISIBLE)
    assert findings(tree) == {
        "note: identities with test images, but not in idx/test_id.txt": ["identity 4"]
    }


def test_llcm_test_folders_that_are_missing(tree):
    shutil.rmtree(tree / "test_vis/cam9")
    write(tree / "idx/test_id.txt", "8")
    assert findings(tree) == {
        "warning: missing folders": ["test_vis/cam9"],
        "warning: test identities without any image": ["identity 8"],
        "note: identities with test images, but not in idx/test_id.txt": ["identity 3"],
        "error: splits without images of a modality": [
            "no visible test images",
            "no thermal test images",
        ],
    }


def test_llcm_the_near_infrared_camera_that_should_not_be(tree):
    write(tree / "test_nir/cam3/0003/a.jpg", THERMAL)
    [(problem, cases)] = findings(tree).items()
    assert problem == "warning: a near-infrared camera 3, which the genuine data set does not have"
    assert cases == ["test_nir/cam3"]


def test_llcm_an_image_of_both_modalities(tree):
    path = "vis/0001/0001_c01_s1_f1_vis.jpg"
    with (tree / "idx/train_nir.txt").open("a") as file:
        file.write(f"{path} 0\n")
    assert findings(tree) == {
        "error: images listed as visible and as thermal": [f"idx/train_nir.txt:3: {path}"]
    }


def test_llcm_modalities_in_each_others_place(tree):
    shutil.move(tree / "test_nir/cam1", tree / "swap")
    shutil.move(tree / "test_vis/cam1", tree / "test_nir/cam1")
    shutil.move(tree / "swap", tree / "test_vis/cam1")
    assert findings(tree) == {
        "error: thermal cameras whose images are mostly coloured": ["test_nir/cam1: 1 of 1 images"],
        "warning: visible cameras whose images are nearly all grey": [
            "test_vis/cam1: 1 of 1 images"
        ],
    }


def test_llcm_without_test_identities(tree):
    (tree / "idx/test_id.txt").unlink()
    for content, problem in ((None, "missing index files"), ("3\n4", "an unreadable idx/test_id.")):
        if content:
            write(tree / "idx/test_id.txt", content)
        found = findings(tree)
        assert {name.split(":")[0] for name in found} == {"error"}, problem
        assert any(name.startswith(f"error: {problem}") for name in found), problem


def test_a_folder_that_may_not_be_read_is_one_message(whole, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"readable .*, got .*Permission denied: .*cam1.*: change"):
        examine("sysu", whole / "sysu")
