"""What is scored: features of images and what is known about each image.

Shape legend: ``N`` = images, ``D`` = feature dimension.
"""

from dataclasses import dataclass, fields

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError


@dataclass(frozen=True, eq=False)
class Samples:
    """Features and labels of ``N`` images, row by row. Checked once, when made.

    Attributes:
        features: ``(N, D)`` floating-point features. Rows with NaN or infinity are scored as the
            worst answer and counted, see ``cmemd.evaluation.scoring``.
        pids: ``(N,)`` identities as in the data set.
        camids: ``(N,)`` genuine camera numbers (SYSU-MM01: 1 to 6), never renumbered ones.
        modalities: ``(N,)`` values of ``Modality``.
        frames: ``(N,)`` each image's place among the images of its (camera, identity), as the
            file names order them; SYSU-MM01's official draw takes it for the image number.
        paths: ``(N,)`` strings; who draws ranked galleries opens them.

    Raises:
        InputError: Lengths differ, no image, wrong kind of values, or no finite feature at all.
    """

    features: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    modalities: np.ndarray
    frames: np.ndarray
    paths: np.ndarray

    def __post_init__(self) -> None:
        """Turn sequences into arrays and check them."""
        for field in fields(self):
            object.__setattr__(self, field.name, np.asarray(getattr(self, field.name)))
        if self.features.ndim != 2 or self.features.dtype.kind != "f" or self.features.size == 0:
            raise InputError(
                "expected features as a non-empty (images, dimension) array of floats; got "
                f"{self.features.dtype} of shape {self.features.shape}; stack one row per image"
            )
        for name, kinds in _LABELS.items():
            labels = getattr(self, name)
            if labels.shape != (len(self.features),) or labels.dtype.kind not in kinds:
                raise InputError(
                    f"expected {name} as {len(self.features)} {_KIND_NAMES[kinds]}, one per "
                    f"feature; got {labels.dtype} of shape {labels.shape}"
                )
        if not np.isin(self.modalities, list(Modality)).all():
            raise InputError(
                f"expected modalities {sorted(int(m) for m in Modality)} (visible, thermal); got "
                f"{np.unique(self.modalities).tolist()}"
            )
        if not self.finite.any():
            raise InputError(
                f"expected finite features; got NaN or infinity for all {len(self.features)} "
                "images; the network has diverged or its checkpoint is damaged"
            )

    @property
    def finite(self) -> np.ndarray:
        """``(N,)`` booleans: the images whose features are all finite."""
        return np.isfinite(self.features).all(axis=1)


_KIND_NAMES = {"iu": "integers", "U": "strings"}
_LABELS = {"pids": "iu", "camids": "iu", "modalities": "iu", "frames": "iu", "paths": "U"}
