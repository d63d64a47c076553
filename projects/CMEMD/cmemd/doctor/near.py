"""Near-duplicates: images that a small perceptual hash cannot tell apart.

A hash holds which of an image's 255 lowest frequencies are above their median. On drawn people,
another JPEG quality, size or brightness changes up to 18 of its bits, another image of the same
person 68 or more.

Shape legend: ``N`` = images.
"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from PIL import Image

__all__ = ["NEAR", "near_pairs", "perceptual_hash"]

NEAR = 16  # bits that may differ [C]
_SIDE, _LOW = 64, 16  # pixels; frequencies of each direction
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1).astype(np.uint8)


def _cosines() -> np.ndarray:
    """Return the first rows of the discrete cosine transform (DCT-II), ``(_LOW, _SIDE)``."""
    frequency, place = np.arange(_LOW)[:, None], np.arange(_SIDE)
    return np.cos(np.pi * frequency * (2 * place + 1) / (2 * _SIDE))


_COSINES = _cosines()


def perceptual_hash(image: Image.Image) -> bytes:
    """Return the hash of an image, 32 bytes."""
    grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = _COSINES @ np.asarray(grey, dtype=np.float64) @ _COSINES.T
    values = low.ravel()[1:]  # without the mean brightness
    # An image of one grey level has rounding errors alone; they are no picture.
    values = np.where(np.abs(values) < 1e-6, 0.0, values)
    return np.packbits(values > np.median(values)).tobytes()


def near_pairs(hashes: list[bytes], near: int = NEAR) -> Iterator[tuple[int, int]]:
    """Yield pairs of images whose hashes differ in at most ``near`` bits, each pair once.

    Of several equal images the first stands for all: each of the others pairs with it alone. Hashes
    that near share one of ``near`` + 1 pieces, so only images that share a piece are compared.

    Args:
        hashes: of ``N`` images.
        near: number of bits.
    """
    first: dict[bytes, int] = {}
    for number, hashed in enumerate(hashes):
        if first.setdefault(hashed, number) != number:
            yield first[hashed], number
    if len(first) < 2:
        return
    numbers = np.array(list(first.values()))
    packed = np.frombuffer(b"".join(first), np.uint8).reshape(len(first), -1)
    bits = np.unpackbits(packed, axis=1)
    seen: set[tuple[int, int]] = set()
    for piece in np.array_split(np.arange(bits.shape[1]), near + 1):
        groups: dict[bytes, list[int]] = defaultdict(list)
        for row, key in enumerate(np.packbits(bits[:, piece], axis=1)):
            groups[key.tobytes()].append(row)
        for rows in groups.values():
            for a, b in _compare(packed, np.array(rows), near):
                pair = int(numbers[a]), int(numbers[b])
                if pair not in seen:
                    seen.add(pair)
                    yield pair


def _compare(packed: np.ndarray, rows: np.ndarray, near: int) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows, in order, that differ in at most ``near`` bits."""
    for place, row in enumerate(rows[:-1], 1):
        distance = _BITS[packed[rows[place:]] ^ packed[row]].sum(axis=1, dtype=np.int64)
        for other in rows[place:][distance <= near]:
            yield int(row), int(other)
