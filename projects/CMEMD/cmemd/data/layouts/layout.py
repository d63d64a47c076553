"""The facts that every data set's layout states."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cmemd.data.modality import Modality

__all__ = ["Layout"]


@dataclass(frozen=True, eq=False)
class Layout:
    """Facts of one data set.

    Attributes:
        name: on the command line and in protocol names.
        title: as published.
        dataset: as registered with fast-reid.
        folder: default folder below fast-reid's root of data sets.
        list_folder: folder of the identity lists or index files, below ``folder``.
        cameras: numbers of the cameras that take images of each modality.
        identity_folder: what the whole name of an identity's folder matches.
        trials: gallery samplings that published metrics are means over.
        splits: published splits, each with a training of its own.
        arrays: arrays that a features file needs, see ``cmemd.evaluation.features_file``.
        numbered: whether the name of an image file is the image's number.
        official_permutations: whether official gallery permutations exist.
        licence: of a model that was trained on the data set.
    """

    name: str
    title: str
    dataset: str
    folder: str
    list_folder: str
    cameras: Mapping[Modality, tuple[int, ...]]
    identity_folder: re.Pattern[str]
    trials: int
    splits: int
    arrays: tuple[str, ...]
    licence: str
    numbered: bool = False
    official_permutations: bool = False

    @property
    def dataset_name(self) -> str:
        """Name in identity digests and training records; never change it."""
        return self.dataset.lower()
