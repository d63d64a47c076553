"""Find the images to embed, and the labels of each: identity, camera, time, tracklet."""

import csv
import glob
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from cmemd.data.boxes import image_key
from cmemd.data.image_files import Reason, Tally, find_images
from cmemd.data.layouts import own
from cmemd.data.modality import Modality
from cmemd.data.times import parse_time
from cmemd.errors import InputError
from cmemd.paths import check_input

__all__ = [
    "LABELS",
    "TRACKLET",
    "Source",
    "as_time",
    "find_sources",
    "given_labels",
    "parse_time",
    "read_labels",
]

LABELS = ("identity", "camera", "time", "tracklet")
TRACKLET = ("modality", "identity", "camera", "tracklet")  # images that agree in all are one


@dataclass(frozen=True)
class Source:
    """An image file and its labels.

    Attributes:
        path: absolute, so that a file has the same name from every working folder; of a box in a
            frame its key, see ``cmemd.data.boxes``.
        identity: the person that it shows, or None.
        camera: the camera that took it, or None.
        time: when it was taken, with a zone, or None.
        tracklet: the track of the person under the camera, or None.
    """

    path: str
    identity: str | None = None
    camera: str | None = None
    time: datetime | None = None
    tracklet: str | None = None


def find_sources(
    what: str,
    pattern: str | None = None,
    tally: Tally | None = None,
    modality: Modality | None = None,
    splits: Sequence[str] = (),
) -> list[Source]:
    """Return images and their labels, each image once: in a list's order, else sorted by path.

    ``cmemd.data.image_files`` says which files are images and what happens to the others.

    Args:
        what: a folder, searched with its subfolders; a ``.txt`` list with one path per line; a
            ``.csv`` list with a column ``path`` and any of ``LABELS``; an image; or a glob, with
            ``**`` for any folders. ``~`` is the home folder. A list is in UTF-8, and its relative
            paths start at the list's folder; see ``_lines`` for comments and quotes. Also a list
            as ``cmemd list`` writes it, ``.csv`` or ``.parquet``, with boxes.
        pattern: regular expression with named groups out of ``LABELS``, searched for in each
            path as found. A list's columns take precedence over it.
        tally: takes what is left out, named with its list and line.
        modality: of the images to take from a list that names each image's; None for both.
        splits: of the images to take from a list with a column ``split``; none for all.

    Raises:
        InputError: no image is found; splits are asked of what has none; a list has other columns,
            or two sets of labels for a path; the pattern is invalid or does not match a path; or a
            time is invalid.
    """
    tally = Tally() if tally is None else tally
    expression = _compile(pattern)
    named: dict[str, Source] = {}
    sources = []
    for path, labels, name, admitted, fragment in _listed(what, tally, modality, splits):
        source = _source(path, {**_match(expression, path), **labels}, fragment)
        if named.get(source.path, source) != source:
            raise InputError(
                f"one set of labels for {source.path} in {what}", "two", "remove one of them"
            )
        if source.path in named:
            tally.add(Reason.REPEATED, name)
        elif admitted or tally.admit(path, name):
            sources.append(source)
        named[source.path] = source
    if not sources:
        left_out = tally.left_out()
        raise InputError(
            f"images at {what}",
            f"none ({left_out})" if left_out else "none",
            "name an image, a folder, a list (.txt, .csv) or a glob",
        )
    return sources


def as_time(given: str | datetime) -> datetime:
    """Return a time with a zone, of a text as ``parse_time`` takes it or a ``datetime``."""
    if isinstance(given, str):
        return parse_time(given)
    return given if given.tzinfo else given.replace(tzinfo=timezone.utc)


def read_labels(file: Path) -> dict[str, dict[str, object]]:
    """Return the labels that a ``.csv`` list gives, by absolute path.

    Args:
        file: with a column ``path``, whose relative paths start at the list's folder, and any of
            ``LABELS``; a column ``modality``, as ``cmemd gallery export`` writes it, is not read.
            An empty value is None.

    Raises:
        InputError: the list cannot be read, has other columns or gives no label; a time is invalid;
            or a path has two sets of labels.
    """
    check_input(file, "a list of labels", "name a .csv file with the columns path and labels")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"a list in UTF-8 at {file}", error, "save it again as UTF-8") from error
    columns = [name.strip() for name in next(csv.reader(io.StringIO(text)), ())]
    given = [name for name in LABELS if name in columns]
    if not given:
        raise InputError(
            f"columns path and any of {', '.join(LABELS)} in {file}",
            ", ".join(columns) or "none",
            "name the columns so in the first line",
        )
    found: dict[str, dict[str, object]] = {}
    for _, name, values in _rows(file, text, beside=("modality",)):
        labels: dict[str, object] = {label: values.get(label) for label in given}
        if labels.get("time") is not None:
            labels["time"] = parse_time(values["time"])
        path = os.path.abspath(_beside(file, name))
        if found.setdefault(path, labels) != labels:
            raise InputError(f"one set of labels for {path} in {file}", "two", "remove one of them")
    return found


class _Named(NamedTuple):
    """A path, the labels that a list gives it, its name in reports, and whether it was sifted.

    Of a box, ``fragment`` is what its key has after the path.
    """

    path: str
    labels: Mapping[str, str]
    name: str
    admitted: bool = False
    fragment: str = ""


def _listed(
    what: str, tally: Tally, modality: Modality | None, splits: Sequence[str]
) -> Iterable[_Named]:
    """Return what an argument names: files of any kind, for the caller to sift."""
    if not what.strip():
        raise InputError("images", "an empty name", "name an image, a folder, a list or a glob")
    what = os.path.expanduser(what)
    path = Path(what)
    if splits and not (os.path.isfile(what) and own.is_list(path)):
        raise InputError(
            f"a list with a column split for --split {' '.join(splits)}",
            what,
            "name split.csv of a run's OUTPUT_DIR, or leave out --split",
        )
    if os.path.isdir(what):
        found = find_images(path, tally)
        return [_Named(str(image), {}, str(image), admitted=True) for image in found]
    if not os.path.lexists(what) and glob.has_magic(what):
        return [_Named(name, {}, name) for name in sorted(_expand(what))]
    if own.is_list(path):
        return _own_rows(path, tally, modality, splits)
    if not os.path.isfile(what) or path.suffix.lower() not in (".csv", ".txt"):
        return [_Named(what, {}, what)]
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets start with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"a list in UTF-8 at {path}", error, "save it again as UTF-8") from error
    rows = _lines(text) if path.suffix.lower() == ".txt" else _rows(path, text)
    return [
        _Named(file := _beside(path, name), labels, f"{file} ({path}, line {number})")
        for number, name, labels in rows
    ]


def _own_rows(
    file: Path, tally: Tally, modality: Modality | None, splits: Sequence[str]
) -> list[_Named]:
    """Return the images of one modality and some splits in a list of a data set of one's own.

    Raises:
        InputError: names the rows with mistakes; images that are missing are counted instead.
    """
    faults: list[own.ListFault] = []

    def take(fault: own.ListFault) -> None:
        if fault.kind is own.FaultKind.IMAGE:
            tally.add(Reason.MISSING, fault.text)
        else:
            faults.append(fault)

    listed = own.read_list(file, on_fault=take)
    own.raise_faults(faults, [file])
    named = []
    for row in listed.rows:
        if modality not in (None, row.modality):
            tally.add(Reason.OTHER_MODALITY, listed.where(row))
            continue
        if splits and row.split not in splits:
            tally.add(Reason.OTHER_SPLIT, listed.where(row))
            continue
        labels = {"identity": row.identity, "camera": row.camera, "tracklet": row.tracklet}
        if row.time is not None:
            labels["time"] = datetime.fromtimestamp(row.time, timezone.utc).isoformat()
        labels = {name: value for name, value in labels.items() if value}
        fragment = image_key("", row.box, row.frame)
        named.append(_Named(row.path, labels, listed.where(row), True, fragment))
    return named


def _beside(file: Path, name: str) -> str:
    r"""Return a listed path; it starts at the list's folder, and ``\`` may separate folders."""
    path = str(file.parent / os.path.expanduser(name))
    other = path.replace("\\", "/")
    return other if other != path and not os.path.lexists(path) else path


def _expand(pattern: str) -> Iterator[str]:
    """Yield the files that a glob matches; ``**`` does not follow links to folders.

    Python's own ``**`` follows them, and never ends where two of them lead upwards.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    at = parts.index("**")
    rest = parts[at + 1 :] or ("*",)
    for base in glob.iglob(os.path.join(*parts[:at])) if at else (os.curdir,):
        for place, folders, _ in os.walk(base):
            folders[:] = [name for name in folders if not name.startswith(".")]
            inside = _expand(os.path.join(glob.escape(place), *rest))
            yield from (name for name in inside if not os.path.isdir(name))


def _lines(text: str) -> Iterator[tuple[int, str, Mapping[str, str]]]:
    """Yield number and path of each line of a ``.txt`` list.

    Blank lines and lines that start with ``#`` are skipped, and blanks around a path are dropped.
    Double quotes around a whole line keep what is between them as it is.
    """
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            quoted = len(line) > 2 and line[0] == line[-1] == '"'
            yield number, line[1:-1] if quoted else line, {}


def _rows(
    path: Path, text: str, beside: Sequence[str] = ()
) -> Iterator[tuple[int, str, Mapping[str, str]]]:
    """Yield line number, path and labels of each row of a ``.csv`` list.

    Columns ``beside`` may be there too, and are left out.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or []]
        if (
            "path" not in columns
            or not {"path", *LABELS, *beside}.issuperset(columns)
            or len(set(columns)) < len(columns)
        ):
            raise InputError(
                f"columns path and any of {', '.join(LABELS)} in {path}",
                ", ".join(columns) or "none",
                "name the columns so in the first line",
            )
        reader.fieldnames = columns
        for row in reader:
            if None in row or None in row.values() or not row["path"].strip():
                raise InputError(
                    f"{len(columns)} values and a path in line {reader.line_num} of {path}",
                    "another row",
                    "complete it, and quote values that hold a comma",
                )
            values = {name: value.strip() for name, value in row.items()}
            labels = {name: values[name] for name in LABELS if values.get(name)}
            yield reader.line_num, values["path"], labels
    except csv.Error as error:
        raise InputError(
            f"comma-separated values in {path}, after line {max(reader.line_num - 1, 0)}",
            error,
            "save it again as CSV",
        ) from None


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(
            "a regular expression", f"{pattern!r} ({error})", "correct it as Python's re reads it"
        ) from None
    if not expression.groupindex or not set(LABELS).issuperset(expression.groupindex):
        raise InputError(
            f"a pattern with named groups out of {', '.join(LABELS)}",
            repr(pattern),
            r"write, for example, cam(?P<camera>\d+)",
        )
    return expression


def _match(expression: re.Pattern[str] | None, path: str) -> dict[str, str]:
    if expression is None:
        return {}
    found = expression.search(Path(path).as_posix())
    if not found:
        raise InputError(
            f"every path to match {expression.pattern!r}",
            path,
            "correct the pattern, or embed that image without it",
        )
    return {name: value for name, value in found.groupdict().items() if value}


def _source(path: str, labels: Mapping[str, str], fragment: str = "") -> Source:
    time = parse_time(labels["time"]) if "time" in labels else None
    texts: dict[str, Any] = {**labels, "time": time}
    return Source(os.path.abspath(path) + fragment, **texts)


def given_labels(what: str, pattern: str | None = None) -> set[str]:
    """Return which labels a list's columns or a pattern's groups give, though some may be empty.

    Args:
        what: as ``find_sources`` takes it.
        pattern: as ``find_sources`` takes it.
    """
    expression, path = _compile(pattern), Path(os.path.expanduser(what))
    given = set(expression.groupindex) if expression else set()
    if own.is_list(path):
        return given | set(LABELS)
    if path.suffix.lower() == ".csv" and path.is_file():
        with path.open(encoding="utf-8-sig", newline="") as file:
            given |= {name.strip() for name in next(csv.reader(file), ())} & set(LABELS)
    return given
