"""The zoo: names of released models, where they are, and what they must hash to.

``zoo.yml`` is the index; ``cmemd zoo`` writes ``MODEL_ZOO.md`` from it. An entry::

    name:
      card: one line on what it is
      address: https://... or file://..., a zip file with the files of a model folder at its top
      sha256: of that zip file
      bytes: its size

or, for a model that everybody makes for themselves, ``folder`` and the ``commands`` that make it
instead of the last three. Archives are kept, unpacked, under ``$CMEMD_CACHE`` (by default
``~/.cache/cmemd``).
"""

import hashlib
import os
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import yaml

from cmemd.errors import InputError
from cmemd.inference.model_folder import DOCUMENT, PLAIN_NAME, read_model_folder
from cmemd.inference.predictor import Predictor

__all__ = ["INDEX", "ZooEntry", "fetch", "load_pretrained", "read_index", "zoo_page"]

INDEX = Path(__file__).with_name("zoo.yml")

_UNPACKED_LIMIT = 4 * 2**30  # bytes of a whole folder; a ResNet-50's in every format has 0.6 GiB
_CHUNK = 2**20
_TIMEOUT = 60  # seconds without a byte
_KEYS = ({"card", "address", "sha256", "bytes"}, {"card", "folder", "commands"})


@dataclass(frozen=True)
class ZooEntry:
    """A model of the index: either at an address, or to be made in a folder.

    Attributes:
        name: What ``load_pretrained`` knows it by.
        card: One line on what it is.
        address: Of its zip file.
        sha256: Of that file, in hex.
        bytes: Size of that file.
        folder: Where ``commands`` put the model, from the folder that they are run in.
        commands: What makes it.
    """

    name: str
    card: str
    address: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    folder: str | None = None
    commands: tuple[str, ...] = ()


def load_pretrained(
    name_or_dir: str | os.PathLike,
    device: str = "cpu",
    *,
    index: Path | str = INDEX,
    **options: object,
) -> Predictor:
    """A predictor of a model in the zoo, or in a folder.

    Args:
        name_or_dir: A name in the index, else a model folder; ``./demo`` is a folder in any case.
        device: Where it runs.
        index: Another zoo's index.
        options: Further arguments of ``Predictor``.

    Raises:
        InputError: Neither a name nor a folder, a model that has not been made, or an archive that
            cannot be had, is not the one in the index, or is unsafe to unpack.
        MissingDependencyError: What would run the model is not installed.
    """
    entries = read_index(index)
    if name_or_dir in entries:
        return Predictor(fetch(entries[name_or_dir]), device, **options)
    if not Path(name_or_dir).is_dir():
        raise InputError(
            f"expected a model folder, or a name out of {', '.join(entries)}; got {name_or_dir}; "
            "tools/export_model.py makes a folder of a checkpoint"
        )
    return Predictor(name_or_dir, device, **options)


def read_index(path: Path | str = INDEX) -> dict[str, ZooEntry]:
    """The entries of an index by name, in its order.

    Raises:
        InputError: No such file, not yaml, or an entry that lacks something.
    """
    try:
        index = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"expected a zoo's index at {path}; got: {' '.join(str(error).split())[:160]}; name a "
            "yaml file"
        ) from error
    if not isinstance(index, dict):
        raise InputError(f"expected names with entries in {path}; got none; see cmemd/serve/zoo.py")
    return {name: _entry(name, facts, path) for name, facts in index.items()}


def fetch(entry: ZooEntry) -> Path:
    """The folder of a model, downloaded and unpacked if need be.

    Nobody ever finds half a folder: it is checked beside its place, then moved there.

    Raises:
        InputError: It has not been made, cannot be had, has another digest, or holds what a model
            folder cannot; nothing is left behind then.
    """
    if entry.address is None:
        if not Path(entry.folder, DOCUMENT).is_file():
            raise InputError(
                f"expected the model {entry.name} in {entry.folder}; got nothing there; it is made "
                f"on the spot, in a checkout of this project: {' && '.join(entry.commands)}"
            )
        return Path(entry.folder)
    cache = Path(os.environ.get("CMEMD_CACHE") or Path.home() / ".cache" / "cmemd")
    folder = cache / entry.sha256
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".unfinished-") as unfinished:
            archive, unpacked = Path(unfinished, "archive"), Path(unfinished, "model")
            unpacked.mkdir()
            _download(entry, archive)
            _unpack(archive, unpacked)
            read_model_folder(unpacked)
            _publish(unpacked, folder)
    except OSError as error:
        raise InputError(
            f"expected to keep {entry.name} under {cache}; got: {error.strerror or error}; set "
            "CMEMD_CACHE to a folder of yours with room for it"
        ) from error
    return folder


def zoo_page(entries: Mapping[str, ZooEntry]) -> str:
    """``MODEL_ZOO.md``, in Markdown."""
    sections = "\n".join(_section(entry) for entry in entries.values())
    return f"""# Model zoo

`cmemd zoo` writes this page from `projects/CMEMD/cmemd/inference/zoo.yml`; edit that file, not this
one. `load_pretrained` takes each name, or a model folder of yours:

```python
from cmemd.inference.zoo import load_pretrained

predictor = load_pretrained("{next(iter(entries))}", device="cpu")
embeddings = predictor.embed(["a.jpg", "b.jpg"], "thermal")  # (2, predictor.size)
```

{sections}"""


def _section(entry: ZooEntry) -> str:
    if entry.address is None:
        commands = "\n".join(entry.commands)
        where = f"Nothing to download: these commands make it in `{entry.folder}`."
        return f"## {entry.name}\n\n{entry.card}\n\n{where}\n\n```bash\n{commands}\n```\n"
    facts = f"- archive: <{entry.address}>, {entry.bytes} bytes\n- SHA-256: `{entry.sha256}`\n"
    return f"## {entry.name}\n\n{entry.card}\n\n{facts}"


def _entry(name: object, facts: object, path: Path | str) -> ZooEntry:
    keys = set(facts) if isinstance(facts, dict) else set()
    if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name) or keys not in _KEYS:
        raise InputError(
            f"expected a plain name with {' or '.join(', '.join(sorted(k)) for k in _KEYS)} in "
            f"{path}; got {name!r} with {', '.join(map(str, keys)) or 'nothing'}; correct the index"
        )
    if "commands" in facts:
        return ZooEntry(name, **{**facts, "commands": tuple(facts["commands"])})
    if not str(facts["address"]).startswith(("file://", "https://")):
        raise InputError(
            f"expected an address with file:// or https:// for {name} in {path}; got "
            f"{facts['address']!r}; correct the index"
        )
    return ZooEntry(name, **facts)


class _StayEncrypted(urllib.request.HTTPRedirectHandler):
    """Refuses a redirection to anything but https."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # noqa: D102  urllib's hook
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"redirected to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(entry: ZooEntry, path: Path) -> None:
    opener = urllib.request.build_opener(_StayEncrypted)
    digest = hashlib.sha256()
    try:
        with opener.open(entry.address, timeout=_TIMEOUT) as source, path.open("wb") as archive:
            left = entry.bytes
            while chunk := source.read(min(_CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    raise _another(entry, f"more than {entry.bytes} bytes")
                digest.update(chunk)
                archive.write(chunk)
    except (urllib.error.URLError, TimeoutError) as error:
        raise InputError(
            f"expected {entry.name} at {entry.address}; got: {getattr(error, 'reason', error)}; "
            "try again later, or give load_pretrained a folder"
        ) from error
    if digest.hexdigest() != entry.sha256:
        raise _another(entry, f"another SHA-256, {digest.hexdigest()}")


def _another(entry: ZooEntry, what: str) -> InputError:
    return InputError(
        f"expected the archive of {entry.name} at {entry.address} as the index has it; got {what}; "
        "do not use it before whoever released it has explained the difference"
    )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks plain files, whose names and sizes are checked before any of them is written."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            for member in members:
                if not PLAIN_NAME.fullmatch(member.filename) or _is_link(member):
                    raise ValueError(f"the member {member.filename[:80]!r}, no plain file name")
            if len({member.filename.lower() for member in members}) != len(members):
                raise ValueError("two members of one name")
            if sum(member.file_size for member in members) > _UNPACKED_LIMIT:
                raise ValueError(f"more than {_UNPACKED_LIMIT} bytes when unpacked")
            for member in members:
                with zipped.open(member) as source, (folder / member.filename).open("xb") as file:
                    _copy(source, file, member.file_size)
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError) as error:
        raise InputError(
            f"expected a zip file with the files of a model folder at its top; got {error}; pack "
            "the folder's files anew, without folders"
        ) from error


def _is_link(member: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(member.external_attr >> 16)


def _copy(source: BinaryIO, file: BinaryIO, size: int) -> None:
    shutil.copyfileobj(source, file, _CHUNK)
    if file.tell() != size:
        raise ValueError("a member of another size than it says")


def _publish(unpacked: Path, folder: Path) -> None:
    try:
        os.rename(unpacked, folder)
    except OSError:
        if not folder.is_dir():  # else somebody was faster, with the same archive
            raise
