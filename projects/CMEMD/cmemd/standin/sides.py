"""What differs between the four sides of a person, scaled by one number: the view variation.

At 0 a person's sides look as alike as their wraps say. At 1 each side has signs of its own, which
no other side shows: the panels of an open jacket in front, of its back and of its left and right, a
logo, a pack on the back, a bag on one hip, hair over one shoulder. The sun warms one side, a pack
warms the back, and each side is seen at its own time of day, and more squarely. The head, hats,
carried things and cuts of the clothes stay what all sides share.

A panel is thin and light, and lets the body's warmth through, or it is padded and dark, and keeps
it. So a sign looks alike in both modalities, unlike what ``person`` draws: a small network learns
it in a few epochs, and finds a person by one side. Hours are drawn for each modality.

All this comes from random streams of its own, so that a setting changes nothing else; and each
setting has the same random numbers: it has more panels and larger effects than a lower one.

Shape legend: ``V``, ``T`` = heights and angles of a wrap, ``C`` = 3 colours or 1 warmth.
"""

from dataclasses import dataclass, replace

import numpy as np

from cmemd.data.modality import Modality
from cmemd.standin.person import EMBLEMS
from cmemd.standin.shot import VIEWS, Shot
from cmemd.standin.wraps import ANGLES, COLUMNS, HEIGHTS, emblem

__all__ = ["Look", "Sides", "Sign", "draw_sides", "hour_of", "vary_shot"]

_PANELS = 2  # of the upper body, and of the legs
_ALL = len(VIEWS) * 2 * _PANELS
_HALF_WIDTH = 0.78  # radians, of a side's panels; a quarter has 0.785
_LOGO = 0.45
# Tones of dark and of light panels: RGB, and warmth.
_SHADES, _HEATS = ((0.03, 0.18), (0.78, 0.98)), ((0.08, 0.18), (0.86, 0.98))
_SUN, _PACK_HEAT = 0.15, 0.15  # of the full range of warmth
_SQUARE = 0.9  # share of a shot's turn away from its side that is taken back
_JITTER = 0.08  # of the hour, between images of one side


@dataclass(frozen=True)
class Sign:
    """What one side shows.

    Attributes:
        top: the panels of the upper body and the sleeves, from above: 1 light, -1 dark, 0 none.
        legs: the same of the legs.
        logo: an emblem on the upper body, one of ``EMBLEMS``, or None.
    """

    top: tuple[int, ...]
    legs: tuple[int, ...]
    logo: str | None


@dataclass(frozen=True, eq=False)
class Sides:
    """What differs between the sides of one person.

    Attributes:
        signs: of each side, in the order of ``VIEWS``.
        pack: whether the person carries a pack besides ``Person.carried``.
        bag: side of the bag on the hip, 1 left, -1 right.
        hair: side of the hair over the shoulder.
        sun: angle that the sun warms most.
        tones: of each modality, of dark and of light panels, (2, C).
        hours: of each modality, the time of day at which each side is seen, (4,) in [0, 1].
        onsets: the view variation above which a side has each panel of its top and of its legs,
            (4, 2, panels): evenly spread in [0, 1).
    """

    signs: tuple[Sign, ...]
    pack: bool
    bag: int
    hair: int
    sun: float
    tones: dict[Modality, np.ndarray]
    hours: dict[Modality, np.ndarray]
    onsets: np.ndarray


def draw_sides(rng: np.random.Generator) -> Sides:
    """Draw what differs between a person's sides; the same generator state gives the same."""
    return Sides(
        signs=tuple(_draw_sign(rng) for _ in VIEWS),
        pack=rng.random() < 0.5,
        bag=1 if rng.random() < 0.5 else -1,
        hair=1 if rng.random() < 0.5 else -1,
        sun=rng.uniform(-np.pi, np.pi),
        tones={
            Modality.VISIBLE: np.array([rng.uniform(*of, 3) for of in _SHADES], np.float32),
            Modality.THERMAL: np.array([rng.uniform(*of, 1) for of in _HEATS], np.float32),
        },
        hours={modality: rng.random(len(VIEWS)) for modality in Modality},
        onsets=rng.permutation(_ALL).reshape(len(VIEWS), 2, _PANELS) / _ALL,
    )


def _draw_sign(rng: np.random.Generator) -> Sign:
    top, legs = rng.choice((-1, 0, 1), (2, _PANELS), p=(0.4, 0.2, 0.4)).tolist()
    logo = EMBLEMS[rng.integers(len(EMBLEMS))] if rng.random() < 0.5 else None
    return Sign(tuple(top), tuple(legs), logo)


def vary_shot(shot: Shot, amount: float, rng: np.random.Generator) -> Shot:
    """Return the shot squarely from its side, with a stronger pose.

    The pose has longer strides, arms forward and a slope of the body.
    """
    side = round(shot.turn * 4) / 4
    stride, lean, reach = rng.uniform(0, 1), rng.uniform(-1, 1), rng.uniform(-0.3, 1)
    return replace(
        shot,
        turn=(side + (shot.turn - side) * (1 - _SQUARE * amount)) % 1,
        stride=shot.stride * (1 + 0.5 * amount * stride),
        lean=shot.lean + 0.04 * amount * lean,
        reach=0.4 * amount * reach,
    )


def hour_of(
    sides: Sides, shot: Shot, modality: Modality, amount: float, rng: np.random.Generator
) -> float:
    """Return how late in the day an image is taken, from 0 (noon) to ``amount`` (dusk)."""
    hour = sides.hours[modality][VIEWS.index(shot.view)] + _JITTER * rng.standard_normal()
    return amount * min(max(hour, 0.0), 1.0)


@dataclass(frozen=True, eq=False)
class Look:
    """The sides of a person in one modality, at one setting of the view variation.

    Attributes:
        sides: what differs.
        modality: whose tones are used.
        amount: the view variation, in (0, 1]. It is the share of panels that are there, and
            logos and bags are as large, and heat as strong, as it says. A panel is whole or not
            there: of a faint or narrow one a network reads neither the panel nor what it covers.
    """

    sides: Sides
    modality: Modality
    amount: float

    def top(self, cover: np.ndarray) -> np.ndarray:
        """Return a torso or a sleeve with signs and heat, (V, T, C)."""
        varied = cover.copy()
        for view, sign in enumerate(self.sides.signs):
            self._lay(varied, view, sign.top, self.sides.onsets[view, 0])
            if sign.logo is not None:
                at = emblem(sign.logo, _LOGO * self.amount, back=False)
                self._paint(varied, view, at, light=sign.top[0] < 0)
        if self.sides.pack:
            self._warm(varied, np.pi, _PACK_HEAT)
        return self.heated(varied)

    def legs(self, cover: np.ndarray) -> np.ndarray:
        """Return a leg or a skirt with signs and heat, (V, T, C)."""
        varied = cover.copy()
        for view, sign in enumerate(self.sides.signs):
            self._lay(varied, view, sign.legs, self.sides.onsets[view, 1])
        return self.heated(varied)

    def heated(self, cover: np.ndarray) -> np.ndarray:
        """Return a cover with the sun's heat, (V, T, C)."""
        varied = cover.copy()
        self._warm(varied, self.sides.sun, _SUN)
        return np.minimum(varied, 1)

    def bag(self, view: str) -> np.ndarray:
        """Return a bag as light or dark as a side's uppermost panel, (1, 1, C)."""
        light = self.sides.signs[VIEWS.index(view)].top[0] > 0
        return self.sides.tones[self.modality][int(light)][None, None]

    def _lay(
        self, cover: np.ndarray, view: int, panels: tuple[int, ...], onsets: np.ndarray
    ) -> None:
        """Lay those of a side's panels that the setting has on its quarter, in place."""
        row = (HEIGHTS * len(panels)).astype(int)
        for number, (panel, onset) in enumerate(zip(panels, onsets, strict=True)):
            if panel and self.amount > onset:
                at = (np.abs(ANGLES) < _HALF_WIDTH) & (row == number)
                self._paint(cover, view, at, light=panel > 0)

    def _paint(self, cover: np.ndarray, view: int, at: np.ndarray, *, light: bool) -> None:
        """Paint a side light or dark in place, where ``at`` (V, T), drawn about the front, says."""
        turned = np.roll(at, view * COLUMNS // len(VIEWS), axis=1)
        cover[turned] = self.sides.tones[self.modality][int(light)]

    def _warm(self, cover: np.ndarray, angle: float, strength: float) -> None:
        """Warm a cover about an angle, in place; nothing in visible light."""
        if self.modality is Modality.THERMAL:
            heat = self.amount * strength * np.maximum(np.cos(ANGLES - angle), 0)
            cover += heat[..., None].astype(cover.dtype)
