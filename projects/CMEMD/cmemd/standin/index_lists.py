"""Writes the index files of RegDB and LLCM: a line ``path label`` per image."""

from collections.abc import Iterable
from pathlib import Path

from cmemd.standin.standin import Drawn

__all__ = ["write_index"]


def write_index(file: Path, images: Iterable[Drawn]) -> None:
    """Writes images by identity and path; labels number the identities from 0."""
    images = sorted(images, key=lambda image: (image.pid, image.path))
    labels = {pid: label for label, pid in enumerate(sorted({image.pid for image in images}))}
    file.write_text("".join(f"{image.path} {labels[image.pid]}\n" for image in images))
