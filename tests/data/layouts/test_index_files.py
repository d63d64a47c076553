import pytest

from cmemd.data.layouts.index_files import FaultKind, read_index
from cmemd.errors import InputError

PATTERN = "a/<identity>/<image>"


def pid_of(parts: tuple[str, ...]) -> int | None:
    """Identity of ``a/<n>/<image>``."""
    return int(parts[1]) if len(parts) == 3 and parts[0] == "a" and parts[1].isdecimal() else None


@pytest.fixture
def read(tmp_path):
    """Reads an index of this text, beside three images of two identities."""
    for name in ("a/7/x.bmp", "a/7/y.bmp", "a/12/my face.bmp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path.parent / "outside.bmp").touch()

    def read(text: str | bytes, **options):
        (tmp_path / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_index(tmp_path, "list.txt", pid_of, PATTERN, **options)

    return read


def test_identities_are_the_folders_and_labels_anything_one_to_one(read, tmp_path):
    entries = read("a/7/y.bmp 5\na/12/my face.bmp 0\na/7/x.bmp 5\n")
    assert [entry.pid for entry in entries] == [7, 12, 7]
    assert entries[1] == (tmp_path / "a/12/my face.bmp", ("a", "12", "my face.bmp"), 12, 0, 2)


def test_other_spellings_of_a_list_say_the_same(read):
    plain = [entry[:4] for entry in read("a/7/x.bmp 5\na/12/my face.bmp 0\n")]
    for text in (
        "a\\7\\x.bmp 5\r\na\\12\\my face.bmp 0\r\n",  # Windows
        "\n a/7/x.bmp\t5 \n\n./a/12/my face.bmp 0",  # blanks
        b"\xef\xbb\xbfa/7/x.bmp 5\na//12/my face.bmp 0",  # byte order mark
    ):
        assert [entry[:4] for entry in read(text)] == plain, text


def test_a_line_listed_twice_is_an_image_twice(read):
    assert len(read("a/7/x.bmp 5\na/7/x.bmp 5\n")) == 2


BAD_LINES = [
    ("a/7/x.bmp", "`path label` {}, got 'a/7/x.bmp': take the file"),
    ("a/7/x.bmp five", "`path label` {}, got 'a/7/x.bmp five'"),
    ("a/7/x.bmp -5", "`path label` {}"),
    ("a/7/x.bmp ٣", "`path label` {}"),
    ("a/7/x.bmp " + "9" * 5000, "`path label` {}"),
    ("5", "`path label` {}"),
    ("/a/7/x.bmp 5", "a path within the data set {}, got '/a/7/x.bmp': make it relative"),
    ("C:\\a\\7\\x.bmp 5", "a path within the data set {}"),
    ("../outside.bmp 5", "a path within the data set {}"),
    ("a\\7\\..\\12\\my face.bmp 5", "a path within the data set {}"),
    ("b/7/x.bmp 5", "a path as a/<identity>/<image> {}, got 'b/7/x.bmp'"),
    ("a/7/z.bmp 5", "an image at .*a/7/z.bmp, named {}, got no file: complete the copy"),
    ("a/7/\0.bmp 5", "an image at"),
    (f"a/7/{'z' * 300}.bmp 5", "an image at"),
    ("a/7/. 5", "a path as"),
    ("a/12/my face.bmp 5", "one label .* {}, got label 5 for identity 12 after label 5 for .* 7"),
    ("a/7/y.bmp 6", "one label .* {}, got label 6 for identity 7 after label 5 for identity 7"),
]


def test_a_bad_line_is_named_with_its_number(read):
    for line, problem in BAD_LINES:
        message = "^expected " + problem.format(r"in .*list\.txt, line 3")
        with pytest.raises(InputError, match=message) as error:
            read(f"\na/7/x.bmp 5\n{line}\n")
        assert "\n" not in str(error.value), line


def test_reading_goes_on_after_a_fault_that_is_not_raised(read):
    """Lines of a readable identity are kept, each fault is told once, in the file's order."""
    faults = []
    text = "a/7/x.bmp\nb/7/x.bmp 5\na/7/x.bmp 5\n../x.bmp 5\na/12/none.bmp 6\na/7/y.bmp 6\n"
    entries = read(text, on_fault=faults.append)
    assert [(entry.pid, entry.label, entry.line) for entry in entries] == [
        (7, 5, 3),
        (12, 6, 5),
        (7, 6, 6),
    ]
    assert [(fault.kind, fault.line, fault.text) for fault in faults] == [
        (FaultKind.NOT_PATH_LABEL, 1, "'a/7/x.bmp'"),
        (FaultKind.NO_IDENTITY, 2, "b/7/x.bmp"),
        (FaultKind.NOT_RELATIVE, 4, "../x.bmp"),
        (FaultKind.NO_IMAGE, 5, "a/12/none.bmp"),
        (FaultKind.LABEL, 6, "a/7/y.bmp"),
    ]
    assert all(f"line {fault.line}, got" in str(fault.error) for fault in faults)


def test_an_empty_file_is_refused(read):
    for text in ("", "\n \n"):
        message = r"a line `path label` per image in .*list\.txt, got an empty file: take"
        with pytest.raises(InputError, match=message):
            read(text)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"an index file at .*idx/list\.txt, got no .*idx folder"):
        read_index(tmp_path, "idx/list.txt", pid_of, PATTERN)
