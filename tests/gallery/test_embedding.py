"""The same images again: changed files are embedded again, labels follow, the rest stays."""

import argparse
import itertools
import os
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tests.gallery import stub
from tests.gallery.stub import DIGEST, SIZE, make_images, rows_of, vector_of
from tests.inference.refusal import refusal

from cmemd.cli import embed
from cmemd.data.modality import Modality
from cmemd.gallery import embedding
from cmemd.gallery.embedding import update_gallery
from cmemd.gallery.embeddings_file import read_embeddings, read_rows
from cmemd.gallery.facts import file_facts, many_file_facts
from cmemd.gallery.sources import Source
from cmemd.gallery.table import create_gallery, open_gallery
from cmemd.gallery.unfinished import unfinished_gallery, write_in_order

PLACES = {"gallery": "g", "npz": "f.npz", "parquet": "f.parquet"}


def content_vector(path) -> np.ndarray:
    """A unit vector out of a file's bytes, so that a changed file has another."""
    return vector_of(Path(path).read_bytes().hex())


class Predictor(stub.Predictor):
    """Embeds what files hold, and remembers their names."""

    embedded: list[str]

    def stream(self, images, modality, *, bgr=None):
        for path in images:
            if (content := Path(path).read_bytes()) == b"":
                self.skipped.append((path, "expected an image, got an empty file"))
            else:
                Predictor.embedded.append(str(path))
                yield path, vector_of(content.hex())


@pytest.fixture(autouse=True)
def _stub_model(monkeypatch, tmp_path):
    monkeypatch.setattr("cmemd.inference.predictor.Predictor", Predictor)
    monkeypatch.chdir(tmp_path)
    Predictor.embedded = []


def run(kind, *words, images="images", modality="visible", model="model") -> list[str]:
    """Embed into a gallery or a file; the names of the images that were embedded."""
    parser = argparse.ArgumentParser()
    embed.add_arguments(parser)
    to = ["--gallery" if kind == "gallery" else "--output", PLACES[kind]]
    words = ["--model", model, "--modality", modality, "--images", images, *to, *words]
    Predictor.embedded.clear()
    embed.run(parser.parse_args([str(word) for word in words]))
    return list(Predictor.embedded)


def rows_at(kind) -> dict[str, dict]:
    """The rows of a gallery or a file by path, in their order."""
    if kind != "gallery":
        tables = list(read_rows(Path(PLACES[kind])))
    else:
        with open_gallery("g") as gallery:
            numbers = [number for of, _ in gallery.batches() for number in of.tolist()]
            tables = [gallery.take(numbers)]
    return {row["path"]: row for rows in tables for row in rows.to_pylist()}


def check_vectors(rows) -> None:
    for path, row in rows.items():
        np.testing.assert_array_equal(np.float32(row["vector"]), content_vector(path), path)


@pytest.mark.parametrize("kind", PLACES)
def test_nothing_is_embedded_twice_and_changes_are_seen(kind, capsys):
    paths = make_images(Path("images").absolute())
    assert run(kind) == paths
    assert run(kind) == []
    assert "0 embedded again because their file changed, 0 with changed labels, 12 unchanged" in (
        capsys.readouterr().out
    )
    # Other bytes: of another size; of the same size, at another time; of the same size and time.
    status = os.stat(paths[5])
    Path(paths[2]).write_bytes(b"another image")
    Path(paths[4]).write_bytes(b"an_image")
    Path(paths[5]).write_bytes(b"en image")
    os.utime(paths[5], ns=(status.st_atime_ns, status.st_mtime_ns))
    os.utime(paths[7])  # another time, but the same bytes
    more = make_images(Path("images").absolute(), 14)
    Path(paths[2]).write_bytes(b"another image")
    Path(paths[4]).write_bytes(b"an_image")
    Path(paths[5]).write_bytes(b"en image")
    new = sorted({*more} - {*paths})
    assert sorted(run(kind)) == sorted([paths[2], paths[4], paths[5], *new])
    said = capsys.readouterr().out
    assert "2 added" in said or "2 embeddings added" in said
    assert "3 embedded again because their file changed, 0 with changed labels, 9 unchanged" in said
    rows = rows_at(kind)
    assert sorted(rows) == sorted(more)
    check_vectors(rows)
    assert run(kind) == []


@pytest.mark.parametrize("kind", PLACES)
def test_labels_follow_and_those_that_are_not_given_stay(kind, capsys):
    paths = make_images(Path("images").absolute())
    run(kind, "--pattern", r"cam(?P<camera>\d)/(?P<identity>p\d)/")
    assert run(kind, "--pattern", r"/p(?P<identity>\d)/") == []
    assert "12 with changed labels, 0 unchanged" in capsys.readouterr().out
    found = [(row["camera"], row["identity"]) for row in rows_at(kind).values()]
    assert found == [(path[-13], path[-10]) for path in rows_at(kind)]
    assert {camera for camera, _ in found} == {"0", "1"}
    run(kind)  # gives no labels
    assert "12 unchanged" in capsys.readouterr().out
    # A list gives its columns, also where they are empty.
    lines = [f"{paths[0]},Ann,2024-05-31T14:00:00Z", f"{paths[1]},,", f"{paths[2]},{'0'},"]
    Path("l.csv").write_text("path,identity,time\n" + "\n".join(lines))
    assert run(kind, images="l.csv") == []
    rows = rows_at(kind)
    assert [rows[path]["identity"] for path in paths[:3]] == ["Ann", None, "0"]
    assert [rows[path]["camera"] for path in paths[:3]] == ["0", "0", "0"]
    assert rows[paths[0]]["time"].isoformat() == "2024-05-31T14:00:00+00:00"
    assert len(rows) == 12
    run(kind, images="l.csv")
    assert "0 with changed labels, 3 unchanged" in capsys.readouterr().out
    check_vectors(rows)


@pytest.mark.parametrize("kind", PLACES)
def test_a_changed_file_keeps_labels_that_are_not_given(kind):
    paths = make_images(Path("images").absolute(), 2)
    run(kind, "--pattern", r"cam(?P<camera>\d)/(?P<identity>p\d)/")
    Path(paths[1]).write_bytes(b"another image")
    assert run(kind) == [paths[1]]
    assert (rows_at(kind)[paths[1]]["camera"], rows_at(kind)[paths[1]]["identity"]) == ("1", "p0")


@pytest.mark.parametrize("kind", PLACES)
def test_a_file_that_can_no_longer_be_read_is_listed_and_its_row_stays(kind, capsys):
    paths = make_images(Path("images").absolute())
    run(kind)
    before = rows_at(kind)
    Path(paths[3]).write_bytes(b"")
    run(kind)
    said = capsys.readouterr().out
    assert f"skipped {paths[3]}" in said
    assert "11 unchanged" in said
    assert rows_at(kind) == before


@pytest.mark.parametrize("kind", PLACES)
def test_rows_are_of_their_own_images_where_others_cannot_be_read(kind, monkeypatch):
    monkeypatch.setattr("cmemd.gallery.embedding.CHUNK", 5)
    paths = make_images(Path("images").absolute())
    for number, path in enumerate(paths):
        Path(path).write_bytes(b"" if number in (0, 4, 5, 11) else f"image {number}".encode())
    run(kind, "--pattern", r"/(?P<identity>\d+).jpg")
    rows = rows_at(kind)
    assert list(rows) == [paths[number] for number in (1, 2, 3, 6, 7, 8, 9, 10)]
    check_vectors(rows)
    for path, row in rows.items():
        assert row["identity"] == Path(path).stem
        assert row["file_sha256"] == file_facts(path).sha256


@pytest.mark.parametrize("kind", PLACES)
def test_images_of_another_run_stay(kind):
    paths = make_images(Path("images").absolute())
    run(kind, images="images/cam0")
    assert len(run(kind, images="images/cam1")) == 6
    assert sorted(rows_at(kind)) == paths
    assert run(kind, images="images/cam0") == []
    assert sorted(rows_at(kind)) == paths


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_a_files_rows_are_in_the_order_of_the_images(kind):
    paths = make_images(Path("images").absolute())
    run(kind, images="images/cam1")
    run(kind)
    Path(paths[4]).write_bytes(b"another image")
    run(kind)
    assert list(rows_at(kind)) == paths
    assert read_embeddings(Path(PLACES[kind]))["path"].tolist() == paths
    Path("l.txt").write_text("\n".join(reversed(paths)))
    run(kind, images="l.txt")
    assert list(rows_at(kind)) == paths[::-1]


@pytest.mark.parametrize("kind", PLACES)
def test_what_was_stored_says_which_file_was_embedded(kind):
    (path,) = make_images(Path("images").absolute(), 1)
    run(kind)
    row, status = rows_at(kind)[path], os.stat(path)
    assert (row["file_bytes"], row["file_modified"]) == (status.st_size, status.st_mtime_ns)
    assert row["file_sha256"] == file_facts(path).sha256


def test_rows_without_facts_of_their_file_count_as_changed(tmp_path):
    paths = make_images(tmp_path / "images", 3)
    with create_gallery("g", DIGEST, SIZE) as gallery:
        gallery.add_rows(rows_of(paths))
    assert run("gallery") == paths
    assert run("gallery") == []


@pytest.mark.parametrize("kind", PLACES)
def test_another_modality_or_model_changes_nothing(kind):
    make_images(Path("images").absolute())
    run(kind)
    before = rows_at(kind)
    assert "to be visible, as in gallery" in refusal(run, kind, modality="thermal")
    assert "embeddings of model abab" in refusal(run, kind, model="cd" * 32)
    assert rows_at(kind) == before


@pytest.mark.parametrize("kind", PLACES)
def test_images_of_which_none_can_be_read_are_an_error(kind, capsys):
    for path in make_images(Path("images").absolute(), 3):
        Path(path).write_bytes(b"")
    assert "got no readable image: see the list above" in refusal(run, kind)
    assert "3 images skipped" in capsys.readouterr().out
    assert sorted(path.name for path in Path().iterdir()) in (["g", "images"], ["images"])


@pytest.mark.parametrize("kind", PLACES)
def test_more_images_of_which_none_can_be_read_are_an_error_too(kind):
    make_images(Path("images").absolute(), 2)
    run(kind)
    before = rows_at(kind)
    Path("more").mkdir()
    Path("more/a.jpg").touch()
    assert "got no readable image: see the list above" in refusal(run, kind, images="more")
    assert rows_at(kind) == before


OTHERS = {
    "text": lambda path: path.write_text("mine"),
    "arrays of a user": lambda path: np.savez(path.open("wb"), feats=np.eye(2)),
    "arrays with the same names": lambda path: np.savez(
        path.open("wb"),
        **dict.fromkeys(
            ["vector", "path", "modality", "identity", "camera", "time", "model"], np.eye(2)
        ),
    ),
    "nothing": lambda path: path.touch(),
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a FIFO": lambda path: os.mkfifo(path),
}


def snapshot(path: Path) -> tuple:
    status = path.lstat()
    content = path.read_bytes() if path.is_file() else None
    return status.st_ino, status.st_mtime_ns, status.st_mode, content


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_what_we_have_not_written_is_not_replaced(kind, tmp_path):
    make_images(tmp_path / "images", 2)
    for what, write in OTHERS.items():
        path = Path(PLACES[kind])
        write(path)
        before = snapshot(path)
        assert "expected a new file for --output, or one that" in refusal(run, kind), what
        assert snapshot(path) == before, what
        os.rename(path, f"kept {what}")
        assert not Path(f"{path}.unfinished").exists(), what


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_what_we_have_not_written_is_not_removed(kind, tmp_path):
    make_images(tmp_path / "images", 2)
    place = tmp_path / f"{PLACES[kind]}.unfinished"

    def tree():
        return {path: snapshot(path) for path in (place, *place.rglob("*"))}

    for what in ("a file", "an empty folder", "a folder with a file", "a gallery", "a link"):
        if what == "a file":
            place.write_text("mine")
        elif what == "a link":
            (tmp_path / "elsewhere").mkdir()
            (tmp_path / "elsewhere/cmemd-unfinished").touch()
            place.symlink_to("elsewhere")
        elif what == "a gallery":
            with create_gallery(place, DIGEST, SIZE) as gallery:
                gallery.add_rows(rows_of(["/a"]))
        else:
            place.mkdir()
            if what == "a folder with a file":
                (place / "thesis.txt").write_text("mine")
        before = tree()
        message = refusal(run, kind)
        assert f"expected no file or folder at {PLACES[kind]}.unfinished" in message, what
        assert tree() == before, what
        assert not Path(PLACES[kind]).exists(), what
        os.rename(place, f"kept {what}")
    run(kind)
    assert not place.exists()


def interrupted(*_, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_a_users_file_in_our_folder_keeps_the_folder(kind, tmp_path, monkeypatch):
    make_images(tmp_path / "images", 4)
    place = tmp_path / f"{PLACES[kind]}.unfinished"
    monkeypatch.setattr("cmemd.gallery.embedding.CHUNK", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "stream", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(kind)
    (place / "notes.txt").write_text("mine")
    run(kind)
    assert [path.name for path in place.iterdir()] == ["notes.txt"]
    assert len(rows_at(kind)) == 4


class Killed(BaseException):
    """Ends a run before one of its file operations, as a kill does."""


def test_a_run_killed_at_any_step_of_its_end_is_no_obstacle_to_the_next(tmp_path, monkeypatch):
    paths, steps = make_images(tmp_path / "images", 4), []

    def end(number, file):
        """Let a run do so many file operations of its end; return whether that was its end."""

        def counted(change):
            def step(*args, **kwargs):
                steps.append(change.__name__)
                if len(steps) > number:
                    raise Killed
                return change(*args, **kwargs)

            return step

        with monkeypatch.context() as patch, unfinished_gallery(file, DIGEST, SIZE) as gallery:
            gallery.add_rows(rows_of(paths))
            write_in_order(gallery, paths, file)
            steps.clear()
            for name in ("rename", "unlink", "rmdir", "mkdir"):
                patch.setattr(os, name, counted(getattr(os, name)))

    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            end(number, folder / "f.npz")
        except Killed:
            end(1000, folder / "f.npz")
        left = {path.name for path in folder.iterdir()} - {"f.npz"}
        assert all(name.startswith(".f.npz.unfinished.") for name in left), (number, steps, left)
        assert [row["path"] for part in read_rows(folder / "f.npz") for row in part.to_pylist()]
        if len(steps) <= number:
            break
    assert number > 5


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_a_second_writer_gets_one_line(kind, tmp_path):
    make_images(tmp_path / "images", 2)
    run(kind)
    before = snapshot(Path(PLACES[kind]))
    second, first_stream = [], Predictor.stream

    def stream(self, images, modality, *, bgr=None):
        second.append(refusal(run, kind))
        return first_stream(self, images, modality, bgr=bgr)

    Path("images/cam0/p0/0000.jpg").write_bytes(b"another image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "stream", stream)
        run(kind)
    assert re.search("unfinished to be free, got one that another command is using", second[0])
    assert snapshot(Path(PLACES[kind])) != before


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_a_damaged_file_is_not_taken_over(kind, tmp_path):
    make_images(tmp_path / "images", 12)
    run(kind)
    path = Path(PLACES[kind])
    whole = path.read_bytes()
    row = next(iter(rows_at(kind).values()))
    place = whole.find(np.float32(row["vector"][:4]).tobytes())
    if place < 0:
        pytest.skip("this version of parquet packs the vectors")
    for bit in (0, 30):
        content = bytearray(whole)
        content[place + bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        assert "f." in refusal(run, kind), bit
        assert "f." in refusal(read_embeddings, path), bit
        assert path.read_bytes() == bytes(content), bit


def test_facts_are_of_plain_files_only(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    os.mkfifo(tmp_path / "fifo")
    names = ["file", "fifo", "none", ".", "file\0"]
    facts = list(many_file_facts(str(tmp_path / name) for name in names))
    assert facts[0].bytes == 3
    assert facts[1:] == [None] * 4


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Many(stub.Predictor):
    """Embeds names without files."""

    def stream(self, images, modality, *, bgr=None):
        return ((path, vector_of(path)) for path in images)


def test_descriptors_and_memory_do_not_grow_with_commits(monkeypatch):
    monkeypatch.setattr("cmemd.gallery.embedding.CHUNK", 20)
    counts, peaks = [], []
    with create_gallery("g", DIGEST, SIZE) as gallery:
        for number in range(4):
            sources = [Source(f"/{number}/{row}") for row in range(200)]
            tracemalloc.start()
            update_gallery(gallery, Many("model"), sources, Modality.VISIBLE)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            counts.append(descriptors())
        sum(len(of) for of, _ in gallery.batches())
        counts.append(descriptors())
    assert counts[-1] <= counts[0] + 2, counts
    assert peaks[-1] < 1.5 * peaks[1], peaks


class Sized:
    """A gallery of which only the number of rows counts."""

    size = SIZE

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return self.rows


def test_commits_grow_with_the_gallery_and_lose_no_row(monkeypatch):
    chunk = rows_of([f"/{n}" for n in range(4)])
    for before, chunks, commits in (
        (0, 3, [4, 4, 4]),
        (4 * 32 * 2, 5, [8, 12]),  # of 256 rows a share of 8, of 264 one of 8.25
        (10**9, 3, [12]),  # the rest at the end
        (0, 0, []),
    ):
        found = list(embedding.in_commits([chunk] * chunks, Sized(before)))
        assert [len(rows) for rows in found] == commits, before
    monkeypatch.setattr(embedding, "_COMMIT_BYTES", 4 * SIZE * 8)
    found = embedding.in_commits([chunk] * 5, Sized(10**9))
    assert [len(rows) for rows in found] == [8, 8, 4]
    clock = iter(range(0, 10**6, embedding._COMMIT_SECONDS))
    monkeypatch.setattr(embedding.time, "monotonic", lambda: next(clock))
    found = embedding.in_commits([chunk] * 3, Sized(10**9))
    assert [len(rows) for rows in found] == [4, 4, 4]


def test_an_error_comes_after_the_rows_before_it():
    def chunks():
        yield rows_of(["/a"])
        raise KeyboardInterrupt

    commits = embedding.in_commits(chunks(), Sized(10**9))
    assert next(commits)["path"].to_pylist() == ["/a"]
    with pytest.raises(KeyboardInterrupt):
        next(commits)


def test_a_process_alone_adds_without_a_search_and_another_ones_rows_are_found(
    tmp_path, monkeypatch
):
    with create_gallery(tmp_path / "g", DIGEST, SIZE) as ours:
        version = ours.version
        with monkeypatch.context() as patch:
            patch.setattr(type(ours._table), "merge_insert", None)
            assert ours.add_rows(rows_of(["/a"]), version) == 1
            assert ours.add_rows(rows_of(["/b"]), version) == 1
        assert ours.replace(rows_of(["/b"], camera="2")) == 1
        with open_gallery(tmp_path / "g") as theirs:
            assert theirs.add_rows(rows_of(["/c", "/a"])) == 1
        assert ours.add_rows(rows_of(["/c", "/d"]), version) == 1
        found = sorted(path for path in ours.modalities())
        assert found == ["/a", "/b", "/c", "/d"]
        # What is known after the other's commit needs no search either.
        monkeypatch.setattr(type(ours._table), "merge_insert", None)
        assert ours.add_rows(rows_of(["/e"]), ours.version) == 1
