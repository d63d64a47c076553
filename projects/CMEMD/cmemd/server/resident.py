"""The model and the gallery of a server, in memory, and the two threads that use them.

One thread embeds and searches: what comes in while it works is embedded and searched together next.
The other one commits: it adds and removes rows, picks up commits of other commands, and forgets.
The gallery's lock is held only during a commit, so that other commands can work.
"""

import hashlib
import logging
import os
import queue
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock, Thread
from typing import Any, NamedTuple

import numpy as np

from cmemd.data.appearance import apparent
from cmemd.data.image_files import Tally
from cmemd.data.images import decode_pixels
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.thresholds import read_threshold
from cmemd.files import one_writer, whole_file
from cmemd.gallery.facts import file_facts
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source
from cmemd.gallery.table import TABLE_FILES, Gallery, open_gallery, row_filter
from cmemd.inference.predictor import Predictor
from cmemd.inference.preprocess import from_array
from cmemd.server.audit import Audit, now
from cmemd.server.marks import Marks, Query
from cmemd.server.metrics import Metrics
from cmemd.server.settings import Settings
from cmemd.server.snapshot import Condition, Found, Row, Snapshot, read_snapshot

__all__ = ["FOLDER", "Answer", "Prepared", "Resident", "UnavailableError"]

FOLDER = "server"  # in the gallery's: marks, log, key and added images
_TOGETHER = 32  # queries that are embedded and searched at once [chosen]
_WAITING = 256  # queries or changes that wait, at most [chosen]
_LOOK = 1.0  # seconds between two looks for commits of other commands [chosen]
_FORGET = 3600.0  # seconds between two deletions of what is old [chosen]
_RECENT = 2000  # queries that can still be marked [chosen]
_REMOVED = 1000  # rows that one commit removes by their paths
_SUFFIX = {b"\xff\xd8\xff": "jpg", b"\x89PN": "png", b"GIF": "gif", b"RIF": "webp", b"BM": "bmp"}

_logger = logging.getLogger(__name__)


class UnavailableError(RuntimeError):
    """The gallery cannot be used now; the message may be shown to callers."""


class Prepared(NamedTuple):
    """An uploaded image, ready for the model.

    Attributes:
        pixels: ``(H, W, 3)`` uint8 at the model's size.
        modality: as the caller gave it.
        suspect: whether it looks like the other modality.
        sha256: of the upload.
        data: the upload.
    """

    pixels: np.ndarray
    modality: Modality
    suspect: bool
    sha256: str
    data: bytes


class Answer(NamedTuple):
    """What a search found.

    Attributes:
        vector: the query's embedding, ``(D,)``.
        found: the best rows, whatever their score.
        candidates: number of rows that were compared.
        version: number of the commit that was searched.
    """

    vector: np.ndarray
    found: list[Found]
    candidates: int
    version: int


class _Ask(NamedTuple):
    image: Prepared
    top: int  # 0 for the embedding alone
    condition: Condition


class Resident:
    """A model and a gallery that stay in memory; use it as a context.

    Args:
        model: the model folder.
        gallery: the gallery's folder.
        settings: what the operator allows.
        metrics: takes counts and times.

    Raises:
        InputError: the model or the gallery is missing or damaged, the gallery is another model's,
            too large for the memory, in an object store, or served by another process; or the
            thresholds are another model's.
    """

    def __init__(
        self, model: Path | str, gallery: Path | str, settings: Settings, metrics: Metrics
    ) -> None:
        if "://" in str(gallery):
            raise InputError(
                "a gallery in a folder of this machine", gallery, "copy it to a local folder"
            )
        self.settings = settings
        self.metrics = metrics
        self.gallery = Path(gallery)
        with open_gallery(gallery) as opened:
            sensor = opened.sensor  # thermal queries are read as the gallery's thermal images were
        self.predictor = Predictor(model, device=settings.device, sensor=sensor)
        self.fault: str | None = None
        with self._open() as opened:
            self.snapshot = read_snapshot(opened, settings.memory)
        self._seen = self._signature()
        self._check_thresholds()
        folder = self.gallery / FOLDER
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / "images").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"to write {folder}", error.strerror, "change its permissions"
            ) from error
        self._held = ExitStack()
        self._held.enter_context(one_writer(folder))
        self._key = _key(folder / "key")
        self.audit = Audit(folder / "audit.jsonl")
        self.marks = Marks(folder / "marks.jsonl", self.predictor.digest)
        self._ids: dict[str, str] = {}
        self._recent: OrderedDict[str, Query] = OrderedDict()
        self._lock = Lock()
        self._asks: queue.Queue[tuple[_Ask, Future[Any]] | None] = queue.Queue(_WAITING)
        self._changes: queue.Queue[tuple[Callable[[], Any], Future[Any]] | None]
        self._changes = queue.Queue(_WAITING)
        self._forget_at = time.monotonic()
        self._show(self.snapshot)

    def __enter__(self) -> "Resident":
        """Start both threads."""
        self._threads = [
            Thread(target=self._answer_all, name="answer"),
            Thread(target=self._change_all, name="change"),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End both threads after what waits, and let other servers have the gallery."""
        self._asks.put(None)
        self._changes.put(None)
        for thread in self._threads:
            thread.join()
        self._held.close()

    # ---- what callers ask for

    def prepare(self, data: bytes, modality: Modality) -> Prepared:
        """Decode an upload in bounded memory, at the model's size.

        Raises:
            InputError: it is no image, damaged, has too many pixels or a channel of more than 8
                bits.
        """
        folder = self.predictor.folder
        with self.metrics.stages.labels("decode").time():
            pixels = decode_pixels(
                data,
                "the upload",
                Tally(),
                self.predictor.sensor.of(modality),
                self.settings.most_pixels,
            )
            pixels = from_array(pixels, False, folder.height, folder.width)
        suspect = apparent(pixels, modality, self.predictor.statistics) is not None
        return Prepared(pixels, modality, suspect, hashlib.sha256(data).hexdigest(), data)

    def ask(self, image: Prepared, top: int, condition: Condition) -> "Future[Answer]":
        """Embed an image and search; with ``top`` 0, only embed it.

        Raises:
            UnavailableError: too many others wait, or the gallery cannot be read.
        """
        if top and self.fault:
            raise UnavailableError(self.fault)
        return _put(self._asks, _Ask(image, top, condition))

    def add(self, image: Prepared, source: Source) -> "Future[tuple[str, bool]]":
        """Keep an image and add its row; the path of the source is chosen here.

        Returns:
            Of the row, its path, and whether it is new. The row is committed then.
        """
        return _put(self._changes, lambda: self._add(image, source))

    def remove(self, paths: Sequence[str], **conditions: Any) -> "Future[int]":
        """Remove rows by their paths, or by the conditions of ``row_filter``; return how many."""
        return _put(self._changes, lambda: self._remove(paths, conditions))

    def remember(self, query: Query) -> str:
        """Return a name by which a query can be marked for a while."""
        name = hashlib.blake2b(
            f"{query.sha256} {query.modality}".encode(), key=self._key, digest_size=12
        ).hexdigest()
        with self._lock:
            self._recent[name] = query
            self._recent.move_to_end(name)
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return name

    def recall(self, name: str) -> Query:
        """Return a recent query.

        Raises:
            InputError: the query is unknown or too long ago.
        """
        with self._lock:
            if name in self._recent:
                return self._recent[name]
        raise InputError("the name of a recent query", "an unknown one", "search again")

    def id_of(self, path: str) -> str:
        """Return the name of a row for callers, from which its path cannot be found."""
        return hashlib.blake2b(
            path.encode(errors="surrogatepass"), key=self._key, digest_size=12
        ).hexdigest()

    def path_of(self, name: str) -> str:
        """Return the path of a row by its name for callers.

        Raises:
            InputError: the gallery has no such row.
        """
        path = self._ids.get(name)
        if path is None or path not in self.snapshot.paths:
            raise InputError("the id of a row of the gallery", "an unknown one", "search again")
        return path

    def threshold(self, probes: str, among: str | None, candidates: int) -> float | None:
        """Return the operator's threshold for a search; None where there is none.

        Raises:
            InputError: the file has none for this pair of modalities or so many candidates.
        """
        of = self.settings.threshold
        if not isinstance(of, Path):
            return of
        try:
            pair = read_threshold(of, self.predictor.digest, probes, among or "all")
        except InputError:
            raise InputError(
                f"a threshold for {probes} queries among {among or 'all'} images",
                "none in the server's file",
                "give a threshold, or search another modality",
            ) from None
        pair.check_candidates(candidates)
        return pair.threshold

    # ---- the thread that answers

    def _answer_all(self) -> None:
        _tune_faiss()
        end = False
        while not end:
            asked: list[tuple[_Ask, Future[Any]]] = []
            while len(asked) < _TOGETHER and not end:
                try:
                    ask = self._asks.get_nowait() if asked else self._asks.get()
                except queue.Empty:
                    break
                end = ask is None
                if ask is not None and ask[1].set_running_or_notify_cancel():
                    asked.append(ask)
            if asked:
                try:
                    self._answer(asked)
                except BaseException as error:  # noqa: BLE001  told to each caller
                    for _, future in asked:
                        if not future.done():
                            future.set_exception(error)

    def _answer(self, asked: "Sequence[tuple[_Ask, Future[Any]]]") -> None:
        self.metrics.together.observe(len(asked))
        with self.metrics.stages.labels("embed").time():
            vectors = self._embed([ask.image for ask, _ in asked])
        snapshot, groups = self.snapshot, defaultdict(list)
        for place, (ask, future) in enumerate(asked):
            if ask.top:
                groups[ask.condition].append(place)
            else:
                future.set_result(Answer(vectors[place], [], 0, snapshot.version))
        for condition, places in groups.items():
            with self.metrics.stages.labels("search").time():
                top = max(asked[place][0].top for place in places)
                found, candidates = snapshot.search(vectors[places], top, condition)
            for place, of in zip(places, found, strict=True):
                ask, future = asked[place]
                future.set_result(
                    Answer(vectors[place], of[: ask.top], candidates, snapshot.version)
                )

    def _embed(self, images: Sequence[Prepared]) -> np.ndarray:
        vectors = np.empty((len(images), self.predictor.size), dtype=np.float32)
        for modality in Modality:
            places = [n for n, image in enumerate(images) if image.modality == modality]
            if places:
                pixels = np.stack([images[place].pixels for place in places])
                vectors[places] = self.predictor.backend(pixels, modality)
        return vectors

    # ---- the thread that commits

    def _change_all(self) -> None:
        while True:
            try:
                change = self._changes.get(timeout=_LOOK)
            except queue.Empty:
                self._look()
                continue
            if change is None:
                return
            work, future = change
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except InputError as error:
                _logger.error("a change failed: %s", error)
                future.set_exception(
                    UnavailableError("the gallery cannot be changed now: see the server's log")
                )
            except BaseException as error:  # noqa: BLE001  told to the caller
                future.set_exception(error)

    def _look(self) -> None:
        """Pick up commits of other commands; forget what is old."""
        try:
            if self._signature() != self._seen or self.fault:
                self._reload()
            if self.settings.forget_after is not None and time.monotonic() >= self._forget_at:
                self.forget()
                self._forget_at = time.monotonic() + _FORGET
        except (InputError, OSError) as error:
            _logger.error("%s", error)
        except Exception:
            _logger.exception("a look at the gallery failed")

    def _reload(self) -> None:
        seen = self._signature()
        try:
            with self._open() as gallery:
                if gallery.version != self.snapshot.version or self.fault:
                    self._show(read_snapshot(gallery, self.settings.memory))
        except InputError as error:
            if "compacting" not in str(error):
                # Rows that were removed must not be found: no answer is better than an old one.
                self.fault = "the gallery cannot be read now: see the server's log"
            self.metrics.reloads.labels("failed").inc()
            raise
        self._seen, self.fault = seen, None
        self.metrics.reloads.labels("done").inc()

    def _add(self, image: Prepared, source: Source) -> tuple[str, bool]:
        folder = (self.gallery / FOLDER / "images").resolve()
        kind = next((end for start, end in _SUFFIX.items() if image.data.startswith(start)), "tif")
        path = folder / f"{image.modality.name.lower()}-{image.sha256}.{kind}"
        if str(path) in self.snapshot.paths:
            return str(path), False
        vectors = self._embed([image])
        with whole_file(path) as unfinished:
            unfinished.write_bytes(image.data)
        source = Source(str(path), source.identity, source.camera, source.time)
        rows = make_rows(
            [source], vectors, image.modality, self.predictor.digest, [file_facts(str(path))]
        )
        with self.metrics.stages.labels("commit").time(), self._open() as gallery:
            before = gallery.version
            known = before == self.snapshot.version
            gallery.add_rows(rows, before if known else None)
            if known and gallery.version == before + 1:
                self._show(self.snapshot.extended(gallery.version, rows))
            else:
                self._show(read_snapshot(gallery, self.settings.memory))
            self._seen = self._signature()
        return str(path), True

    def _remove(self, paths: Sequence[str], conditions: dict[str, Any]) -> int:
        with self._open() as gallery:
            filters = [row_filter(**conditions)]
            if paths:
                starts = range(0, len(paths), _REMOVED)
                filters = [row_filter(paths=paths[i : i + _REMOVED], **conditions) for i in starts]
            removed = sum(gallery.remove(where) for where in filters if where is not None)
            self._show(read_snapshot(gallery, self.settings.memory))
            self._seen = self._signature()
        self._sweep()
        return removed

    def forget(self) -> int:
        """Delete rows, marks and log lines that are too old, and their bytes from disk.

        The age of a row is that of its ``time``, or of its image's file where it has none. A row
        with neither stays.

        Returns:
            The number of rows.

        Raises:
            InputError: the gallery is in use or cannot be written; the rest comes later.
        """
        assert self.settings.forget_after is not None, "called if it is set"
        before = now() - timedelta(days=self.settings.forget_after)
        self.audit.forget(before)
        self.marks.forget(before)
        old = [row.path for row in self.snapshot.rows() if _is_old(row, before)]
        if old:
            self._remove(old, {})
            _logger.info("forgot %d rows", len(old))
        done = self.gallery / FOLDER / "compact"
        if old:
            done.touch()  # so that a kill before the end is made good by the next start
        if done.exists():
            with open_gallery(self.gallery, alone=True) as gallery:
                gallery.compact()
                self._show(read_snapshot(gallery, self.settings.memory))
                self._seen = self._signature()
            done.unlink()
        self._sweep()
        return len(old)

    def _sweep(self) -> None:
        """Delete added images that no row names."""
        for image in (self.gallery / FOLDER / "images").resolve().iterdir():
            if str(image) not in self.snapshot.paths:
                image.unlink()

    @contextmanager
    def _open(self) -> Iterator[Gallery]:
        with open_gallery(self.gallery) as gallery:
            gallery.check_model(self.predictor.digest, self.predictor.size)
            yield gallery

    def _show(self, snapshot: Snapshot) -> None:
        """Let searches use a snapshot."""
        before: Set[str] = getattr(self, "_named", frozenset())
        for path in snapshot.paths - before:
            self._ids[self.id_of(path)] = path
        for path in before - snapshot.paths:
            self._ids.pop(self.id_of(path), None)
        self._named = snapshot.paths
        self.snapshot = snapshot
        for modality in ("visible", "thermal"):
            of = [len(vectors) for name, vectors in snapshot.vectors() if name == modality]
            self.metrics.rows.labels(modality).set(sum(of))
        self.metrics.version.set(snapshot.version)

    def _signature(self) -> tuple[int, ...]:
        """Return what every commit changes, without opening the gallery."""
        try:
            status = os.stat(self.gallery / TABLE_FILES / "_versions")
        except OSError:
            return ()
        return status.st_ino, status.st_mtime_ns

    def _check_thresholds(self) -> None:
        of = self.settings.threshold
        if isinstance(of, Path):
            read_threshold(of, self.predictor.digest, "thermal", "visible")


def _put(to: queue.Queue[Any], work: object) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        to.put_nowait((work, future))
    except queue.Full:
        raise UnavailableError("too many requests wait: try again in a second") from None
    return future


def _tune_faiss() -> None:
    """Let faiss compare the few queries of a server in this thread, by matrix products.

    By default it takes a product from 20 queries on. From 4 on it is faster: 27 instead of 132 ms
    for 16 queries among 100,000 x 320 [measured]. More threads wait for each other on a machine
    whose processors also embed and answer.
    """
    import faiss

    faiss.cvar.distance_compute_blas_threshold = 4
    faiss.omp_set_num_threads(1)


def _key(path: Path) -> bytes:
    """Return the secret of a gallery's row names; make it at the first start."""
    if not path.exists():
        with whole_file(path) as unfinished:
            unfinished.chmod(0o600)
            unfinished.write_bytes(os.urandom(32))
    return path.read_bytes()[:64]


def _is_old(row: Row, before: datetime) -> bool:
    if row.time is not None:
        return row.time < before
    return row.modified is not None and row.modified < before.timestamp() * 1e9
