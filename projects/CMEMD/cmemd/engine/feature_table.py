"""One array for the features of a test, filled batch by batch and gathered once.

Shape legend: ``N`` = images, ``B`` = images of a batch, ``F`` = features of an image: 1, or 2 with
test-time flip, ``D`` = feature dimension.
"""

from collections.abc import Mapping, Sequence

import cmemd.compat  # noqa: F401  before fastreid

import numpy as np
import torch
from fastreid.utils import comm
from torch import distributed

from cmemd.errors import InputError

__all__ = ["FeatureTable"]

_LABELS = ("pids", "camids", "modalities")
_CHUNK = 16 * 2**20  # bytes that another process sends at a time [C]


class FeatureTable:
    """Features and labels of images, a row each, in memory that is claimed once.

    Args:
        paths: images in the order of their rows. An image that is missing here gets a row behind
            those; memory then grows.
    """

    def __init__(self, paths: Sequence[str] = ()) -> None:
        self._rows = {path: row for row, path in enumerate(dict.fromkeys(paths))}
        self._filled = np.zeros(len(self._rows), bool)
        self._labels = {name: np.zeros(len(self._rows), np.int64) for name in _LABELS}
        self._features: np.ndarray | None = None  # (F, N, D)

    def add(
        self, paths: Sequence[str], labels: Mapping[str, np.ndarray], features: np.ndarray
    ) -> None:
        """Write a batch into its rows; an image that is there already stays as it is.

        Args:
            paths: ``B`` strings.
            labels: ``pids``, ``camids`` and ``modalities``, ``(B,)`` integers each.
            features: ``(B, F, D)``.
        """
        rows = np.array([self._rows.setdefault(path, len(self._rows)) for path in paths], np.int64)
        self._reserve(features.shape[1:])
        assert self._features is not None
        rows, first = np.unique(rows, return_index=True)  # a padding sampler repeats images
        new = ~self._filled[rows]
        rows, first = rows[new], first[new]
        self._features[:, rows] = features[first].swapaxes(0, 1)
        for name in _LABELS:
            self._labels[name][rows] = labels[name][first]
        self._filled[rows] = True

    def gather(self) -> None:
        """Collect the rows of all processes in the main one; all of them must call it.

        Features travel in pieces of a few megabytes. So the main process needs memory for one array
        of all images, and the others for their own share.
        """
        if comm.get_world_size() == 1:
            return
        rows = np.flatnonzero(self._filled)
        paths = np.array(list(self._rows))[rows]
        shape = None if self._features is None else (len(self._features), self._features.shape[2])
        shares = comm.gather(
            (paths, {name: column[rows] for name, column in self._labels.items()}, shape), dst=0
        )
        group = comm._get_global_gloo_group()
        if not comm.is_main_process():
            for piece in _pieces(len(rows), shape):
                assert self._features is not None, "there is a shape"
                block = np.ascontiguousarray(self._features[:, rows[piece]].swapaxes(0, 1))
                distributed.send(torch.from_numpy(block), dst=0, group=group)
            return
        for rank, (theirs, labels, of) in enumerate(shares[1:], 1):
            for piece in _pieces(len(theirs), of):
                received = torch.empty((len(theirs[piece]), *of), dtype=torch.float32)
                distributed.recv(received, src=rank, group=group)
                named = {name: column[piece] for name, column in labels.items()}
                self.add(theirs[piece].tolist(), named, received.numpy())

    def columns(self) -> dict[str, np.ndarray]:
        """Return ``features`` ``(F, N, D)``, ``paths`` and the labels ``(N,)`` of what was added.

        Raises:
            InputError: no image was added.
        """
        if self._features is None:
            raise InputError("test images", "none", "check that the test set is complete")
        columns = {"paths": np.array(list(self._rows)), **self._labels}
        features, count = self._features, len(self._rows)
        columns = {name: column[:count] for name, column in columns.items()}
        if self._filled[:count].all():
            return {"features": features[:, :count], **columns}
        kept = self._filled[:count]
        columns = {name: column[kept] for name, column in columns.items()}
        return {"features": features[:, :count][:, kept], **columns}

    def _reserve(self, shape: tuple[int, int]) -> None:
        """Make room for all known rows; double it where images come that were not announced."""
        known, room = len(self._rows), len(self._filled)
        if self._features is None:
            self._features = np.zeros((shape[0], max(known, room), shape[1]), np.float32)
        if known > self._features.shape[1]:
            more = max(known, 2 * room) - self._features.shape[1]
            self._features = np.pad(self._features, ((0, 0), (0, more), (0, 0)))
        if more := self._features.shape[1] - len(self._filled):
            self._filled = np.pad(self._filled, (0, more))
            self._labels = {name: np.pad(c, (0, more)) for name, c in self._labels.items()}


def _pieces(rows: int, shape: tuple[int, int] | None) -> list[slice]:
    if shape is None:
        return []
    size = max(1, _CHUNK // (4 * shape[0] * shape[1]))
    return [slice(start, start + size) for start in range(0, rows, size)]
