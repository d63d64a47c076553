"""Examine a data set of one's own: lists or a folder, and every image."""

import datetime
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from cmemd.data.boxes import Box, image_key, outside
from cmemd.data.depth import bits_of
from cmemd.data.image_files import Reason
from cmemd.data.images import (
    chroma,
    crop,
    damage,
    decode,
    is_doubtful,
    max_pixels,
    open_image,
    peculiarities,
    read_bytes,
    seen_size,
)
from cmemd.data.layouts import own
from cmemd.data.modality import Modality
from cmemd.data.palettes import recognise
from cmemd.data.sensors import PLAIN, Sensor
from cmemd.doctor.examination import standin_title
from cmemd.doctor.guard_rates import GuardSamples, guard_samples, report_guard
from cmemd.doctor.near import near_pairs, perceptual_hash
from cmemd.doctor.pixels import Decoded, map_images, report_decoded
from cmemd.doctor.report import STANDIN, Fault, Report, Severity
from cmemd.doctor.sums import report_sums
from cmemd.doctor.tree import META, SAME_FILE, ImageFile
from cmemd.errors import InputError, exhausted, printable
from cmemd.files import file_sha256

__all__ = ["examine_own"]

ONE_MODALITY = Fault(
    Severity.WARNING,
    "identities with images of one modality only",
    "add images: training skips these people, and no query of theirs can be answered",
)
LACKING = Fault(
    Severity.ERROR,
    "splits without images of a modality",
    "add images: training and scoring need both modalities",
)
UNMATCHED = Fault(
    Severity.WARNING,
    f"images that are not named as {own.PATTERN}",
    "rename them, or write a list with `cmemd list --pattern`: they are left out",
)
LEFT_OUT = Fault(Severity.NOTE, "files that are left out", "nothing: they are no images to use")
OUTSIDE = Fault(
    Severity.ERROR,
    "boxes outside their frame",
    "clip them to the frame, or remove the rows: training refuses them",
)
DEEP = Fault(
    Severity.ERROR,
    "images of more than 8 bits a channel",
    "say by --range and INPUT.THERMAL_RANGE how thermal counts become grey levels, or convert them "
    "to 0 to 255: training refuses them",
)
NEAR_OTHER = Fault(
    Severity.WARNING,
    "near-duplicate images of different identities",
    "look at them: is one of the two identities wrong?",
)
NEAR_SPLITS = Fault(
    Severity.WARNING,
    "near-duplicate images in different splits",
    "look at them: a person may have two identities, and scores would be too high",
)
NEAR_SAME = Fault(
    Severity.NOTE,
    "near-duplicate images of one identity",
    "nothing; frames that follow one another add little",
)

_FAULTS = {
    kind: Fault(Severity.ERROR, kind.words, f"{kind.remedy}: training refuses the list")
    for kind in own.FaultKind
}


class _Job(NamedTuple):
    """A file and the rows that name it, by their places in the list of rows."""

    path: str
    boxes: tuple[Box | None, ...]
    places: tuple[int, ...]
    sensor: Sensor
    modality: Modality


class _Seen(NamedTuple):
    """What a file shows.

    Attributes:
        problem: why it cannot be used, or None.
        deep: whether the problem is more than 8 bits a channel.
        mode: Pillow's name of its channels.
        size: width and height of the whole frame.
        notes: what is peculiar.
        sha256: of the file.
        images: of each box what it shows; None for a box outside.
    """

    problem: str | None
    deep: bool = False
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    notes: tuple[Reason, ...] = ()
    sha256: str = ""
    images: "tuple[_Part | None, ...]" = ()


class _Part(NamedTuple):
    """What an image shows: a whole file, or a box in it.

    ``guard`` is ``cmemd.doctor.guard_rates.guard_samples`` of it.
    """

    height: int
    width: int
    chroma: float
    hash: bytes
    palette: str | None
    guard: GuardSamples


def examine_own(
    lists: Sequence[Path | str],
    root: Path | str | None = None,
    sums: Mapping[str, str] | None = None,
    sensor: Sensor = PLAIN,
) -> Report:
    """Examine lists, or a folder by its names, and every image decoded.

    Args:
        lists: of one naming; none for the folder.
        root: where relative paths of the lists start, default each list's folder; or the folder.
        sums: path below the folder -> SHA-256 that the file should have.
        sensor: of the thermal images.

    Returns:
        The report; ``usable`` says whether you can train and score on the data set. Its
        ``guard_statistics`` are those of the images, None without both modalities.

    Raises:
        InputError: a missing list or folder, or a folder without an image that matches.
    """
    max_pixels()  # an invalid setting is no fault of the images
    if root is not None and not Path(root).is_dir():
        raise InputError(
            f"a data set's folder at {root}",
            "a file" if Path(root).exists() else "no such folder",
            "give --root the folder itself",
        )
    report = Report(own.LAYOUT.title, ", ".join(map(str, lists)) or str(root))

    def add(fault: own.ListFault) -> None:
        report.add(_FAULTS[fault.kind], [fault.text])

    if lists:
        read = [own.read_list(file, root, add) for file in lists]
    else:
        assert root is not None, "--root or --list is given"
        listed, unmatched = own.read_folder(root, tally=report.tally)
        report.add(UNMATCHED, unmatched)
        read = [listed]
        _report_left_out(listed.folder, report)
    folder = read[0].folder
    own.check_lists([("", listed) for listed in read], add)
    report.standin = standin_title(folder / META)
    if report.standin is not None:
        report.add(STANDIN, [f"{META} says: {report.standin}"])
    rows = [row for listed in read for row in listed.rows]
    _report_labels(rows, report)
    _report_images(rows, [x.where(r) for x in read for r in x.rows], folder, report, sensor)
    for file in lists:
        report.digests[_below(folder, os.path.abspath(file))] = file_sha256(Path(file))
    if sums is not None:
        report_sums(folder, sums, report)
    return report


# ---- Labels ---------------------------------------------------------------------------------


def _report_labels(rows: Sequence[own.Row], report: Report) -> None:
    """Report counts by split, camera, modality and time, and who has one modality only."""
    people: dict[str, set[Modality]] = defaultdict(set)
    for row in rows:
        people[row.identity].add(row.modality)
    report.row("images", len(rows))
    report.row("identities", len(people))
    report.row("identities of both modalities", sum(len(m) == 2 for m in people.values()))
    report.row("rows with a box", sum(row.box is not None for row in rows))
    for modality in Modality:
        name = modality.name.lower()
        report.row(f"{name} images", sum(row.modality is modality for row in rows))
    splits = Counter(row.split for row in rows)
    for split in sorted(splits, key=lambda s: ("", *own.SPLITS).index(s)):
        of_split = [row for row in rows if row.split == split]
        seen = {row.modality for row in of_split}
        report.row(
            f"split {split or '(none; made by identity)'}: identities, visible and thermal images",
            " ".join(
                f"{number:,}"
                for number in (
                    len({row.identity for row in of_split}),
                    *(sum(row.modality is m for row in of_split) for m in Modality),
                )
            ),
        )
        if split in ("", own.TRAIN, own.VALIDATION, "test") and len(seen) < len(Modality):
            (lacking,) = set(Modality) - seen
            what = f"split {split}" if split else "all rows"
            report.add(LACKING, [f"{what}: no {lacking.name.lower()} images"])
    for camera in sorted({row.camera for row in rows}):
        of_camera = [row for row in rows if row.camera == camera]
        counts = (sum(row.modality is m for row in of_camera) for m in Modality)
        report.row(
            f"camera {printable(camera) or '(none)'}: visible and thermal images",
            " ".join(f"{count:,}" for count in counts),
        )
    times = [row.time for row in rows if row.time is not None]
    report.row("images with a time", len(times))
    if times:
        report.row("first and last time", f"{_time(min(times))} {_time(max(times))}")
    lonely = sorted(person for person, seen in people.items() if len(seen) == 1)
    report.add(
        ONE_MODALITY,
        (f"identity {person}: {min(people[person]).name.lower()} only" for person in lonely),
    )


def _time(seconds: float) -> str:
    """Return a time in words: a date from 1971 on, else the number of seconds."""
    if not 365 * 86400 <= seconds < 253402300800:
        return f"{seconds:g} s"
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat()


def _report_left_out(folder: Path, report: Report) -> None:
    for reason in Reason:
        fault = SAME_FILE if reason is Reason.SAME_FILE else LEFT_OUT
        names = (_below(folder, name) for name in report.tally.names(reason))
        report.add(fault, (f"{name} ({reason.words})" for name in names if name != META))


# ---- Images ---------------------------------------------------------------------------------


def _report_images(
    rows: Sequence[own.Row], where: Sequence[str], folder: Path, report: Report, sensor: Sensor
) -> None:
    """Decode every file once, and report on it and on the images in it."""
    by_path: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        by_path[row.path].append(place)
    jobs = [
        _Job(
            path,
            tuple(rows[place].box for place in places),
            tuple(places),
            sensor.of(rows[places[0]].modality),
            rows[places[0]].modality,
        )
        for path, places in by_path.items()
    ]
    files: list[ImageFile] = []
    decoded: list[Decoded] = []
    hashes: dict[int, bytes] = {}
    guarded: dict[Modality, list[tuple[str, GuardSamples]]] = {m: [] for m in Modality}
    modes: Counter[tuple[Modality, str]] = Counter()
    with closing(map_images(_look, jobs)) as found:  # its threads end before an error is shown
        for job, seen in zip(jobs, tqdm(found, total=len(jobs), desc="images", disable=None)):  # noqa: B905  tqdm has no length to compare
            name = _below(folder, job.path)
            if seen.deep:
                report.add(DEEP, [f"{name}: {seen.problem}"])
                continue
            if seen.problem:
                files.append(_file(name, rows[job.places[0]]))
                decoded.append(Decoded(0, 0, 0.0, seen.problem, sha256=seen.sha256))
                continue
            notes, digest = seen.notes, seen.sha256
            for place, image in zip(job.places, seen.images, strict=True):
                row = rows[place]
                if image is None:
                    size = f"{seen.size[0]} x {seen.size[1]}"
                    report.add(OUTSIDE, [f"{where[place]}: {row.box} in {size} pixels"])
                    continue
                hashes[place] = image.hash
                guarded[row.modality].append((row.identity, image.guard))
                modes[row.modality, seen.mode] += 1
                files.append(_file(image_key(name, row.box, row.frame), row))
                decoded.append(
                    Decoded(image.height, image.width, image.chroma, None, notes, "", image.palette)
                )
                notes = ()  # of a file once
            report.digests[name] = digest
    report_decoded(files, decoded, report)
    report_guard(guarded, report)
    for (modality, mode), count in sorted(modes.items()):
        report.row(f"{modality.name.lower()} images of mode {mode}", count)
    _report_near(rows, where, hashes, report)


def _file(name: str, row: own.Row) -> ImageFile:
    return ImageFile(name, row.camera or row.modality.name.lower(), 0, row.modality)


def _look(job: _Job) -> _Seen:
    """Decode a file whole, and hash each of its boxes."""
    digest = ""
    try:
        data = read_bytes(job.path)
        digest = hashlib.sha256(data).hexdigest()
        image = open_image(data, job.path, job.sensor)
        if image.format != "JPEG":
            image.load()  # the orientation of a PNG may follow its pixels
        mode, size = f"{image.mode}, {bits_of(data, image)} bits", seen_size(data, image)
        problem = damage(data, image.format)
        notes = tuple(peculiarities(data, image))
        if problem and is_doubtful(problem):
            problem, notes = None, (*notes, Reason.DOUBTFUL)
        if not problem:
            rgb = decode(data, image, job.path, job.sensor)
            boxes = (None if b and outside(b, *size) else crop(rgb, b) for b in job.boxes)
            images = tuple(None if part is None else _measure(part, job.modality) for part in boxes)
            return _Seen(None, False, mode, size, notes, digest, images)
    except UnidentifiedImageError:
        problem = "no image"
    except Exception as error:  # Pillow raises many kinds for damaged files
        if exhausted(error):
            raise
        problem = str(error) or type(error).__name__
    deep = problem.startswith("expected 8 bits a channel")
    return _Seen(" ".join(problem.split()), deep, sha256=digest)


def _measure(pixels: np.ndarray, modality: Modality) -> _Part:
    height, width = pixels.shape[:2]
    return _Part(
        height,
        width,
        chroma(pixels),
        perceptual_hash(Image.fromarray(pixels)),
        recognise(pixels),
        guard_samples(pixels, modality),
    )


def _report_near(
    rows: Sequence[own.Row], where: Sequence[str], hashes: Mapping[int, bytes], report: Report
) -> None:
    """Report near-duplicates within each modality."""
    for modality in Modality:
        places = [place for place in hashes if rows[place].modality is modality]
        cases: dict[Fault, list[str]] = defaultdict(list)
        for a, b in near_pairs([hashes[place] for place in places]):
            one, other = rows[places[a]], rows[places[b]]
            fault = NEAR_SAME
            if one.identity != other.identity:
                fault = NEAR_OTHER
            if own.use_of(one.split) != own.use_of(other.split):
                fault = NEAR_SPLITS
            names = [
                f"{image_key(row.path, row.box, row.frame)} ({row.identity})"
                for row in (one, other)
            ]
            cases[fault].append(" = ".join(names))
        for fault, found in cases.items():
            report.add(fault, found)


def _below(folder: Path, path: str) -> str:
    """Return a path below a folder, with forward slashes; the path itself elsewhere."""
    return path.removeprefix(f"{folder}{os.sep}").replace(os.sep, "/")
