"""The images of a video: its boxes, as sources for a gallery, and their pixels."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from cmemd.data.boxes import Box, ImageKey, image_key, located
from cmemd.data.image_files import Reason, Tally
from cmemd.data.images import crop
from cmemd.data.video import (
    clipped,
    is_video,
    read_frames,
    read_mot,
    too_short,
    video_facts,
)
from cmemd.errors import InputError
from cmemd.gallery.sources import LABELS, Source

__all__ = ["VIDEO_LABELS", "pixels_of", "video_sources"]

VIDEO_LABELS = {"tracklet"} & set(LABELS)


def video_sources(video: Path, boxes: Path, tally: Tally) -> list[Source]:
    """Return the boxes of a video in the order of its frames.

    Boxes are clipped to the frame. A box outside of it is left out, and one with confidence 0.

    Args:
        video: of a kind that OpenCV reads.
        boxes: MOT file.
        tally: takes what is left out.

    Raises:
        InputError: the video or the file cannot be read, the video has too few frames, or no box is
            in a frame.
    """
    facts = video_facts(video)
    tracked, ignored = read_mot(boxes)
    if facts.frames and tracked[-1].frame >= facts.frames:
        raise too_short(video, facts.frames, tracked[-1].frame)
    for _ in range(ignored):
        tally.add(Reason.IGNORED_BOX, boxes)
    path = str(video.absolute())
    sources: dict[str, Source] = {}
    for of in tracked:
        box = clipped(of.box, facts.width, facts.height)
        if box is None:
            tally.add(Reason.OUTSIDE_BOX, f"{boxes}, line {of.line}")
            continue
        key = image_key(path, box, of.frame)
        if key in sources:
            tally.add(Reason.REPEATED, f"{boxes}, line {of.line}")
            continue
        labels: dict[str, Any] = dict.fromkeys(VIDEO_LABELS, of.track)
        sources[key] = Source(key, **labels)
    if not sources:
        raise InputError(
            f"boxes of {boxes} in the {facts.width} x {facts.height} pixels of {video}",
            "none",
            "name the video that was tracked, at its own size",
        )
    return list(sources.values())


def pixels_of(sources: Sequence[Source]) -> Iterator[str | tuple[str, np.ndarray]]:
    """Yield what ``Predictor.stream`` takes of each source, in order.

    That is a path; or of a box in a video its key and pixels, (h, w, 3) uint8 RGB. A video is read
    once if its boxes follow one another in the order of frames.
    """
    for video, part in groupby(sources, lambda source: _video(located(source.path))):
        if video is None:
            yield from (source.path for source in part)
        else:
            yield from _of_video(video, list(part))


def _video(key: ImageKey) -> str | None:
    return (
        key.path if key.frame is not None and key.box is not None and is_video(key.path) else None
    )


def _of_video(video: str, sources: Sequence[Source]) -> Iterator[tuple[str, np.ndarray]]:
    keys: list[tuple[str, int, Box]] = []
    for source in sources:
        key = located(source.path)
        assert key.frame is not None, "_video"
        assert key.box is not None, "_video"
        keys.append((source.path, key.frame, key.box))
    start = 0
    while start < len(keys):
        end = start + 1
        while end < len(keys) and keys[end][1] >= keys[end - 1][1]:
            end += 1
        boxes = groupby(keys[start:end], lambda entry: entry[1])
        for (_, of_frame), (_, frame) in zip(
            boxes, read_frames(video, (number for _, number, _ in keys[start:end])), strict=True
        ):
            # A copy: a view would keep the whole frame in memory while it waits.
            yield from ((name, crop(frame, box).copy()) for name, _, box in of_frame)
        start = end
