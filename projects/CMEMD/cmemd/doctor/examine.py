"""The one entrance: a folder and the layout that it should have."""

import json
from collections.abc import Callable
from pathlib import Path

from cmemd.doctor.llcm import examine_llcm
from cmemd.doctor.pixels import report_pixels
from cmemd.doctor.regdb import examine_regdb
from cmemd.doctor.report import Report
from cmemd.doctor.shots import Shot
from cmemd.doctor.sysu import examine_sysu
from cmemd.errors import InputError

__all__ = ["LAYOUTS", "examine"]

# Layout -> name of the data set as stand-ins give it, and what looks at folders and lists.
_EXAMINERS: dict[str, tuple[str, Callable[[Path, Report], list[Shot]]]] = {
    "sysu": ("SYSU-MM01", examine_sysu),
    "regdb": ("RegDB", examine_regdb),
    "llcm": ("LLCM", examine_llcm),
}
LAYOUTS = tuple(_EXAMINERS)


def examine(layout: str, root: Path | str) -> Report:
    """Examines a copy of a data set: folders, lists, and every image decoded.

    Args:
        layout: one of ``LAYOUTS``.
        root: the data set's own folder.

    Returns:
        The report; ``usable`` says whether the data set can be trained and scored on.

    Raises:
        InputError: no such folder, or not allowed to read in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(
            f"expected a data set's folder, got {root}, which is "
            f"{'a file' if root.exists() else 'not there'}: give --root the folder itself"
        )
    data_set, examine_layout = _EXAMINERS[layout]
    report = Report(data_set, str(root), standin=_standin(root / "meta.jsonl"))
    try:
        shots = examine_layout(root, report)
    except PermissionError as error:
        raise InputError(
            f"expected folders that may be read, got {error}: change their permissions"
        ) from None
    report_pixels(root, shots, report)
    report.compare_counts()
    return report


def _standin(meta: Path) -> str | None:
    """The genuine data set that a drawn stand-in stands for, from its first line."""
    try:
        with meta.open(encoding="utf-8") as file:
            name = json.loads(file.readline())["standin"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return name if isinstance(name, str) else None
