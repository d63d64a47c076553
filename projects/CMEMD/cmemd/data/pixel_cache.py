"""A cache of resized images on disk, which workers and processes share.

A cache is a folder of its own in the user's: ``cmemd-pixels-<digest>``. The digest covers the list
of files with their sizes and times, the size of the images, their sensor and what resized them. So
another list has another cache, and a changed file never gives old pixels. The folder holds

============== ======================================================================
building.json  what the cache is of, while it is being built
cache.json     the same, once it is whole
pixels.bin     the images one after the other, (N, H, W, 3) bytes
sums.bin       for each image 0, or the CRC-32 of its pixels with a bit that says so
============== ======================================================================

An image's sum is written after its pixels, so that a build that was killed goes on where it was.
Every read compares the sum.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from cmemd.data.boxes import image_key, located
from cmemd.data.images import crop, read_pixels
from cmemd.data.resizing import resize
from cmemd.data.sensors import PLAIN, Sensor
from cmemd.errors import InputError
from cmemd.files import one_writer, shown_bytes, write_whole

__all__ = ["CachePlan", "PixelCache", "build_cache"]

_PREFIX, _SCHEMA, _VERSION = "cmemd-pixels-", "cmemd-pixels", 2
_BUILDING, _WHOLE, _PIXELS, _SUMS = "building.json", "cache.json", "pixels.bin", "sums.bin"
_DONE = np.uint64(1 << 32)
_THREADS = 32  # at most
_DECODERS = ("pillow", "simplejpeg", "opencv-python-headless", "opencv-python")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachePlan:
    """What a cache is of.

    Attributes:
        root: the user's folder of caches.
        files: (absolute path, bytes, time of change in nanoseconds) of each image, in the order of
            the cache's rows. Of a box in a frame the path is its key.
        height: of resized images.
        width: of resized images.
        kernel: a key of ``cmemd.data.resizing.RESIZES``.
        sensor: of thermal images.
        thermal: whether each image is one; empty if none is.
    """

    root: Path
    files: tuple[tuple[str, int, int], ...]
    height: int
    width: int
    kernel: str
    sensor: Sensor = PLAIN
    thermal: tuple[bool, ...] = ()

    @classmethod
    def of(
        cls,
        root: Path | str,
        paths: Iterable[str],
        height: int,
        width: int,
        kernel: str,
        sensor: Sensor = PLAIN,
        thermal: Iterable[bool] = (),
    ) -> "CachePlan":
        """Return the plan of a list of images, each of which must be there."""
        files = tuple(_facts(path) for path in paths)
        return cls(Path(root), files, height, width, kernel, sensor, tuple(thermal))

    @cached_property
    def document(self) -> dict[str, Any]:
        """What ``cache.json`` holds."""
        return {
            "schema": _SCHEMA,
            "version": _VERSION,
            "size": [self.height, self.width],
            "resize": self.kernel,
            "sensor": str(self.sensor),
            "thermal": [] if self.sensor == PLAIN else list(self.thermal),
            "decoders": {name: _version(name) for name in _DECODERS},
            "files": [list(facts) for facts in self.files],
        }

    @cached_property
    def folder(self) -> Path:
        """The cache's own folder."""
        digest = hashlib.sha256(json.dumps(self.document, sort_keys=True).encode()).hexdigest()
        return self.root / f"{_PREFIX}{digest[:32]}"

    @property
    def row_bytes(self) -> int:
        """Bytes of an image."""
        return self.height * self.width * 3

    @property
    def bytes(self) -> int:
        """Bytes of all images."""
        return self.row_bytes * len(self.files)

    @property
    def whole(self) -> bool:
        """Whether the cache has been built."""
        return (self.folder / _WHOLE).is_file()

    def check_room(self) -> None:
        """Raise unless the disk has room for what is missing.

        Raises:
            InputError: says how much is needed and how much is free.
        """
        if self.whole:
            return
        there = self.folder / _PIXELS
        need = self.bytes - (512 * there.stat().st_blocks if there.is_file() else 0)
        existing = next(p for p in (self.root, *self.root.absolute().parents) if p.exists())
        free = shutil.disk_usage(existing).free
        if need > free:
            raise InputError(
                f"{shown_bytes(need)} of free disk at {existing} for DATALOADER.CACHE",
                shown_bytes(free),
                'free the disk, set another folder, or "" for no cache',
            )


class PixelCache:
    """The images of a cache that has been built.

    Args:
        plan: what it is of.

    Raises:
        InputError: a file of the cache is missing or of another size.
    """

    def __init__(self, plan: CachePlan) -> None:
        self._plan = plan
        for name, size in ((_PIXELS, plan.bytes), (_SUMS, 8 * len(plan.files))):
            path = plan.folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise _damaged(plan.folder, f"{name} is missing or of another size")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._plan.files)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return an image, (H, W, 3) uint8, which cannot be written to.

        Raises:
            InputError: its pixels are not those that were written.
        """
        pixels, sums = self._arrays
        if _sum(pixels[row]) != sums[row]:
            file = self._plan.files[row][0]
            raise _damaged(self._plan.folder, f"other pixels of {file} than were written")
        image: np.ndarray = pixels[row]
        return image

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs; it maps the files by itself."""
        return {"_plan": self._plan}

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return _pixels(self._plan), _sums(self._plan, "r")


def build_cache(plan: CachePlan) -> None:
    """Build a cache, or what is missing of it; leave one alone that is whole.

    Caches in the same folder whose images have changed since are removed first.

    Raises:
        InputError: another process builds it, the disk is too small, or an image cannot be read.
    """
    if plan.whole:
        return
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"a DATALOADER.CACHE that can be written, {plan.root}",
            error.strerror,
            'set it to a folder of yours, or to "" for no cache',
        ) from None
    with one_writer(plan.folder):
        if plan.whole:  # by the process that had the lock
            return
        _remove_stale(plan)
        plan.check_room()
        _logger.info(
            "Caching %d resized images, %s, in %s",
            len(plan.files),
            shown_bytes(plan.bytes),
            plan.folder,
        )
        text = json.dumps(plan.document).encode()
        write_whole(plan.folder / _BUILDING, text)
        _fill(plan)
        os.replace(plan.folder / _BUILDING, plan.folder / _WHOLE)


def _fill(plan: CachePlan) -> None:
    """Write the images whose sums are missing or wrong."""
    for name, size in ((_PIXELS, plan.bytes), (_SUMS, 8 * len(plan.files))):
        with open(plan.folder / name, "ab") as file:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and not halfway
                os.posix_fallocate(file.fileno(), 0, size)
    sums, pixels = _sums(plan, "r+"), _pixels(plan)
    descriptor = os.open(plan.folder / _PIXELS, os.O_WRONLY)

    def fill(row: int) -> None:
        if sums[row] and sums[row] == _sum(pixels[row]):
            return
        file, box, _ = located(plan.files[row][0])
        sensor = plan.sensor if plan.thermal and plan.thermal[row] else PLAIN
        frame = read_pixels(file, sensor=sensor)
        image = resize(crop(frame, box), plan.height, plan.width, plan.kernel)
        content = np.ascontiguousarray(image)
        _write(descriptor, content.data.cast("B"), row * plan.row_bytes)
        sums[row] = _sum(content)

    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
    try:
        rows = range(len(plan.files))
        done = pool.map(fill, rows)
        for _ in tqdm(done, "Caching images", len(rows), unit="image", disable=None):
            pass
        os.fsync(descriptor)
        sums.flush()
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(descriptor)


def _write(descriptor: int, content: memoryview, place: int) -> None:
    """Write all of ``content``; the system may take a part at a time."""
    while content:
        written = os.pwrite(descriptor, content, place)
        content, place = content[written:], place + written


def _remove_stale(plan: CachePlan) -> None:
    """Remove caches of images that have changed: our own files alone, and folders empty then."""
    for folder, files in _others(plan):
        changed = next((facts[0] for facts in files if not _unchanged(facts)), None)
        if changed is None:
            continue
        try:
            with one_writer(folder):
                for name in (_WHOLE, _BUILDING, _PIXELS, _SUMS):
                    (folder / name).unlink(missing_ok=True)
        except InputError:  # it is being built
            continue
        with contextlib.suppress(OSError):  # something of the user's is in it
            (folder / ".lock").unlink(missing_ok=True)
            folder.rmdir()
        _logger.info("Removed the cache %s, since %s has changed", folder, changed)


def _others(plan: CachePlan) -> Iterator[tuple[Path, Sequence[Sequence[Any]]]]:
    """Yield each other cache in the folder, by its mark, and the files that it is of."""
    for folder in sorted(plan.root.glob(f"{_PREFIX}*")):
        for name in (_WHOLE, _BUILDING):
            if folder == plan.folder or not (folder / name).is_file():
                continue
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                document = json.loads((folder / name).read_bytes())
                if document["schema"] == _SCHEMA:
                    yield folder, document["files"]
                    break


def _facts(key: Path | str) -> tuple[str, int, int]:
    file, box, frame = located(os.fspath(key))
    status = os.stat(file)
    return image_key(os.path.abspath(file), box, frame), status.st_size, status.st_mtime_ns


def _unchanged(facts: Sequence[Any]) -> bool:
    try:
        return list(_facts(facts[0])) == list(facts)
    except OSError:
        return False


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _pixels(plan: CachePlan) -> np.ndarray:
    shape = (len(plan.files), plan.height, plan.width, 3)
    return np.asarray(np.memmap(plan.folder / _PIXELS, np.uint8, "r", shape=shape))


def _sums(plan: CachePlan, mode: Literal["r", "r+", "w+"]) -> "np.memmap[Any, Any]":
    return np.memmap(plan.folder / _SUMS, np.uint64, mode, shape=(len(plan.files),))


def _sum(pixels: np.ndarray) -> np.uint64:
    return _DONE | np.uint64(zlib.crc32(pixels.data))


def _damaged(folder: Path, got: str) -> InputError:
    return InputError(
        f"a whole cache of images in {folder}", got, "remove that folder: the next start builds it"
    )
