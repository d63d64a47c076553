"""Open and change a gallery: a LanceDB table of ``cmemd.gallery.rows`` in its own folder.

Every change is one commit: a process that is killed leaves the gallery as before or as after.
Commands hold an operating-system lock on the folder. Many may add, remove and search at once, but
``compact`` deletes files and so needs the gallery to itself. Commits wait for each other: a process
that was alone since it looked knows which paths are new, and need not compare them with all rows.

The address may be an object store's (``s3://bucket/gallery``), which has no locks: use the gallery
from one process only while it is created or compacted.

Lance's files carry no checksums of their data. So each row has one, see ``cmemd.gallery.rows``:
whatever gives an answer checks the length of each vector that it compares and the checksum of each
row that it returns, and ``Gallery.check`` checks everything.

Shape legend: ``N`` = rows, ``D`` = size of the embedding.
"""

import fcntl
import importlib.util
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmemd.data.modality import Modality
from cmemd.data.sensors import PLAIN, Sensor
from cmemd.errors import InputError, MissingDependencyError
from cmemd.gallery.quick_lancedb import lancedb
from cmemd.gallery.rows import (
    ADDED,
    MODEL,
    check_rows,
    check_vectors,
    complete,
    given_rows,
    row_checksums,
    row_schema,
    sensor_in,
    vectors_of,
    wrong_lengths,
)
from cmemd.gallery.sources import LABELS, TRACKLET

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb import DBConnection
    from lancedb.expr import Expr
    from lancedb.table import Table

__all__ = [
    "INDEX_FROM",
    "LOCK",
    "TABLE_FILES",
    "Gallery",
    "create_gallery",
    "open_gallery",
    "recorded_sensor",
    "row_filter",
]

INDEX_FROM = 100_000  # rows; exact search of as many takes 2.4 s from disk at D 2,048 [measured]
_INDEX_CACHE, _METADATA_CACHE = 1 << 30, 1 << 25  # bytes in memory
_LOOKED_UP = 8192  # rows without vectors, read at a time
_DISK = "check the disk and run the command again; committed rows are safe"
_REMEDIES = {
    "read": "restore the gallery from a copy, or embed its images into a new one",
    "write": _DISK,
    "lock": _DISK,
}
_PACKAGES = ("faiss", "lancedb", "pyarrow")
_TABLE = "gallery"
TABLE_FILES = f"{_TABLE}.lance"  # the folder of LanceDB in the gallery's
LOCK = "creation.lock"  # a file in the gallery's folder, held while it is created and changed
_INDEX = "vector_idx"  # LanceDB's name
_BATCH_BYTES = 1 << 26  # of vectors, read at a time
_PROBES = 128  # partitions that a query searches: all of them for a million rows
_REFINE = 10  # candidates scored exactly per wanted match
_LABELS = ("path", "modality", *LABELS)
_SAMPLE = 32  # rows that a check looks for in the index [chosen]
_INDEX_SCORE = 0.99  # of a row's own vector there; other rows may equal it
# How LanceDB names the places in its source where an error arose.
_SOURCE_PLACE = re.compile(
    r",?\s*(?:location: )?Location \{[^}]*\}|,?\s*[^\s,:\"]*\.rs\"?(?::\d+)+|\bLanceError\(\w+\): "
    r"|\blance error: "
)


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
            table = _table(database, address)
            if table is None:
                raise _no_gallery(address)
            gallery = Gallery(address, database, table)
        yield gallery


@contextmanager
def create_gallery(
    address: Path | str,
    model: str,
    size: int,
    *,
    sensor: Sensor | None = None,
    alone: bool = False,
) -> "Iterator[Gallery]":
    """Open a gallery of a model, or create it, and hold its lock.

    Args:
        address: its folder, or an object store's address.
        model: the model's digest.
        size: ``D``.
        sensor: of the thermal images; None for the gallery's own, in a new one the default.
        alone: keep other processes out.

    Raises:
        InputError: the gallery holds another model's embeddings or of another sensor, is in use, or
            cannot be written.
        MissingDependencyError: a package that galleries need is not installed.
    """
    _check_packages()
    address = str(address)
    if not _remote(address):
        with _readable("write", address):
            Path(address).mkdir(parents=True, exist_ok=True)
    with _hold(address, alone):
        with _readable("write", address):
            database = _connect(address)
            # LanceDB lets two processes create a table at once; the later overwrites the earlier.
            with _one_at_a_time(address):
                table = _table(database, address)
                if table is None:
                    table = database.create_table(
                        _TABLE, schema=row_schema(model, size, sensor or PLAIN)
                    )
            gallery = Gallery(address, database, table)
        gallery.check_model(model, size)
        if sensor is not None:
            gallery.check_sensor(sensor)
        yield gallery


def recorded_sensor(address: Path | str) -> Sensor | None:
    """Return the thermal sensor of a gallery; None if there is no gallery that can be opened."""
    try:
        with open_gallery(address) as gallery:
            return gallery.sensor
    except InputError:  # ``create_gallery`` says what is wrong
        return None


def row_filter(
    *,
    paths: Sequence[str] = (),
    identities: Sequence[str] = (),
    cameras: Sequence[str] = (),
    tracklets: Sequence[str] = (),
    modality: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> "Expr | None":
    """Return the condition that a row fits every given argument; None if none is given.

    Args:
        paths: the row has one of these.
        identities: the row has one of these.
        cameras: the row has one of these.
        tracklets: the row has one of these.
        modality: ``visible`` or ``thermal``.
        since: taken at this time or later; rows without a time do not fit.
        until: taken before this time; rows without a time do not fit.
    """
    expr = lancedb("expr")
    col, lit = expr.col, expr.lit
    named = {"path": paths, "identity": identities, "camera": cameras, "tracklet": tracklets}
    terms = [col(name).isin(list(values)) for name, values in named.items() if values]
    if modality is not None:
        terms.append(col("modality") == lit(modality))
    if since is not None:
        terms.append(col("time") >= lit(since))
    if until is not None:
        terms.append(col("time") < lit(until))
    if not terms:
        return None
    where: Expr = terms[0]
    for term in terms[1:]:
        where = where & term
    return where


class Gallery:
    """An open gallery, as it was when opened or last changed by this object.

    Attributes:
        address: its folder, or an object store's address.
        model: digest of the model whose embeddings it holds.
        size: ``D``.
        sensor: how the files of its thermal images became grey levels.
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
        missing = [name for name in row_schema("", 1).names if name not in schema.names]
        if not set(ADDED).issuperset(missing):
            raise InputError(
                f"a gallery of this version of cmemd at {address}",
                f"one without the columns {', '.join(missing)}",
                "embed its images into a new gallery",
            )
        self.size = schema.field("vector").type.list_size
        self.sensor = sensor_in(schema, address)
        self._missing = set(missing)  # columns of an earlier version's gallery; a commit adds them
        self._alone_since = self.version

    @property
    def version(self) -> int:
        """Return the number of the commit that this object sees."""
        with _readable("read", self.address):
            return self._table.version

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.count()

    def count(self, where: "Expr | None" = None) -> int:
        """Return the number of rows that fit a condition."""
        with _readable("read", self.address):
            return self._table.count_rows(None if where is None else where.to_sql())

    def labelled(self, label: str, where: "Expr | None" = None) -> int:
        """Return the number of rows that fit a condition and have a label."""
        if label in self._missing:
            return 0
        known = f"{label} IS NOT NULL"
        with _readable("read", self.address):
            return self._table.count_rows(
                known if where is None else f"({where.to_sql()}) AND {known}"
            )

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

    def check_sensor(self, sensor: Sensor) -> None:
        """Raise unless thermal images are read as the gallery's were.

        Raises:
            InputError: another range, palette or polarity.
        """
        if sensor != self.sensor:
            raise InputError(
                f"thermal images read by {self.sensor}, as in gallery {self.address}",
                str(sensor),
                "leave out --range, --palette and --polarity, or embed the images into a new "
                "gallery",
            )

    def add(
        self,
        vectors: np.ndarray,
        keys: Sequence[str],
        labels: Mapping[str, Any],
        *,
        model: str,
    ) -> int:
        """Add embeddings that a program has made, all or none, and return how many were new.

        A key that the gallery already holds stays as it is.

        Args:
            vectors: ``(N, D)`` numbers, each row of unit length.
            keys: ``N`` different texts; they become the column ``path``.
            labels: ``modality``, and any of ``identity``, ``camera``, ``time`` and ``tracklet``.
                Each is one value for all rows, or ``N`` values; None where unknown. A time is a
                ``datetime`` or ISO 8601, and means UTC if it has no zone.
            model: digest of the model that made the vectors, ``Predictor.digest``.

        Raises:
            InputError: another shape, length, model or label; two equal keys; or the gallery cannot
                be written. Nothing is added then.
        """
        self.check_model(model, np.shape(vectors)[1] if np.ndim(vectors) == 2 else 0)
        return self.add_rows(given_rows(vectors, keys, labels, model))

    def add_rows(self, rows: "pa.Table", absent_in: int | None = None) -> int:
        """Add rows, all or none, and return how many were new.

        A path that the gallery already holds stays as it is. To find such paths, LanceDB reads all
        rows' paths, so that adding N rows in equal parts takes time in N squared.

        Args:
            rows: of ``row_schema``.
            absent_in: a ``version`` that this object saw and in which the gallery had none of these
                paths, nor did this object add them since. If no other process has committed since,
                the rows are added without a search.

        Raises:
            InputError: the disk is full or cannot be written.
        """
        with self._commit():
            # Without a lock (on an object store) another process may commit in between.
            if absent_in is not None and absent_in >= self._alone_since and self._locks:
                self._table.add(rows)
                return len(rows)
            merge = self._table.merge_insert("path").when_not_matched_insert_all()
            return int(merge.execute(rows).num_inserted_rows)

    def replace(self, rows: "pa.Table") -> int:
        """Replace the rows of paths that the gallery holds, all or none, and return how many.

        Raises:
            InputError: the disk is full or cannot be written.
        """
        with self._commit():
            merge = self._table.merge_insert("path").when_matched_update_all()
            return int(merge.execute(rows).num_updated_rows)

    def remove(self, where: "Expr") -> int:
        """Remove rows and return how many; ``compact`` deletes their bytes from disk."""
        with self._commit():
            done: Any = self._table.delete(where)  # its declared type is of older versions
            return int(done.num_deleted_rows)

    @contextmanager
    def _commit(self) -> Iterator[None]:
        """Wait for other processes' commits, and note whether there were any."""
        with _readable("write", self.address), _one_at_a_time(self.address):
            before = self._table.version
            table: Any = self._table  # the method has no types
            table.checkout_latest()
            if self._table.version != before:
                self._alone_since = self._table.version
            self._add_columns()
            yield

    def _add_columns(self) -> None:
        """Give a gallery of an earlier version the columns that it lacks, in a commit of its own.

        Rows keep their numbers, values and checksums.
        """
        import pyarrow as pa

        schema = row_schema("", 1)
        there = self._table.schema.names
        if missing := [schema.field(name) for name in ADDED if name not in there]:
            self._table.add_columns(pa.schema(missing))
        self._missing = set()

    @property
    def _locks(self) -> bool:
        return not _remote(self.address)

    def build_index(self) -> bool:
        """Build the approximate index again if the gallery is large enough.

        From ``INDEX_FROM`` rows the index is IVF with RaBitQ codes of 1 bit per dimension and
        partitions of about 8,192 rows. A smaller gallery has no index: its search is exact. Rows
        added later are searched exactly, beside the index, until it is built again.

        Returns:
            Whether the gallery has an index now.
        """
        with _readable("write", self.address):
            if len(self) >= INDEX_FROM:
                config = lancedb("index").IvfRq(distance_type="dot")
                self._table.create_index("vector", config=config, replace=True)
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
        with _readable("read", self.address):
            return any(index.name == _INDEX for index in self._table.list_indices())

    def modalities(self) -> dict[str, str]:
        """Return the modality of each path."""
        with _readable("read", self.address):
            columns = self._table.search().select(["path", "modality"]).to_arrow()
        return dict(zip(*(column.to_pylist() for column in columns.columns), strict=True))

    def lookup(
        self, paths: Collection[str], columns: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield row numbers, and ``path`` and other columns, of the rows of some paths."""
        there = [name for name in columns if name not in self._missing]
        query = self._table.search().select(["path", *there]).with_row_id(True)
        absent = dict.fromkeys(self._missing.intersection(columns))
        for batch in self._read(query, _LOOKED_UP):
            for row in batch.to_pylist():
                if row["path"] in paths:
                    yield row.pop("_rowid"), row | absent

    def rows(self, where: "Expr | None" = None) -> "Iterator[pa.Table]":
        """Yield whole rows, a part of the gallery at a time; check them.

        Raises:
            InputError: the gallery's files are damaged, or a row has changed since it was written.
        """
        import pyarrow as pa

        query = self._table.search()
        if where is not None:
            query = query.where(where)
        for batch in self._read(query, self._batch_rows):
            rows = complete(pa.Table.from_batches([batch]))
            rows = rows.cast(row_schema(self.model, self.size))
            check_rows(rows, f"gallery {self.address}")
            yield rows

    def take(self, numbers: Sequence[int]) -> "pa.Table":
        """Return whole rows by their numbers, in that order; check them.

        Raises:
            InputError: a row is gone or has changed since it was written.
        """
        import pyarrow as pa

        with _readable("read", self.address):
            query = self._table.take_row_ids(sorted(set(numbers))).with_row_id()
            rows = query.to_arrow().combine_chunks()
        place = {number: row for row, number in enumerate(rows["_rowid"].to_pylist())}
        if missing := [number for number in numbers if number not in place]:
            raise InputError(
                f"row {missing[0]} in gallery {self.address}",
                "no such row",
                "run the command again; if it fails again, restore the gallery from a copy",
            )
        rows = rows.take(pa.array([place[number] for number in numbers], pa.int64()))
        rows = complete(rows).cast(row_schema(self.model, self.size, self.sensor))
        check_rows(rows, f"gallery {self.address}")
        return rows

    def batches(self, where: "Expr | None" = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield row numbers ``(N,)`` and vectors ``(N, D)``, a part of the gallery at a time.

        Raises:
            InputError: the gallery's files are damaged, or a vector is not of unit length.
        """
        return ((numbers, vectors) for numbers, vectors, _ in self.labelled_batches((), where))

    def labelled_batches(
        self, labels: Sequence[str], where: "Expr | None" = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, list[tuple[Any, ...]]]]:
        """Yield as ``batches``, and values of some columns, which no checksum was compared with.

        Raises:
            InputError: as ``batches``.
        """
        there = [name for name in labels if name not in self._missing]
        query = self._table.search().select(["vector", *there]).with_row_id(True)
        if where is not None:
            query = query.where(where)
        for batch in self._read(query, self._batch_rows):
            numbers, vectors = batch.column("_rowid").to_numpy(), vectors_of(batch)
            check_vectors(vectors, partial(self._named, numbers))
            values = [
                batch.column(name).to_pylist() if name in there else [None] * len(numbers)
                for name in labels
            ]
            yield numbers, vectors, list(zip(*values, strict=True))

    def _named(self, numbers: np.ndarray, row: int) -> str:
        return f"{self.name(int(numbers[row]))} in gallery {self.address}"

    def labels(self, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return each row's path and labels, by row number; check the whole rows.

        Raises:
            InputError: a row is gone or has changed since it was written.
        """
        found: dict[int, dict[str, Any]] = {}
        numbers = sorted(set(numbers))
        for start in range(0, len(numbers), self._batch_rows):
            part = numbers[start : start + self._batch_rows]
            rows = self.take(part).select(_LABELS).to_pylist()
            found |= zip(part, rows, strict=True)
        return found

    def name(self, number: int) -> str:
        """Return the path of a row, which may be damaged, for messages."""
        with _readable("read", self.address):
            (path,) = self._table.take_row_ids([number]).select(["path"]).to_arrow()["path"]
        return str(path.as_py())

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
        search: Any = self._table.search(query)  # declared as the builder of all kinds of search
        search = search.distance_type("dot").nprobes(_PROBES)
        search = search.refine_factor(_REFINE).limit(top).select(["_distance"]).with_row_id(True)
        if where is not None:
            search = search.where(where, prefilter=True)
        with _readable("read", self.address):
            found = search.to_arrow()
        return 1 - found["_distance"].to_numpy(), found["_rowid"].to_numpy()

    def check(self) -> Iterator[tuple[str, str]]:
        """Read every row; yield each fault: its kind, and the path or the file that has it.

        Not found: an earlier version of the gallery in place of the latest, if Lance's hint of the
        version is gone too; a row that is gone together with its entry in Lance's manifest; and
        whatever was wrong before the row was written.
        """
        try:
            yield from self._faulty_rows()
            yield from self._faulty_index()
        except InputError as error:
            yield "unreadable", str(error)
        hint = Path(self.address, TABLE_FILES, "_versions", "latest_version_hint.json")
        try:
            latest = json.loads(hint.read_bytes())["version"]
        except (OSError, ValueError, KeyError, TypeError):
            return  # Lance can do without
        if latest != self._table.version:
            yield "version", f"{self._table.version} is the latest, but {hint} says {latest}"

    def _faulty_rows(self) -> Iterator[tuple[str, str]]:
        modalities = [modality.name.lower() for modality in Modality]
        seen: Counter[int] = Counter()  # hashes: a million paths take 0.1 GB [measured]
        for batch in self._read(self._table.search(), self._batch_rows):
            names = batch.column("path").to_pylist()
            yield from (("vector", names[row]) for row in wrong_lengths(vectors_of(batch)))
            written = batch.column("crc").to_numpy(zero_copy_only=False)
            changed = np.flatnonzero(row_checksums(batch) != written)
            yield from (("checksum", names[row]) for row in changed)
            for name, modality, model in zip(
                names,
                batch.column("modality").to_pylist(),
                batch.column("model").to_pylist(),
                strict=True,
            ):
                if modality not in modalities:
                    yield "modality", f"{name} ({modality})"
                if model != self.model:
                    yield "model", name
                seen[hash(name)] += 1
                if seen[hash(name)] == 2:
                    yield "duplicate", name

    def _faulty_index(self) -> Iterator[tuple[str, str]]:
        if not self.indexed:
            return
        with _readable("read", self.address):
            stats = self._table.index_stats(_INDEX)
        assert stats is not None, "there is an index"
        rows = len(self)
        if stats.num_indexed_rows + stats.num_unindexed_rows != rows:
            yield "index", f"{stats.num_indexed_rows} + {stats.num_unindexed_rows} rows, not {rows}"
        for _, vectors in self.batches():
            for vector in vectors[:_SAMPLE]:
                scores, _ = self.search_index(vector, 1)
                if not len(scores) or scores[0] < _INDEX_SCORE:
                    yield "index", "it does not find a row by its own vector"
                    return
            return

    def info(self) -> dict[str, Any]:
        """Return counts, time span, index and bytes on disk."""
        import pyarrow.compute as pc

        names = [name for name in _LABELS if name not in {"path", *self._missing}]
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
            "tracklets": len(_tracklets(rows)),
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
        return max(1, _BATCH_BYTES // (4 * int(self.size)))

    def _read(self, query: Any, rows: int) -> "Iterator[pa.RecordBatch]":
        """Yield a query's batches; an error of the caller, who has them, is not LanceDB's."""
        with _readable("read", self.address):
            batches = iter(query.to_batches(rows))
        while True:
            with _readable("read", self.address):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


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
        if not os.path.exists(address) or not os.path.samestat(os.fstat(folder), os.stat(address)):
            raise InputError(
                f"gallery {address} to stay",
                "one that another command has just removed",
                "run the command again",
            )
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
    """Wait until no other process creates or changes this gallery, and keep others out."""
    if _remote(address):
        yield
        return
    with open(Path(address) / LOCK, "a") as file:
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
    # LanceDB's own limits are larger: each commit then costs 0.2 MB more than the last [measured].
    session = lancedb().Session(
        index_cache_size_bytes=_INDEX_CACHE, metadata_cache_size_bytes=_METADATA_CACHE
    )
    database: DBConnection = lancedb().connect(address, session=session)
    return database


def _table(database: "DBConnection", address: str) -> "Table | None":
    """Return the gallery's table, or None if it is missing or its creation was killed."""
    try:
        return database.open_table(_TABLE)
    except ValueError:
        # LanceDB says "not found" of some damaged tables too.
        versions = Path(address, TABLE_FILES, "_versions")
        if not _remote(address) and any(versions.glob("*.manifest")):
            raise
        return None


@contextmanager
def _readable(doing: str, address: str) -> Iterator[None]:
    """Turn LanceDB's errors, for example for a full disk, into an InputError of one line."""
    try:
        with _silent():
            yield
    except (InputError, MissingDependencyError):
        raise
    except Exception as error:
        raise InputError(
            f"to {doing} gallery {address}", _reason(error), _REMEDIES[doing]
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Hold back what is written to the process's stderr; show it unless an error follows.

    LanceDB writes the place in its source and a stack trace there before it raises some errors.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # the process has none
        yield
        return
    held = os.memfd_create("stderr")
    try:
        os.dup2(held, 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
        os.write(stderr, os.pread(held, os.fstat(held).st_size, 0))
    finally:
        os.close(held)
        os.close(stderr)


def _reason(error: BaseException) -> str:
    """Return the cause of LanceDB's error in one line, without the places in its source."""
    text = _SOURCE_PLACE.sub("", str(error)) or type(error).__name__
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(text.split())
    if "panicked" in text:
        text = "files that LanceDB cannot read: they are damaged"
    # The first words say what was done, the last ones what the system answered.
    return text if len(text) <= 240 else f"{text[:150]} ... {text[-85:]}"


def _remote(address: str) -> bool:
    return "://" in address


def _no_gallery(address: str) -> InputError:
    return InputError(
        f"a gallery at {address}", "none", f"make it with cmemd embed --gallery {address}"
    )


def _tracklets(rows: "pa.Table") -> set[tuple[Any, ...]]:
    if "tracklet" not in rows.schema.names:
        return set()
    values = zip(*(rows[name].to_pylist() for name in TRACKLET), strict=True)
    return {of for of in values if of[-1] is not None}


def _bytes(folder: Path, part: str = "") -> int:
    files = (file for file in folder.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files if not part or part in file.parts)
