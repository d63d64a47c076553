"""Bring a gallery up to date with image files: embed what is new or changed, correct labels.

The file's hash decides whether an image has changed, see ``cmemd.gallery.facts``. A label that a
run does not give stays as the gallery has it.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from tqdm import tqdm

from cmemd.data.boxes import located
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery.facts import FileFacts, file_facts, many_file_facts
from cmemd.gallery.rows import make_rows, with_labels
from cmemd.gallery.sources import LABELS, Source
from cmemd.gallery.table import Gallery
from cmemd.gallery.video_sources import pixels_of

if TYPE_CHECKING:
    import pyarrow as pa

    from cmemd.gallery.on_ray import RayEmbedder
    from cmemd.inference import Predictor

__all__ = [
    "CHUNK",
    "Done",
    "Embedder",
    "Plan",
    "embed_chunks",
    "in_commits",
    "plan_embedding",
    "relabel",
    "update_gallery",
]

# Embeds images of one modality with a model: (model, images, modality) -> tables of ``row_schema``.
Embedder = Callable[[Any, Sequence[Source], Modality], "Iterator[pa.Table]"]

CHUNK = 1024  # rows of the smallest commit
# Each commit costs time that grows with the number of commits before. So a large gallery gets
# larger ones, of a share of its rows, but not of more bytes nor after more time than this. A killed
# run loses what it embedded since its last commit.
_SHARE = 1 / 32  # [chosen]
_COMMIT_BYTES, _COMMIT_SECONDS = 1 << 26, 30  # [chosen]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a gallery needs to agree with some images.

    Attributes:
        new: images that it does not hold.
        changed: images whose file is no longer the one that was embedded.
        relabelled: by row number, images of which only labels differ.
        unchanged: number of the others.
        version: of the gallery, which had none of ``new`` then.
    """

    new: list[Source]
    changed: list[Source]
    relabelled: dict[int, Source]
    unchanged: int
    version: int


@dataclasses.dataclass(frozen=True)
class Done:
    """Numbers of images: ``added``, ``changed`` (embedded again), ``relabelled``, ``unchanged``."""

    added: int
    changed: int
    relabelled: int
    unchanged: int

    def __str__(self) -> str:
        """Return the numbers of those that were there before, in words."""
        return (
            f"{self.changed} embedded again because their file changed, {self.relabelled} with "
            f"changed labels, {self.unchanged} unchanged"
        )


def update_gallery(
    gallery: Gallery,
    predictor: "Predictor | RayEmbedder",
    sources: Sequence[Source],
    modality: Modality,
    given: Collection[str] = LABELS,
    embed: "Embedder | None" = None,
) -> Done:
    """Bring a gallery up to date with images, in commits as ``in_commits`` makes them.

    Args:
        gallery: an open gallery of the predictor's model.
        predictor: its ``skipped`` lists the images that cannot be read; a row of such an image
            stays.
        sources: the images, each once.
        modality: of all of them.
        given: the labels that the sources give, out of ``LABELS``.
        embed: turns images into rows; ``embed_chunks`` by default.

    Raises:
        InputError: the gallery holds an image in the other modality, or cannot be written.
    """
    plan = plan_embedding(gallery, sources, modality, given)
    corrected = {
        number: {label: getattr(source, label) for label in LABELS}
        for number, source in plan.relabelled.items()
    }
    relabelled = relabel(gallery, corrected)
    embed = embed or cast("Embedder", embed_chunks)  # for a Predictor
    changed = embed(predictor, plan.changed, modality)
    replaced = sum(map(gallery.replace, in_commits(changed, gallery)))
    new = embed(predictor, plan.new, modality)
    added = sum(gallery.add_rows(rows, plan.version) for rows in in_commits(new, gallery))
    return Done(added, replaced, relabelled, plan.unchanged)


def in_commits(chunks: "Iterable[pa.Table]", gallery: Gallery) -> "Iterator[pa.Table]":
    """Join tables into those of commits, which grow with the gallery.

    So N rows take about log N commits while these are small, and N / (rows of ``_COMMIT_BYTES``)
    later. What is there when ``chunks`` raises comes out before the error.
    """
    import pyarrow as pa

    chunks, held, failure = iter(chunks), [], None
    before, began = len(gallery), time.monotonic()
    while True:
        try:
            chunk = next(chunks, None)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  raised again below
            chunk, failure = None, error
        if chunk is not None:
            held.append(chunk)
        rows = sum(map(len, held))
        enough = min(_SHARE * before, _COMMIT_BYTES / (4 * gallery.size))
        late = time.monotonic() - began >= _COMMIT_SECONDS
        if held and (chunk is None or rows >= enough or late):
            yield pa.concat_tables(held)
            before, began, held = before + rows, time.monotonic(), []
        if failure is not None:
            raise failure
        if chunk is None:
            return


def relabel(gallery: Gallery, labels: "Mapping[int, Mapping[str, object]]") -> int:
    """Give rows other labels, in commits as ``in_commits`` makes them; return how many.

    Args:
        gallery: an open gallery.
        labels: by row number, each row's labels to change; all rows have the same ones.

    Raises:
        InputError: a row is gone or has changed since it was written, or the disk is full.
    """
    return sum(map(gallery.replace, in_commits(_relabelled(gallery, labels), gallery)))


def _relabelled(
    gallery: Gallery, labels: "Mapping[int, Mapping[str, object]]"
) -> "Iterator[pa.Table]":
    """Yield rows with corrected labels, ``CHUNK`` at a time.

    Their numbers are those of the planned version, and a commit changes only the numbers of the
    rows that it writes.
    """
    numbers = iter(labels)
    while part := list(islice(numbers, CHUNK)):
        names = labels[part[0]]
        values = {name: [labels[number][name] for number in part] for name in names}
        yield with_labels(gallery.take(part), values)


def plan_embedding(
    gallery: Gallery,
    sources: Sequence[Source],
    modality: Modality,
    given: Collection[str] = LABELS,
) -> Plan:
    """Compare images with a gallery's rows.

    A row without facts of its file, as ``make_rows`` writes it without them, counts as changed.

    Args:
        gallery: an open gallery.
        sources: the images, each once.
        modality: of all of them.
        given: the labels that the sources give; the others are taken from the rows.

    Raises:
        InputError: the gallery holds an image in the other modality, which must be a mistake.
    """
    version = gallery.version
    name, wanted = modality.name.lower(), {source.path for source in sources}
    there = {}
    for number, row in gallery.lookup(wanted, ("modality", *LABELS, "file_sha256")):
        if row["modality"] != name:
            raise InputError(
                f"{row['path']} to be {row['modality']}, as in gallery {gallery.address}",
                name,
                "correct --modality, or remove the image from the gallery first",
            )
        labels = {label: row[label] for label in LABELS}
        there[row["path"]] = number, labels, row["file_sha256"]
    known = [source for source in sources if source.path in there]
    changed, relabelled, unchanged = [], {}, 0
    files = list(dict.fromkeys(located(source.path).path for source in known))
    facts = dict(zip(files, many_file_facts(files), strict=True))
    for source in known:
        now = facts[located(source.path).path]
        number, labels, sha256 = there[source.path]
        kept = {label: value for label, value in labels.items() if label not in given}
        corrected = dataclasses.replace(source, **kept)
        if now is None or now.sha256 != sha256:
            changed.append(corrected)
        elif any(getattr(corrected, label) != value for label, value in labels.items()):
            relabelled[number] = corrected
        else:
            unchanged += 1
    new = [source for source in sources if source.path not in there]
    return Plan(new, changed, relabelled, unchanged, version)


class _FactsOfFiles:
    """Facts of files by key; those of the last file stay, since a video has many boxes."""

    def __init__(self) -> None:
        self._last: tuple[str, FileFacts | None] | None = None

    def __getitem__(self, key: str) -> FileFacts | None:
        file = located(key).path
        if self._last is None or self._last[0] != file:
            self._last = file, file_facts(file)
        return self._last[1]


def embed_chunks(
    predictor: "Predictor", sources: Sequence[Source], modality: Modality
) -> "Iterator[pa.Table]":
    """Embed images; ``predictor.skipped`` lists those that cannot be read.

    Args:
        predictor: the model.
        sources: the images.
        modality: of all of them.

    Yields:
        Tables of ``row_schema`` with ``CHUNK`` rows each; the last may have fewer.
    """
    # Images whose pixels the predictor decodes ahead, and their files' facts from before that: if
    # a file changes in between, the next run finds it changed.
    ahead: deque[tuple[Source, FileFacts | None]] = deque()
    done: list[tuple[Source, FileFacts | None]] = []
    vectors: list[np.ndarray] = []

    def images() -> "Iterator[str | tuple[str, np.ndarray]]":
        facts = _FactsOfFiles()
        for source, image in zip(sources, pixels_of(sources), strict=True):
            ahead.append((source, facts[source.path]))
            yield image

    def rows() -> "pa.Table":
        embedded, files = zip(*done, strict=True)
        return make_rows(embedded, np.stack(vectors), modality, predictor.digest, files)

    if not sources:
        return
    with tqdm(total=len(sources), unit="image", desc="embedding", disable=None) as bar:
        for path, vector in predictor.stream(images(), modality, bgr=False):
            while ahead[0][0].path != str(path):
                ahead.popleft()  # it cannot be read
                bar.update()
            done.append(ahead.popleft())
            vectors.append(vector)
            bar.update()
            if len(done) == CHUNK:
                yield rows()
                done, vectors = [], []
    if done:
        yield rows()
