"""Embed images with a model folder.

Shape legend: ``N`` images, ``D`` numbers in an embedding, ``(H, W)`` the model's size.
"""

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import MappingProxyType
from typing import Literal, NamedTuple, cast

import numpy as np

from cmemd.data.appearance import Statistics, apparent
from cmemd.data.images import max_pixels
from cmemd.data.modality import Modality
from cmemd.data.sensors import Sensor
from cmemd.errors import InputError
from cmemd.inference.backends import open_backend
from cmemd.inference.guard import GUARDS, ModalityGuard, ModalityWarning
from cmemd.inference.model_folder import ModelUser, read_model_folder
from cmemd.inference.preprocess import UnusableImageError, from_array, read_image

__all__ = ["Predictor", "as_modality"]

Image = str | os.PathLike[str] | np.ndarray | tuple[object, np.ndarray]

_THREADS = min(8, os.cpu_count() or 1)


class _Sample(NamedTuple):
    """A given image: its key, and either pixels or an error.

    ``look`` is what it looks like, if that is not its modality.
    """

    key: object
    pixels: np.ndarray | None = None
    look: str | None = None
    error: UnusableImageError | None = None


def as_modality(value: object) -> Modality:
    """Return the modality of a name.

    Args:
        value: a ``Modality``, "visible" or "thermal".

    Raises:
        InputError: any other value. Numbers are refused because data sets number their
            modalities differently.
    """
    if isinstance(value, Modality):
        return value
    if isinstance(value, str) and value in ("visible", "thermal"):
        return Modality[value.upper()]
    raise InputError(
        "a modality, 'visible' or 'thermal' (which includes near-infrared)",
        repr(value),
        "say how the images were taken",
    )


class Predictor(ModelUser):
    """Embed images with a model folder, in ONNX Runtime or PyTorch.

    A wrong modality gives a plausible, useless embedding. The predictor therefore compares each
    image with the training images, see ``cmemd.data.appearance``. It counts in
    ``suspects`` the images that look like the other modality. The first batch with such an image
    gives a ``ModalityWarning``; so does the end of the call if more came later.

    Args:
        model_dir: the model folder.
        device: "cpu" or "cuda".
        batch_size: images that run at once.
        runtime: "onnx", "torch" or "auto", see ``open_backend``.
        precision: "float32", "float16" or "int8", if the folder has such a graph; "auto" is the
            first of these that it has.
        guard: "warn" of images that look like the other modality; "strict" raises an error; "off"
            does not look.
        sensor: how files of a thermal camera become grey levels; or what differs from the model's
            own way.
        statistics: of your own cameras for the guard, of ``cmemd doctor --write-guard``; None for
            those of the training images.
        on_corrupt: "skip" lists an unusable image in ``skipped`` and goes on; "raise" stops there.
        workers: threads that decode images; by default one per processor, at most 8.

    Attributes:
        folder: the checked ``ModelFolder``.
        skipped: path (for an array its number) and reason of each unusable image, over all calls.
        noted: images that were used although something in them is ignored, over all calls.
        suspects: number of images that look like the other modality, over all calls.

    Raises:
        InputError: the model folder is damaged, an argument is out of range, or ``guard`` is
            "strict" for a model without channel statistics.
        MissingDependencyError: the runtime's package is not installed.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        device: str = "cpu",
        batch_size: int = 64,
        *,
        runtime: Literal["auto", "onnx", "torch"] = "auto",
        precision: Literal["auto", "float32", "float16", "int8"] = "auto",
        guard: Literal["off", "warn", "strict"] = "warn",
        sensor: Sensor | Mapping[str, str] = MappingProxyType({}),
        statistics: Statistics | None = None,
        on_corrupt: Literal["skip", "raise"] = "skip",
        workers: int = _THREADS,
    ) -> None:
        max_pixels()  # an invalid setting is no fault of the images
        if batch_size < 1 or workers < 1:
            raise InputError(
                "batch_size and workers of at least 1",
                f"{batch_size} and {workers}",
                "leave them out for the defaults",
            )
        if on_corrupt not in ("skip", "raise"):
            raise InputError(
                "on_corrupt 'skip' or 'raise'", repr(on_corrupt), "name one of the two"
            )
        if guard not in GUARDS:
            raise InputError(f"guard out of {', '.join(GUARDS)}", repr(guard), "name one of them")
        super().__init__(read_model_folder(os.fspath(model_dir)), sensor)
        self.statistics = statistics or self.folder.channel_statistics
        if self.statistics is None and guard != "off":
            if guard == "strict":
                raise InputError(
                    "a model with channel_statistics for the guard strict",
                    f"none in {self.folder.path}",
                    "export it again with its training images, or leave out strict",
                )
            warnings.warn(
                f"{self.folder.path} has no channel_statistics: a wrong modality goes unnoticed",
                ModalityWarning,
                stacklevel=2,
            )
        self.backend = open_backend(self.folder, device, runtime, precision)
        self.batch_size = batch_size
        self.guard = guard
        self.on_corrupt = on_corrupt
        self.workers = workers

    def embed(
        self,
        images: Image | Iterable[Image],
        modality: Modality | str,
        *,
        bgr: bool | None = None,
    ) -> np.ndarray:
        """Return the embeddings of images, all in memory.

        Args:
            images: paths, arrays ``(h, w, 3)`` or ``(h, w)`` uint8, or a single one of either.
            modality: "visible" or "thermal", for all of them.
            bgr: whether arrays hold their channels as blue, green, red; required for arrays.

        Returns:
            ``(N, D)`` float32 of length 1, one row per image in their order. The row of an unusable
            image is NaN, so that the other rows stay in place; a warning counts such rows.

        Raises:
            InputError: as ``stream``.
        """
        single = isinstance(images, np.ndarray) and images.ndim < 4
        if single or isinstance(images, (str, os.PathLike)):
            images = [cast("Image", images)]
        given = cast("Iterable[Image]", images)  # a tuple is one of images
        missing = np.full(self.size, np.nan, dtype=np.float32)
        found = [embedding for _, embedding in self._embed_all(given, as_modality(modality), bgr)]
        unusable = sum(embedding is None for embedding in found)
        if unusable:
            key, reason = self.skipped[-1]
            warnings.warn(
                f"{unusable} of {len(found)} images could not be used, so their rows are NaN; "
                f"the last was {key}: {reason}",
                stacklevel=2,
            )
        rows = [missing if embedding is None else embedding for embedding in found]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.size)

    def stream(
        self, images: Iterable[Image], modality: Modality | str, *, bgr: bool | None = None
    ) -> Iterator[tuple[object, np.ndarray]]:
        """Return an iterator that embeds any number of images in bounded memory.

        Threads decode ahead; at most three batches are in memory. The first image is read when the
        caller takes the first embedding.

        Args:
            images: paths or arrays, or tuples of a key and an array; may be endless.
            modality: "visible" or "thermal", for all of them.
            bgr: whether arrays hold their channels as blue, green, red; required for arrays.

        Returns:
            In order, each path or key as given (for an array its number, from 0) and its embedding
            ``(D,)`` float32 of length 1. Unusable images are left out, see ``skipped``.

        Raises:
            InputError: at once, for an unknown modality. While iterating: for an image that is
                neither a path nor a uint8 array; for an unusable image if ``on_corrupt`` is
                "raise"; for one that looks like the other modality if ``guard`` is "strict".
        """
        everything = self._embed_all(images, as_modality(modality), bgr)
        return ((key, embedding) for key, embedding in everything if embedding is not None)

    def _embed_all(
        self, images: Iterable[Image], modality: Modality, bgr: bool | None
    ) -> Iterator[tuple[object, np.ndarray | None]]:
        """Yield as ``stream``, with None for unusable images."""
        guard = ModalityGuard(modality, self.guard == "strict")
        samples = self._decode_all(images, modality, bgr)
        while batch := list(islice(samples, self.batch_size)):
            usable = [sample for sample in batch if sample.error is None]
            self.suspects += guard.inspect([s.key for s in usable], [s.look for s in usable])
            pixels = [s.pixels for s in usable if s.pixels is not None]
            embeddings = iter(self.backend(np.stack(pixels), modality) if usable else ())
            for sample in batch:
                yield sample.key, next(embeddings) if sample.error is None else None
        guard.finish()

    def _decode_all(
        self, images: Iterable[Image], modality: Modality, bgr: bool | None
    ) -> Iterator[_Sample]:
        """Yield samples in order; while one batch runs, threads decode the next two."""
        window: deque[Future[_Sample]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for number, image in enumerate(images):
                window.append(pool.submit(self._decode, number, image, modality, bgr))
                if len(window) > 2 * self.batch_size:
                    yield self._checked(window.popleft().result())
            while window:
                yield self._checked(window.popleft().result())

    def _decode(self, number: int, image: Image, modality: Modality, bgr: bool | None) -> _Sample:
        size = self.folder.height, self.folder.width
        sensor = self.sensor.of(modality)
        key: object
        if isinstance(image, tuple):
            key, image = image
        else:
            key = number if isinstance(image, np.ndarray) else image
        try:
            if isinstance(image, np.ndarray):
                pixels = from_array(image, bgr, *size, sensor)
            elif isinstance(image, (str, os.PathLike)):
                pixels = read_image(os.fspath(image), *size, self.noted, sensor)
            else:
                raise InputError(
                    "paths or arrays as images",
                    f"{type(image).__name__} as number {number}",
                    "turn it into an array of uint8",
                )
        except UnusableImageError as error:
            return _Sample(key, error=error)
        look = None if self.guard == "off" else apparent(pixels, modality, self.statistics)
        return _Sample(key, pixels, look)

    def _checked(self, sample: _Sample) -> _Sample:
        if sample.error is not None:
            if self.on_corrupt == "raise":
                raise sample.error
            self.skipped.append((sample.key, str(sample.error)))
        return sample
