"""Draw a person: everything that is the same in all images of one identity.

Shapes, cuts, patterns and carried things are common to both modalities. Tones are not: ``visible``
and ``thermal`` tones are drawn independently, so neither a colour nor the sign of a contrast says
anything about the other modality.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np

from cmemd.data.modality import Modality

__all__ = [
    "BOTTOM_PATTERNS",
    "EMBLEMS",
    "TOP_PATTERNS",
    "Bottom",
    "Build",
    "Part",
    "Pattern",
    "Person",
    "Top",
    "draw_person",
]


class Part(IntEnum):
    """What a spot of a person is made of; a row of the tone tables."""

    SKIN = 0
    HAIR = 1
    HAT = 2
    TOP = 3
    TOP_SECOND = 4
    EMBLEM = 5
    BOTTOM = 6
    BOTTOM_SECOND = 7
    SHOES = 8
    BAG = 9
    BAG_SECOND = 10
    SCARF = 11


# Parts painted over another part, from which they must stand out in both modalities.
_LAID_ON = {
    Part.TOP_SECOND: Part.TOP,
    Part.EMBLEM: Part.TOP,
    Part.BOTTOM_SECOND: Part.BOTTOM,
    Part.BAG_SECOND: Part.BAG,
}

TOP_PATTERNS = (
    "plain", "hoops", "hoops", "bars", "checks", "yoke", "base", "band", "sash", "chevron", "panel",
    "sides", "halves", "dots", "diamonds", "open",
)  # fmt: skip
BOTTOM_PATTERNS = (
    "plain", "hoops", "bars", "checks", "yoke", "base", "band", "sides", "odd_leg",
)  # fmt: skip
EMBLEMS = ("disc", "square", "triangle", "ring", "cross", "bar", "diamond")


@dataclass(frozen=True)
class Build:
    """Body measures in units of the body height; widths are half-widths."""

    stature: float
    head: float
    shoulder: float
    waist: float
    hip: float
    depth: float
    leg: float
    limb: float


@dataclass(frozen=True)
class Pattern:
    """A two-tone pattern around a garment, see ``wraps.weave``."""

    kind: str
    count: int
    share: float
    shift: float
    tilt: int


@dataclass(frozen=True)
class Top:
    """Jersey, jacket or coat; the hem is ``drop`` body heights below the hip."""

    pattern: Pattern
    sleeve: float
    cuff: str
    drop: float
    flare: float
    emblem_front: str | None
    emblem_back: str | None
    emblem_size: float


@dataclass(frozen=True)
class Bottom:
    """Trousers, shorts or a skirt; they cover a share ``length`` of the leg."""

    kind: str
    pattern: Pattern
    length: float
    width: float
    boots: float


@dataclass(frozen=True, eq=False)
class Person:
    """One identity. Tones are (len(Part), 3) RGB and (len(Part), 1) warmth, both in [0, 1]."""

    build: Build
    hair: str
    beard: bool
    hat: str
    scarf: bool
    top: Top
    bottom: Bottom
    carried: str
    bag_size: float
    side: int
    visible: np.ndarray
    thermal: np.ndarray

    def tones(self, modality: Modality) -> np.ndarray:
        """Return the tone table of a modality, (len(Part), 3) or (len(Part), 1)."""
        return self.visible if modality is Modality.VISIBLE else self.thermal


def draw_person(rng: np.random.Generator) -> Person:
    """Draw an identity; the same generator state gives the same person."""
    return Person(
        build=_draw_build(rng),
        hair=_pick(rng, ("short", "short", "long", "bun", "ponytail", "curls", "bald")),
        beard=rng.random() < 0.2,
        hat=_pick(rng, ("none", "none", "none", "cap", "beanie", "brim", "hood")),
        scarf=rng.random() < 0.2,
        top=_draw_top(rng),
        bottom=_draw_bottom(rng),
        carried=_pick(
            rng, ("none", "none", "backpack", "backpack", "satchel", "handbag", "case", "umbrella")
        ),
        bag_size=rng.uniform(0.75, 1.3),
        side=_pick(rng, (-1, 1)),
        visible=_draw_colours(rng),
        thermal=_draw_warmth(rng),
    )


_Option = TypeVar("_Option")


def _pick(rng: np.random.Generator, options: Sequence[_Option]) -> _Option:
    return options[int(rng.integers(len(options)))]


def _draw_build(rng: np.random.Generator) -> Build:
    stout = rng.uniform(0.8, 1.2)
    return Build(
        stature=rng.uniform(0.93, 1.0),
        head=rng.uniform(0.15, 0.19),
        shoulder=rng.uniform(0.125, 0.15) * stout,
        waist=rng.uniform(0.105, 0.14) * stout,
        hip=rng.uniform(0.11, 0.14) * stout,
        depth=rng.uniform(0.65, 0.85),
        leg=rng.uniform(0.4, 0.5),
        limb=rng.uniform(0.036, 0.046) * stout,
    )


def _draw_pattern(rng: np.random.Generator, kinds: tuple[str, ...]) -> Pattern:
    return Pattern(
        kind=_pick(rng, kinds),
        count=int(rng.integers(2, 5)),
        share=rng.uniform(0.35, 0.65),
        shift=rng.random(),
        tilt=_pick(rng, (-1, 1)),
    )


def _draw_top(rng: np.random.Generator) -> Top:
    drop = _pick(rng, (-0.03, 0.02, 0.05, 0.12, 0.2))
    return Top(
        pattern=_draw_pattern(rng, TOP_PATTERNS),
        sleeve=_pick(rng, (0.0, 0.3, 0.45, 0.92, 0.92, 0.92)) if drop < 0.1 else 0.92,
        cuff=_pick(rng, ("none", "none", "cuff", "bands", "contrast")),
        drop=drop,
        flare=rng.uniform(1.0, 1.35),
        emblem_front=_pick(rng, (*EMBLEMS, *(None,) * 5)),
        emblem_back=_pick(rng, (*EMBLEMS, *(None,) * 5)),
        emblem_size=rng.uniform(0.95, 1.35),
    )


def _draw_bottom(rng: np.random.Generator) -> Bottom:
    kind = _pick(rng, ("trousers", "trousers", "trousers", "shorts", "skirt"))
    length = {"trousers": 0.95, "shorts": rng.uniform(0.3, 0.5), "skirt": rng.uniform(0.4, 0.75)}
    return Bottom(
        kind=kind,
        pattern=_draw_pattern(rng, BOTTOM_PATTERNS),
        length=length[kind],
        width=rng.uniform(0.85, 1.45),
        boots=_pick(rng, (0.0, 0.0, 0.0, 0.12, 0.38)),
    )


def _draw_colours(rng: np.random.Generator) -> np.ndarray:
    """Return the RGB of each part, (len(Part), 3) float32."""
    tones = np.zeros((len(Part), 3), np.float32)
    for part in Part:
        tones[part] = _garment_colour(rng)
        base = _LAID_ON.get(part)
        while base is not None and np.abs(tones[part] - tones[base]).sum() < 0.9:
            tones[part] = _garment_colour(rng)
    skin = rng.uniform(0.25, 1.0)
    tones[Part.SKIN] = skin * np.array([0.96, 0.78, 0.66]) * [1.0, 0.75 + 0.25 * skin, 1.0]
    tones[Part.HAIR] = rng.uniform(0.08, 0.9) * np.array([0.85, 0.65, rng.uniform(0.3, 0.6)])
    return tones


def _garment_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    # Greys and whites are as common as hues, so that a mean colour does not tell the identity.
    saturation = rng.choice([0.05, rng.uniform(0.2, 0.5), rng.uniform(0.5, 0.9)])
    return colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.12, 0.97))


def _draw_warmth(rng: np.random.Generator) -> np.ndarray:
    """Return the apparent warmth of each part, (len(Part), 1) float32."""
    tones = rng.uniform(0.32, 0.72, (len(Part), 1)).astype(np.float32)
    for part, base in _LAID_ON.items():
        step = rng.uniform(0.28, 0.42) * _pick(rng, (-1, 1))
        # The sign changes if the tone would leave the range; the contrast keeps its size.
        tones[part] = (
            tones[base] + step if 0.12 < tones[base] + step < 0.85 else (tones[base] - step)
        )
    tones[Part.SKIN] = rng.uniform(0.84, 0.96)
    tones[Part.HAIR] = rng.uniform(0.4, 0.6)
    tones[Part.SHOES] = rng.uniform(0.25, 0.55)
    return tones
