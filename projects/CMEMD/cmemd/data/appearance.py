"""Measure what tells the two modalities apart, and judge an image by other images of its cameras.

============ ====================================================================================
chroma       mean over pixels of the largest minus the least channel, in grey levels
saturation   255 x that mean by the mean of the largest channel: darkness does not change it
detail       100 x the mean difference of neighbouring grey levels by their standard deviation
============ ====================================================================================

A colour photograph has chroma, a thermal or near-infrared image has none. A photograph of dusk has
little, but its saturation stays; a grey photograph has none, but may keep the detail of the visible
camera. So an image is suspect only if its chroma speaks for the other modality, and no other
statistic speaks for its own; the detail of a coloured image given as thermal is not asked. Each
range reaches from quantile 0.01 to 0.99 of the images that were measured: the user's own cameras
set the limits. So a few grey images among the visible ones that were measured let all of them pass,
and thermal ones given as visible too. [chosen, not from the paper]
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmemd.data.images import chroma
from cmemd.data.modality import Modality
from cmemd.data.palettes import recognise
from cmemd.errors import InputError

__all__ = [
    "MEASURES",
    "Measured",
    "Statistics",
    "apparent",
    "measure",
    "read_statistics",
    "seems_other",
    "statistics_file",
    "summarise",
]

Measured = Mapping[str, float]  # name in ``MEASURES`` -> value
Statistics = Mapping[str, Mapping[str, Any]]  # modality -> ``summarise``

_QUANTILES = (0.01, 0.5, 0.99)
_APPEARANCE = {
    Modality.VISIBLE: "colour photographs",
    Modality.THERMAL: "grey or thermal images (if your visible cameras see in grey too, have such "
    "images in the list of cmemd doctor --write-guard)",
}
_MAY_BE_FALSE_COLOURS = 20.0  # chroma from which on palettes are tried [C]
_OF_COLOUR = ("chroma", "saturation")
_SCHEMA = "cmemd-guard"


def _saturation(image: np.ndarray) -> float:
    brightest = np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2]).mean()
    return 255 * chroma(image) / float(brightest) if brightest else 0.0


def _detail(image: np.ndarray) -> float:
    grey = image.mean(axis=2, dtype=np.float32)
    spread = float(grey.std())
    if not spread:
        return 0.0
    steps = [np.abs(np.diff(grey, axis=axis)) for axis in (0, 1)]
    return 100 * float(np.mean([step.mean() if step.size else 0.0 for step in steps])) / spread


MEASURES = {"chroma": chroma, "saturation": _saturation, "detail": _detail}


def measure(image: np.ndarray) -> dict[str, float]:
    """Return each statistic of an image, (H, W, 3) uint8 RGB."""
    return {name: function(image) for name, function in MEASURES.items()}


def summarise(measured: Iterable[Measured]) -> dict[str, Any]:
    """Return the range of each statistic over one modality's images.

    Args:
        measured: ``measure`` of each image.

    Returns:
        For each statistic its quantiles 0.01, 0.5 and 0.99; and ``images``, their number.

    Raises:
        InputError: there is no image.
    """
    values = list(measured)
    if not values:
        raise InputError(
            "images of each modality for the channel statistics",
            "none",
            "name a data set that has both modalities",
        )
    ranges = {name: np.quantile([of[name] for of in values], _QUANTILES) for name in MEASURES}
    return {name: of.tolist() for name, of in ranges.items()} | {"images": len(values)}


def seems_other(measured: Measured, modality: Modality, statistics: Statistics) -> bool:
    """Return whether an image seems to be of the other modality than the one given for it.

    A statistic speaks for the modality whose range is nearer; within both it says nothing. Folders
    of earlier versions have chroma alone. Of the images that were measured, at most one in a
    hundred is suspect.

    Args:
        measured: of the image.
        modality: the one that was given.
        statistics: ``summarise`` of each modality's images, by its name.
    """
    own, other = (statistics[m.name.lower()] for m in (modality, _other(modality)))
    votes = {
        name: _distance(measured[name], own[name]) - _distance(measured[name], other[name])
        for name in (MEASURES if modality is Modality.VISIBLE else _OF_COLOUR)
        if name in own and name in other
    }
    return votes["chroma"] > 0 and min(votes.values()) >= 0


def apparent(image: np.ndarray, modality: Modality, statistics: Statistics | None) -> str | None:
    """Return what an image looks like, in words, if that is not the modality given for it.

    Args:
        image: (H, W, 3) uint8 RGB.
        modality: the one that was given.
        statistics: of each modality's images; None if unknown, then no image is suspect.
    """
    if statistics is None:
        return None
    colour = chroma(image)
    own, other = (statistics[m.name.lower()]["chroma"] for m in (modality, _other(modality)))
    suspect = _distance(colour, own) > _distance(colour, other)
    if not suspect and modality is Modality.THERMAL:
        return None
    if colour >= _MAY_BE_FALSE_COLOURS and (palette := recognise(image)) is not None:
        return (
            f"thermal images in the false colours of {palette} (save white-hot grey images, or set "
            f"--palette {palette} for thermal ones)"
        )
    if suspect and seems_other(measure(image), modality, statistics):
        return _APPEARANCE[_other(modality)]
    return None


def read_statistics(path: Path) -> dict[str, Any]:
    """Return the statistics of a file that ``statistics_file`` is the content of.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        document = json.loads(path.read_bytes())
        if document["schema"] != _SCHEMA:
            raise ValueError("another kind of file")
        statistics: dict[str, Any] = document["statistics"]
        for modality in Modality:
            for name in MEASURES:
                low, middle, high = map(float, statistics[modality.name.lower()][name])
                if not 0 <= low <= middle <= high:
                    raise ValueError(f"{name} that does not rise")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"statistics of cmemd doctor --write-guard in {path}",
            f"something else ({error})",
            "write the file again",
        ) from None
    return statistics


def statistics_file(statistics: Statistics) -> bytes:
    """Return the content of a file for ``read_statistics``."""
    return (json.dumps({"schema": _SCHEMA, "statistics": statistics}, indent=2) + "\n").encode()


def _other(modality: Modality) -> Modality:
    return Modality(1 - modality)


def _distance(value: float, quantiles: tuple[float, float, float]) -> float:
    low, _, high = quantiles
    return max(low - value, value - high, 0.0)
