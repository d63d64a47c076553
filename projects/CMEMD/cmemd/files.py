"""Atomic writes, hashes, and checked reads of files.

Whatever is written here is whole or not there: it is written under a temporary name beside its
place, and moved there at the end.
"""

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from cmemd.errors import InputError, exhausted, reason
from cmemd.paths import check_input, check_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "document_sha256",
    "file_sha256",
    "load_tensors",
    "one_writer",
    "schema_problem",
    "shown_bytes",
    "whole_file",
    "whole_folder",
    "write_figure",
    "write_output",
    "write_whole",
]

_CHUNK = 2**20


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside a file; at the end the file takes its place.

    A reader never sees half of the file. If writing fails, nothing is left. The temporary name is
    new, and carries the process's id.

    Raises:
        OSError: the file cannot be moved into place.
    """
    unfinished = _new_file(path)
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(OSError):  # it was moved; or the first error is the one to tell
            unfinished.unlink()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder; at the end it moves to ``path``.

    If writing fails, the new folder is removed. Its temporary name is its own, so that two writers
    of one process, or what a killed one left, are not in the way.

    Args:
        path: must not exist, or be an empty folder.

    Raises:
        OSError: the folder cannot be made or moved into place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=path.parent,
        prefix=f".{path.name}.{os.getpid()}.",
        suffix=".tmp",
        ignore_cleanup_errors=True,
    ) as place:
        unfinished = Path(place, path.name)
        unfinished.mkdir()  # with the usual permissions; the temporary folder's are private
        yield unfinished
        unfinished.replace(path)


@contextmanager
def one_writer(path: Path | str) -> Iterator[None]:
    """Keep other processes from writing to a folder or a file; the lock ends with the process.

    A folder's lock is the file ``.lock`` in it, a file's is ``.<name>.lock`` beside it.

    Args:
        path: an existing folder, or a file that may not exist yet.

    Raises:
        InputError: another process writes there.
    """
    path = Path(path)
    lock = FileLock(path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{path} without another writer",
            "a process that writes there now",
            "wait for it to end, or choose another output",
        ) from None
    except OSError as error:
        raise InputError(
            f"to write {path}", error.strerror, "choose another output folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file, whole or not at all; make its folder where needed.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            unfinished.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"to write {path}", error.strerror, "choose another output folder"
        ) from error


def write_output(path: Path | str, content: bytes | memoryview, mark: bytes) -> None:
    """Write a file that a user names, whole or not at all; replace only what this package wrote.

    Args:
        path: the file.
        content: with the mark near its start.
        mark: see ``check_output``.

    Raises:
        InputError: another file is there, or the folder cannot be written to.
    """
    check_output(path, mark)
    write_whole(Path(path), content)


def write_figure(figure: "Figure", path: Path | str) -> None:
    """Write a matplotlib figure as a PNG file, whole or not at all.

    Raises:
        InputError: the folder cannot be written to.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import

    png = io.BytesIO()
    write: Callable[[io.BytesIO], None] = FigureCanvasAgg(figure).print_png
    write(png)
    write_whole(Path(path), png.getbuffer())


def shown_bytes(size: float) -> str:
    """Return a number of bytes in words.

    >>> shown_bytes(4.2e6), shown_bytes(1.5e9)
    ('4.2 MB', '1.50 GB')
    """
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex; read in small pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def document_sha256(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 in hex of a JSON document, without its entry ``document_sha256``.

    Spaces and the order of entries do not matter.

    Raises:
        ValueError: the document holds NaN or infinity, which JSON has not.
    """
    rest = {name: value for name, value in document.items() if name != "document_sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load_tensors(path: Path | str, what: str, remedy: str) -> Any:
    """Return the content of a PyTorch file; code in it is never run.

    Args:
        path: the file.
        what: what it should hold, for messages: "a fast-reid checkpoint".
        remedy: what the user can do, for messages.

    Raises:
        InputError: the file is missing, truncated or not a PyTorch file.
        OSError, MemoryError: the machine ran out of memory or open files.
    """
    import torch  # slow to import, and most users of this module need no tensors

    path = Path(path)
    if not path.exists():
        raise InputError(f"{what} at {path}", "no file", remedy)
    check_input(path, what, remedy)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways; nearly all mean bad bytes
        if exhausted(error):
            raise
        got = f"a truncated or other file ({type(error).__name__})"
        if isinstance(error, OSError):
            got = reason(error)
        raise InputError(f"{what} at {path}", got, remedy) from None


def schema_problem(document: Any, schema: Path) -> str | None:
    """Return where a document breaks a JSON Schema, in words; None if it keeps it.

    Args:
        document: what ``json.loads`` returned.
        schema: file of the JSON Schema.
    """
    import jsonschema  # a tenth of a second, and only readers need it

    error = jsonschema.exceptions.best_match(_validator(schema).iter_errors(document))
    return error and f"at {error.json_path}: {error.message[:160]}"


@cache
def _validator(schema: Path) -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))


def _new_file(path: Path) -> Path:
    """Make an empty file with a temporary name that nothing else has, beside a file."""
    for number in count():
        new = path.with_name(f".{path.name}.{os.getpid()}.{number}.tmp")
        with contextlib.suppress(FileExistsError), new.open("xb"):
            return new
    raise AssertionError("numbers do not end")
