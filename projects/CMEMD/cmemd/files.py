"""Files that are whole or not there, and what tells one from another."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cmemd.errors import InputError

__all__ = ["file_sha256", "whole_file", "write_whole"]

_CHUNK = 2**20


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside a file's own to write to; the file takes its place in the end.

    So nobody ever reads half of it. Where writing fails nothing is left.

    Raises:
        OSError: The file cannot take its place.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(OSError):  # it was moved; or the first error is the one to tell
            unfinished.unlink()


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that nobody ever reads half of it.

    Raises:
        InputError: The folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            unfinished.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"expected to write {path}; got: {error.strerror}; choose another output folder"
        ) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex, read in small pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
