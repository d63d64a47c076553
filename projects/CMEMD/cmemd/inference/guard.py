"""Notices images that were given as the wrong modality.

The network has one stem per modality, and the wrong stem gives a plausible, useless embedding. A
colour photograph differs from a thermal or near-infrared image in its chroma: the spread of its
channels, which is near 0 where the three are copies of one. Chosen, not from the paper.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError

__all__ = ["ModalityGuard", "ModalityWarning", "chroma", "looks_like_the_other", "summarise"]

Statistics = Mapping[str, Mapping[str, Any]]

_QUANTILES = (0.01, 0.5, 0.99)
_APPEARANCE = {Modality.VISIBLE: "colour photographs", Modality.THERMAL: "grey or thermal images"}


class ModalityWarning(UserWarning):
    """Images look as if they were of the other modality, or nothing can tell."""


def chroma(image: np.ndarray) -> float:
    """Spread of an image's channels: the mean over pixels of the largest minus the smallest.

    Args:
        image: ``(H, W, 3)`` uint8, at the model's size.

    Returns:
        Grey levels, 0 for a grey image to 255.
    """
    red, green, blue = np.moveaxis(image, -1, 0)
    # Twenty times as fast as max(axis=-1): rows of three are no work for a vector unit.
    highest = np.maximum(np.maximum(red, green), blue)
    return float((highest - np.minimum(np.minimum(red, green), blue)).mean())


def summarise(images: Iterable[np.ndarray]) -> dict[str, Any]:
    """What the guard keeps of a modality's training images.

    Args:
        images: ``(H, W, 3)`` uint8 each, at the model's size.

    Returns:
        ``chroma``, its quantiles 0.01, 0.5 and 0.99 in grey levels, and ``images``, their number.

    Raises:
        InputError: There is no image.
    """
    values = [chroma(image) for image in images]
    if not values:
        raise InputError(
            "expected images of each modality for the channel statistics; got none; name a data "
            "set that has both"
        )
    return {"chroma": np.quantile(values, _QUANTILES).tolist(), "images": len(values)}


def looks_like_the_other(value: float, modality: Modality, statistics: Statistics) -> bool:
    """Whether an image's chroma is nearer to the other modality's range than to its own.

    A range reaches from quantile 0.01 to 0.99 of the training images. Where the two ranges lie
    apart, the limit is half-way between them; where they overlap, up to one image in a hundred of
    either is suspected wrongly, and what lies in both ranges never is.

    Args:
        value: ``chroma`` of the image.
        modality: What the image is said to be.
        statistics: ``summarise`` of each modality's images by name, as in ``model.json``.
    """
    own, other = (statistics[m.name.lower()]["chroma"] for m in (modality, _other(modality)))
    return _distance(value, own) > _distance(value, other)


class ModalityGuard:
    """Counts, in one run of images, those that look like the other modality.

    The first of them give a ``ModalityWarning`` at once, as a long run should not have to end
    before it is known to be wrong; ``finish`` gives another if more came since.

    Args:
        modality: What the images are said to be.
        statistics: Of the model's training images; None suspects nothing.
        strict: Refuse rather than warn.

    Attributes:
        seen: Number of images so far.
        suspects: Number of those that look like the other modality.
    """

    def __init__(self, modality: Modality, statistics: Statistics | None, strict: bool) -> None:
        self.modality = modality
        self.statistics = statistics
        self.strict = strict
        self.seen = 0
        self.suspects = 0
        self._told = 0
        self._first: object = None

    def inspect(self, keys: Sequence[object], chromas: Sequence[float]) -> int:
        """Look at further images.

        Args:
            keys: What to call them.
            chromas: ``chroma`` of each.

        Returns:
            How many of these look like the other modality.

        Raises:
            InputError: One does, and ``strict``.
        """
        self.seen += len(keys)
        if self.statistics is None:
            return 0
        suspects = [
            key
            for key, value in zip(keys, chromas, strict=True)
            if looks_like_the_other(value, self.modality, self.statistics)
        ]
        if suspects and self._first is None:
            self._first = suspects[0]
        self.suspects += len(suspects)
        if suspects and self.strict:
            raise InputError(
                f"expected {self.modality.name.lower()} images; got {self._findings()}; give the "
                "modality that they were taken in, or leave strict out"
            )
        if not self._told:
            self.finish()
        return len(suspects)

    def finish(self) -> None:
        """Warn of whatever has not been warned of."""
        if self.suspects > self._told:
            self._told = self.suspects
            warnings.warn(
                f"given as {self.modality.name.lower()}: {self._findings()}; embeddings of a wrong "
                "modality look right and find nobody",
                ModalityWarning,
                stacklevel=2,
            )

    def _findings(self) -> str:
        return (
            f"{self.suspects} of {self.seen} images that look like "
            f"{_APPEARANCE[_other(self.modality)]} (the first: {self._first})"
        )


def _other(modality: Modality) -> Modality:
    return Modality(1 - modality)


def _distance(value: float, quantiles: tuple[float, float, float]) -> float:
    low, _, high = quantiles
    return max(low - value, value - high, 0.0)
