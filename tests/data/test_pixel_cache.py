"""A cache gives the pixels of the files, or an error; and it is built once."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image
from tests.conftest import CONFIGS, TINY

import cmemd
from cmemd.data import pixel_cache
from cmemd.data.build import build_dataset
from cmemd.data.images import read_pixels
from cmemd.data.loader import shut_down
from cmemd.data.pixel_cache import CachePlan, PixelCache, build_cache
from cmemd.data.resizing import resize
from cmemd.engine.trainer import Trainer
from cmemd.errors import InputError
from cmemd.files import one_writer

Usage = namedtuple("Usage", "total used free")
SIZE = (32, 16)


@pytest.fixture
def paths(tmp_path):
    """Twelve images; one is black, and one named by a link."""
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for n in range(12):
        pixels = generator.integers(0, 256, (48, 24, 3), np.uint8) * (n > 0)
        Image.fromarray(pixels).save(folder / f"{n}.{'png' if n % 2 else 'jpg'}")
    return [str(path) for path in sorted(folder.iterdir())]


def plan_of(tmp_path, paths, kernel="pillow", size=SIZE) -> CachePlan:
    return CachePlan.of(tmp_path / "cache", paths, *size, kernel)


def expected(plan: CachePlan) -> list[bytes]:
    return [
        resize(read_pixels(path), plan.height, plan.width, plan.kernel).tobytes()
        for path, _, _ in plan.files
    ]


def content(plan: CachePlan) -> list[bytes]:
    cache = PixelCache(plan)
    return [cache[row].tobytes() for row in range(len(cache))]


def test_a_cache_holds_the_resized_pixels_and_is_built_once(tmp_path, paths, monkeypatch):
    for kernel in ("pillow", "opencv"):
        plan = plan_of(tmp_path, paths, kernel)
        build_cache(plan)
        assert content(plan) == expected(plan)
        assert pickle.loads(pickle.dumps(PixelCache(plan)))[3].tobytes() == expected(plan)[3]
        assert (plan.folder / "pixels.bin").stat().st_size == plan.bytes == 12 * 32 * 16 * 3
    monkeypatch.setattr(pixel_cache, "read_pixels", lambda path: pytest.fail(path))
    build_cache(plan)


def test_a_build_that_ended_anywhere_goes_on_where_it_was(tmp_path, paths, monkeypatch):
    plan = plan_of(tmp_path, paths)
    whole = expected(plan)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    for stop in (0, 1, 7, 11):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        read: list[str] = []

        def stopping(path, stop=stop, read=read, **options):
            if len(read) == stop:
                raise KeyboardInterrupt
            read.append(path)
            return read_pixels(path, **options)

        monkeypatch.setattr(pixel_cache, "read_pixels", stopping)
        with pytest.raises(KeyboardInterrupt):
            build_cache(plan)
        assert not plan.whole
        again: list[str] = []
        monkeypatch.setattr(
            pixel_cache,
            "read_pixels",
            lambda path, again=again, **options: again.append(path) or read_pixels(path, **options),
        )
        build_cache(plan)
        assert content(plan) == whole, stop
        assert sorted(read + again) == sorted(file for file, _, _ in plan.files), stop


def test_a_killed_build_goes_on(tmp_path, paths):
    """SIGKILL at several moments; each start adds to what is there."""
    plan = plan_of(tmp_path, paths * 40)  # 480 rows
    code = (
        "import pickle, sys; from cmemd.data.pixel_cache import build_cache; "
        "plan = pickle.load(open(sys.argv[1], 'rb')); print('go', flush=True); build_cache(plan)"
    )
    (tmp_path / "plan").write_bytes(pickle.dumps(plan))
    done = [0]
    for wait in (0.0, 0.02, 0.05):
        command = [sys.executable, "-c", code, str(tmp_path / "plan")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(wait)
            child.send_signal(signal.SIGKILL)
        sums = plan.folder / "sums.bin"
        done.append(np.count_nonzero(np.fromfile(sums, np.uint64)) if sums.exists() else 0)
    assert done == sorted(done)
    build_cache(plan)
    assert content(plan) == expected(plan)


def test_a_row_that_was_damaged_before_the_cache_was_whole_is_written_again(tmp_path, paths):
    plan = plan_of(tmp_path, paths)
    build_cache(plan)
    (plan.folder / "cache.json").rename(plan.folder / "building.json")
    with open(plan.folder / "pixels.bin", "r+b") as file:
        file.seek(3 * plan.row_bytes)
        file.write(bytes(100))
    build_cache(plan)
    assert content(plan) == expected(plan)


def test_damage_of_a_whole_cache_is_an_error_that_names_the_folder(tmp_path, paths):
    plan = plan_of(tmp_path, paths)

    def flip(name, place):
        with open(plan.folder / name, "r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))

    cases = {
        "first byte": lambda: flip("pixels.bin", 0),
        "last byte": lambda: flip("pixels.bin", plan.bytes - 1),
        "sum": lambda: flip("sums.bin", 8 * 5),
        "short": lambda: os.truncate(plan.folder / "pixels.bin", plan.bytes - 1),
        "hole": lambda: (
            os.truncate(plan.folder / "pixels.bin", 100),
            os.truncate(plan.folder / "pixels.bin", plan.bytes),
        ),
        "no sums": lambda: (plan.folder / "sums.bin").unlink(),
    }
    for name, damage in cases.items():
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        build_cache(plan)
        damage()
        with pytest.raises(
            InputError, match="whole cache of images .* remove that folder"
        ) as error:
            content(plan)
        assert str(plan.folder) in str(error.value), name


def test_other_files_sizes_and_kernels_have_other_caches(tmp_path, paths):
    plans = [
        plan_of(tmp_path, paths),
        plan_of(tmp_path, paths[:-1]),
        plan_of(tmp_path, paths[::-1]),
        plan_of(tmp_path, paths, "opencv"),
        plan_of(tmp_path, paths, size=(16, 32)),
    ]
    os.utime(paths[0], ns=(0, 1))
    plans.append(plan_of(tmp_path, paths))
    with open(paths[0], "ab") as file:
        file.write(b"more")
    os.utime(paths[0], ns=(0, 1))
    plans.append(plan_of(tmp_path, paths))
    assert len({plan.folder for plan in plans}) == len(plans)
    assert plan_of(tmp_path, paths).folder == plans[-1].folder


def test_stale_caches_are_removed_and_nothing_else(tmp_path, paths):
    old, part, kept = (
        plan_of(tmp_path, paths),
        plan_of(tmp_path, paths[:5]),
        plan_of(tmp_path, paths[1:]),
    )
    for plan in (old, part, kept):
        build_cache(plan)
    (part.folder / "notes.txt").write_text("mine")
    alien = tmp_path / "cache/cmemd-pixels-alien"
    alien.mkdir()
    (alien / "cache.json").write_text('{"schema": "other", "files": [["nowhere", 1, 1]]}')
    os.utime(paths[0], ns=(0, 1))
    new = plan_of(tmp_path, paths)
    build_cache(new)
    assert content(new) == expected(new)
    assert not old.folder.exists()
    assert [path.name for path in part.folder.iterdir()] == ["notes.txt"]
    assert content(kept) == expected(kept)
    assert (alien / "cache.json").is_file()


def test_two_runs_do_not_build_one_cache(tmp_path, paths):
    plan = plan_of(tmp_path, paths)
    plan.folder.mkdir(parents=True)
    with one_writer(plan.folder), pytest.raises(InputError, match="another writer"):
        build_cache(plan)
    build_cache(plan)
    with one_writer(plan.folder):  # a whole one needs no lock
        build_cache(plan)


def test_a_disk_that_is_too_small_is_refused_before_a_byte_is_written(
    train_net, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    room = 10**9
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda path: Usage(0, 0, room))
    monkeypatch.setattr(CachePlan, "row_bytes", 10**8)
    status, error = train_net(DATALOADER__CACHE="cache")
    assert (status, error.count("\n")) == (2, 1)
    assert "of free disk at" in error
    assert "for DATALOADER.CACHE, got 1.00 GB" in error
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "out").exists()


def test_a_training_with_a_cache_sees_the_same_batches(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    batches = {}
    for cache in ("", str(tmp_path / "cache")):
        for workers in (0, 2):
            options = TINY | {"DATALOADER.CACHE": cache, "DATALOADER.NUM_WORKERS": str(workers)}
            options |= {"INPUT.REA.ENABLED": "True", "INPUT.PADDING.ENABLED": "True"}
            words = [word for pair in options.items() for word in pair]
            cfg = cmemd.load_config(CONFIGS / "demo.yml", words)
            loader = Trainer.build_train_loader(cfg, build_dataset(cfg, "SYSUMM01"))
            iterator = iter(loader)
            batches[cache, workers] = [next(iterator)["images"].numpy() for _ in range(3)]
            shut_down(iterator)
    first, *others = batches.values()
    for other in others:
        assert all(map(np.array_equal, first, other))


def test_a_cache_does_not_change_what_a_run_is(train_net, tmp_path):
    assert train_net() == (0, "")
    cache = tmp_path / "cache"
    assert train_net("--resume", SOLVER__MAX_EPOCH=2, DATALOADER__CACHE=cache)[0] == 0
    assert "Caching" in (tmp_path / "out/log.txt").read_text()
    status, error = train_net("--resume", SOLVER__MAX_EPOCH=3, INPUT__RESIZE="opencv")
    assert (status, "INPUT.RESIZE 'opencv' instead of 'pillow'" in error) == (2, True)
