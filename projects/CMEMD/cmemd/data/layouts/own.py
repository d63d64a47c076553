r"""Own: images of one's own cameras, in a list or in folders.

A list is a CSV file with a header, or a Parquet file. Columns: ``path``, ``identity``, ``modality``
(``visible`` or ``thermal``); where known ``camera``, ``time``, ``split``, ``x``, ``y``, ``w``,
``h``, ``frame`` and ``tracklet``. Other columns are kept. Without a list, folders tell the same:
``{visible,thermal}/<identity>/<camera>_<anything>.jpg``. docs/own_data.md explains each column.
"""

import csv
import hashlib
import io
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple, NoReturn

from cmemd.data.boxes import Box
from cmemd.data.image_files import Tally, find_images, why_left_out
from cmemd.data.layouts.layout import Layout
from cmemd.data.modality import Modality
from cmemd.data.times import parse_seconds
from cmemd.errors import InputError, MissingDependencyError, printable, reason
from cmemd.paths import check_input

__all__ = [
    "COLUMNS",
    "LAYOUT",
    "PATTERN",
    "SPLITS",
    "SPLIT_FILE",
    "TRAIN",
    "VALIDATION",
    "FaultKind",
    "ListFault",
    "OwnList",
    "Person",
    "Row",
    "check_lists",
    "is_list",
    "held_people",
    "raise_faults",
    "use_of",
    "read_folder",
    "read_list",
    "write_list",
]

LAYOUT = Layout(
    name="own",
    title="own data",
    dataset="Own",
    folder="Own",
    list_folder="",
    cameras=dict.fromkeys(Modality, ()),
    identity_folder=re.compile(".+"),
    trials=1,
    splits=1,
    arrays=("feats", "pids", "camids", "modality", "paths"),
    licence="unknown: DATASETS.OWN.LICENCE was not given",
)
SPLIT_FILE = "split.csv"  # in OUTPUT_DIR: the list as a run used it
TRAIN, VALIDATION = "train", "val"
SPLITS = (TRAIN, VALIDATION, "query", "gallery", "test")
PATTERN = "{modality}/{identity}/{camera}_*"
_REQUIRED = ("path", "identity", "modality")
_BOX = ("x", "y", "w", "h")
COLUMNS = (*_REQUIRED, "camera", "time", "split", *_BOX, "frame", "tracklet")
_IN_PATTERN = ("modality", "identity", "camera", "time", "split", "frame", "tracklet")
_SUFFIXES = (".csv", ".parquet")
_SEPARATORS = ",;\t"
_SHOWN = 3
_LARGEST = 2**31


class FaultKind(Enum):
    """What is wrong with a list.

    Attributes:
        words: as a heading over the cases.
        remedy: what to do.
    """

    FILE = "lists that cannot be read", "save the list as CSV in UTF-8, or as Parquet"
    COLUMNS = "missing or repeated columns", "name the columns in the list's first line"
    FIELDS = "rows with too few or too many values", "quote values that hold the separator"
    EMPTY = "rows without path, identity or modality", "complete them, or remove the rows"
    MODALITY = "unknown modality words", "write visible or thermal"
    SPLIT = "unknown or missing splits", f"write {', '.join(SPLITS)}; or leave the column out"
    NUMBER = "values that are no number or time", "correct them, or empty the cells"
    BOX = "boxes that are not in a frame", "give x, y, w, h in pixels, clipped to the frame"
    IMAGE = "listed images that are missing, or no images", "restore them, or remove the rows"
    REPEATED = "images listed twice", "remove one row of each"
    ROLES = "queries without gallery images, or the reverse", "add them, or write test for both"
    TWO_SPLITS = "identities in two splits", "put all images of a person into one split"

    def __init__(self, words: str, remedy: str) -> None:
        self.words = words
        self.remedy = remedy


class ListFault(NamedTuple):
    """One mistake in a list.

    Attributes:
        kind: what is wrong.
        text: the place and the value, to be shown.
        error: the same for a user, ready to raise.
    """

    kind: FaultKind
    text: str
    error: InputError


class Row(NamedTuple):
    """One image of a list.

    Attributes:
        number: of the row in the list as a spreadsheet numbers it: the header of a CSV is row 1.
        path: absolute.
        identity: the person.
        modality: how the image was taken.
        camera: its name; "" where it is not given.
        time: in seconds, or None.
        split: one of ``SPLITS``, or "" where it is not given.
        box: the person in the frame; None for the whole image.
        frame: number of the frame, or None.
        tracklet: of the person under the camera, or "".
    """

    number: int
    path: str
    identity: str
    modality: Modality
    camera: str = ""
    time: float | None = None
    split: str = ""
    box: Box | None = None
    frame: int | None = None
    tracklet: str = ""


class OwnList(NamedTuple):
    """A list that was read.

    Attributes:
        file: the list; or the folder that stands for one.
        folder: where its relative paths start.
        rows: in the list's order.
        other: further columns, as text: name -> value of each row.
    """

    file: Path
    folder: Path
    rows: list[Row]
    other: Mapping[str, Sequence[str]] = {}

    def where(self, row: Row) -> str:
        """Return the list and the number of one of its rows, for messages."""
        return f"{self.file}, row {row.number}" if row.number else str(self.file)


OnFault = Callable[[ListFault], None]
Person = tuple[str, str]  # naming and identity


def is_list(file: Path) -> bool:
    """Return whether a file is a table with all the columns that a list needs."""
    if file.suffix.lower() not in _SUFFIXES or not file.is_file():
        return False
    try:
        _read_table(file, _ignore)
    except (_Unreadable, InputError):
        return False
    return True


def _ignore(fault: ListFault) -> None:
    """Take a mistake, and do nothing."""


def raise_faults(faults: Sequence[ListFault], lists: Iterable[Path]) -> None:
    """Raise all mistakes as one error, if there are any.

    Args:
        faults: in the order in which they were found.
        lists: the files, for the message.

    Raises:
        InputError: the mistake itself; of several, the first ones and their number.
    """
    if len(faults) == 1:
        raise faults[0].error
    if faults:
        shown = "; ".join(f"({n}) {f.error}" for n, f in enumerate(faults[:_SHOWN], 1))
        more = f"; and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
        names = ", ".join(map(str, lists))
        raise InputError(
            f"no mistake in {names}",
            f"{len(faults):,}: {shown}{more}",
            "correct them; `cmemd doctor` names them all",
        )


def read_list(
    file: Path | str, folder: Path | str | None = None, on_fault: OnFault | None = None
) -> OwnList:
    r"""Read a list, and check each row and that its image is there.

    Args:
        file: a ``.csv`` with commas, semicolons or tabs, in UTF-8; or a ``.parquet``.
        folder: where relative paths start; default the list's folder. ``\`` and ``/`` both separate
            folders.
        on_fault: takes each mistake, and the row is left out; without it all are raised as one.

    Returns:
        The rows without mistakes, in the list's order.

    Raises:
        InputError: without ``on_fault``, names the mistakes with their rows.
    """
    file = Path(file)
    folder = Path(os.path.abspath(file.parent if folder is None else folder))
    faults: list[ListFault] = []
    report = faults.append if on_fault is None else on_fault
    try:
        first, columns = _read_table(file, report)
    except _Unreadable:
        first, columns = 0, {}
    rows, kept = [], []
    if columns:
        reader = _RowReader(file, folder, columns, report)
        for index in range(len(columns[_REQUIRED[0]])):
            row = reader.read(index, first + index)
            if row is not None:
                rows.append(row)
                kept.append(index)
        if not rows and not faults and on_fault is None:
            _fault(report, FaultKind.EMPTY, str(file), f"a row for each image in {file}", "none")
    if on_fault is None:
        raise_faults(faults, [file])
    other = {n: [v[i] for i in kept] for n, v in columns.items() if n not in COLUMNS}
    return OwnList(file, folder, rows, other)


def read_folder(
    folder: Path | str,
    pattern: str = PATTERN,
    words: Mapping[Modality, str] | None = None,
    tally: Tally | None = None,
) -> tuple[OwnList, list[str]]:
    """Return the list that a folder's names stand for, and the images that it leaves out.

    Args:
        folder: to search, with its subfolders.
        pattern: of a path below the folder, without the extension. ``{modality}``, ``{identity}``,
            ``{camera}``, ``{time}``, ``{split}``, ``{frame}`` and ``{tracklet}`` each stand for a
            part of one name, as short as possible; ``*`` for the rest of a name, ``**`` for any
            folders. Without ``{modality}`` all images are of the one modality in ``words``.
        words: how the folder names the modalities; default visible and thermal.
        tally: takes files that are no images.

    Returns:
        The list, sorted by path; and paths below the folder that do not match.

    Raises:
        InputError: no such folder, a bad pattern, or no image that matches.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"a folder of images at {folder}", "no such folder", "name a folder")
    words = {m: m.name.lower() for m in Modality} if words is None else words
    expression = _compile(pattern, words)
    modality_of = {word: modality for modality, word in words.items()}
    rows, unmatched = [], []
    base = os.path.abspath(folder)
    for path in find_images(Path(base), Tally() if tally is None else tally):
        name = os.path.relpath(path, base).replace(os.sep, "/")
        found = expression.fullmatch(name[: len(name) - len(path.suffix)])
        if found is None:
            unmatched.append(name)
            continue
        values = {key: value for key, value in found.groupdict().items() if value}
        word = values.pop("modality", None)
        modality = modality_of[word] if word else next(iter(words))
        try:
            rows.append(_named_row(str(path), modality, values))
        except InputError as error:
            raise InputError(
                f"a path below {folder} as {pattern}", f"{name!r} ({error})", "correct --pattern"
            ) from None
    if not rows:
        shown = ", ".join(map(printable, unmatched[:_SHOWN])) or "no images"
        raise InputError(
            f"images in {folder} named as {pattern}",
            shown,
            "rename them, or write a list with `cmemd list --pattern` (docs/own_data.md)",
        )
    return OwnList(folder, Path(base), rows), unmatched


def check_lists(lists: Sequence[tuple[str, OwnList]], report: OnFault) -> None:
    """Find what is wrong between rows: images and identities twice, missing splits and roles.

    Args:
        lists: the naming of each list's identities, and the list.
        report: takes each mistake.
    """
    seen: dict[tuple[object, ...], str] = {}
    uses: dict[Person, dict[str, str]] = defaultdict(dict)
    given = {bool(row.split) for _, listed in lists for row in listed.rows}
    for naming, listed in lists:
        for row in listed.rows:
            key = (row.path, row.box, row.frame)
            where = listed.where(row)
            if (first := seen.setdefault(key, where)) != where:
                _fault(
                    report,
                    FaultKind.REPEATED,
                    f"{where}: {row.path} as in {first}",
                    f"an image and box of its own in {where}",
                    f"that of {first}",
                )
            if not row.split and len(given) == 2:
                _fault(
                    report,
                    FaultKind.SPLIT,
                    f"{where}: none",
                    f"a split in {where}, as in other rows",
                    "none",
                )
            uses[naming, row.identity].setdefault(use_of(row.split), where)
    roles = {row.split for _, listed in lists for row in listed.rows} & {"query", "gallery", "test"}
    if roles in ({"query"}, {"gallery"}):
        (there,) = roles
        missing = "gallery" if there == "query" else "query"
        names = ", ".join(str(listed.file) for _, listed in lists)
        expected = f"rows with split {missing} or test beside those with split {there} in {names}"
        _fault(report, FaultKind.ROLES, f"{names}: {there} alone", expected, "none")
    for (_, identity), found in uses.items():
        if len(found) > 1:
            places = " and ".join(f"{use or 'no split'} ({where})" for use, where in found.items())
            _fault(
                report,
                FaultKind.TWO_SPLITS,
                f"identity {printable(identity)}: {places}",
                f"identity {identity!r} in one of training, validation and test",
                places,
            )


def held_people(
    people: Mapping[Person, Collection[Modality]], share: float, seed: int
) -> set[Person]:
    """Return a share of the people, to hold out of training.

    The choice depends on the names, the share and the seed alone. A larger share takes the same
    people and more. People with images of both modalities are divided by themselves, so that both
    parts have their share of them; of two or more such people, at least one goes to each part.

    Args:
        people: naming and identity of each person -> the modalities of the images.
        share: of the people, 0 to below 1; 0 holds out none.
        seed: of the choice.
    """
    held: set[Person] = set()
    for both in (True, False):
        group = [person for person, seen in people.items() if (len(set(seen)) == 2) is both]
        group.sort(key=lambda person: _digest(seed, *person))
        count = round(share * len(group))
        if both and share > 0 and len(group) > 1:
            count = min(max(count, 1), len(group) - 1)
        held.update(group[:count])
    return held


def write_list(listed: OwnList, path_of: Callable[[str], str] = str) -> str:
    """Return a list as CSV text, which ``read_list`` reads; columns without a value are left out.

    Args:
        listed: its other columns come last.
        path_of: takes an absolute path, returns the one to write.
    """
    rows = listed.rows
    columns: dict[str, Sequence[object]] = {
        "path": [path_of(row.path) for row in rows],
        "identity": [row.identity for row in rows],
        "modality": [row.modality.name.lower() for row in rows],
    }
    for name in ("camera", "time", "split"):
        columns[name] = [getattr(row, name) for row in rows]
    for place, name in enumerate(_BOX):
        columns[name] = [None if row.box is None else row.box[place] for row in rows]
    for name in ("frame", "tracklet"):
        columns[name] = [getattr(row, name) for row in rows]
    filled = {n: v for n, v in columns.items() if n in _REQUIRED or set(v) - {"", None}}
    filled |= listed.other
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(filled)
    writer.writerows(zip(*filled.values(), strict=True))
    return text.getvalue()


# ---- Tables ---------------------------------------------------------------------------------


class _Unreadable(Exception):
    """The list as a whole is faulty, and that was reported."""


def _fault(
    report: OnFault, kind: FaultKind, text: str, expected: str, got: str, remedy: str = ""
) -> None:
    report(ListFault(kind, text, InputError(expected, got, remedy or kind.remedy)))


def _refuse(report: OnFault, kind: FaultKind, file: Path, expected: str, got: object) -> NoReturn:
    _fault(report, kind, f"{file}: {got}", f"{expected} in {file}", str(got))
    raise _Unreadable


def _read_table(file: Path, report: OnFault) -> tuple[int, dict[str, list[str]]]:
    """Return the number of the first row, and each column's values as text."""
    if file.suffix.lower() not in _SUFFIXES:
        raise InputError(
            f"a list that ends in {' or '.join(_SUFFIXES)}", file, "name a list of images"
        )
    check_input(file, "a list of images", "name the list, or write one with `cmemd list`")
    read = _read_csv if file.suffix.lower() == ".csv" else _read_parquet
    first, names, columns = read(file, report)
    plain = [name.strip() for name in names]
    # Known columns are known in capitals too; other columns keep their names.
    plain = [name.lower() if name.lower() in COLUMNS else name for name in plain]
    repeated = sorted({name for name in plain if plain.count(name) > 1})
    if repeated:
        _refuse(report, FaultKind.COLUMNS, file, "each column once", f"{repeated} twice")
    missing = [name for name in _REQUIRED if name not in plain]
    if missing:
        _refuse(
            report,
            FaultKind.COLUMNS,
            file,
            f"columns {', '.join(_REQUIRED)}",
            f"{', '.join(map(printable, plain)) or 'nothing'}, without {', '.join(missing)}",
        )
    box = [name for name in _BOX if name in plain]
    if 0 < len(box) < len(_BOX):
        _refuse(
            report,
            FaultKind.COLUMNS,
            file,
            f"columns {', '.join(_BOX)} together",
            f"{', '.join(box)} alone",
        )
    return first, dict(zip(plain, columns, strict=True))


def _read_csv(file: Path, report: OnFault) -> tuple[int, list[str], list[list[str]]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        _refuse(report, FaultKind.FILE, file, "text in UTF-8", f"another encoding in line {line}")
    except OSError as error:
        raise InputError(f"a list of images at {file}", reason(error), "name the list") from error
    header = text.lstrip("\r\n").partition("\n")[0]
    separator = max(_SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    names: list[str] = []
    rows: list[list[str]] = []
    try:
        for row in reader:
            if names:
                rows.append(row)
            elif any(row):
                names = row
    except csv.Error as error:
        _refuse(report, FaultKind.FILE, file, "separated values", f"{error} in row {len(rows) + 2}")
    width = len(names)
    for index, row in enumerate(rows):
        if len(row) != width:
            if any(map(str.strip, row)):
                where = f"{file}, row {index + 2}"
                _fault(
                    report,
                    FaultKind.FIELDS,
                    f"{where}: {len(row)} values, {width} columns",
                    f"{width} values in {where}, as the first row has names",
                    str(len(row)),
                )
            rows[index] = [""] * width  # as an empty line, which is skipped
    return 2, names, [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]


def _read_parquet(file: Path, report: OnFault) -> tuple[int, list[str], list[list[str]]]:
    try:
        from pyarrow import ArrowException, parquet  # slow to import
    except ImportError:
        raise MissingDependencyError(
            f"pyarrow is needed to read {file}: pip install pyarrow, or save the list as CSV"
        ) from None
    try:
        table = parquet.read_table(file)
    except (ArrowException, OSError, ValueError) as error:
        _refuse(report, FaultKind.FILE, file, "a Parquet table", reason(error))
    return 1, table.column_names, [[_text(v) for v in c.to_pylist()] for c in table.columns]


def _text(value: object) -> str:
    """Return a cell of a Parquet table as a CSV would hold it: whole numbers without a point.

    >>> _text(7.0), _text(None), _text(float("nan")), _text("0007")
    ('7', '', '', '0007')
    """
    if value is None or value != value:  # NaN is pandas' empty cell
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


# ---- Rows -----------------------------------------------------------------------------------


class _RowReader:
    """Reads the rows of one table; asks the disk once for each file."""

    def __init__(
        self, file: Path, folder: Path, columns: Mapping[str, list[str]], report: OnFault
    ) -> None:
        self._file = file
        self._folder = str(folder)
        self._columns = {name: columns[name] for name in COLUMNS if name in columns}
        self._report = report
        self._problems: dict[str, str | None] = {}
        self._paths: dict[str, str] = {}
        self._faulty = False

    def read(self, index: int, number: int) -> Row | None:
        """Return a row; None where it is empty or has a mistake, which is reported."""
        cells = {name: column[index].strip() for name, column in self._columns.items()}
        if not any(cells.values()):
            return None
        self._faulty = False
        where = f"{self._file}, row {number}"
        missing = [name for name in _REQUIRED if not cells[name]]
        if missing:
            self._fault(
                FaultKind.EMPTY, where, f"a value for {', '.join(missing)}", "an empty cell"
            )
            return None
        modality = _MODALITIES.get(cells["modality"].lower())
        if modality is None:
            self._fault(FaultKind.MODALITY, where, "visible or thermal", repr(cells["modality"]))
        split = cells.get("split", "").lower()
        if split and split not in SPLITS:
            self._fault(FaultKind.SPLIT, where, f"a split out of {', '.join(SPLITS)}", repr(split))
        path = self._path(cells["path"], where)
        row = Row(
            number=number,
            path=path,
            identity=cells["identity"],
            modality=modality or Modality.VISIBLE,
            camera=cells.get("camera", ""),
            time=self._time(cells.get("time", ""), where),
            split=split,
            box=self._box(cells, where),
            frame=self._frame(cells.get("frame", ""), where),
            tracklet=cells.get("tracklet", ""),
        )
        return None if self._faulty else row

    def _fault(self, kind: FaultKind, where: str, expected: str, got: str) -> None:
        self._faulty = True
        _fault(self._report, kind, f"{where}: {got}", f"{expected} in {where}", got)

    def _path(self, text: str, where: str) -> str:
        path = self._paths.get(text)
        if path is None:
            joined = os.path.join(self._folder, text.replace("\\", "/"))
            path = self._paths[text] = os.path.normpath(joined)
        if path not in self._problems:
            why = why_left_out(path)
            self._problems[path] = why and why.words
        if problem := self._problems[path]:
            self._fault(FaultKind.IMAGE, where, f"an image at {path}", problem)
        return path

    def _time(self, text: str, where: str) -> float | None:
        if not text:
            return None
        try:
            return parse_seconds(text)
        except InputError:
            self._fault(FaultKind.NUMBER, where, "a time in seconds or ISO 8601", repr(text))
            return None

    def _frame(self, text: str, where: str) -> int | None:
        if not text:
            return None
        if not (text.isascii() and text.isdecimal() and int(text) < _LARGEST):
            self._fault(FaultKind.NUMBER, where, "a frame number from 0", repr(text))
            return None
        return int(text)

    def _box(self, cells: Mapping[str, str], where: str) -> Box | None:
        texts = [cells.get(name, "") for name in _BOX]
        if not any(texts):
            return None
        try:
            x, y, width, height = map(float, texts)
            if not all(map(math.isfinite, (x, y, width, height))):
                raise ValueError
        except ValueError:
            got = ", ".join(map(repr, texts))
            self._fault(FaultKind.NUMBER, where, f"four numbers {', '.join(_BOX)}", got)
            return None
        left, top = round(x), round(y)
        box = Box(left, top, round(x + width) - left, round(y + height) - top)
        if min(box[:2]) < 0 or min(box[2:]) < 1 or max(box) >= _LARGEST:
            got = f"x {x:g}, y {y:g}, w {width:g}, h {height:g}"
            expected = "a box with x and y of at least 0, and of at least a pixel"
            self._fault(FaultKind.BOX, where, expected, got)
            return None
        return box


_MODALITIES = {modality.name.lower(): modality for modality in Modality}


def _named_row(path: str, modality: Modality, values: Mapping[str, str]) -> Row:
    """Return the row of an image whose labels its name holds."""
    split = values.get("split", "").lower()
    if split and split not in SPLITS:
        raise InputError(f"a split out of {', '.join(SPLITS)}", repr(split), "rename the folder")
    frame = values.get("frame")
    if frame is not None and not (frame.isascii() and frame.isdecimal()):
        raise InputError("a frame number", repr(frame), "rename the file")
    return Row(
        number=0,
        path=path,
        identity=values["identity"],
        modality=modality,
        camera=values.get("camera", ""),
        time=parse_seconds(values["time"]) if "time" in values else None,
        split=split,
        frame=None if frame is None else int(frame),
        tracklet=values.get("tracklet", ""),
    )


def _compile(pattern: str, words: Mapping[Modality, str]) -> re.Pattern[str]:
    """Return the regular expression of a pattern of ``read_folder``."""
    remedy = f"write it as {PATTERN}"
    parts, names = [], []
    for part in re.split(r"(\{[^}]*\}|\*\*/?|\*)", pattern.replace("\\", "/")):
        if part.startswith("{"):
            name = part[1:-1]
            if name not in _IN_PATTERN or name in names:
                allowed = ", ".join(f"{{{x}}}" for x in _IN_PATTERN)
                raise InputError(f"a --pattern of {allowed}, each once", repr(part), remedy)
            names.append(name)
            options = "|".join(map(re.escape, words.values()))
            parts.append(f"(?P<{name}>{options if name == 'modality' else '[^/]+?'})")
        else:
            parts.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}.get(part, re.escape(part)))
    if "identity" not in names:
        raise InputError("{identity} in --pattern", repr(pattern), remedy)
    if ("modality" in names) != (len(words) == len(Modality)):
        raise InputError(
            "{modality} in --pattern, or one --modality for all images",
            repr(pattern),
            remedy,
        )
    return re.compile("".join(parts))


def use_of(split: str) -> str:
    """Return the use that an identity may have once: query, gallery and test are one."""
    return split if split in (TRAIN, VALIDATION, "") else "test"


def _digest(seed: int, naming: str, identity: str) -> bytes:
    return hashlib.sha256(f"{seed}/{naming}/{identity}".encode()).digest()
