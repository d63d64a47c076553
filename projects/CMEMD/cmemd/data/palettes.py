"""Recognise thermal images in false colours, and turn them back to grey levels.

Many thermal cameras save a palette's colours in place of counts. A palette is a table of 256
colours, cold to hot; the grey level of a pixel is the place of its colour in the table. "jet" and
"inferno" are Matplotlib's. "ironbow" is our own construction [C]: each maker has another table of
that name, so its levels are right in their order and only roughly in their values.

Some neighbouring levels of jet share a colour: they come back within 4. JPEG changes colours; a
pixel then takes the level of the nearest colour. OpenCV's jet differs a little: within 9.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np

from cmemd.errors import InputError

__all__ = ["NO_PALETTE", "PALETTES", "colours", "recognise", "to_grey"]

NO_PALETTE = "none"
PALETTES = ("jet", "inferno", "ironbow")
# Level -> colour of our ironbow; between these it is linear in each channel.
_IRONBOW = {
    0: (0, 0, 10),
    24: (20, 0, 80),
    64: (90, 0, 150),
    112: (185, 15, 130),
    152: (235, 80, 35),
    192: (252, 150, 10),
    224: (255, 215, 60),
    255: (255, 252, 235),
}
_MEMBERSHIP = 36.0  # distance in RGB up to which a colour counts as a palette's; JPEG's error [C]
_COLOURED = 40  # grey levels between the channels from which on a pixel has a hue [C]
_LEAST_COLOURED = 0.3  # share of such pixels in an image that may be in false colours [C]
_LEAST_MEMBERS = 0.9  # share of these that lie on the palette [C]
_LEAST_SPREAD = 70  # levels between their quantiles 0.05 and 0.95: photographs have one hue [C]
_CELL = 8  # side of a cell in the table of the RGB cube
_LOOKED_AT = 2048  # pixels of an image, about
_CHUNK = 1 << 15  # colours whose distances are in memory


@cache
def colours(palette: str) -> np.ndarray:
    """Return a palette's table, (256, 3) uint8 RGB, cold to hot.

    Args:
        palette: one of ``PALETTES``.
    """
    if palette == "ironbow":
        levels = list(_IRONBOW)
        channels = zip(*_IRONBOW.values(), strict=True)
        table = np.stack([np.interp(np.arange(256), levels, c) for c in channels], axis=1)
    else:
        import matplotlib  # slow to import, and rarely needed

        table = 255 * np.asarray(matplotlib.colormaps[palette](np.arange(256)))[:, :3]
    rounded: np.ndarray = np.rint(table).astype(np.uint8)
    rounded.flags.writeable = False
    return rounded


def to_grey(pixels: np.ndarray, palette: str, where: str = "") -> np.ndarray:
    """Return the grey levels whose colours a palette has, in three equal channels.

    An image whose channels are equal is grey already, and comes back as it is.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        palette: one of ``PALETTES``.
        where: the image's place, for messages.

    Raises:
        InputError: less than half of the pixels have a colour near the palette's.
    """
    if (pixels == pixels[..., :1]).all():
        return pixels
    packed = pixels.reshape(-1, 3).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, inverse = np.unique(packed, return_inverse=True)
    table = np.stack([found >> 16, (found >> 8) & 255, found & 255], axis=1).astype(np.float32)
    levels, distances = _nearest(table, palette)
    near = (distances <= _MEMBERSHIP)[inverse]
    if near.mean() < 0.5:
        raise InputError(
            f"a thermal image in the colours of {palette}, or a grey one{where}",
            f"other colours ({100 * near.mean():.0f} % of the pixels fit)",
            "name the palette in which the camera saves, or save white-hot grey images",
        )
    grey = levels[inverse].reshape(pixels.shape[:2])
    return np.repeat(grey[..., None], 3, axis=2)


def recognise(pixels: np.ndarray) -> str | None:
    """Return the palette in which an image seems to be; None for photographs and grey images.

    The pixels that have a hue must lie on the palette, and be spread over it.

    Args:
        pixels: (H, W, 3) uint8 RGB.
    """
    rows, columns = pixels.shape[:2]
    step = max(1, int((rows * columns / _LOOKED_AT) ** 0.5))
    sample = pixels[::step, ::step].reshape(-1, 3)
    hued = sample[np.ptp(sample, axis=1) >= _COLOURED]
    if len(hued) < _LEAST_COLOURED * len(sample):
        return None
    cells = tuple((hued // _CELL).T)
    best, shares = None, {}
    for palette, (levels, members) in _cube().items():
        on = members[cells]
        shares[palette] = on.mean()
        low, high = np.quantile(levels[cells][on], (0.05, 0.95)) if on.any() else (0, 0)
        fits = shares[palette] >= _LEAST_MEMBERS and high - low >= _LEAST_SPREAD
        if fits and (best is None or shares[palette] > shares[best]):
            best = palette
    return best


@cache
def _cube() -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """Return for each palette the nearest level of each cell of the RGB cube, and whether near."""
    axis = np.arange(_CELL // 2, 256, _CELL, dtype=np.float32)
    cells = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    tables = {}
    for palette in PALETTES:
        levels, distances = _nearest(cells.reshape(-1, 3), palette)
        shape = cells.shape[:3]
        tables[palette] = levels.reshape(shape), (distances <= _MEMBERSHIP).reshape(shape)
    return tables


def _nearest(found: np.ndarray, palette: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the level (N,) uint8 of the nearest colour of each colour, and its distance (N,)."""
    table = colours(palette).astype(np.float32)
    levels, distances = np.empty(len(found), np.uint8), np.empty(len(found), np.float32)
    for start in range(0, len(found), _CHUNK):
        part = found[start : start + _CHUNK]
        squares = (part**2).sum(1)[:, None] - 2 * part @ table.T + (table**2).sum(1)
        nearest = squares.argmin(1)
        levels[start : start + _CHUNK] = nearest
        least = squares[np.arange(len(part)), nearest]
        distances[start : start + _CHUNK] = np.sqrt(np.maximum(least, 0))
    return levels, distances
