"""Read and write a model folder: ``model.json`` and the files that it names.

``model.schema.json`` is the JSON Schema of ``model.json``. A folder may come from anywhere, so the
reader checks it before use: no name leads outside, and sizes are compared before any file is read.

``document_sha256`` in ``model.json`` is the digest of its other entries, see
``cmemd.files.document_sha256``. It finds damage; it is no signature: anyone can compute it.
"""

import errno
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmemd.data.image_files import Tally
from cmemd.data.sensors import Sensor, is_range
from cmemd.errors import InputError
from cmemd.files import document_sha256, file_sha256, schema_problem, write_whole

__all__ = [
    "DOCUMENT",
    "MODEL_SCHEMA",
    "PLAIN_NAME",
    "SCHEMA_VERSION",
    "WEIGHTS",
    "ModelFolder",
    "ModelUser",
    "read_model_folder",
    "write_model_document",
]

DOCUMENT = "model.json"
WEIGHTS = "weights.safetensors"
SCHEMA_VERSION = 1
MODEL_SCHEMA = Path(__file__).with_name("model.schema.json")
# No folders, no hidden files, no character with a special meaning to some system [chosen].
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_DOCUMENT_LIMIT = 16 * 2**20  # bytes; results of many protocols take a tenth of a MiB


@dataclass(frozen=True)
class ModelFolder:
    """An exported network's folder and its ``model.json``.

    Attributes:
        path: the folder.
        document: its ``model.json``.
    """

    path: Path
    document: Mapping[str, Any]

    @property
    def height(self) -> int:
        """Return the height of the input images in pixels."""
        return self.document["input"]["height"]

    @property
    def width(self) -> int:
        """Return the width of the input images in pixels."""
        return self.document["input"]["width"]

    @property
    def sensor(self) -> Sensor:
        """Return how files of a thermal camera become grey levels; earlier folders do not say."""
        return Sensor.from_dict(self.document["input"].get("thermal"))

    @property
    def embedding_size(self) -> int:
        """Return D, the numbers in an embedding."""
        return self.document["embedding"]["size"]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the weights in hex, which names the model in every format."""
        return self.document["digest"]

    @property
    def channel_statistics(self) -> Mapping[str, Mapping[str, Any]] | None:
        """Return ``appearance.summarise`` of the training images by modality; None if unknown."""
        return self.document["channel_statistics"]

    def file(self, name: str) -> Path:
        """Return the path of a file that ``model.json`` names.

        Raises:
            InputError: it does not name that file.
        """
        if name not in self.document["files"]:
            raise InputError(
                f"{name} in the model folder {self.path}",
                ", ".join(self.document["files"]),
                "export the model to that format",
            )
        return self.path / name


class ModelUser:
    """What embeds images with a model folder: the model's facts, and a count of odd images.

    Args:
        folder: the checked model folder.
        sensor: how files of a thermal camera become grey levels; or what differs from the model's
            own way.

    Attributes:
        folder: as given.
        sensor: the whole of it.
        skipped: path (for an array its number) and reason of each unusable image, over all calls.
        noted: images that were used although something in them is ignored, over all calls.
        suspects: number of images that look like the other modality, over all calls.
    """

    def __init__(self, folder: ModelFolder, sensor: Sensor | Mapping[str, str]) -> None:
        self.folder = folder
        self.sensor = sensor if isinstance(sensor, Sensor) else folder.sensor.changed(sensor)
        self.skipped: list[tuple[object, str]] = []
        self.noted = Tally()
        self.suspects = 0

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the weights; compare only embeddings of equal digests."""
        return self.folder.digest

    @property
    def size(self) -> int:
        """Return D, the numbers in an embedding."""
        return self.folder.embedding_size


def read_model_folder(path: Path | str) -> ModelFolder:
    """Read ``model.json`` and check every file that it names.

    Raises:
        InputError: the folder or the document is missing; the document has another version, breaks
            the schema or was changed after it was written; a name leads outside the folder; a file
            is missing, unreadable or has another size or SHA-256.
    """
    folder = Path(path)
    document = _read_document(folder / DOCUMENT)
    if problem := _problem(document) or _changed_document(document):
        raise InputError(
            f"a model document of version {SCHEMA_VERSION} in {folder / DOCUMENT}",
            problem,
            "export the model with this version of cmemd",
        )
    files = document["files"]
    for name, facts in files.items():
        _check_size(folder, name, facts["bytes"])
    for name, facts in files.items():
        try:
            digest = file_sha256(folder / name)
        except OSError as error:
            raise _changed(
                folder / name, f"a file that cannot be read ({error.strerror})"
            ) from error
        if digest != facts["sha256"]:
            raise _changed(folder / name, "another SHA-256")
    return ModelFolder(folder, document)


def write_model_document(
    folder: Path | str, document: Mapping[str, Any], digest: str | None = None
) -> ModelFolder:
    """Write ``model.json`` for the files that a folder holds; call it last.

    Args:
        folder: holds the files, with ``weights.safetensors`` unless the digest is given.
        document: all but ``files``, ``digest`` and ``document_sha256``, which this function
            computes.
        digest: SHA-256 of the weights from which the files were made; by default it is computed.

    Raises:
        InputError: a file's name is not plain, the weights are missing and have no digest, the
            document breaks the schema, or the folder cannot be written to.
    """
    folder = Path(folder)
    paths = sorted(path for path in folder.iterdir() if path.name != DOCUMENT)
    files = {p.name: {"sha256": file_sha256(p), "bytes": p.stat().st_size} for p in paths}
    if WEIGHTS in files:
        digest = str(files[WEIGHTS]["sha256"])
    if digest is None:
        raise InputError(f"{WEIGHTS} in {folder}", "no such file", "write it first")
    document = {**document, "files": files, "digest": digest}
    if problem := _problem(document):
        raise InputError(
            f"a model document of version {SCHEMA_VERSION} for {folder}",
            problem,
            "correct the document or the file's name",
        )
    document["document_sha256"] = document_sha256(document)
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_whole(folder / DOCUMENT, text.encode())
    return ModelFolder(folder, document)


def _read_document(path: Path) -> Any:
    try:
        if path.exists() and not path.is_file():  # a FIFO would never end
            raise OSError(errno.EINVAL, "something other than a file")
        with path.open("rb") as file:
            content = file.read(_DOCUMENT_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise InputError(
            f"a model folder with {path.name} at {path.parent}",
            getattr(error, "strerror", None) or error,
            "name a folder that tools/export_model.py wrote",
        ) from error
    if len(content) > _DOCUMENT_LIMIT:
        raise InputError(
            f"at most {_DOCUMENT_LIMIT} bytes in {path}", "more", "get the folder again"
        )
    try:
        return json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"JSON in {path}", error, "name a folder that tools/export_model.py wrote"
        ) from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name}, which JSON has not")


def _changed_document(document: Mapping[str, Any]) -> str | None:
    if "document_sha256" not in document:
        return "no document_sha256, which earlier versions did not write"
    try:
        digest = document_sha256(document)
    except RecursionError:
        return "entries inside entries without end"
    if document["document_sha256"] != digest:
        return "entries that were changed after it was written"
    return None


def _problem(document: Any) -> str | None:
    """Return why a document does not describe a model folder, or None."""
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        return f"schema_version {version!r}"
    if problem := schema_problem(document, MODEL_SCHEMA):
        return problem
    for name in document["files"]:
        if not PLAIN_NAME.fullmatch(name) or name == DOCUMENT:
            return f"{name!r} among its files, which is not a plain file name"
    if not is_range(document["input"].get("thermal", {}).get("range", "")):
        return f"the thermal range {document['input']['thermal']['range']!r}"
    if document["digest"] != document["files"].get(WEIGHTS, {}).get("sha256", document["digest"]):
        return f"a digest other than that of {WEIGHTS}"
    return None


def _check_size(folder: Path, name: str, size: int) -> None:
    path = folder / name
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{name} inside the model folder {folder}",
            "a link that leads outside",
            "get the folder again",
        )
    if not path.is_file():
        raise _changed(path, "no file" if not path.exists() else "something other than a file")
    if path.stat().st_size != size:
        raise _changed(path, f"{path.stat().st_size} bytes instead of {size}")


def _changed(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} as {DOCUMENT} describes it",
        what,
        "get the folder again, or export the model again",
    )
