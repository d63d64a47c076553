"""Boxes in frames, and the key of an image: path + box (+ frame).

Nothing here needs Pillow, NumPy or PyTorch.
"""

import os
import re
from typing import NamedTuple

__all__ = ["Box", "ImageKey", "image_key", "located", "outside", "split_key"]

# A media fragment (W3C, Media Fragments URI 1.0) at the end of a path; "frame" is ours [C].
_FRAGMENT = re.compile(r"#(?:frame=(\d+))?(?:&|(?<=#))?(?:xywh=(\d+),(\d+),(\d+),(\d+))?$")


class Box(NamedTuple):
    """A rectangle of whole pixels in a frame, counted from the frame's upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def __str__(self) -> str:
        """Return x, y, width and height with commas."""
        return f"{self.x},{self.y},{self.width},{self.height}"


class ImageKey(NamedTuple):
    """What names one image: a file; or a box in it, or in one of its frames."""

    path: str
    box: Box | None = None
    frame: int | None = None


def image_key(path: str, box: Box | None = None, frame: int | None = None) -> str:
    """Return the key of an image as text; without box and frame it is the path.

    >>> image_key("a.jpg"), image_key("a.jpg", Box(1, 2, 30, 60), 7)
    ('a.jpg', 'a.jpg#frame=7&xywh=1,2,30,60')
    """
    parts = [] if frame is None else [f"frame={frame}"]
    parts += [] if box is None else [f"xywh={box}"]
    return f"{path}#{'&'.join(parts)}" if parts else path


def split_key(key: str) -> ImageKey:
    """Return what ``image_key`` was made of.

    >>> split_key("a.jpg#frame=7&xywh=1,2,30,60")
    ImageKey(path='a.jpg', box=Box(x=1, y=2, width=30, height=60), frame=7)
    """
    found = _FRAGMENT.search(key)
    if found is None or not any(found.groups()):
        return ImageKey(key)
    frame, *numbers = found.groups()
    box = Box(*map(int, numbers)) if numbers[0] is not None else None
    return ImageKey(key[: found.start()], box, None if frame is None else int(frame))


def located(name: str) -> ImageKey:
    """Return what a name stands for: the file of that name if there is one, else a key."""
    if "#" not in name or os.path.lexists(name):
        return ImageKey(name)
    return split_key(name)


def outside(box: Box, width: int, height: int) -> bool:
    """Return whether a box leaves a frame of this size."""
    return box.x + box.width > width or box.y + box.height > height
