"""Notice images that the caller gave as the wrong modality.

The network has one stem per modality, and the wrong stem gives a plausible, useless embedding.
``cmemd.data.appearance`` says what an image looks like; this module counts and tells.
"""

import warnings
from collections import Counter
from collections.abc import Sequence

from cmemd.data.modality import Modality
from cmemd.errors import InputError

__all__ = ["GUARDS", "ModalityGuard", "ModalityWarning"]

GUARDS = ("off", "warn", "strict")


class ModalityWarning(UserWarning):
    """Images look like the other modality, or the model lacks the statistics to check it."""


class ModalityGuard:
    """Count the images of one call that look like the other modality.

    The first batch with such an image gives a ``ModalityWarning`` at once, so that a long call need
    not end first. ``finish`` gives another warning if more such images came later.

    Args:
        modality: the modality that the caller gave.
        strict: raise an error instead of a warning.

    Attributes:
        seen: number of images so far.
        suspects: number of those that look like the other modality.
    """

    def __init__(self, modality: Modality, strict: bool) -> None:
        self.modality = modality
        self.strict = strict
        self.seen = 0
        self._told = 0
        self._looks: Counter[str] = Counter()
        self._first: object = None

    @property
    def suspects(self) -> int:
        """Return the number of suspect images so far."""
        return self._looks.total()

    def inspect(self, keys: Sequence[object], looks: Sequence[str | None]) -> int:
        """Return how many further images look like the other modality.

        Args:
            keys: their names, for messages.
            looks: ``cmemd.data.appearance.apparent`` of each.

        Raises:
            InputError: ``strict`` is set and at least one does.
        """
        self.seen += len(keys)
        suspects = [(key, look) for key, look in zip(keys, looks, strict=True) if look is not None]
        if suspects and self._first is None:
            self._first = suspects[0][0]
        self._looks.update(look for _, look in suspects)
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
        looks = " or ".join(look for look, _ in self._looks.most_common())
        return (
            f"{self.suspects} of {self.seen} images that look like {looks} "
            f"(the first: {self._first})"
        )
