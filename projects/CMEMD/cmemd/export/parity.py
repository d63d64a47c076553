"""Check that an exported model embeds as the training network does.

Shape legend: N images; D channels of the embedding.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.export.formats import Embed
from cmemd.export.images import Probes
from cmemd.modeling.cmemd_net import CMEMDNet

__all__ = [
    "LIMITS",
    "Measured",
    "by_training_network",
    "check_finite",
    "check_parity",
    "measure_parity",
    "same_rankings",
]

# Largest allowed difference of any number of an embedding [chosen].
LIMITS = {
    "safetensors": 1e-5,
    "torch-export": 1e-5,
    "onnx": 1e-4,
    "onnx-nchw": 1e-4,
    "onnx-nchw-any": 1e-4,
}
_TIE = 1e-6  # cosines closer than float32's rounding may rank in either order [chosen]
_REPETITIONS = 3


@dataclass(frozen=True)
class Measured:
    """The comparison of an exported model with the training network, on the same images.

    Attributes:
        name: of its format.
        bytes: size of its file.
        difference: largest difference of any number of an embedding.
        cosine: smallest cosine between the two embeddings of an image.
        rankings: whether each thermal image ranks the visible images in the same order.
        images_per_second: speed in one batch of all images.
        file: its name in the folder.
    """

    name: str
    bytes: int
    difference: float
    cosine: float
    rankings: bool
    images_per_second: float
    file: str = ""


def by_training_network(network: CMEMDNet) -> Embed:
    """Return what runs the network as training does, with embeddings of length 1."""

    @torch.inference_mode()
    def embed(images: np.ndarray, modalities: np.ndarray) -> np.ndarray:
        batch = {
            "images": torch.from_numpy(images).permute(0, 3, 1, 2).float(),
            "modalities": torch.from_numpy(modalities),
        }
        return functional.normalize(network(batch), dim=-1).cpu().numpy()

    return embed


def measure_parity(
    name: str, size: int, embed: Embed, probes: Probes, reference: np.ndarray
) -> Measured:
    """Compare a model's embeddings of the probes with the training network's, and time it.

    Args:
        name: of its format.
        size: of its file in bytes.
        embed: the model.
        probes: images of both modalities.
        reference: (N, D) the training network's embeddings of the probes.
    """
    embeddings = embed(probes.images, probes.modalities)
    seconds = []
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        embed(probes.images, probes.modalities)
        seconds.append(time.perf_counter() - start)
    return Measured(
        name=name,
        bytes=size,
        difference=float(np.abs(embeddings - reference).max()),
        cosine=float((embeddings * reference).sum(1).min()),
        rankings=same_rankings(embeddings, reference, probes.modalities),
        images_per_second=len(probes.images) / float(np.median(seconds)),
    )


def same_rankings(embeddings: np.ndarray, reference: np.ndarray, modalities: np.ndarray) -> bool:
    """Return whether each thermal image ranks the visible images in the same order, by cosine.

    Args:
        embeddings: (N, D) of length 1.
        reference: (N, D) of length 1, of the same images.
        modalities: (N,) values of ``Modality``, with both of them.
    """
    thermal, visible = modalities == Modality.THERMAL, modalities == Modality.VISIBLE
    order = np.argsort(-(reference[thermal] @ reference[visible].T), axis=1, kind="stable")
    ranked = np.take_along_axis(embeddings[thermal] @ embeddings[visible].T, order, axis=1)
    return bool((np.diff(ranked, axis=1) <= _TIE).all())


def check_finite(measured: Sequence[Measured]) -> None:
    """Raise unless a smaller variant's embeddings are finite.

    Raises:
        InputError: one of its embeddings is not finite.
    """
    for of in measured:
        if not np.isfinite(of.cosine):
            raise InputError(
                f"finite embeddings of {of.name}",
                "NaN or infinity, because this network's numbers leave its range",
                f"export without --{of.name}",
            )


def check_parity(measured: Measured) -> None:
    """Raise unless a model embeds as the training network does.

    Raises:
        InputError: it differs by more than its format's limit, by NaN, or in a ranking.
    """
    limit = LIMITS[measured.name]
    if not (measured.difference <= limit and measured.rankings):
        raise InputError(
            f"the {measured.name} model to embed as the training network does, within {limit:g} "
            "and with equal rankings",
            f"a difference of {measured.difference:.3g} and "
            f"{'equal' if measured.rankings else 'other'} rankings",
            "leave this format out of --formats, or export with another version of its packages "
            "(nothing was written)",
        )
