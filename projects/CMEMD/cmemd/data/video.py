"""Read frames of a video, one after the other, and boxes in them as MOT files have them.

A frame is in memory at a time. Frames count from 0 here and in an image's key; a MOT file counts
them from 1.
"""

import csv
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cmemd.data.boxes import Box
from cmemd.data.images import max_pixels
from cmemd.errors import InputError

if TYPE_CHECKING:
    import cv2

__all__ = [
    "TrackedBox",
    "VideoFacts",
    "clipped",
    "is_video",
    "read_frame",
    "read_frames",
    "read_mot",
    "too_short",
    "video_facts",
]

# Content of MP4 and MOV (after 4 bytes), AVI, Matroska and WebM. A playlist, which could name other
# files and addresses, is none of these.
_STARTS = {
    4: (b"ftyp", b"moov", b"mdat", b"wide", b"free"),
    0: (b"RIFF", b"\x1a\x45\xdf\xa3"),
}
_MOT_COLUMNS = 6  # frame, track, x, y, w, h; a confidence may follow, and more
_CONFIDENCE = 6


class TrackedBox(NamedTuple):
    """A row of a MOT file.

    Attributes:
        frame: number, from 0.
        track: as the file has it.
        box: whole pixels from the frame's corner; may leave the frame.
        line: its number in the file.
    """

    frame: int
    track: str
    box: tuple[int, int, int, int]
    line: int


class VideoFacts(NamedTuple):
    """What a video's header says; ``frames`` is 0 where it does not."""

    width: int
    height: int
    frames: int


def is_video(path: Path | str) -> bool:
    """Return whether a file starts as a video does."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return any(start[at:].startswith(marks) for at, marks in _STARTS.items())


def video_facts(path: Path | str) -> VideoFacts:
    """Return size and number of frames of a video.

    Raises:
        InputError: no video that OpenCV reads, too large frames, or no OpenCV.
    """
    import_cv2(path)
    import cv2

    with _Open(path) as video:
        width, height, frames = (
            max(0, int(video.get(prop)))
            for prop in (
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
                cv2.CAP_PROP_FRAME_COUNT,
            )
        )
    if width * height > max_pixels():
        raise InputError(
            f"at most {max_pixels():,} pixels in a frame of {path}",
            f"{width} x {height}",
            "reduce it, or set CMEMD_MAX_MEGAPIXELS",
        )
    return VideoFacts(width, height, frames)


def read_frames(path: Path | str, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield some frames of a video, each (H, W, 3) uint8 RGB; decode it once, from its start.

    Args:
        path: of the video.
        wanted: numbers of frames, from 0, in any order.

    Raises:
        InputError: the video ends before a wanted frame, or cannot be read.
    """
    numbers = sorted(set(wanted))
    if not numbers:
        return
    import_cv2(path)
    import cv2

    with _Open(path) as video:
        at = 0
        for number in numbers:
            while at <= number:
                if not video.grab():
                    raise too_short(path, at, number)
                at += 1
            whole, frame = video.retrieve()
            if not whole:
                raise InputError(f"frame {number} of {path}", "a damaged one", "convert the video")
            yield number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def read_frame(path: Path | str, number: int) -> np.ndarray:
    """Return one frame; all before it are decoded, too."""
    [(_, frame)] = read_frames(path, [number])
    return frame


def too_short(path: Path | str, frames: int, number: int) -> InputError:
    """Return the error of a video without a frame that a box names."""
    return InputError(
        f"frame {number + 1} in {path}, which a box names",
        f"{frames} frames",
        "name the video that was tracked; MOT files count frames from 1",
    )


def read_mot(path: Path | str) -> tuple[list[TrackedBox], int]:
    """Return the boxes of a MOT file, and the number of rows left out.

    Each line has frame, track, x, y, w, h, and maybe a confidence and more, separated by commas.
    Edges are rounded to whole pixels. A confidence of 0 means "do not use", as MOTChallenge has it;
    such rows are left out. A first line of names is passed over.

    Raises:
        InputError: names the line that is no box, or a box that is there twice.
    """
    boxes: dict[tuple[int, tuple[int, int, int, int]], TrackedBox] = {}
    left_out = 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for row in (reader := csv.reader(file)):
                if not any(cell.strip() for cell in row) or (
                    reader.line_num == 1 and not _number(row[0])
                ):
                    continue
                box = _tracked(row, path, reader.line_num)
                if (
                    len(row) > _CONFIDENCE
                    and _number(row[_CONFIDENCE])
                    and not float(row[_CONFIDENCE])
                ):
                    left_out += 1
                    continue
                place = box.frame, box.box
                if place in boxes:
                    raise InputError(
                        f"each box of a frame once in {path}",
                        f"lines {boxes[place].line} and {box.line}",
                        "remove one of them",
                    )
                boxes[place] = box
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"boxes in MOT format in {path}", error, "save them as CSV in UTF-8"
        ) from None
    if not boxes:
        raise InputError(f"boxes in {path}", "none", "name the tracker's file of boxes")
    return sorted(boxes.values(), key=lambda of: (of.frame, of.line)), left_out


def clipped(box: tuple[int, int, int, int], width: int, height: int) -> Box | None:
    """Return the part of a box in a frame; None if there is none."""
    x, y, w, h = box
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    return Box(left, top, right - left, bottom - top) if left < right and top < bottom else None


def import_cv2(path: Path | str) -> None:
    """Raise unless OpenCV is there.

    Raises:
        InputError: it is not.
    """
    try:
        import cv2  # noqa: F401  an extra, and slow to import
    except ImportError:
        raise InputError(
            f"OpenCV, to read the video {path}",
            "no package cv2",
            "run `pip install opencv-python-headless`",
        ) from None


class _Open:
    """A video, closed at the end of the body."""

    def __init__(self, path: Path | str) -> None:
        self._path = path

    def __enter__(self) -> "cv2.VideoCapture":
        import cv2

        if not is_video(self._path):
            raise InputError(
                f"a video at {self._path}",
                "another file" if os.path.isfile(self._path) else "no such file",
                "name a file such as .mp4, .mov, .avi or .mkv",
            )
        self._video = cv2.VideoCapture(os.fspath(self._path))
        if not self._video.isOpened():
            raise InputError(
                f"a video that OpenCV decodes at {self._path}",
                "another one, or a damaged one",
                "convert it, for example with ffmpeg, to H.264",
            )
        return self._video

    def __exit__(self, *error: Any) -> None:
        self._video.release()


def _is_ignored(row: list[str]) -> bool:
    return len(row) > _CONFIDENCE and _number(row[_CONFIDENCE]) and not float(row[_CONFIDENCE])


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _tracked(row: list[str], path: Path | str, line: int) -> TrackedBox:
    numbers = row[:1] + row[2:_MOT_COLUMNS]
    if len(row) >= _MOT_COLUMNS and all(map(_number, numbers)) and row[1].strip():
        frame, x, y, w, h = map(float, numbers)
        left, top, right, bottom = round(x), round(y), round(x + w), round(y + h)
        if frame == int(frame) >= 1 and right > left and bottom > top:
            return TrackedBox(
                int(frame) - 1, row[1].strip(), (left, top, right - left, bottom - top), line
            )
    raise InputError(
        f"frame (from 1), track, x, y, w and h above 0 in line {line} of {path}",
        ",".join(row)[:80],
        "write boxes as MOT files have them",
    )
