import os
import random
import shutil

import pytest
from tests.trees import copy_tree

from cmemd.data.checks import check_both_modalities, check_disjoint, find_folder, hold_out
from cmemd.data.image_files import Reason
from cmemd.data.items import ImageItem
from cmemd.data.llcm import LLCM
from cmemd.data.modality import Modality
from cmemd.data.regdb import RegDB
from cmemd.data.sysu_mm01 import SYSUMM01
from cmemd.errors import InputError


def images(*pids: int) -> list[ImageItem]:
    """An image of each modality per identity."""
    return [ImageItem(f"{pid}/{m}", pid, 1, m) for m in Modality for pid in pids]


def pids(items) -> set[int]:
    return {item.pid for item in items}


def test_identities_are_held_out_whole_and_none_is_lost():
    items = images(*range(1, 21))
    for share in (0.01, 0.13, 0.5, 0.99):
        train, held = hold_out(items, share)
        assert len(pids(held)) == min(max(1, round(20 * share)), 19), share
        assert pids(train).isdisjoint(pids(held)), share
        assert sorted(train + held) == sorted(items), share
        assert train == [item for item in items if item in train], share  # in the given order
        assert held == [item for item in items if item in held], share


def test_a_share_of_zero_holds_none_out():
    items = images(3, 1, 2)
    assert hold_out(items, 0) == (items, [])
    assert hold_out([], 0) == ([], [])


def test_who_is_held_out_is_written_down():
    """Another choice would make an earlier checkpoint's validation identities training ones."""
    assert pids(hold_out(images(*range(1, 101)), 0.05)[1]) == {39, 49, 51, 55, 65}


def test_who_is_held_out_does_not_depend_on_the_order():
    items = images(*range(1, 31))
    for seed in range(3):
        shuffled = random.Random(seed).sample(items, len(items))
        assert pids(hold_out(shuffled, 0.2)[1]) == pids(hold_out(items, 0.2)[1])


def test_a_larger_share_holds_out_the_same_and_more():
    items = images(*range(1, 31))
    held = [pids(hold_out(items, share / 10)[1]) for share in range(1, 10)]
    assert all(one < other for one, other in zip(held, held[1:], strict=False))


def test_other_shares_are_refused():
    for share in (-0.1, 1, 1.5, float("nan")):
        with pytest.raises(InputError, match=f"VALIDATION_SHARE of 0 to below 1 .* got {share}: "):
            hold_out(images(1, 2), share)


def test_a_single_identity_cannot_be_held_out():
    for items in ([], images(7)):
        found = len(pids(items))
        with pytest.raises(InputError, match=f"expected 2 training identities .* got {found}: "):
            hold_out(items, 0.5)


def test_disjoint_sets_pass_and_others_are_named():
    check_disjoint([1, 2], [3], "a and b", "lists")
    with pytest.raises(
        InputError, match=r"different a and b identities in lists, got \[2, 3\] in "
    ):
        check_disjoint([1, 3, 2], [3, 2, 2], "a and b", "lists")


def test_a_missing_modality_is_named(tmp_path):
    check_both_modalities(images(1), "test", tmp_path)
    for modality in Modality:
        one = [item for item in images(1, 2) if item.modality is not modality]
        message = f"expected {modality.name.lower()} test images in {tmp_path}, got none"
        with pytest.raises(InputError, match=message):
            check_both_modalities(one, "test", tmp_path)


def test_a_folder_is_found_where_there_is_something_in_it(tmp_path):
    with pytest.raises(
        InputError, match=r"expected RegDB in .*/here, got no such folder.*REGDB.FOLDER"
    ):
        find_folder("RegDB", tmp_path, "here", combineall=False)
    (tmp_path / "here").mkdir()
    with pytest.raises(InputError, match="got an empty folder"):
        find_folder("RegDB", tmp_path, "here", combineall=False)
    (tmp_path / "here/something").touch()
    assert find_folder("RegDB", tmp_path, "here", combineall=False) == tmp_path / "here"
    with pytest.raises(InputError, match="COMBINEALL False, got True: .* on RegDB's test"):
        find_folder("RegDB", tmp_path, "here", combineall=True)


def all_images(data) -> list[ImageItem]:
    return sorted(data.train + data.query + data.gallery)


def test_each_builder_leaves_out_names_that_are_no_images_and_logs_them(datasets, tmp_path, caplog):
    """Never waiting for a pipe."""
    for build, folder in ((SYSUMM01, "SYSU-MM01"), (LLCM, "LLCM"), (RegDB, "RegDB")):
        copy_tree(datasets / folder, tmp_path / folder)
        place = os.path.dirname(build(root=tmp_path).query[0].path)
        for name in ("8001.jpg", "8002.png"):
            os.mkfifo(os.path.join(place, name))
        os.mkdir(os.path.join(place, "8003.bmp"))
        os.symlink("nowhere", os.path.join(place, "8004.jpg"))
        open(os.path.join(place, "Thumbs.db"), "w").close()
        caplog.clear()
        before = [item.path for item in all_images(build(root=datasets))]
        found = [item.path for item in all_images(build(root=tmp_path))]
        assert found == [path.replace(str(datasets), str(tmp_path)) for path in before], folder
        lines = [line.split(": ", 1) for line in caplog.messages]
        expected = {
            f"left out, {Reason.EXTENSION.words} (1)",
            "left out, no file (1)",
            "left out, a folder, pipe, socket or device, not a file (3)",
        }
        if build is RegDB:  # its lists name the images, and nothing else is looked at
            expected = set()
        assert {what.rsplit(": ", 1)[0] for _, what in lines} == expected, folder
        assert {name for name, _ in lines} <= {folder.replace("-", "")}


def test_an_image_that_a_list_repeats_counts_once_and_is_named(datasets, tmp_path, caplog):
    for build, name in ((RegDB, "RegDB/idx/train_visible_1.txt"), (LLCM, "LLCM/idx/train_vis.txt")):
        folder = name.split("/")[0]
        shutil.copytree(datasets / folder, tmp_path / folder)
        whole = build(root=tmp_path).train
        lines = (tmp_path / name).read_text().splitlines(keepends=True)
        (tmp_path / name).write_text("".join([*lines, lines[0]]))
        caplog.clear()
        assert build(root=tmp_path).train == whole, name
        [line] = caplog.messages
        where = f"{name.split('/', 1)[1]}, line {len(lines) + 1})"
        assert line.startswith(f"{folder}: left out, named again (1): "), name
        assert line.endswith(where), name


def test_a_listed_image_that_is_no_file_is_refused_with_its_line(datasets, tmp_path):
    for build, folder in ((RegDB, "RegDB"), (LLCM, "LLCM")):
        shutil.copytree(datasets / folder, tmp_path / folder)
        path = build(root=tmp_path).train[0].path
        for make, words in ((os.mkfifo, "a folder, pipe, socket or device"), (None, "no file")):
            os.remove(path)
            if make:
                make(path)
            with pytest.raises(InputError, match=f"{path}, named in .*, line 1, got {words}"):
                build(root=tmp_path)


def test_an_image_in_the_lists_of_both_modalities_is_refused(datasets, tmp_path):
    shutil.copytree(datasets / "LLCM", tmp_path / "LLCM")
    lists = [tmp_path / f"LLCM/idx/train_{short}.txt" for short in ("vis", "nir")]
    line = lists[0].read_text().splitlines(keepends=True)[0]
    lists[1].write_text(line + lists[1].read_text())
    with pytest.raises(InputError, match=r"images of one modality .* in both \(1 in all\)"):
        LLCM(root=tmp_path)
