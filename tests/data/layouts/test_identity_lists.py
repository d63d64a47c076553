import os

import numpy as np
import pytest
from scipy.io import savemat

from cmemd.data.layouts.identity_lists import read_ids
from cmemd.errors import InputError


def test_one_line_of_integers(tmp_path):
    for text in ("3,1,20", "3,1,20\n", " 3, 1 ,20 \r\n\n", "\ufeff3,1,20"):
        (tmp_path / "val_id.txt").write_text(text, encoding="utf-8")
        assert read_ids(tmp_path, "val_id") == [3, 1, 20], repr(text)


def test_matlab_file_where_there_is_no_text_file(tmp_path):
    savemat(tmp_path / "test_id.mat", {"id": np.array([[6, 10, 300]], dtype=np.uint16)})
    ids = read_ids(tmp_path, "test_id")
    assert ids == [6, 10, 300]
    assert {type(number) for number in ids} == {int}
    (tmp_path / "test_id.txt").write_text("1,2")
    assert read_ids(str(tmp_path), "test_id") == [1, 2]


def test_malformed_text_is_refused(tmp_path):
    for text, message in (
        ("", "one line of comma-separated integers in .*, got 0 lines: take the file"),
        ("1,2\n3,4", "got 2 lines"),
        ("1,2,", "got '': "),
        ("1 2", "got '1 2'"),
        ("1,two", "got 'two'"),
        ("1,-2", "got '-2'"),
        ("1,²", "got '²'"),
        ("1," + "9" * 5000, "got '9999"),
        ("1,\0", r"got '.x00'"),
        ("0,1", "different identities of at least 1 .* the least 0: "),
        ("1,2,1", "got 3 numbers, 2 different"),
    ):
        (tmp_path / "train_id.txt").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            read_ids(tmp_path, "train_id")


def test_matlab_files_of_another_structure_are_refused(tmp_path):
    for content, message in (
        ({"ids": [1, 2]}, "expected variable 'id' in .*, got ids: "),
        ({}, "got none"),
        ({"id": [1.5]}, "expected integers"),
        ({"id": [np.nan]}, "expected integers"),
        ({"id": "1,2"}, "expected integers"),
        ({"id": np.empty((1, 0))}, "got 0 numbers"),
    ):
        savemat(tmp_path / "train_id.mat", content)
        with pytest.raises(InputError, match=message):
            read_ids(tmp_path, "train_id")


def test_no_reader_waits_for_a_list_that_is_a_pipe(tmp_path):
    for suffix in (".txt", ".mat"):
        os.mkfifo(tmp_path / f"train_id{suffix}")
    with pytest.raises(InputError, match=r"train_id.txt or train_id.mat .*, got neither: copy"):
        read_ids(tmp_path, "train_id")


def test_missing_list_and_unknown_name_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"train_id.txt or train_id.mat .*, got neither: copy"):
        read_ids(tmp_path, "train_id")
    with pytest.raises(InputError, match="expected an identity list out of .*, got 'train'"):
        read_ids(tmp_path, "train")
