"""Open and change a gallery: a LanceDB table of ``cmemd.gallery.rows`` in its own folder.

Every change is one commit: a process that is killed leaves the gallery as before or as after.
Commands hold an operating-system lock on the folder. Many may add, remove and search at once, but
``compact`` deletes files and so needs the gallery to itself.

The address may be an object store's (``s3://bucket/gallery``), which has no locks: use the gallery
from one process only while it is created or compacted.

Shape legend: ``N`` = rows, ``D`` = size of the embedding.
"""

import fcntl
import importlib.util
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmemd.errors import InputError, MissingDependencyError
from cmemd.gallery.rows import MODEL, row_schema, vectors_of

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb import DBConnection
    from lancedb.expr import Expr
    from lancedb.table import Table

__all__ = ["INDEX_FROM", "Gallery", "create_gallery", "open_gallery", "row_filter"]

INDEX_FROM = 100_000  # rows; exact search of as many takes 2.4 s from disk at D 2,048 [measured]
_PACKAGES = ("faiss", "lancedb", "pyarrow")
_TABLE = "gallery"
_INDEX = "vector_idx"  # LanceDB's name
_BATCH_BYTES = 1 << 26  # of vectors, read at a time
_PROBES = 128  # partitions that a query searches: all of them for a million rows
_REFINE = 10  # candidates scored exactly per wanted match


@contextmanager
def open_gallery(address: Path | str, *, alone: bool = False) -> "Iterator[Gallery]":
    """Open a gallery and hold its lock.

    Args:
        address: its folder, or an object store's address.
        alone: keep other processes out, as ``Gallery.compact`` needs.

    Raises:
        InputError: there is no gallery, another program's table, or the gallery is in use.
        MissingDependencyError: a package that galleries need is not installed.
    """
    _check_packages()
    address = str(address)
    if not _remote(address) and not Path(address).is_dir():
        raise _no_gallery(address)
    with _hold(address, alone):
        with _readable("read", address):
            database = _connect(address)
            table = _table(database)
            if table is None:
                raise _no_gallery(address)
            gallery = Gallery(address, database, table)
        yield gallery


@contextmanager
def create_gallery(address: Path | str, model: str, size: int) -> "Iterator[Gallery]":
    """Open a gallery of a model, or create it, and hold its lock.

    Args:
        address: its folder, or an object store's address.
        model: the model's digest.
        size: ``D``.

    Raises:
        InputError: the gallery holds another model's embeddings, is in use, or cannot be written.
        MissingDependencyError: a package that galleries need is not installed.
    """
    _check_packages()
    address = str(address)
    if not _remote(address):
        with _readable("write", address):
            Path(address).mkdir(parents=True, exist_ok=True)
    with _hold(address, alone=False):
        with _readable("write", address):
            database = _connect(address)
            # LanceDB lets two processes create a table at once; the later overwrites the earlier.
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
) -> "Expr | None":
    """Return the condition that a row fits every given argument; None if none is given.

    Args:
        paths: the row has one of these.
        identities: the row has one of these.
        cameras: the row has one of these.
        modality: ``visible`` or ``thermal``.
        since: taken at this time or later; rows without a time do not fit.
        until: taken before this time; rows without a time do not fit.
    """
    from lancedb.expr import col, lit

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
    """An open gallery, as it was when opened or last changed by this object.

    Attributes:
        address: its folder, or an object store's address.
        model: digest of the model whose embeddings it holds.
        size: ``D``.
    """

    def __init__(self, address: str, database: "DBConnection", table: "Table") -> None:
        self.address = address
        self._database = database
        self._table = table
        schema = self._table.schema
        if MODEL not in (schema.metadata or {}):
            raise InputError(
                f"a gallery at {address}", "a table of another program", "name another folder"
            )
        self.model = schema.metadata[MODEL].decode()
        self.size = schema.field("vector").type.list_size

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._table.count_rows()

    def check_model(self, model: str, size: int) -> None:
        """Raise unless embeddings are of the gallery's model; other scores mean nothing.

        Raises:
            InputError: another digest or size.
        """
        if (model, size) != (self.model, self.size):
            raise InputError(
                f"embeddings of model {self.model[:16]} of size {self.size}, as in gallery "
                f"{self.address}",
                f"model {model[:16]} of size {size}",
                "name the model with which the gallery was made, or another gallery",
            )

    def add(self, rows: "pa.Table") -> int:
        """Add rows, all or none, and return how many were new.

        A path that the gallery already holds stays as it is.

        Raises:
            InputError: the disk is full or cannot be written.
        """
        with _readable("write", self.address):
            merge = self._table.merge_insert("path").when_not_matched_insert_all()
            return merge.execute(rows).num_inserted_rows

    def remove(self, where: "Expr") -> int:
        """Remove rows and return how many; ``compact`` deletes their bytes from disk."""
        with _readable("write", self.address):
            return self._table.delete(where).num_deleted_rows

    def build_index(self) -> bool:
        """Build the approximate index again if the gallery is large enough.

        From ``INDEX_FROM`` rows the index is IVF with RaBitQ codes of 1 bit per dimension and
        partitions of about 8,192 rows. A smaller gallery has no index: its search is exact. Rows
        added later are searched exactly, beside the index, until it is built again.

        Returns:
            Whether the gallery has an index now.
        """
        from lancedb.index import IvfRq

        with _readable("write", self.address):
            if len(self) >= INDEX_FROM:
                self._table.create_index("vector", config=IvfRq(distance_type="dot"), replace=True)
            elif self.indexed:
                self._table.drop_index(_INDEX)
            return self.indexed

    def compact(self) -> None:
        """Write the gallery again and delete everything else in its folder.

        This deletes removed rows, earlier versions and leftovers of killed commands from disk. It
        needs ``open_gallery(..., alone=True)`` and room for a second copy. If it is killed, the
        gallery may lack its index: search is exact until the index is built again.
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
                # It warns of other processes at work; the lock keeps them out.
                self._table.optimize(
                    cleanup_older_than=timedelta(0), delete_unverified=not _remote(self.address)
                )

    @property
    def indexed(self) -> bool:
        """Return whether the gallery has an approximate index."""
        return any(index.name == _INDEX for index in self._table.list_indices())

    def modalities(self) -> dict[str, str]:
        """Return the modality of each path."""
        columns = self._table.search().select(["path", "modality"]).to_arrow()
        return dict(zip(*(column.to_pylist() for column in columns.columns), strict=True))

    def batches(self, where: "Expr | None" = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield row numbers ``(N,)`` and vectors ``(N, D)``, a part of the gallery at a time.

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
        """Return each row's path and labels, by row number."""
        names = ["path", "modality", "identity", "camera", "time"]
        with _readable("read", self.address):
            query = self._table.take_row_ids(sorted(set(numbers))).select(names).with_row_id()
            return {row.pop("_rowid"): row for row in query.to_arrow().to_pylist()}

    def search_index(
        self, query: np.ndarray, top: int, where: "Expr | None" = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best rows of one query by the approximate index, with exact scores.

        Args:
            query: ``(D,)``.
            top: number of rows.
            where: rows to search.

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
        """Return counts, time span, index and bytes on disk."""
        import pyarrow.compute as pc

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
    """Hold a lock on the folder; the operating system releases it even if the process is killed."""
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
            f"gallery {address} to be free",
            f"one that another command is {'using' if alone else 'compacting'}",
            "wait until that command ends",
        ) from None


@contextmanager
def _one_at_a_time(address: str) -> Iterator[None]:
    """Wait until no other process creates this gallery, and keep others out."""
    if _remote(address):
        yield
        return
    with open(Path(address) / "creation.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_packages() -> None:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"expected the packages that galleries need, got an installation without "
            f"{', '.join(missing)}: pip install 'cmemd[serve]'"
        )


def _connect(address: str) -> "DBConnection":
    import lancedb

    return lancedb.connect(address)


def _table(database: "DBConnection") -> "Table | None":
    """Return the gallery's table, or None if it is missing or its creation was killed."""
    try:
        return database.open_table(_TABLE)
    except ValueError:
        return None


@contextmanager
def _readable(doing: str, address: str) -> Iterator[None]:
    """Turn LanceDB's errors, for example for a full disk, into an InputError of one line."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"to {doing} gallery {address}",
            reason,
            "check the disk and run the command again; committed rows are safe",
        ) from error


def _remote(address: str) -> bool:
    return "://" in address


def _no_gallery(address: str) -> InputError:
    return InputError(
        f"a gallery at {address}", "none", f"make it with cmemd embed --gallery {address}"
    )


def _bytes(folder: Path, part: str = "") -> int:
    files = (file for file in folder.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files if not part or part in file.parts)
