"""Images to score: their features and labels.

Shape legend: ``N`` = images, ``D`` = feature dimension.
"""

from dataclasses import dataclass, fields

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError

__all__ = ["Samples"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Features and labels of ``N`` images, row by row. Checked once, when made.

    Attributes:
        features: ``(N, D)`` floating-point features. Rows with NaN or infinity are counted and
            get the worst scores, see ``cmemd.evaluation.scoring``.
        pids: ``(N,)`` identities as in the data set.
        camids: ``(N,)`` genuine camera numbers (SYSU-MM01: 1 to 6), never renumbered ones.
        modalities: ``(N,)`` values of ``Modality``.
        frames: ``(N,)`` each image's place among the images of its (camera, identity), in the
            order of file names. SYSU-MM01's official sampling takes it for the image number.
        paths: ``(N,)`` strings; only a ranked gallery opens them. Of a box in a
            frame it is the key, see ``cmemd.data.boxes``.
        roles: ``(N,)`` strings ``query``, ``gallery`` or ``test``, which is both; None where the
            protocol alone decides.
        times: ``(N,)`` floats, seconds from any one start; NaN where unknown. None for no times.
        tracklets: ``(N,)`` strings, "" for none; None for no tracklets. Equal ones of one
            identity and camera are one tracklet.

    Raises:
        InputError: lengths differ, no image, values of a wrong kind, or no finite feature at all.
    """

    features: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    modalities: np.ndarray
    frames: np.ndarray
    paths: np.ndarray
    roles: np.ndarray | None = None
    times: np.ndarray | None = None
    tracklets: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Turn sequences into arrays and check them."""
        for field in fields(self):
            if getattr(self, field.name) is None:
                continue
            object.__setattr__(self, field.name, np.asarray(getattr(self, field.name)))
        if self.features.ndim != 2 or self.features.dtype.kind != "f" or self.features.size == 0:
            raise InputError(
                "features as a non-empty (images, dimension) array of floats",
                f"{self.features.dtype} of shape {self.features.shape}",
                "stack one row per image",
            )
        for name, kinds in _LABELS.items():
            labels = getattr(self, name)
            if name in _OPTIONAL and labels is None:
                continue
            if labels.shape != (len(self.features),) or labels.dtype.kind not in kinds:
                raise InputError(
                    f"{name} as {len(self.features)} {_KIND_NAMES[kinds]}, one per feature",
                    f"{labels.dtype} of shape {labels.shape}",
                    "give one label for each row of features",
                )
        if not np.isin(self.modalities, list(Modality)).all():
            raise InputError(
                f"modalities {sorted(int(m) for m in Modality)} (visible, thermal)",
                np.unique(self.modalities).tolist(),
                "use these two numbers",
            )
        if not self.finite.any():
            raise InputError(
                "finite features",
                f"NaN or infinity for all {len(self.features)} images",
                "the network has diverged or its checkpoint is damaged; test another checkpoint",
            )

    @property
    def finite(self) -> np.ndarray:
        """``(N,)`` booleans: the images whose features are all finite."""
        return np.isfinite(self.features).all(axis=1)


_KIND_NAMES = {"iu": "integers", "U": "strings", "f": "floats"}
_OPTIONAL = ("roles", "times", "tracklets")
_LABELS = {
    "pids": "iu",
    "camids": "iu",
    "modalities": "iu",
    "frames": "iu",
    "paths": "U",
    "roles": "U",
    "times": "f",
    "tracklets": "U",
}
