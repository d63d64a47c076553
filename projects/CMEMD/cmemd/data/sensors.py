"""What turns a thermal camera's files into the grey levels that the network sees.

One pure function, ``Sensor.grey_levels`` for counts and ``Sensor.finish`` for all images, serves
training, evaluation, export, inference and galleries. Visible images are never changed by it.

A thermal camera counts in 12 to 16 bits, or writes temperatures as floats. There is no agreed way
from there to 8 bits, so that a range must be told:

================== =============================================================================
range              grey level of a count c
================== =============================================================================
``LOW:HIGH``       0 up to LOW, 255 from HIGH on, linear between: equal for all images
``percentile:A,B`` the same, where LOW and HIGH are percentiles of the file's own counts
``agc``            histogram equalisation with a plateau, as many cameras do it themselves
(empty)            none: a file of more than 8 bits a channel is refused
================== =============================================================================

Images of 8 bits are grey levels already, and no range changes them. A box in a frame is cut out
after the range was applied to the frame.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cmemd.data.modality import Modality
from cmemd.data.palettes import NO_PALETTE, PALETTES, to_grey
from cmemd.errors import InputError

__all__ = ["BLACK_HOT", "PICTURES", "PLAIN", "POLARITIES", "WHITE_HOT", "Sensor", "is_range"]

WHITE_HOT, BLACK_HOT = "white-hot", "black-hot"
POLARITIES = (WHITE_HOT, BLACK_HOT)
_AGC = "agc"
_PERCENTILE = "percentile:"
_AGC_BINS = 1024  # [C]
_AGC_TAILS = (0.1, 99.9)  # percentiles beyond which counts are clipped [C]
_AGC_PLATEAU = 4.0  # most that a bin counts, as a multiple of an even histogram's bin [C]
_ROWS = 256  # rows of pixels that are converted at once


@dataclass(frozen=True)
class Sensor:
    """How the files of a thermal camera become grey levels.

    Attributes:
        range: of counts, see the module; "" for none.
        palette: false colours in which the camera saves, one of ``PALETTES``; "none" for grey.
        polarity: "white-hot", or "black-hot" where warm things are dark.

    Raises:
        InputError: an invalid value.
    """

    range: str = ""
    palette: str = NO_PALETTE
    polarity: str = WHITE_HOT

    def __post_init__(self) -> None:
        """Check the values."""
        if self.range:
            _parse(self.range)
        for name, value, choices in (
            ("palette", self.palette, (NO_PALETTE, *PALETTES)),
            ("polarity", self.polarity, POLARITIES),
        ):
            if value not in choices:
                raise InputError(
                    f"a thermal {name} out of {', '.join(choices)}", repr(value), "name one of them"
                )

    def __str__(self) -> str:
        """Return the three in words, for messages and as a gallery records them."""
        return f"range {self.range or 'none'}, palette {self.palette}, {self.polarity}"

    def to_dict(self) -> dict[str, str]:
        """Return plain types, as ``model.json`` holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> "Sensor":
        """Return what ``to_dict`` returned; nothing means the defaults."""
        return cls(**(values or {}))

    def changed(self, options: Mapping[str, str]) -> "Sensor":
        """Return this sensor with other values of some attributes."""
        return replace(self, **options)

    def of(self, modality: Modality) -> "Sensor":
        """Return what to do with images of a modality: nothing with visible ones."""
        return self if modality is Modality.THERMAL else PLAIN

    def grey_levels(self, counts: np.ndarray) -> np.ndarray:
        """Return counts as grey levels, (H, W) uint8, white-hot as they came.

        The result does not fall where counts rise. Counts that are no number, such as those of dead
        pixels, become 0. An image of equal counts becomes 0 where the range is its own.

        Args:
            counts: (H, W), whole numbers or floats. ``range`` must be set.
        """
        if not self.range:
            raise ValueError("a sensor without a range has no grey levels of counts")
        return _by_rows(counts, _parse(self.range)(counts))

    def finish(self, pixels: np.ndarray, where: str = "") -> np.ndarray:
        """Return pixels without false colours, and white-hot.

        Args:
            pixels: (H, W, 3) uint8 RGB; the default sensor returns them as they are.
            where: the image's place, for messages.

        Raises:
            InputError: they are not of the palette.
        """
        if self.palette != NO_PALETTE:
            pixels = to_grey(pixels, self.palette, where)
        return pixels if self.polarity == WHITE_HOT else 255 - pixels


def is_range(text: object) -> bool:
    """Return whether a text is a range, or empty for none."""
    try:
        return isinstance(text, str) and Sensor(range=text).range == text
    except InputError:
        return False


Mapped = Callable[[np.ndarray], np.ndarray]  # counts -> grey levels as floats


def _parse(text: str) -> Callable[[np.ndarray], Mapped]:
    """Return the function that fits a range to an image's counts.

    Raises:
        InputError: the text is no range.
    """
    if text == _AGC:
        return _equalise
    percentile = text.startswith(_PERCENTILE)
    parts = text.removeprefix(_PERCENTILE).split("," if percentile else ":")
    try:
        low, high = map(float, parts)
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _no_range(text)
    if low >= high:
        raise InputError(
            "a thermal range whose LOW is below its HIGH", repr(text), "swap or correct them"
        )
    if not percentile:
        return lambda counts: _linear(low, high)
    if not 0 <= low < high <= 100:
        raise _no_range(text)

    def of_image(counts: np.ndarray) -> Mapped:
        return _linear(*_percentiles(counts, (low, high)))

    return of_image


def _no_range(text: str) -> InputError:
    return InputError(
        "a thermal range LOW:HIGH, percentile:A,B (0 to 100) or agc",
        repr(text),
        "write, for example, 7000:12000, percentile:1,99 or agc",
    )


def _linear(low: float, high: float) -> Mapped:
    if not low < high:
        return lambda counts: np.zeros(counts.shape)
    return lambda counts: (counts - low) * (255 / (high - low))


def _equalise(counts: np.ndarray) -> Mapped:
    """Return histogram equalisation in which no bin counts more than the plateau.

    The plateau keeps a wide, empty background from taking all the grey levels.
    """
    low, high = _percentiles(counts, _AGC_TAILS)
    if not low < high:
        return _linear(low, high)
    edges = np.linspace(low, high, _AGC_BINS + 1)
    histogram, _ = np.histogram(counts, edges)
    capped = np.minimum(histogram, _AGC_PLATEAU * histogram.sum() / _AGC_BINS)
    levels = np.concatenate([[0.0], np.cumsum(capped)])
    return lambda values: np.interp(values, edges, levels * (255 / levels[-1]))


def _percentiles(counts: np.ndarray, shares: tuple[float, float]) -> tuple[float, float]:
    """Return two percentiles of the counts that are numbers; equal ones if there are none."""
    if counts.dtype.kind == "f":
        counts = counts[np.isfinite(counts)]
    if not counts.size:
        return 0.0, 0.0
    low, high = np.percentile(counts, shares)
    return float(low), float(high)


def _by_rows(counts: np.ndarray, function: Mapped) -> np.ndarray:
    """Return grey levels, a part of the rows at a time: floats take eight times the memory."""
    if counts.dtype == np.uint16 and counts.size > 1 << 16:
        table = _to_bytes(function(np.arange(1 << 16, dtype=np.float64)))
        return np.asarray(table[counts])
    grey = np.empty(counts.shape, np.uint8)
    for start in range(0, len(counts), _ROWS):
        part = counts[start : start + _ROWS].astype(np.float64)
        grey[start : start + _ROWS] = _to_bytes(function(part))
    return grey


def _to_bytes(levels: np.ndarray) -> np.ndarray:
    """Return levels rounded to bytes; those that are no number become 0."""
    levels = np.nan_to_num(levels, nan=0.0, posinf=255.0, neginf=0.0)
    rounded: np.ndarray = np.rint(levels.clip(0, 255)).astype(np.uint8)
    return rounded


PLAIN = Sensor()
PICTURES = Sensor(range=_AGC)  # shows an image of any depth, on sheets for people
