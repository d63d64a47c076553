"""Search for groups of rows: one line per identity, camera or tracklet, and averaged tracklets.

Shape legend: ``Q`` = queries, ``N`` = rows of a batch, ``D`` = size, ``K`` = matches per query,
``T`` = tracklets.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cmemd.errors import InputError
from cmemd.gallery.sources import TRACKLET
from cmemd.gallery.table import Gallery

if TYPE_CHECKING:
    from lancedb.expr import Expr

    Batch = tuple[np.ndarray, np.ndarray, list[tuple[Any, ...]]]

__all__ = ["ONE_PER", "Tracklets", "average_tracklets", "mean_vector", "search_groups"]

ONE_PER = ("identity", "camera", "tracklet")
_SCORES = 1 << 24  # in memory at a time [chosen]
_BATCH = 4096  # tracklets
_LEAST = 1e-3  # length of a mean of unit vectors; below it, the mean has no direction [chosen]


def mean_vector(vectors: np.ndarray, what: str) -> np.ndarray:
    """Return the mean ``(D,)`` of unit vectors ``(N, D)``, scaled to unit length.

    Raises:
        InputError: the vectors cancel each other; ``what`` names them.
    """
    mean = np.mean(vectors, axis=0, dtype=np.float64)
    length = np.linalg.norm(mean)
    if not length >= _LEAST:  # NaN is wrong too
        raise InputError(
            f"a mean embedding of {what}",
            "embeddings that cancel each other",
            "name images of one person",
        )
    return np.asarray(mean / length, dtype=np.float32)


@dataclass(frozen=True)
class Tracklets:
    """The tracklets of a gallery, each by the mean of its embeddings.

    Attributes:
        gallery: the open gallery.
        where: the rows that were averaged.
        vectors: ``(T, D)`` means of unit length.
        labels: values of the columns ``TRACKLET`` of each.
        members: row numbers of each; the first stands for the tracklet.
        singles: number of rows without a tracklet; each stands alone.
    """

    gallery: Gallery
    where: "Expr | None"
    vectors: np.ndarray
    labels: list[tuple[Any, ...]]
    members: list[list[int]]
    singles: int

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.members) + self.singles

    def batches(self) -> "Iterator[Batch]":
        """Yield as ``Gallery.labelled_batches``: the tracklets, then the rows without one."""
        for start in range(0, len(self.members), _BATCH):
            part = slice(start, start + _BATCH)
            numbers = np.array([rows[0] for rows in self.members[part]], dtype=np.uint64)
            yield numbers, self.vectors[part], self.labels[part]
        if not self.singles:
            return
        for numbers, vectors, labels in self.gallery.labelled_batches(TRACKLET, self.where):
            alone = [place for place, of in enumerate(labels) if of[-1] is None]
            yield numbers[alone], vectors[alone], [labels[place] for place in alone]


def average_tracklets(gallery: Gallery, where: "Expr | None" = None) -> Tracklets:
    """Return the tracklets of a gallery; memory holds one vector of each.

    Raises:
        InputError: the gallery's files are damaged, or the embeddings of a tracklet cancel.
    """
    place: dict[tuple[Any, ...], int] = {}
    sums: list[np.ndarray] = []
    members: list[list[int]] = []
    singles = 0
    for numbers, vectors, labels in gallery.labelled_batches(TRACKLET, where):
        for number, vector, of in zip(numbers.tolist(), vectors, labels, strict=True):
            if of[-1] is None:
                singles += 1
            elif of in place:
                sums[place[of]] += vector
                members[place[of]].append(number)
            else:
                place[of] = len(sums)
                sums.append(vector.astype(np.float64))
                members.append([number])
    means = [
        mean_vector(total[None] / len(rows), f"tracklet {of[-1]} in gallery {gallery.address}")
        for of, total, rows in zip(place, sums, members, strict=True)
    ]
    found = np.array(means, dtype=np.float32).reshape(len(means), gallery.size)
    return Tracklets(gallery, where, found, list(place), members, singles)


def search_groups(
    batches: "Iterable[Batch]",
    queries: np.ndarray,
    top: int,
    one_per: str,
    excluded: Sequence[Collection[int]] = (),
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the best row of each group, for the groups that a query is most similar to.

    A batch gives its own best ``K`` groups to the result: a group that is among the best of all is
    among the best of the batch that holds its best row. So one pass is exact, in bounded memory. A
    row without the label is a group of its own.

    Args:
        batches: row numbers ``(N,)``, vectors ``(N, D)`` and values of ``TRACKLET``.
        queries: ``(Q, D)`` float32.
        top: ``K``.
        one_per: out of ``ONE_PER``.
        excluded: row numbers that each query leaves out; none if empty.

    Returns:
        For each query the scores, descending, and row numbers, ``(K,)`` or fewer.
    """
    codes: dict[object, int] = {}
    best: list[dict[int, tuple[float, int]]] = [{} for _ in queries]
    for numbers, vectors, labels in batches:
        if not len(numbers):
            continue
        groups = [_group(of, one_per, int(row)) for of, row in zip(labels, numbers, strict=True)]
        of_row = np.array([codes.setdefault(group, len(codes)) for group in groups])
        order = np.argsort(of_row, kind="stable")
        present, starts = np.unique(of_row[order], return_index=True)
        step = max(1, _SCORES // len(numbers))
        for start in range(0, len(queries), step):
            scores = queries[start : start + step] @ vectors[order].T  # (Q, N)
            for row, kept in enumerate(scores):
                if excluded and excluded[start + row]:
                    kept[np.isin(numbers[order], list(excluded[start + row]))] = -np.inf
                highest = np.maximum.reduceat(kept, starts)
                leading = np.argsort(-highest, kind="stable")[:top]
                for group in leading[highest[leading] > -np.inf].tolist():
                    end = starts[group + 1] if group + 1 < len(starts) else len(kept)
                    at = starts[group] + int(np.argmax(kept[starts[group] : end]))
                    found = float(kept[at]), int(numbers[order[at]])
                    code = int(present[group])
                    if code not in best[start + row] or best[start + row][code] < found:
                        best[start + row][code] = found
                ranked = sorted(best[start + row].items(), key=lambda of: -of[1][0])[:top]
                best[start + row] = dict(ranked)
    return [
        (
            np.array([score for score, _ in of.values()]),
            np.array([number for _, number in of.values()], dtype=np.uint64),
        )
        for of in best
    ]


def _group(labels: tuple[Any, ...], one_per: str, row: int) -> object:
    """Return what rows of a group have in common."""
    known = dict(zip(TRACKLET, labels, strict=True))
    if known[one_per] is None:
        return row
    return labels if one_per == "tracklet" else known[one_per]
