"""Load PyTorch's exported program, ``model.pt2``, from an untrusted source.

``torch.export.load`` trusts its file: it unpickles constants and sample inputs, evaluates symbolic
expressions as Python, and calls any function that a node names. A network's program needs none of
that. So this module loads a file only if it holds nothing but plain tensors and ATen operators.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cmemd.errors import InputError, exhausted

__all__ = ["load_program"]

# Members below the archive's root folder; no pickled objects, no compiled libraries.
_MEMBERS = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/sample_inputs/model\.pt"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|models/model\.json"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id|debug_pkl)"
)
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_JSON_LIMIT = 256 * 2**20  # bytes; a ResNet-50's graph takes 1 MiB

_OPERATOR = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|torch\.sym_(int|float|max|min)"
    r"|_operator\.(add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge|getitem)"
)
_EXPRESSION = re.compile(
    r"(?:[\d\s()+\-*/,=]|'[su]\d+'|\b(?:[su]\d+|Symbol|Integer|Add|Mul|Max|Min|Mod|FloorDiv"
    r"|positive|nonnegative|integer|True|False)\b)*"
)
_WORD = re.compile(r"[\w.+:-]*")
_STRUCTURES = (None, "builtins.tuple", "builtins.list", "builtins.dict")
_UNREAD = ("metadata", "guards_code")  # for debuggers; for checks that check_guards=False omits


def load_program(path: Path, device: Any) -> Any:
    """Return an exported program as a module.

    Args:
        path: the file.
        device: where the module runs, a ``torch.device``.

    Raises:
        InputError: the file holds more than a network's program, or PyTorch cannot load it.
    """
    import torch
    from torch.export.passes import move_to_device_pass

    try:
        _check(path)
        program = torch.export.load(path)
        if device.type != "cpu":  # a graph names the device of each tensor that it makes
            program = move_to_device_pass(program, device)
        return program.module(check_guards=False)
    except Exception as error:
        if exhausted(error):
            raise
        raise InputError(
            f"a program of plain tensors and ATen operators that PyTorch {torch.__version__} can "
            f"load in {path}",
            " ".join(str(error).split())[:160],
            "export the model again with this version of PyTorch",
        ) from error


def _check(path: Path) -> None:
    """Raise ValueError for a file that could do more than compute."""
    import torch

    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = names[0].split("/")[0] + "/"
        members = {name.removeprefix(root) for name in names}
        if len(members) != len(names):
            raise ValueError("two members of one name")
        if strange := [name for name in members if not _MEMBERS.fullmatch(name)]:
            raise ValueError(f"the member {strange[0]!r}")
        for name in _CONFIGS:
            for key, tensor in _json(archive, root + name)["config"].items():
                if tensor["use_pickle"]:
                    raise ValueError(f"{key!r} as a pickle")
        for key, text in _strings(_json(archive, root + "models/model.json"), ""):
            if not _harmless(key, text):
                raise ValueError(f"{key} {text[:60]!r}")
        # If this fails, PyTorch's own loader would fall back to unpickling anything.
        inputs = archive.read(root + "data/sample_inputs/model.pt")
        torch.load(io.BytesIO(inputs), weights_only=True)


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    if archive.getinfo(name).file_size > _JSON_LIMIT:
        raise ValueError(f"{name} of more than {_JSON_LIMIT} bytes")
    return json.loads(archive.read(name))


def _strings(tree: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield each string of a JSON document and its key; keys too, because they name variables."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name not in _UNREAD:
                yield "name", name
                yield from _strings(value, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from _strings(value, key)
    elif isinstance(tree, str):
        yield key, tree


def _harmless(key: str, text: str) -> bool:
    if key == "target":
        return bool(_OPERATOR.fullmatch(text))
    if key == "expr_str":
        return bool(_EXPRESSION.fullmatch(text))
    if key in ("in_spec", "out_spec"):
        return not text or all(
            name in _STRUCTURES if kind == "type" else _WORD.fullmatch(name) or name == "[]"
            for kind, name in _strings(json.loads(text), "")
        )
    return bool(_WORD.fullmatch(text))
