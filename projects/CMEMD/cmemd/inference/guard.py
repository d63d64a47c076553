"""Notice images that the caller gave as the wrong modality.

The network has one stem per modality, and the wrong stem gives a plausible, useless embedding. A
colour photograph has more chroma (spread of its channels) than a thermal or near-infrared image,
whose three channels are nearly equal. [chosen, not from the paper]
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cmemd.data.images import chroma
from cmemd.data.modality import Modality
from cmemd.errors import InputError

__all__ = ["ModalityGuard", "ModalityWarning", "looks_like_the_other", "summarise"]

Statistics = Mapping[str, Mapping[str, Any]]

_QUANTILES = (0.01, 0.5, 0.99)
_APPEARANCE = {Modality.VISIBLE: "colour photographs", Modality.THERMAL: "grey or thermal images"}


class ModalityWarning(UserWarning):
    """Images look like the other modality, or the model lacks the statistics to check it."""


def summarise(images: Iterable[np.ndarray]) -> dict[str, Any]:
    """Return the channel statistics of one modality's training images.

    Args:
        images: ``(H, W, 3)`` uint8 each, at the model's size.

    Returns:
        ``chroma``, its quantiles 0.01, 0.5 and 0.99 in grey levels, and ``images``, their number.

    Raises:
        InputError: there is no image.
    """
    values = [chroma(image) for image in images]
    if not values:
        raise InputError(
            "images of each modality for the channel statistics",
            "none",
            "name a data set that has both modalities",
        )
    return {"chroma": np.quantile(values, _QUANTILES).tolist(), "images": len(values)}


def looks_like_the_other(value: float, modality: Modality, statistics: Statistics) -> bool:
    """Return whether an image's chroma is nearer to the other modality's range than to its own.

    A range reaches from quantile 0.01 to 0.99 of the training images. If the two ranges lie apart,
    the limit is half-way between them. If they overlap, a value in both ranges is never suspect,
    and at most one genuine image in a hundred is.

    Args:
        value: ``chroma`` of the image.
        modality: the modality that the caller gave for it.
        statistics: ``summarise`` of each modality's images by name, as in ``model.json``.
    """
    own, other = (statistics[m.name.lower()]["chroma"] for m in (modality, _other(modality)))
    return _distance(value, own) > _distance(value, other)


class ModalityGuard:
    """Count the images of one call that look like the other modality.

    The first batch with such an image gives a ``ModalityWarning`` at once, so that a long call need
    not end first. ``finish`` gives another warning if more such images came later.

    Args:
        modality: the modality that the caller gave.
        statistics: of the model's training images; with None no image is suspect.
        strict: raise an error instead of a warning.

    Attributes:
        seen: number of images so far.
        suspects: number of those that look like the other modality.
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
        """Return how many further images look like the other modality.

        Args:
            keys: their names, for messages.
            chromas: ``chroma`` of each.

        Raises:
            InputError: ``strict`` is set and at least one does.
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
                f"{self.modality.name.lower()} images",
                self._findings(),
                "give the modality in which they were taken, or leave out strict",
            )
        if not self._told:
            self.finish()
        return len(suspects)

    def finish(self) -> None:
        """Warn of the suspects that no warning has counted yet."""
        if self.suspects > self._told:
            self._told = self.suspects
            warnings.warn(
                f"given as {self.modality.name.lower()}: {self._findings()}; embeddings of a wrong "
                "modality look right but match no one",
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
