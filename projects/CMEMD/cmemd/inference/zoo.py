"""Find released models by name: the zoo lists their addresses and hashes.

``zoo.yml`` is the index; ``cmemd zoo`` writes ``MODEL_ZOO.md`` from it. An entry::

    name:
      card: one line on what it is
      address: https://... or file://..., a zip file with the files of a model folder at its top
      sha256: of that zip file
      bytes: its size

A model that comes with this package has ``packaged``, the name of its folder beside this file, and
the ``commands`` that make it, instead of the last three. A model that users make themselves has
``folder`` and the ``commands`` that make it. Unpacked archives stay under ``$CMEMD_CACHE`` (by
default ``~/.cache/cmemd``).
"""

import hashlib
import http.client
import os
import re
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.request import Request

import yaml

from cmemd.errors import InputError
from cmemd.files import whole_folder, write_output
from cmemd.inference.model_folder import DOCUMENT, PLAIN_NAME, read_model_folder
from cmemd.inference.predictor import Predictor
from cmemd.paths import check_input

__all__ = [
    "INDEX",
    "ZooEntry",
    "fetch",
    "find_model",
    "load_pretrained",
    "read_zoo",
    "write_zoo_page",
    "zoo_page",
]

INDEX = Path(__file__).with_name("zoo.yml")

_UNPACKED_LIMIT = 4 * 2**30  # bytes of a whole folder; a ResNet-50's in every format has 0.6 GiB
_CHUNK = 2**20
_TIMEOUT = 60  # seconds without a byte
_UNPACKED_MEMBERS = 1000
_SHA256 = re.compile("[0-9a-f]{64}")
_PAGE_MARK = b"# Model zoo\n\n`cmemd zoo` writes this page from"
_KIND_NAMES = {str: "text", int: "a whole number", list: "a list of texts"}
_KEYS = (
    {"card", "address", "sha256", "bytes"},
    {"card", "folder", "commands"},
    {"card", "packaged", "commands"},
)


@dataclass(frozen=True)
class ZooEntry:
    """A model of the zoo: an archive at an address, or commands that make a folder.

    Attributes:
        name: the name that ``load_pretrained`` takes.
        card: one line on what it is.
        address: of its zip file.
        sha256: of that file, in hex.
        bytes: size of that file.
        folder: where ``commands`` put the model, relative to the folder in which they run.
        packaged: its folder's name in this package.
        commands: shell commands that make it.
    """

    name: str
    card: str
    address: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    folder: str | None = None
    packaged: str | None = None
    commands: tuple[str, ...] = ()


def load_pretrained(
    name_or_dir: str | os.PathLike[str],
    device: str = "cpu",
    *,
    index: Path | str = INDEX,
    **options: Any,
) -> Predictor:
    """Return a predictor of a model in the zoo or in a folder.

    Args:
        name_or_dir: a name in the index, else a model folder; ``./demo`` always means a folder.
        device: where it runs.
        index: index file of another zoo.
        options: further arguments of ``Predictor``.

    Raises:
        InputError: the argument is neither a name nor a folder; the model has not been made; or the
            archive cannot be downloaded, differs from the index or is unsafe to unpack.
        MissingDependencyError: the runtime's package is not installed.
    """
    return Predictor(find_model(name_or_dir, index), device, **options)


def find_model(name_or_dir: str | os.PathLike[str], index: Path | str = INDEX) -> Path:
    """Return the folder of a model in the zoo, or the given folder.

    Raises:
        InputError: as ``load_pretrained``.
    """
    entries = read_zoo(index)
    if isinstance(name_or_dir, str) and name_or_dir in entries:
        return fetch(entries[name_or_dir])
    if not Path(name_or_dir).is_dir():
        raise InputError(
            f"a model folder, or a name out of {', '.join(entries)}",
            name_or_dir,
            "name one, or make a folder from a checkpoint with cmemd export",
        )
    return Path(name_or_dir)


def read_zoo(path: Path | str = INDEX) -> dict[str, ZooEntry]:
    """Return the entries of a zoo's index by name, in its order.

    Raises:
        InputError: the file is missing or not yaml, or an entry is incomplete.
    """
    check_input(path, "a zoo's index", "name a yaml file")
    try:
        index = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(
            f"a zoo's index at {path}", " ".join(str(error).split())[:160], "name a yaml file"
        ) from error
    if not isinstance(index, dict) or not index:
        raise InputError(
            f"names with entries in {path}", "none", f"write entries as in {INDEX.name} of cmemd"
        )
    return {name: _entry(name, facts, path) for name, facts in index.items()}


def fetch(entry: ZooEntry) -> Path:
    """Return the folder of a model; download and unpack it first if need be.

    The folder appears in the cache only when it is complete and checked.

    Raises:
        InputError: the model has not been made; or the archive cannot be downloaded, has another
            digest, or holds what a model folder cannot. Nothing is left behind then.
    """
    if entry.packaged is not None:
        return INDEX.with_name(entry.packaged)
    if entry.address is None:
        assert entry.folder is not None, "_KEYS"
        if not Path(entry.folder, DOCUMENT).is_file():
            raise InputError(
                f"the model {entry.name} in {entry.folder}",
                "nothing there",
                f"make it in a checkout of this project: {' && '.join(entry.commands)}",
            )
        return Path(entry.folder)
    cache = Path(os.environ.get("CMEMD_CACHE") or Path.home() / ".cache" / "cmemd")
    assert entry.sha256 is not None, "_KEYS"
    folder = cache / entry.sha256
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as archive, whole_folder(folder) as unpacked:
            _download(entry, archive)
            _unpack(archive, unpacked)
            read_model_folder(unpacked)
    except OSError as error:
        if folder.is_dir():  # another process was faster, with the same archive
            return folder
        raise InputError(
            f"to keep {entry.name} under {cache}",
            error.strerror or error,
            "set CMEMD_CACHE to a folder of yours with enough room",
        ) from error
    return folder


def write_zoo_page(entries: Mapping[str, ZooEntry], path: Path) -> None:
    """Write ``MODEL_ZOO.md``; replace an earlier one.

    Raises:
        InputError: another file is there, or the folder cannot be written to.
    """
    write_output(path, zoo_page(entries).encode(), _PAGE_MARK)


def zoo_page(entries: Mapping[str, ZooEntry]) -> str:
    """Return ``MODEL_ZOO.md``, in Markdown."""
    sections = "\n".join(_section(entry) for entry in entries.values())
    return f"""# Model zoo

`cmemd zoo` writes this page from `projects/CMEMD/cmemd/inference/zoo.yml`; edit that file, not this
one. `load_pretrained` takes each name, or a model folder of yours:

```python
from cmemd import load_pretrained

predictor = load_pretrained("{next(iter(entries))}", device="cpu")
embeddings = predictor.embed(["a.jpg", "b.jpg"], "thermal")  # (2, predictor.size)
```

{sections}"""


def _section(entry: ZooEntry) -> str:
    if entry.address is None:
        commands = "\n".join(entry.commands)
        where = f"Nothing to download: these commands make it in `{entry.folder}`."
        if entry.packaged:
            where = "It comes with the package. In a checkout, these commands make it again:"
        return f"## {entry.name}\n\n{entry.card}\n\n{where}\n\n```bash\n{commands}\n```\n"
    facts = f"- archive: <{entry.address}>, {entry.bytes} bytes\n- SHA-256: `{entry.sha256}`\n"
    return f"## {entry.name}\n\n{entry.card}\n\n{facts}"


def _entry(name: object, facts: object, path: Path | str) -> ZooEntry:
    facts = facts if isinstance(facts, dict) else {}
    keys = set(facts)
    if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name) or keys not in _KEYS:
        raise InputError(
            f"a plain name with {' or '.join(', '.join(sorted(k)) for k in _KEYS)} in {path}",
            f"{name!r} with {', '.join(map(str, keys)) or 'nothing'}",
            "correct the index",
        )
    for key, value in facts.items():
        kind = {"bytes": int, "commands": list}.get(key, str)
        words = value if isinstance(value, list) else []
        if not isinstance(value, kind) or not all(isinstance(word, str) for word in words):
            raise InputError(
                f"{key} of {name} in {path} as {_KIND_NAMES[kind]}",
                repr(value),
                "correct the index",
            )
    if not PLAIN_NAME.fullmatch(facts.get("packaged", "a")):
        raise InputError(
            f"a plain name as packaged of {name} in {path}",
            repr(facts["packaged"]),
            "correct the index",
        )
    if "commands" in facts:
        return ZooEntry(name, **{**facts, "commands": tuple(facts["commands"])})
    if not str(facts["address"]).startswith(("file://", "https://")):
        raise InputError(
            f"an address with file:// or https:// for {name} in {path}",
            repr(facts["address"]),
            "correct the index",
        )
    if not _SHA256.fullmatch(facts["sha256"]) or facts["bytes"] < 0:  # the first names a folder
        raise InputError(
            f"a SHA-256 in hex and a number of bytes for {name} in {path}",
            f"{facts['sha256']!r} and {facts['bytes']}",
            "correct the index",
        )
    return ZooEntry(name, **facts)


class _StayEncrypted(urllib.request.HTTPRedirectHandler):
    """Refuse a redirection to anything but https."""

    def redirect_request(  # noqa: D102  urllib's hook
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"redirected to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(entry: ZooEntry, archive: IO[bytes]) -> None:
    assert entry.address is not None, "_KEYS"
    assert entry.bytes is not None, "_KEYS"
    opener = urllib.request.build_opener(_StayEncrypted)
    digest, left = hashlib.sha256(), entry.bytes
    with _reachable(entry):
        source = opener.open(entry.address, timeout=_TIMEOUT)
    with source:
        while True:
            with _reachable(entry):  # but not the writing, which fails for other reasons
                chunk = source.read(min(_CHUNK, left + 1))
            if not chunk:
                break
            left -= len(chunk)
            if left < 0:
                raise _another(entry, f"more than {entry.bytes} bytes")
            digest.update(chunk)
            archive.write(chunk)
    if digest.hexdigest() != entry.sha256:
        raise _another(entry, f"another SHA-256, {digest.hexdigest()}")


@contextmanager
def _reachable(entry: ZooEntry) -> Iterator[None]:
    """Turn whatever reading from an address raises into an error that names the model."""
    try:
        yield
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(
            f"{entry.name} at {entry.address}",
            getattr(error, "reason", None) or error,
            "try again later, or give load_pretrained a folder",
        ) from error


def _another(entry: ZooEntry, what: str) -> InputError:
    return InputError(
        f"the archive of {entry.name} at {entry.address} as the index describes it",
        what,
        "do not use it; ask its publisher to explain the difference",
    )


def _unpack(archive: IO[bytes], folder: Path) -> None:
    """Unpack plain files; check all names and sizes before writing the first."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            if len(members) > _UNPACKED_MEMBERS:
                raise ValueError(f"{len(members)} members, more than {_UNPACKED_MEMBERS}")
            packed = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
            if not packed.issuperset(member.compress_type for member in members):
                raise ValueError("a member that is neither stored nor deflated")
            for member in members:
                if not PLAIN_NAME.fullmatch(member.filename) or _is_link(member):
                    raise ValueError(f"the member {member.filename[:80]!r}, not a plain file name")
            if len({member.filename.lower() for member in members}) != len(members):
                raise ValueError("two members of one name")
            if sum(member.file_size for member in members) > _UNPACKED_LIMIT:
                raise ValueError(f"more than {_UNPACKED_LIMIT} bytes when unpacked")
            for member in members:
                with zipped.open(member) as source, (folder / member.filename).open("xb") as file:
                    _copy(source, file, member.file_size)
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError) as error:
        raise InputError(
            "a zip file with the files of a model folder at its top",
            error,
            "pack the folder's files again, without folders",
        ) from error


def _is_link(member: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(member.external_attr >> 16)


def _copy(source: IO[bytes], file: IO[bytes], size: int) -> None:
    shutil.copyfileobj(source, file, _CHUNK)
    if file.tell() != size:
        raise ValueError("a member whose size differs from its header")
