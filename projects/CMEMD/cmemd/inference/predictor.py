"""Images in, embeddings out: a model folder at work.

Shape legend: ``N`` images, ``D`` numbers in an embedding, ``(H, W)`` the model's size.
"""

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.inference.backends import open_backend
from cmemd.inference.guard import ModalityGuard, ModalityWarning, chroma
from cmemd.inference.model_folder import read_model_folder
from cmemd.inference.preprocess import UnusableImageError, from_array, read_image

__all__ = ["Predictor", "as_modality"]

Image = str | os.PathLike | np.ndarray

_THREADS = min(8, os.cpu_count() or 1)


class _Sample(NamedTuple):
    """An image that was given: its key, and pixels with their chroma, or why there are none."""

    key: object
    pixels: np.ndarray | None = None
    chroma: float | None = None
    error: UnusableImageError | None = None


def as_modality(value: object) -> Modality:
    """The modality that somebody named.

    Args:
        value: A ``Modality``, "visible" or "thermal".

    Raises:
        InputError: Anything else; numbers too, whose meaning differs between data sets.
    """
    if isinstance(value, Modality):
        return value
    if isinstance(value, str) and value in ("visible", "thermal"):
        return Modality[value.upper()]
    raise InputError(
        f"expected a modality, 'visible' or 'thermal' (near-infrared too); got {value!r}; say how "
        "the images were taken: nothing guesses it"
    )


class Predictor:
    """Embeds images with a model folder, in ONNX Runtime or PyTorch.

    A wrong modality gives a plausible, useless embedding. Each image's channels are therefore
    compared with those of the training images, see ``cmemd.inference.guard``: those that look like
    the other modality are counted in ``suspects``; the first batch with one gives a
    ``ModalityWarning``, and so does the end of the call if more came since.

    Args:
        model_dir: The model folder.
        device: "cpu" or "cuda".
        batch_size: Images that run at once.
        runtime: "onnx", "torch", or "auto": see ``open_backend``.
        precision: "float32"; "float16" or "int8" where the folder has such a graph.
        strict: Refuse an image that looks like the other modality, rather than warn.
        on_corrupt: "skip" lists an image that cannot be used in ``skipped`` and goes on; "raise"
            stops there.
        workers: Threads that decode images; by default one a processor, at most 8.

    Attributes:
        folder: The checked ``ModelFolder``.
        skipped: Path (of an array its number) and reason of each image that could not be used, over
            all calls.
        suspects: Number of images that look like the other modality, over all calls.

    Raises:
        InputError: The model folder is damaged, an argument is out of range, or ``strict`` lacks
            the model's channel statistics.
        MissingDependencyError: What would run the model is not installed.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike,
        device: str = "cpu",
        batch_size: int = 64,
        *,
        runtime: Literal["auto", "onnx", "torch"] = "auto",
        precision: Literal["float32", "float16", "int8"] = "float32",
        strict: bool = False,
        on_corrupt: Literal["skip", "raise"] = "skip",
        workers: int = _THREADS,
    ) -> None:
        if batch_size < 1 or workers < 1:
            raise InputError(
                f"expected batch_size and workers of at least 1; got {batch_size} and {workers}; "
                "leave them out for the defaults"
            )
        if on_corrupt not in ("skip", "raise"):
            raise InputError(f"expected on_corrupt 'skip' or 'raise'; got {on_corrupt!r}; name one")
        self.folder = read_model_folder(model_dir)
        if self.folder.channel_statistics is None:
            problem = f"{self.folder.path} has no channel_statistics to tell a wrong modality by"
            if strict:
                raise InputError(
                    f"expected a model that strict=True can work with; {problem}; export it anew "
                    "with its training images, or leave strict out"
                )
            warnings.warn(problem, ModalityWarning, stacklevel=2)
        self.backend = open_backend(self.folder, device, runtime, precision)
        self.batch_size = batch_size
        self.strict = strict
        self.on_corrupt = on_corrupt
        self.workers = workers
        self.skipped: list[tuple[object, str]] = []
        self.suspects = 0

    @property
    def digest(self) -> str:
        """SHA-256 of the weights: embeddings of different digests cannot be compared."""
        return self.folder.digest

    @property
    def size(self) -> int:
        """D, numbers in an embedding."""
        return self.folder.embedding_size

    def embed(
        self,
        images: Image | Iterable[Image],
        modality: Modality | str,
        *,
        bgr: bool | None = None,
    ) -> np.ndarray:
        """Embed images that are few enough for their embeddings to fit in memory.

        Args:
            images: Paths, arrays ``(h, w, 3)`` or ``(h, w)`` uint8, or a single one of either.
            modality: "visible" or "thermal", of all of them.
            bgr: Of arrays, which must say it: whether their channels are blue, green, red.

        Returns:
            ``(N, D)`` float32 of length 1, one row an image in their order. Rows of images that
            could not be used are NaN, so that the others stay in place; a warning counts them.

        Raises:
            InputError: As ``stream``.
        """
        single = isinstance(images, np.ndarray) and images.ndim < 4
        if single or isinstance(images, (str, os.PathLike)):
            images = [images]
        missing = np.full(self.size, np.nan, dtype=np.float32)
        found = [embedding for _, embedding in self._embed_all(images, as_modality(modality), bgr)]
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
        """Embed any number of images in bounded memory, decoding ahead in threads.

        No more than three batches are held. Nothing is read before the first embedding is asked
        for.

        Args:
            images: Paths or arrays, endless if need be.
            modality: "visible" or "thermal", of all of them.
            bgr: Of arrays, which must say it: whether their channels are blue, green, red.

        Returns:
            In order, each path as it was given (of an array its number, from 0) with its embedding
            ``(D,)`` float32 of length 1. Images that cannot be used are left out, see ``skipped``.

        Raises:
            InputError: At once: no such modality. On the way: neither path nor array of uint8;
                an image that cannot be used, if ``on_corrupt`` is "raise"; one that looks like
                the other modality, if ``strict``.
        """
        everything = self._embed_all(images, as_modality(modality), bgr)
        return ((key, embedding) for key, embedding in everything if embedding is not None)

    def _embed_all(
        self, images: Iterable[Image], modality: Modality, bgr: bool | None
    ) -> Iterator[tuple[object, np.ndarray | None]]:
        """As ``stream``, with None for images that cannot be used."""
        guard = ModalityGuard(modality, self.folder.channel_statistics, self.strict)
        samples = self._decode_all(images, bgr)
        while batch := list(islice(samples, self.batch_size)):
            usable = [sample for sample in batch if sample.error is None]
            self.suspects += guard.inspect([s.key for s in usable], [s.chroma for s in usable])
            found = self.backend(np.stack([s.pixels for s in usable]), modality) if usable else ()
            embeddings = iter(found)
            for sample in batch:
                yield sample.key, next(embeddings) if sample.error is None else None
        guard.finish()

    def _decode_all(self, images: Iterable[Image], bgr: bool | None) -> Iterator[_Sample]:
        """Samples in order; while one batch runs, the next two are decoded."""
        window = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for number, image in enumerate(images):
                window.append(pool.submit(self._decode, number, image, bgr))
                if len(window) > 2 * self.batch_size:
                    yield self._checked(window.popleft().result())
            while window:
                yield self._checked(window.popleft().result())

    def _decode(self, number: int, image: Image, bgr: bool | None) -> _Sample:
        size = self.folder.height, self.folder.width
        key = number if isinstance(image, np.ndarray) else image
        try:
            if isinstance(image, np.ndarray):
                pixels = from_array(image, bgr, *size)
            elif isinstance(image, (str, os.PathLike)):
                pixels = read_image(image, *size)
            else:
                raise InputError(
                    f"expected paths or arrays as images; got {type(image).__name__} as number "
                    f"{number}; turn it into an array of uint8"
                )
        except UnusableImageError as error:
            return _Sample(key, error=error)
        return _Sample(key, pixels, chroma(pixels))

    def _checked(self, sample: _Sample) -> _Sample:
        if sample.error is not None:
            if self.on_corrupt == "raise":
                raise sample.error
            self.skipped.append((sample.key, str(sample.error)))
        return sample
