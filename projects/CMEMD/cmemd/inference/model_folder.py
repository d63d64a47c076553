"""The model folder: ``model.json``, and the files that it names with size and SHA-256.

``model.schema.json`` is the JSON Schema of ``model.json``. A folder may come from anywhere, so
nothing in it is used before it has been checked: no name leads outside, and sizes are compared
before anything is read.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cmemd.errors import InputError
from cmemd.files import file_sha256, write_whole

__all__ = [
    "DOCUMENT",
    "MODEL_SCHEMA",
    "PLAIN_NAME",
    "SCHEMA_VERSION",
    "WEIGHTS",
    "ModelFolder",
    "read_model_folder",
    "write_model_document",
]

DOCUMENT = "model.json"
WEIGHTS = "weights.safetensors"
SCHEMA_VERSION = 1
MODEL_SCHEMA = Path(__file__).with_name("model.schema.json")
# Names without folders, hidden files or anything that a system reads in its own way [chosen].
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_DOCUMENT_LIMIT = 16 * 2**20  # bytes; a result card of many protocols has a tenth of a MiB


@dataclass(frozen=True)
class ModelFolder:
    """An exported network's folder.

    Attributes:
        path: The folder.
        document: Its ``model.json``.
    """

    path: Path
    document: Mapping[str, Any]

    @property
    def height(self) -> int:
        """Of the input images, in pixels."""
        return self.document["input"]["height"]

    @property
    def width(self) -> int:
        """Of the input images, in pixels."""
        return self.document["input"]["width"]

    @property
    def embedding_size(self) -> int:
        """D, numbers in an embedding."""
        return self.document["embedding"]["size"]

    @property
    def digest(self) -> str:
        """SHA-256 of the weights in hex: which model it is, in whatever format."""
        return self.document["digest"]

    @property
    def channel_statistics(self) -> Mapping[str, Mapping[str, Any]] | None:
        """``guard.summarise`` of the training images by modality; None where not known."""
        return self.document["channel_statistics"]

    def file(self, name: str) -> Path:
        """Path of a file that ``model.json`` names.

        Raises:
            InputError: It names no such file.
        """
        if name not in self.document["files"]:
            raise InputError(
                f"expected {name} in the model folder {self.path}; got "
                f"{', '.join(self.document['files'])}; export the model to that format"
            )
        return self.path / name


def read_model_folder(path: Path | str) -> ModelFolder:
    """Read ``model.json`` and check every file that it names.

    Raises:
        InputError: No such folder or document, a document of another version or against the
            schema, a name that leads outside the folder, or a file that is missing, or of another
            size or SHA-256.
    """
    folder = Path(path)
    document = _read_document(folder / DOCUMENT)
    if problem := _problem(document):
        raise InputError(
            f"expected a model document of version {SCHEMA_VERSION} in {folder / DOCUMENT}; got "
            f"{problem}; export the model with this version of cmemd"
        )
    files = document["files"]
    for name, facts in files.items():
        _check_size(folder, name, facts["bytes"])
    for name, facts in files.items():
        if file_sha256(folder / name) != facts["sha256"]:
            raise _changed(folder / name, "another SHA-256")
    return ModelFolder(folder, document)


def write_model_document(folder: Path | str, document: Mapping[str, Any]) -> ModelFolder:
    """Write ``model.json``, last, over the files that a folder holds.

    Args:
        folder: Holds ``weights.safetensors`` and the other files.
        document: All but ``files`` and ``digest``, which are computed.

    Raises:
        InputError: A file's name is not plain, the weights are missing, the document is against the
            schema, or the folder cannot be written to.
    """
    folder = Path(folder)
    paths = sorted(path for path in folder.iterdir() if path.name != DOCUMENT)
    files = {p.name: {"sha256": file_sha256(p), "bytes": p.stat().st_size} for p in paths}
    digest = files.get(WEIGHTS, {}).get("sha256")
    document = {**document, "files": files, "digest": digest}
    if problem := _problem(document):
        raise InputError(
            f"expected a model document of version {SCHEMA_VERSION} for {folder}; got {problem}; "
            "correct what the export says of the model"
        )
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_whole(folder / DOCUMENT, text.encode())
    return ModelFolder(folder, document)


def _read_document(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(_DOCUMENT_LIMIT + 1)
    except OSError as error:
        raise InputError(
            f"expected a model folder with {path.name} at {path.parent}; got: {error.strerror}; "
            "name a folder that tools/export_model.py wrote"
        ) from error
    if len(content) > _DOCUMENT_LIMIT:
        raise InputError(
            f"expected at most {_DOCUMENT_LIMIT} bytes in {path}; got more; get the folder anew"
        )
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"expected JSON in {path}; got: {error}; name a folder that tools/export_model.py wrote"
        ) from error


def _problem(document: Any) -> str | None:
    """What keeps a document from describing a model folder, or None."""
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        return f"schema_version {version!r}"
    import jsonschema  # a tenth of a second

    error = jsonschema.exceptions.best_match(_validator().iter_errors(document))
    if error:
        return f"at {error.json_path}: {error.message[:160]}"
    for name in document["files"]:
        if not PLAIN_NAME.fullmatch(name) or name == DOCUMENT:
            return f"{name!r} among its files, which is no plain file name"
    if document["digest"] != document["files"][WEIGHTS]["sha256"]:
        return f"a digest that is not that of {WEIGHTS}"
    return None


@cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(MODEL_SCHEMA.read_text(encoding="utf-8")))


def _check_size(folder: Path, name: str, size: int) -> None:
    path = folder / name
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"expected {name} inside the model folder {folder}; got a link that leads outside; get "
            "the folder anew"
        )
    if not path.is_file():
        raise _changed(path, "none" if not path.exists() else "no plain file")
    if path.stat().st_size != size:
        raise _changed(path, f"{path.stat().st_size} bytes instead of {size}")


def _changed(path: Path, what: str) -> InputError:
    return InputError(
        f"expected {path} as {DOCUMENT} describes it; got {what}; get the folder anew, or export "
        "the model again"
    )
