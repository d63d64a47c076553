import pytest

from cmemd.data.layouts.index_files import read_index
from cmemd.errors import InputError


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

    def read(text: str | bytes):
        (tmp_path / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_index(tmp_path, "list.txt", pid_of, "a/<identity>/<image>")

    return read


def test_identities_are_the_folders_and_labels_anything_one_to_one(read, tmp_path):
    entries = read("a/7/y.bmp 5\na/12/my face.bmp 0\na/7/x.bmp 5\n")
    assert [entry.pid for entry in entries] == [7, 12, 7]
    assert entries[1] == (tmp_path / "a/12/my face.bmp", ("a", "12", "my face.bmp"), 12)


@pytest.mark.parametrize(
    "text",
    [
        "a\\7\\x.bmp 5\r\na\\12\\my face.bmp 0\r\n",
        "\n a/7/x.bmp\t5 \n\n./a/12/my face.bmp 0",
        b"\xef\xbb\xbfa/7/x.bmp 5\na//12/my face.bmp 0",
    ],
    ids=["Windows", "blanks", "byte order mark"],
)
def test_other_spellings_of_a_list_say_the_same(read, text):
    assert read(text) == read("a/7/x.bmp 5\na/12/my face.bmp 0\n")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a/7/x.bmp", "expected `path label`, got 'a/7/x.bmp'"),
        ("a/7/x.bmp five", "expected `path label`"),
        ("a/7/x.bmp -5", "expected `path label`"),
        ("a/7/x.bmp ٣", "expected `path label`"),
        ("a/7/x.bmp " + "9" * 5000, "expected `path label`"),
        ("5", "expected `path label`"),
        ("/a/7/x.bmp 5", "expected a path within the data set, got '/a/7/x.bmp'"),
        ("C:\\a\\7\\x.bmp 5", "expected a path within the data set"),
        ("../outside.bmp 5", "expected a path within the data set"),
        ("a\\7\\..\\12\\my face.bmp 5", "expected a path within the data set"),
        ("b/7/x.bmp 5", "expected a path as a/<identity>/<image>, got 'b/7/x.bmp'"),
        ("a/7/z.bmp 5", "expected an image at .*a/7/z.bmp, found none"),
        ("a/7/\0.bmp 5", "expected an image at"),
        (f"a/7/{'z' * 300}.bmp 5", "expected an image at"),
        ("a/7/. 5", "expected a path as"),
        (
            "a/12/my face.bmp 5",
            "expected one label .* got label 5 for identity 12 after label 5 for identity 7",
        ),
        (
            "a/7/y.bmp 6",
            "expected one label .* got label 6 for identity 7 after label 5 for identity 7",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_number(read, line, problem):
    with pytest.raises(InputError, match=rf"list\.txt, line 3: {problem}") as error:
        read(f"\na/7/x.bmp 5\n{line}\n")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_is_refused(read, text):
    with pytest.raises(InputError, match=r"a line `path label` per image in .*list\.txt, got none"):
        read(text)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"an index file at .*idx/list\.txt.*idx folder whole"):
        read_index(tmp_path, "idx/list.txt", pid_of, "a/<identity>/<image>")
