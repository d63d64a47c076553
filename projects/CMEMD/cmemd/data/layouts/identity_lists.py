"""Identity lists of SYSU-MM01 and LLCM: a text or MATLAB file of integers."""

import re
from pathlib import Path
from typing import Any

from cmemd.errors import InputError, exhausted, reason

__all__ = ["ID_LISTS", "read_ids", "read_matlab_variable"]

ID_LISTS = ("train_id", "val_id", "test_id", "available_id")

_AGAIN = "take the file from the data set again"


def read_ids(folder: Path | str, name: str) -> list[int]:
    """Read a list of identities, from ``<name>.txt`` or else from ``<name>.mat``.

    The text file is one line of comma-separated integers; the MATLAB file holds them in the
    variable ``id``.

    Args:
        folder: of the lists.
        name: one of ``ID_LISTS``.

    Returns:
        The identities in the file's order.

    Raises:
        InputError: an unknown name, a missing file, or a malformed, empty or repeating list.
    """
    if name not in ID_LISTS:
        raise InputError(
            f"an identity list out of {', '.join(ID_LISTS)}", repr(name), "choose one of these"
        )
    text, matlab = (Path(folder) / f"{name}{suffix}" for suffix in (".txt", ".mat"))
    if text.is_file():
        return _checked(_from_text(text), text)
    if matlab.is_file():
        return _checked(_from_matlab(matlab), matlab)
    raise InputError(
        f"{text} or {matlab.name} beside it",
        "neither",
        f"copy the data set's {text.parent.name} folder whole",
    )


def read_matlab_variable(path: Path, name: str) -> Any:
    """Return one variable of a MATLAB file.

    Raises:
        InputError: another or damaged file, or one without the variable.
    """
    from scipy.io import loadmat  # half a second; text files are read without it

    try:
        content = loadmat(path)
    except Exception as error:  # SciPy raises half a dozen kinds for damaged files
        if exhausted(error):
            raise
        raise InputError(
            f"a MATLAB file (version 7.2 or older) at {path}",
            f"another or damaged file ({reason(error)})",
            "take the file from its source again",
        ) from error
    if name not in content:
        found = ", ".join(key for key in content if not key.startswith("__")) or "none"
        raise InputError(f"variable {name!r} in {path}", found, "check that this is the right file")
    return content[name]


def _from_text(path: Path) -> list[int]:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(
            f"a readable list at {path}", error.strerror, "change its permissions"
        ) from None
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) != 1:
        raise InputError(
            f"one line of comma-separated integers in {path}", f"{len(lines)} lines", _AGAIN
        )
    fields = [field.strip() for field in lines[0].split(",")]
    for field in fields:
        if not re.fullmatch(r"[0-9]{1,9}", field):
            raise InputError(f"comma-separated integers in {path}", repr(field[:40]), _AGAIN)
    return [int(field) for field in fields]


def _from_matlab(path: Path) -> list[int]:
    ids = read_matlab_variable(path, "id")
    if ids.dtype.kind not in "uif" or any(number != number // 1 for number in ids.flat):
        raise InputError(f"integers in variable 'id' of {path}", f"{ids.dtype} values", _AGAIN)
    return [int(number) for number in ids.flat]


def _checked(ids: list[int], path: Path) -> list[int]:
    if not ids or min(ids) < 1 or len(set(ids)) != len(ids):
        raise InputError(
            f"different identities of at least 1 in {path}",
            f"{len(ids)} numbers, {len(set(ids))} different, the least {min(ids, default='none')}",
            _AGAIN,
        )
    return ids
