import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.trees import copy_tree

from cmemd.doctor import examine
from cmemd.doctor.sums import format_sums, read_sums
from cmemd.errors import InputError


@pytest.fixture
def copy(datasets, tmp_path) -> Path:
    return copy_tree(datasets / "SYSU-MM01", tmp_path / "SYSU-MM01")


def findings(root: Path, sums) -> dict[str, list[str]]:
    report = examine("sysu", root, sums)
    return {f.problem: x for f, x in report.findings.items() if f.problem != "a drawn stand-in"}


def replace(path: Path, content: bytes) -> None:
    path.unlink()  # it is a link
    path.write_bytes(content)


def test_each_image_and_list_has_a_sum_that_sha256sum_confirms(copy, tmp_path):
    digests = examine("sysu", copy).digests
    expected = [*copy.glob("cam*/*/*.jpg"), *copy.glob("exp/*")]
    assert digests == {
        path.relative_to(copy).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in expected
    }
    (tmp_path / "sums").write_text(format_sums(digests))
    assert read_sums(tmp_path / "sums") == digests
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", "--quiet", tmp_path / "sums"], cwd=copy, check=True)


def test_what_no_decoder_can_tell_is_found_by_the_sums(copy):
    digests = examine("sysu", copy).digests
    image, other, gone = sorted(copy.glob("cam1/*/*.jpg"))[:3]
    replace(image, other.read_bytes())  # a valid picture, the wrong one
    changed = copy / "exp/train_id.txt"
    replace(changed, changed.read_bytes() + b"\n")
    gone.rename(gone.with_name("0009.jpg"))
    found = findings(copy, digests)
    names = {path: path.relative_to(copy).as_posix() for path in (image, gone, changed)}
    assert found["files whose content is not that of the checksums"] == [
        names[image],
        names[changed],
    ]
    assert found["files of the checksums that are missing"] == [names[gone]]
    assert found["images and lists without a checksum"] == [
        names[gone].replace(gone.name, "0009.jpg")
    ]
    assert not examine("sysu", copy, digests).usable


def test_odd_names_are_written_as_sha256sum_writes_them(tmp_path):
    digests = {}
    for number, name in enumerate(("a b.jpg", "back\\slash", "new\nline", " a", "ü")):
        (tmp_path / name).write_bytes(bytes([number]))
        digests[name] = hashlib.sha256(bytes([number])).hexdigest()
    (tmp_path / "sums").write_text(format_sums(digests))
    assert read_sums(tmp_path / "sums") == digests
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", "--quiet", "sums"], cwd=tmp_path, check=True)


def test_other_spellings_of_a_sum_say_the_same(tmp_path):
    digest = "0f" * 32
    for text in (
        f"{digest}  a.jpg\n",
        f"{digest} *a.jpg",  # --binary
        f"\ufeff{digest.upper()}  ./a.jpg\r\n\r\n",
    ):
        (tmp_path / "sums").write_text(text, newline="")
        assert read_sums(tmp_path / "sums") == {"a.jpg": digest}, text


def test_what_is_no_list_of_sums_is_named_with_its_line(tmp_path):
    for text, message in (
        (None, "got no file: write them"),
        ("", "got none: write them"),
        (f"{'0f' * 32}  a.jpg\n{'0f' * 31}  b.jpg", "sums, line 2, got '0f"),
        ("a.jpg", "sums, line 1, got 'a.jpg'"),
    ):
        if text is not None:
            (tmp_path / "sums").write_text(text)
        with pytest.raises(InputError, match=message):
            read_sums(tmp_path / "sums")
