"""Each data set is one place."""

import ast
from pathlib import Path

import cmemd
from cmemd.data.layouts import LAYOUTS, llcm, regdb, sysu
from cmemd.data.modality import Modality

PACKAGE = Path(cmemd.__file__).parent
# Names of the public classes, which equal the data sets' names.
PUBLIC_NAMES = "__all__", "_PUBLIC", "_FACES_FASTREID"


def literals(path: Path) -> list[tuple[int, str]]:
    """Line and text of a module's strings, but for docstrings and tables of public names."""
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            skipped.add(body[0].value)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in PUBLIC_NAMES:
            skipped |= set(ast.walk(node))
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped
    ]


def test_names_of_a_data_set_stand_in_its_layout_only():
    names = {
        text
        for layout in LAYOUTS.values()
        for text in (layout.name, layout.title, layout.dataset, layout.dataset_name, layout.folder)
    }
    names |= {*regdb.FOLDERS.values(), *llcm.SHORT.values(), *llcm.TEST_FOLDERS.values()}
    assert {"sysu", "regdb", "llcm", "SYSU-MM01", "SYSUMM01", "sysumm01", "test_nir"} <= names
    own = {PACKAGE / "data/layouts" / f"{name}.py" for name in LAYOUTS}
    found = {path for path in own for _, text in literals(path) if text in names}
    assert found == own  # the search finds what there is
    elsewhere = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path not in own
        for line, text in literals(path)
        if text in names
    ]
    assert elsewhere == []


def test_the_table_is_by_name_and_names_are_different():
    assert list(LAYOUTS) == [layout.name for layout in LAYOUTS.values()]
    assert len({layout.dataset_name for layout in LAYOUTS.values()}) == len(LAYOUTS)
    assert all(layout.cameras.keys() == set(Modality) for layout in LAYOUTS.values())


def test_names_in_digests_never_change():
    """They are in every checkpoint's training record."""
    names = [layout.dataset_name for layout in LAYOUTS.values()]
    assert names == ["sysumm01", "regdb", "llcm"]


def test_published_counts_add_up():
    assert sum(sysu.SPLIT_IDENTITIES.values()) == sysu.IDENTITIES
    visible, thermal = (
        sum(n for camera, n in sysu.TEST_IMAGES.items() if sysu.CAMERAS[camera] is modality)
        for modality in Modality
    )
    assert (visible, thermal) == (6775, 3803)
    assert sysu.TEST_IDENTITIES.keys() == set(sysu.LAYOUT.cameras[Modality.VISIBLE])
    assert 2 * regdb.SPLIT_IDENTITIES == regdb.IDENTITIES
    assert 2 * regdb.SPLIT_IMAGES == regdb.IMAGES
    assert llcm.TRAINING_IDENTITIES + llcm.TEST_IDENTITIES == llcm.IDENTITIES


def test_paths_name_what_they_were_made_of():
    assert sysu.image_path(3, 17, 5) == "cam3/0017/0005.jpg"
    for modality, folder in regdb.FOLDERS.items():
        assert regdb.identity((folder, "12", "a.bmp"), modality) == 12
        assert regdb.identity((folder, "12", "a.bmp"), Modality(1 - modality)) is None
        for parts in ((folder, "0", "a.bmp"), (folder, "01", "a.bmp"), (folder, "12")):
            assert regdb.identity(parts, modality) is None, parts
    for modality, cameras in llcm.LAYOUT.cameras.items():
        for camera in cameras:
            path = f"{llcm.camera_folder(modality, camera)}/0005/x.jpg"
            assert llcm.labels_of(path) == (modality, camera, 5), path
            assert llcm.labels_of(f"D:/any/{path}".replace("/", "\\")) == (modality, camera, 5)
    for path in ("x.jpg", "vis/cam1/0005/x.jpg", "test_vis/cam/5/x.jpg", "test_vis/cam1/a/x.jpg"):
        assert llcm.labels_of(path) is None, path
