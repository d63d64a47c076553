"""Marks, right or wrong, that people give to matches, and the labels that follow from them.

The marks are lines of JSON in a file, only ever added to; the last one of a query and a row counts.
A line that a kill cut short is ignored: its caller got no answer.
"""

import base64
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cmemd.data.modality import Modality
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source
from cmemd.server.audit import forget_lines, now
from cmemd.server.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

    from cmemd.server.snapshot import Row

__all__ = ["Marks", "Query", "labels"]


class Query(NamedTuple):
    """An image that was searched for.

    Attributes:
        sha256: of the image's bytes.
        modality: as its caller gave it.
        vector: its embedding, ``(D,)``.
    """

    sha256: str
    modality: str
    vector: np.ndarray


class Marks:
    """The marks of one gallery and model.

    Args:
        path: the file.
        model: digest of the model; marks of another one are kept and not used.
    """

    def __init__(self, path: Path, model: str) -> None:
        self.path = path
        self.model = model
        self._lock = Lock()
        self._read()

    def put(self, query: Query, row: str, right: bool | None) -> None:
        """Store a mark before returning.

        Args:
            query: the query.
            row: path of the gallery's row.
            right: whether the row shows the query's person; None takes a mark back.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        entry = {
            "time": now().isoformat(),
            "model": self.model,
            "sha256": query.sha256,
            "modality": query.modality,
            "vector": base64.b64encode(query.vector.astype("<f4").tobytes()).decode(),
            "row": row,
            "right": right,
        }
        line = json.dumps(entry).encode() + b"\n"
        with self._lock:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                size = os.fstat(file).st_size
                if size and os.pread(file, 1, size - 1) != b"\n":
                    line = b"\n" + line  # after a line that a kill cut short
                if os.write(file, line) < len(line):
                    raise OSError(28, "No space left on device", str(self.path))
                os.fsync(file)
            finally:
                os.close(file)
            self._take(entry)

    def of(self, query: Query) -> dict[str, bool]:
        """Return the marks of a query by the paths of the rows."""
        with self._lock:
            return dict(self._marks.get((query.sha256, query.modality), {}))

    def all(self) -> list[tuple[Query, dict[str, bool]]]:
        """Return every query that has a mark, and its marks."""
        with self._lock:
            return [(self._queries[key], dict(of)) for key, of in self._marks.items() if of]

    def forget(self, before: datetime) -> int:
        """Delete the marks from before a time; return how many."""
        with self._lock:
            gone = forget_lines(self.path, before)
        self._read()
        return gone

    def _read(self) -> None:
        with self._lock:
            self._marks: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
            self._queries: dict[tuple[str, str], Query] = {}
            lines = self.path.read_bytes().splitlines() if self.path.exists() else []
            for line in lines:
                try:
                    entry = json.loads(line)
                    if entry["model"] == self.model:
                        self._take(entry)
                except (ValueError, KeyError, TypeError):
                    continue

    def _take(self, entry: dict[str, Any]) -> None:
        key = entry["sha256"], entry["modality"]
        vector = np.frombuffer(base64.b64decode(entry["vector"]), dtype="<f4")
        self._queries[key] = Query(*key, vector)
        if entry["right"] is None:
            self._marks[key].pop(entry["row"], None)
        else:
            self._marks[key][entry["row"]] = bool(entry["right"])


def labels(
    marks: Marks, snapshot: Snapshot, name: Callable[[str], str]
) -> "tuple[list[pa.Table], list[pa.Table]]":
    """Return the probes and the gallery with identities, for ``cmemd calibrate``.

    A query takes the identity of a row that was marked right. If that row has none, both get a new
    one. A query of which only wrong matches are marked counts as a person who is not in the
    gallery. A row that nothing labels counts as a person of its own.

    Args:
        marks: of the gallery.
        snapshot: its rows.
        name: returns what a row's path is called in the files.

    Returns:
        Tables of ``row_schema``: of the queries that have a mark, and of all rows.
    """
    identities = {row.path: row.identity for row in snapshot.rows()}
    probes: dict[str, list[tuple[Source, np.ndarray]]] = defaultdict(list)
    for query, of in marks.all():
        short = hashlib.sha256(f"{query.sha256} {query.modality}".encode()).hexdigest()[:16]
        right = [path for path, mark in of.items() if mark and path in identities]
        known = [identities[path] for path in right if identities[path]]
        identity = known[0] if known else f"marked-{short}"
        for path in right:
            identities[path] = identities[path] or identity
        probes[query.modality].append((Source(f"query/{short}", identity), query.vector))
    rows = snapshot.rows()
    gallery = [
        _table(modality, list(_sources(rows, len(vectors), identities, name)), vectors, marks.model)
        for modality, vectors in snapshot.vectors()
    ]
    asked = [
        _table(modality, [one for one, _ in of], np.stack([two for _, two in of]), marks.model)
        for modality, of in probes.items()
    ]
    return asked, gallery


def _sources(
    rows: "Iterator[Row]", count: int, identities: dict[str, str | None], name: Callable[[str], str]
) -> Iterator[Source]:
    for _ in range(count):
        row = next(rows)
        called = name(row.path)
        identity = identities[row.path] or f"row-{called}"
        yield Source(called, identity, row.camera, row.time)


def _table(modality: str, sources: list[Source], vectors: np.ndarray, model: str) -> "pa.Table":
    return make_rows(sources, vectors, Modality[modality.upper()], model)
