"""Killed, crowded and starved commands leave a gallery as it was before or after a commit."""

import json
import multiprocessing
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.gallery.stub import make_images, vector_of
from tests.gallery.victim import CHUNK, start

from cmemd.errors import InputError
from cmemd.gallery.embeddings_file import read_embeddings, read_rows
from cmemd.gallery.table import create_gallery, open_gallery

REPOSITORY = Path(__file__).parents[2]
IMAGES = 120
BEGUN = 40  # without the lock about one in ten is overwritten
KILLED = -9


def embed(images, *to):
    return ["embed", "--model", "model", "--modality", "visible", "--images", images, *to]


def run(words, log, limit=0):
    """Exit status and output of a command that is not killed."""
    process = start(words, log, limit)
    process.join(60)
    return process.exitcode, log.read_text()


def contents(gallery):
    """The gallery's paths; every vector must be right and every path unique."""
    with open_gallery(gallery) as opened:
        found = list(opened.batches())
        numbers = np.concatenate([part for part, _ in found]).tolist()
        labels = opened.labels(numbers)
    paths = [labels[number]["path"] for number in numbers]
    assert len(set(paths)) == len(paths)
    vectors = np.concatenate([part for _, part in found])
    np.testing.assert_array_equal(vectors, np.stack([vector_of(path) for path in paths]))
    return set(paths)


def kill_all(folder, rounds):
    """Kills each change at a random moment, once a round, and looks at what is left.

    Returns:
        How many of each were still at work.
    """
    paths = make_images(folder / "images", IMAGES)
    people = {path for path in paths if "/p1/" in path}
    gallery, chance = folder / "g", random.Random(0)
    label = ["--pattern", "/(?P<identity>p[0-9])/"]
    words = {
        "embed": embed(folder / "images", "--gallery", gallery, *label),
        "remove": ["gallery", "remove", gallery, "--identity", "p1"],
        "index": ["gallery", "index", gallery],
        "compact": ["gallery", "compact", gallery],
    }
    seconds, hits = dict.fromkeys(words, 0.2), dict.fromkeys(words, 0)

    def kill(name):
        process = start(words[name], folder / "log")
        time.sleep(chance.uniform(0, seconds[name]))
        process.kill()
        process.join()
        hits[name] += process.exitcode == KILLED
        return contents(gallery)

    def finish(name):
        began = time.perf_counter()
        status, output = run(words[name], folder / "log")
        seconds[name] = time.perf_counter() - began
        assert status == 0, output
        return contents(gallery)

    assert finish("embed") == {*paths}
    for _ in range(rounds):
        assert kill("remove") in ({*paths}, {*paths} - people)
        assert finish("remove") == {*paths} - people
        there = kill("embed") & people
        assert there == set(sorted(people)[: len(there)])
        assert len(there) % CHUNK == 0
        assert finish("embed") == {*paths}
        for name in ("index", "compact"):
            assert kill(name) == {*paths}
            assert finish(name) == {*paths}
    return hits


def test_a_command_that_is_killed_leaves_the_gallery_before_or_after(tmp_path):
    kill_all(tmp_path, 1)


def test_labels_of_a_killed_command_are_as_before_or_as_after(tmp_path):
    paths, chance = make_images(tmp_path / "images", IMAGES), random.Random(0)
    words = embed(tmp_path / "images", "--gallery", tmp_path / "g")
    assert run(words, tmp_path / "log")[0] == 0
    words = ["gallery", "label", tmp_path / "g", "--list", tmp_path / "l.csv"]
    seconds, before = 0.5, None
    for after in ("one", "two", "three"):
        lines = [f"{path},{after}" for path in paths]
        (tmp_path / "l.csv").write_text("\n".join(["path,tracklet", *lines]))
        process = start(words, tmp_path / "log")
        time.sleep(chance.uniform(0, seconds))
        process.kill()
        process.join()
        assert contents(tmp_path / "g") == {*paths}
        with open_gallery(tmp_path / "g") as gallery:
            assert list(gallery.check()) == []
            found = {row["tracklet"] for rows in gallery.rows() for row in rows.to_pylist()}
        assert found <= {before, after}
        began = time.perf_counter()
        assert run(words, tmp_path / "log")[0] == 0
        seconds, before = time.perf_counter() - began, after
        with open_gallery(tmp_path / "g") as gallery:
            assert gallery.labelled("tracklet") == IMAGES


@pytest.mark.slow
def test_many_kills(tmp_path, capsys):
    hits = kill_all(tmp_path, 50)
    with capsys.disabled():
        sys.stdout.write(f"\nkilled at work, of 50 each: {hits}\n")
    assert min(hits.values()) >= 10


def begin_all(folder, barrier, versions):
    for number in range(BEGUN):
        barrier.wait(60)
        with create_gallery(folder / str(number), "model", 8) as gallery:
            versions.put(gallery.info()["version"])


def test_of_several_processes_that_create_a_gallery_one_does(tmp_path):
    """A second one would overwrite the first one's rows, as a second version."""
    context = multiprocessing.get_context("forkserver")
    barrier, versions = context.Barrier(3), context.Queue()
    several = [
        context.Process(target=begin_all, args=(tmp_path, barrier, versions)) for _ in range(3)
    ]
    for process in several:
        process.start()
    found = [versions.get(timeout=60) for _ in range(3 * BEGUN)]
    for process in several:
        process.join(60)
    assert found == [1] * (3 * BEGUN)


def test_a_gallery_whose_creation_was_killed_is_created_again(tmp_path):
    (tmp_path / "g/gallery.lance").mkdir(parents=True)
    with pytest.raises(InputError, match="expected a gallery at"), open_gallery(tmp_path / "g"):
        pass
    with create_gallery(tmp_path / "g", "model", 8) as gallery:
        assert len(gallery) == 0


def test_two_writers_at_once_lose_nothing(tmp_path):
    paths = make_images(tmp_path / "images", IMAGES)
    halves, logs = ([tmp_path / f"{name}.{kind}" for name in "ab"] for kind in ("txt", "log"))
    halves[0].write_text("\n".join(paths[:80]))
    halves[1].write_text("\n".join(paths[40:]))
    writers = [
        start(embed(half, "--gallery", tmp_path / "g"), log)
        for half, log in zip(halves, logs, strict=True)
    ]
    for writer in writers:
        writer.join(60)
    said = [log.read_text() for log in logs]
    assert [writer.exitcode for writer in writers] == [0, 0], said
    assert contents(tmp_path / "g") == {*paths}
    added = [int(text.splitlines()[-1].split()[0]) for text in said]
    assert sum(added) == IMAGES


def test_a_full_disk_is_told_and_the_gallery_stays_whole(tmp_path):
    paths = make_images(tmp_path / "images", IMAGES)
    (tmp_path / "few.txt").write_text("\n".join(paths[:5]))
    assert run(embed(tmp_path / "few.txt", "--gallery", tmp_path / "g"), tmp_path / "log")[0] == 0
    words = embed(tmp_path / "images", "--gallery", tmp_path / "g")
    # A commit of ten vectors of 32 needs more than 2,000 bytes.
    status, output = run(words, tmp_path / "log", limit=2000)
    assert status == 1  # not bad input, but the machine
    assert "error: expected to write gallery" in output
    assert "File too large" in output
    assert "Traceback" not in output
    assert contents(tmp_path / "g") == {*paths[:5]}
    assert run(words, tmp_path / "log")[0] == 0
    assert contents(tmp_path / "g") == {*paths}


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_a_full_disk_leaves_no_half_of_a_file_and_the_next_run_continues(tmp_path, name):
    paths = make_images(tmp_path / "images", IMAGES)
    (tmp_path / "out").mkdir()
    words = embed(tmp_path / "images", "--output", tmp_path / "out" / name)
    status, output = run(words, tmp_path / "log", limit=2000)
    assert status == 1  # not bad input, but the machine
    assert "error: expected to write" in output
    assert "Traceback" not in output
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_file()]
    assert run(words, tmp_path / "log")[0] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert read_embeddings(tmp_path / "out" / name)["path"].tolist() == paths


def file_rows(path):
    return {row["path"]: row["file_bytes"] for part in read_rows(path) for row in part.to_pylist()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_a_killed_run_leaves_the_file_as_before_or_after(tmp_path, name):
    paths, chance = make_images(tmp_path / "images", IMAGES), random.Random(0)
    (tmp_path / "out").mkdir()
    file, words = tmp_path / "out" / name, ["--output", tmp_path / "out" / name]
    seconds = time.perf_counter()
    assert run(embed(tmp_path / "images", *words), tmp_path / "log")[0] == 0
    seconds = time.perf_counter() - seconds
    for size in range(20, 24):
        before = file_rows(file)
        for path in paths[::3]:
            Path(path).write_bytes(b"x" * size)
        after = before | dict.fromkeys(paths[::3], size)
        for _ in range(2):
            process = start(embed(tmp_path / "images", *words), tmp_path / "log")
            time.sleep(chance.uniform(0, seconds))
            process.kill()
            process.join()
            assert file_rows(file) in (before, after)
        status, output = run(embed(tmp_path / "images", *words), tmp_path / "log")
        assert status == 0, output
        assert file_rows(file) == after
        left = {path.name for path in (tmp_path / "out").iterdir()} - {name}
        assert all(re.fullmatch(rf"\.{name}(\.unfinished)?\.\d+\..*tmp", p) for p in left), left


@pytest.mark.slow  # two fresh processes
def test_a_file_system_without_room(tmp_path):
    """A file system of 96 KiB of its own, where this system lets a user mount one."""
    make_images(tmp_path / "images", IMAGES)
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o size=96k tmpfs {tmp_path}/disk"
    may = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False)
    if may.returncode:
        pytest.skip("user namespaces are not permitted here")
    victim = f"{sys.executable} -m tests.gallery.victim {tmp_path}"
    words = " ".join(map(str, embed(tmp_path / "images", "--gallery", tmp_path / "disk/g")))
    script = (
        f"{mount} && {victim}/log {words}; echo $?; "
        f"{victim}/rows gallery info {tmp_path}/disk/g --json"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    output = (tmp_path / "log").read_text()
    assert done.stdout == "1\n"
    assert "No space left on device" in output
    assert "Traceback" not in output
    rows = json.loads((tmp_path / "rows").read_text().splitlines()[-1])["rows"]
    assert 0 < rows < IMAGES
    assert rows % CHUNK == 0
