"""A gallery's rows in memory, as they were at one commit, and their exact search.

A snapshot never changes: a search uses one from its beginning to its end, and a commit makes
another one, which shares the vectors.

Shape legend: ``N`` = rows of a block, ``D`` = size of the embedding, ``Q`` = queries.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cmemd.errors import InputError
from cmemd.gallery.exact import search_exact
from cmemd.gallery.rows import check_vectors, vectors_of

if TYPE_CHECKING:
    import pyarrow as pa

    from cmemd.gallery.table import Gallery

__all__ = ["Condition", "Found", "Row", "Snapshot", "read_snapshot"]

_SMALL = 4096  # rows of a block that a new one is joined to, so that there are few blocks [chosen]
_LABELS = ("path", "identity", "camera", "time", "file_modified")


class Row(NamedTuple):
    """A row of the gallery without its vector.

    Attributes:
        path: the image's key, absolute.
        modality: ``visible`` or ``thermal``.
        identity: the person, or None.
        camera: the camera, or None.
        time: when the image was taken, or None.
        modified: when the image's file was changed, nanoseconds since 1970, or None.
    """

    path: str
    modality: str
    identity: str | None
    camera: str | None
    time: datetime | None
    modified: int | None


class Found(NamedTuple):
    """A row that a query found, and the cosine of the two embeddings."""

    score: float
    row: Row


class Condition(NamedTuple):
    """Which rows a search compares; None and an empty tuple stand for all.

    Attributes:
        modality: ``visible``, ``thermal`` or None.
        cameras: names of cameras.
        since: taken at this time or later; rows without a time do not fit.
        until: taken before this time; rows without a time do not fit.
    """

    modality: str | None = None
    cameras: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class _Block:
    """Rows of one modality."""

    modality: str
    vectors: np.ndarray  # (N, D)
    labels: "pa.Table"  # (N,) of ``_LABELS``
    cameras: np.ndarray  # (N,) of str or None
    times: np.ndarray  # (N,) datetime64[us], NaT where unknown

    @classmethod
    def of(cls, modality: str, vectors: np.ndarray, labels: "pa.Table") -> "_Block":
        cameras = np.array(labels["camera"].to_pylist(), dtype=object)
        moments = labels["time"].to_pylist()
        times = np.array([_plain(moment) for moment in moments], dtype="datetime64[us]")
        return cls(modality, vectors, labels, cameras, times)

    def rows(self, places: np.ndarray) -> list[Row]:
        columns = self.labels.take(places).to_pydict()
        return [
            Row(path, self.modality, *rest)
            for path, *rest in zip(*(columns[name] for name in _LABELS), strict=True)
        ]

    def fitting(self, condition: Condition) -> np.ndarray | None:
        """Return the places of the rows that fit; None for all of them."""
        keep = None
        if condition.cameras:
            keep = np.isin(self.cameras.astype(str), condition.cameras)
            keep &= self.cameras != None  # noqa: E711  of each element
        for limit, fits in ((condition.since, np.greater_equal), (condition.until, np.less)):
            if limit is not None:
                within = fits(self.times, np.datetime64(_plain(limit)))
                keep = within if keep is None else keep & within
        return None if keep is None else np.flatnonzero(keep)


@dataclass(frozen=True)
class Snapshot:
    """The rows of a gallery at one commit.

    Attributes:
        version: number of the commit.
        blocks: the rows, each block of one modality.
        paths: of all rows.
    """

    version: int
    blocks: tuple[_Block, ...]
    paths: frozenset[str]

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(len(block.vectors) for block in self.blocks)

    def search(
        self, queries: np.ndarray, top: int, condition: Condition
    ) -> tuple[list[list[Found]], int]:
        """Return the best rows of each query, best first, and how many rows were compared.

        Args:
            queries: ``(Q, D)`` float32 of unit length.
            top: largest number of rows per query.
            condition: the rows to compare.

        Raises:
            InputError: a query is not of unit length.
        """
        check_vectors(queries, lambda row: f"query {row}", "embed it with a model that is whole")
        parts: list[tuple[int, _Block, np.ndarray | None]] = []
        batches, start = [], 0
        for block in self._of(condition.modality):
            places = block.fitting(condition)
            vectors = block.vectors if places is None else block.vectors[places]
            batches.append((np.arange(start, start + len(vectors)), vectors))
            parts.append((start, block, places))
            start += len(vectors)
        top = min(top, start)
        if not top:
            return [[] for _ in queries], start
        scores, numbers = search_exact(batches, queries, top)
        rows: dict[int, Row] = {}
        wanted = np.unique(numbers)
        for begin, block, places in reversed(parts):
            own, wanted = wanted[wanted >= begin], wanted[wanted < begin]
            at = own - begin if places is None else places[own - begin]
            rows |= zip(own.tolist(), block.rows(at), strict=True)
        found = [
            [Found(score, rows[number]) for score, number in zip(*of, strict=True)]
            for of in zip(scores.tolist(), numbers.tolist(), strict=True)
        ]
        return found, start

    def rows(self) -> Iterator[Row]:
        """Yield all rows without their vectors."""
        for block in self.blocks:
            columns = [block.labels[name].to_pylist() for name in _LABELS]
            for path, *rest in zip(*columns, strict=True):
                yield Row(path, block.modality, *rest)

    def vectors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the modality and the vectors ``(N, D)`` of each block, in the order of ``rows``."""
        return ((block.modality, block.vectors) for block in self.blocks)

    def extended(self, version: int, rows: "pa.Table") -> "Snapshot":
        """Return a snapshot that has further rows, all of one modality.

        Args:
            version: number of the commit that added them.
            rows: of ``row_schema``; no path of theirs is here.
        """
        (modality,) = set(rows["modality"].to_pylist())
        new = _Block.of(modality, vectors_of(rows), rows.select(_LABELS))
        blocks = list(self.blocks)
        last = max((n for n, of in enumerate(blocks) if of.modality == modality), default=None)
        if last is not None and len(blocks[last].vectors) < _SMALL:
            new = _joined(blocks.pop(last), new)
        blocks.append(new)
        return Snapshot(version, tuple(blocks), self.paths.union(rows["path"].to_pylist()))

    def _of(self, modality: str | None) -> Iterable[_Block]:
        return (block for block in self.blocks if modality in (None, block.modality))


def read_snapshot(gallery: "Gallery", memory: int) -> Snapshot:
    """Read all rows of an open gallery and check them.

    Args:
        gallery: an open gallery.
        memory: bytes that its vectors may take.

    Raises:
        InputError: they take more, or a row has changed since it was written.
    """
    import pyarrow as pa

    needed = 4 * gallery.size * len(gallery)
    if needed > memory:
        raise InputError(
            f"at most {memory / 1e9:.3g} GB of vectors in gallery {gallery.address}",
            f"{needed / 1e9:.3g} GB",
            "raise --memory, or split the gallery",
        )
    parts: dict[str, list[tuple[np.ndarray, pa.Table]]] = {}
    for batch in gallery.rows():
        names = np.array(batch.column("modality").to_pylist(), dtype=str)
        for modality in np.unique(names).tolist():
            places = np.flatnonzero(names == modality)
            labels = batch.select(_LABELS).take(pa.array(places))
            parts.setdefault(modality, []).append((vectors_of(batch)[places], labels))
    blocks = [
        _Block.of(
            modality,
            np.concatenate([vectors for vectors, _ in of]),
            pa.concat_tables([labels for _, labels in of]).combine_chunks(),
        )
        for modality, of in sorted(parts.items())
    ]
    paths = (path for block in blocks for path in block.labels["path"].to_pylist())
    return Snapshot(gallery.version, tuple(blocks), frozenset(paths))


def _joined(one: _Block, other: _Block) -> _Block:
    import pyarrow as pa

    vectors = np.concatenate([one.vectors, other.vectors])
    return _Block.of(
        one.modality, vectors, pa.concat_tables([one.labels, other.labels]).combine_chunks()
    )


def _plain(moment: datetime | None) -> datetime | None:
    """Return a time in UTC without its zone, as NumPy wants it."""
    return None if moment is None else moment.astimezone(timezone.utc).replace(tzinfo=None)
