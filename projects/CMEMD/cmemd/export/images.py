"""Choose the images of an export: probes of both modalities, and training images for statistics."""

from collections.abc import Sequence
from dataclasses import dataclass

import cmemd.compat  # noqa: F401  before fastreid

import numpy as np
from fastreid.config import CfgNode

from cmemd.data.images import check_items, crop, read_pixels
from cmemd.data.items import ImageItem
from cmemd.data.modality import Modality
from cmemd.data.transform import build_sensor, build_transform

__all__ = [
    "PROBES",
    "Probes",
    "channel_statistics",
    "draw_people",
    "drawn_probes",
    "probes_of",
    "read_images",
]

PROBES = 16  # of each modality
_STATISTICS = 256  # of each modality [chosen]
_SEED = 0


@dataclass(frozen=True, eq=False)
class Probes:
    """The images that every format of a model embeds.

    Attributes:
        images: (N, H, W, 3) uint8 RGB.
        modalities: (N,) int64, values of ``Modality``, alternating.
        source: where they come from, in words.
    """

    images: np.ndarray
    modalities: np.ndarray
    source: str


def probes_of(items: Sequence[ImageItem], cfg: CfgNode, source: str) -> Probes:
    """Return ``PROBES`` images of each modality, spread over a data set.

    Args:
        items: images of both modalities.
        cfg: gives the evaluation transform.
        source: what they are, in words.
    """
    chosen = [_spread(items, modality, PROBES) for modality in Modality]
    mixed = [item for pair in zip(*chosen, strict=False) for item in pair]
    return Probes(
        read_images(mixed, cfg),
        np.array([item.modality for item in mixed], dtype=np.int64),
        source,
    )


def drawn_probes(height: int, width: int) -> Probes:
    """Draw ``PROBES`` stand-in people, each in both modalities, for use without a data set."""
    images, modalities = draw_people(height, width, PROBES)
    return Probes(images, modalities, "drawn people (no data set found)")


def draw_people(height: int, width: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw stand-in people, each in both modalities.

    Returns:
        Images (2 x number, height, width, 3) uint8 RGB and their modalities, alternating.
    """
    from cmemd.standin.figure import Figure
    from cmemd.standin.image import render
    from cmemd.standin.person import draw_person
    from cmemd.standin.shot import draw_shot

    images = []
    for each in range(number):
        rng = np.random.default_rng([_SEED, each])
        person = draw_person(rng)
        images += [
            render(
                Figure(person, person.tones(modality)),
                draw_shot(rng),
                camera=1 + modality,
                modality=modality,
                size=(height, width),
                rng=rng,
            )[..., ::-1]  # OpenCV's channel order
            for modality in Modality
        ]
    return np.stack(images), np.tile(np.array(list(Modality), dtype=np.int64), number)


def channel_statistics(items: Sequence[ImageItem], cfg: CfgNode) -> dict[str, dict[str, object]]:
    """Return the guard's summary of up to 256 training images of each modality, by its name."""
    from cmemd.data.appearance import measure, summarise

    return {
        modality.name.lower(): summarise(
            map(measure, read_images(_spread(items, modality, _STATISTICS), cfg))
        )
        for modality in Modality
    }


def read_images(items: Sequence[ImageItem], cfg: CfgNode) -> np.ndarray:
    """Return (N, H, W, 3) uint8 RGB, resized as for evaluation.

    Raises:
        InputError: a file is truncated, not an image, or one that training refuses.
    """
    sensor = build_sensor(cfg)
    check_items(items, sensor)
    transform = build_transform(cfg, training=False)
    return np.stack(
        [
            transform(crop(read_pixels(item.path, sensor=sensor.of(item.modality)), item.box))
            for item in items
        ]
    )


def _spread(items: Sequence[ImageItem], modality: Modality, most: int) -> list[ImageItem]:
    """Return up to ``most`` images of a modality at even distances."""
    own = [item for item in items if item.modality == modality]
    places = np.linspace(0, len(own) - 1, min(most, len(own))).round().astype(int)
    return [own[place] for place in places]
