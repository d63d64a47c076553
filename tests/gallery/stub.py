"""A stand-in for a trained model: an image's embedding follows from its path alone."""

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa

from cmemd.data.image_files import Tally
from cmemd.data.modality import Modality
from cmemd.data.sensors import PLAIN
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source

DIGEST, SIZE = "ab" * 32, 32


def vector_of(path: str) -> np.ndarray:
    """A unit vector ``(SIZE,)`` out of the digest of a path."""
    seed = int.from_bytes(hashlib.sha256(str(path).encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(SIZE, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def rows_of(paths, modality=Modality.VISIBLE, **labels) -> pa.Table:
    """Rows of a gallery, all with the same labels."""
    sources = [Source(path, **labels) for path in paths]
    return make_rows(sources, np.stack([vector_of(p) for p in paths]), modality, DIGEST)


class Predictor:
    """As ``cmemd.inference.predictor.Predictor``; a folder other than "model" is another model."""

    size = SIZE

    def __init__(
        self,
        model_dir,
        device="cpu",
        batch_size=64,
        *,
        guard="warn",
        sensor=None,
        statistics=None,
        on_corrupt="skip",
    ):
        self.digest = DIGEST if str(model_dir) == "model" else str(model_dir)
        self.skipped = []
        self.noted = Tally()
        self.sensor = PLAIN

    def stream(self, images, modality, *, bgr=None):
        for path in images:
            if Path(path).read_bytes() == b"":
                self.skipped.append((path, "expected an image, got an empty file"))
            else:
                yield path, vector_of(path)


def install() -> None:
    """Make commands embed with the stub until the process ends."""
    module = ModuleType("cmemd.inference.predictor")
    module.Predictor = Predictor
    sys.modules[module.__name__] = module


def make_images(folder: Path, count: int = 12) -> list[str]:
    """Files that stand for images of two cameras and two people; their paths, sorted."""
    paths = [folder / f"cam{n % 2}/p{n // 2 % 2}/{n:04d}.jpg" for n in range(count)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    return sorted(map(str, paths))
