"""A gallery: a LanceDB table of ``cmemd.gallery.rows``, in a folder of its own.

Every change is one commit, so that a process killed at any moment leaves the gallery as it was
before or after. Commands hold a lock of the operating system on the folder: many may add, remove
and search at once, but ``compact``, which deletes files, needs the gallery for itself.

The address may be an object store's (``s3://bucket/gallery``). There are no locks there: leave the
gallery alone while it is begun and while it is compacted.

Shape legend: ``N`` = rows, ``D`` = size of the embedding.
"""

import fcntl
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.expr import Expr, col, lit
from lancedb.index import IvfRq
from lancedb.table import Table

from cmemd.errors import InputError
from cmemd.gallery.rows import MODEL, row_schema, vectors_of

__all__ = ["INDEX_FROM", "Gallery", "create_gallery", "open_gallery", "row_filter"]

INDEX_FROM = 100_000  # rows; exact search of that many, from disk, takes 2.4 s at 2,048 [measured]
_TABLE = "gallery"
_INDEX = "vector_idx"  # as LanceDB names it
_BATCH_BYTES = 1 << 26  # of vectors read at a time
_PROBES = 128  # partitions that a query looks into: all of a million rows, by their codes
_REFINE = 10  # times the matches wanted are scored exactly


@contextmanager
def open_gallery(address: Path | str, *, alone: bool = False) -> "Iterator[Gallery]":
    """Opens a gallery and holds its lock.

    Args:
        address: its folder, or an object store's address.
        alone: keep everybody else out, as ``Gallery.compact`` needs it.

    Raises:
        InputError: no gallery there, another program's table, or one that is in use.
    """
    address = str(address)
    if not _remote(address) and not Path(address).is_dir():
        raise _no_gallery(address)
    with _hold(address, alone):
        with _readable("read", address):
            database = lancedb.connect(address)
            table = _table(database)
            if table is None:
                raise _no_gallery(address)
            gallery = Gallery(address, database, table)
        yield gallery


@contextmanager
def create_gallery(address: Path | str, model: str, size: int) -> "Iterator[Gallery]":
    """Opens a gallery of a model, or begins it, and holds its lock.

    Args:
        address: its folder, or an object store's address.
        model: the model's digest.
        size: ``D``.

    Raises:
        InputError: the gallery is another model's, in use, or cannot be written.
    """
    address = str(address)
    if not _remote(address):
        with _readable("write", address):
            Path(address).mkdir(parents=True, exist_ok=True)
    with _hold(address, alone=False):
        with _readable("write", address):
            database = lancedb.connect(address)
            # Of two that LanceDB lets create at once, the later overwrites the earlier one's rows.
            with _one_at_a_time(address):
                table = _table(database)
                if table is None:
                    table = database.create_table(_TABLE, schema=row_schema(model, size))
            gallery = Gallery(address, database, table)
        gallery.check_model(model, size)
        yield gallery


def row_filter(
    *,
    paths: Sequence[str] = (),
    identities: Sequence[str] = (),
    cameras: Sequence[str] = (),
    modality: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Expr | None:
    """Rows that fit everything that is given; None where nothing is.

    Args:
        paths: one of these.
        identities: one of these.
        cameras: one of these.
        modality: ``visible`` or ``thermal``.
        since: at this time or later; rows without a time do not fit.
        until: before this time; rows without a time do not fit.
    """
    named = {"path": paths, "identity": identities, "camera": cameras}
    terms = [col(name).isin(list(values)) for name, values in named.items() if values]
    if modality is not None:
        terms.append(col("modality") == lit(modality))
    if since is not None:
        terms.append(col("time") >= lit(since))
    if until is not None:
        terms.append(col("time") < lit(until))
    if not terms:
        return None
    where, *others = terms
    for term in others:
        where = where & term
    return where


class Gallery:
    """An open gallery, as of when it was opened or last changed through this object.

    Attributes:
        address: where it lies.
        model: digest of the model whose embeddings it holds.
        size: ``D``.
    """

    def __init__(self, address: str, database: lancedb.DBConnection, table: Table) -> None:
        self.address = address
        self._database = database
        self._table = table
        schema = self._table.schema
        if MODEL not in (schema.metadata or {}):
            raise InputError(
                f"expected a gallery at {address}, got a table of another program: name another "
                "folder"
            )
        self.model = schema.metadata[MODEL].decode()
        self.size = schema.field("vector").type.list_size

    def __len__(self) -> int:
        """Number of rows."""
        return self._table.count_rows()

    def check_model(self, model: str, size: int) -> None:
        """Refuses another model's embeddings: scores between two models mean nothing.

        Raises:
            InputError: for another digest or size.
        """
        if (model, size) != (self.model, self.size):
            raise InputError(
                f"expected embeddings of model {self.model[:16]} of size {self.size}, as in "
                f"gallery {self.address}, got model {model[:16]} of size {size}: name the model "
                "that the gallery was made with, or another gallery"
            )

    def add(self, rows: pa.Table) -> int:
        """Adds rows, all of them or none; a path that is there already stays as it is.

        Returns:
            How many were new.

        Raises:
            InputError: the disk is full or cannot be written.
        """
        with _readable("write", self.address):
            merge = self._table.merge_insert("path").when_not_matched_insert_all()
            return merge.execute(rows).num_inserted_rows

    def remove(self, where: Expr) -> int:
        """Removes rows from every answer; their bytes leave the disk with ``compact``.

        Returns:
            How many there were.
        """
        with _readable("write", self.address):
            return self._table.delete(where).num_deleted_rows

    def build_index(self) -> bool:
        """Builds the approximate index anew where the gallery is large enough for one.

        The rule: from ``INDEX_FROM`` rows IVF with RaBitQ codes of 1 bit a dimension, partitions
        of about 8,192 rows; below none, and search is exact. Rows that are added later are
        searched exactly beside it until it is built again.

        Returns:
            Whether there is an index now.
        """
        with _readable("write", self.address):
            if len(self) >= INDEX_FROM:
                self._table.create_index("vector", config=IvfRq(distance_type="dot"), replace=True)
            elif self.indexed:
                self._table.drop_index(_INDEX)
            return self.indexed

    def compact(self) -> None:
        """Writes the gallery anew and deletes whatever else lies in its folder.

        Removed rows, earlier versions and what killed commands left behind are gone from disk
        afterwards. Needs ``open_gallery(..., alone=True)`` and, meanwhile, room for a second copy.
        Killed on the way it may leave the rows without their index: search is exact until the
        index is built again.
        """
        with _readable("write", self.address):
            indexed = self.indexed
            # LanceDB's own compaction keeps removed rows where they are few in their file.
            self._table = self._database.create_table(
                _TABLE,
                data=self._table.search().to_batches(self._batch_rows),
                schema=self._table.schema,
                mode="overwrite",
            )
            if indexed:
                self.build_index()
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                # It warns of others who might be at work; the lock keeps them out.
                self._table.optimize(
                    cleanup_older_than=timedelta(0), delete_unverified=not _remote(self.address)
                )

    @property
    def indexed(self) -> bool:
        """Whether there is an approximate index."""
        return any(index.name == _INDEX for index in self._table.list_indices())

    def modalities(self) -> dict[str, str]:
        """Every path -> its modality."""
        columns = self._table.search().select(["path", "modality"]).to_arrow()
        return dict(zip(*(column.to_pylist() for column in columns.columns), strict=True))

    def batches(self, where: Expr | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Row numbers ``(N,)`` and vectors ``(N, D)``, a part of the gallery at a time.

        Raises:
            InputError: the gallery's files are damaged.
        """
        query = self._table.search().select(["vector"]).with_row_id(True)
        if where is not None:
            query = query.where(where)
        with _readable("read", self.address):
            for batch in query.to_batches(self._batch_rows):
                yield batch.column("_rowid").to_numpy(), vectors_of(batch)

    def labels(self, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Row number -> what the gallery holds of it, but the vector."""
        names = ["path", "modality", "identity", "camera", "time"]
        with _readable("read", self.address):
            query = self._table.take_row_ids(sorted(set(numbers))).select(names).with_row_id()
            return {row.pop("_rowid"): row for row in query.to_arrow().to_pylist()}

    def search_index(
        self, query: np.ndarray, top: int, where: Expr | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best rows of one query by the approximate index; their scores are exact.

        Args:
            query: ``(D,)``.
            top: how many.
            where: rows to look at.

        Returns:
            Scores, descending, and row numbers, ``(top,)`` or fewer.
        """
        search = self._table.search(query).distance_type("dot").nprobes(_PROBES)
        search = search.refine_factor(_REFINE).limit(top).select(["_distance"]).with_row_id(True)
        if where is not None:
            search = search.where(where, prefilter=True)
        with _readable("read", self.address):
            found = search.to_arrow()
        return 1 - found["_distance"].to_numpy(), found["_rowid"].to_numpy()

    def info(self) -> dict[str, Any]:
        """Counts, time span, index and bytes on disk."""
        names = ["modality", "identity", "camera", "time"]
        with _readable("read", self.address):
            rows = self._table.search().select(names).to_arrow()
            stats = self._table.index_stats(_INDEX) if self.indexed else None
        times = pc.min_max(rows["time"]).as_py()
        remote = _remote(self.address)
        return {
            "gallery": self.address,
            "model": self.model,
            "size": self.size,
            "rows": len(rows),
            "visible": pc.sum(pc.equal(rows["modality"], "visible")).as_py() or 0,
            "thermal": pc.sum(pc.equal(rows["modality"], "thermal")).as_py() or 0,
            "identities": pc.count_distinct(rows["identity"]).as_py(),
            "cameras": pc.count_distinct(rows["camera"]).as_py(),
            "since": times["min"] and times["min"].isoformat(),
            "until": times["max"] and times["max"].isoformat(),
            "version": self._table.version,
            "index": stats and stats.index_type,
            "rows outside the index": stats.num_unindexed_rows if stats else len(rows),
            "bytes": None if remote else _bytes(Path(self.address)),
            "index bytes": None if remote else _bytes(Path(self.address), "_indices"),
        }

    @property
    def _batch_rows(self) -> int:
        return max(1, _BATCH_BYTES // (4 * self.size))


@contextmanager
def _hold(address: str, alone: bool) -> Iterator[None]:
    """A lock on the folder, which the operating system lets go even of a killed process."""
    if _remote(address):
        yield
        return
    with _readable("lock", address):
        folder = os.open(address, os.O_RDONLY)
    try:
        with _readable("lock", address):
            _lock(folder, address, alone)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, address: str, alone: bool) -> None:
    try:
        fcntl.flock(folder, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"expected gallery {address} to be free, got one that another command is "
            f"{'using' if alone else 'compacting'}: wait until that is done"
        ) from None


@contextmanager
def _one_at_a_time(address: str) -> Iterator[None]:
    """Waits for whoever else is here."""
    if _remote(address):
        yield
        return
    with open(Path(address) / "creation.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _table(database: lancedb.DBConnection) -> Table | None:
    """The gallery's table; None also for one whose creation was killed."""
    try:
        return database.open_table(_TABLE)
    except ValueError:
        return None


@contextmanager
def _readable(doing: str, address: str) -> Iterator[None]:
    """LanceDB's errors as one line; it raises all three of these for a full disk and the like."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"expected to {doing} gallery {address}, got: {reason}: see to the disk and run the "
            "command again; what was committed is safe"
        ) from error


def _remote(address: str) -> bool:
    return "://" in address


def _no_gallery(address: str) -> InputError:
    return InputError(
        f"expected a gallery at {address}, got none: make it with cmemd embed --gallery {address}"
    )


def _bytes(folder: Path, part: str = "") -> int:
    files = (file for file in folder.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files if not part or part in file.parts)
