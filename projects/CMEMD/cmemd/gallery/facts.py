"""What tells whether an image file has changed since it was embedded: its size, time and hash."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from cmemd.data.boxes import located

__all__ = ["FileFacts", "file_facts", "many_file_facts"]

_CHUNK = 2**20
_THREADS = min(8, os.cpu_count() or 1)
_AHEAD = 1024  # files whose facts are in memory


class FileFacts(NamedTuple):
    """A file as it was when it was read.

    Attributes:
        bytes: its size.
        modified: its modification time, in nanoseconds since 1970.
        sha256: of its bytes, in hex. It decides: a copy keeps size and time of other files.
    """

    bytes: int
    modified: int
    sha256: str


def file_facts(path: str) -> FileFacts | None:
    """Return the facts of a file, for a key of the file of its box.

    None if it is no plain file or cannot be read.
    """
    try:
        # A FIFO without a writer would block an ordinary open for ever.
        descriptor = os.open(located(path).path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    digest = hashlib.sha256()
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        while chunk := os.read(descriptor, _CHUNK):
            digest.update(chunk)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return FileFacts(status.st_size, status.st_mtime_ns, digest.hexdigest())


def many_file_facts(paths: Iterable[str]) -> Iterator[FileFacts | None]:
    """Yield the facts of files in their order; threads read some ahead."""
    paths = iter(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        while part := list(islice(paths, _AHEAD)):
            yield from pool.map(file_facts, part)
