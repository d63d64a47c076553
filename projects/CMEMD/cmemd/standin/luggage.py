"""What people carry; like their clothes it is seen in both modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cmemd.standin.canvas import Easel
from cmemd.standin.person import Part, Person

if TYPE_CHECKING:
    from cmemd.standin.figure import Figure

HEADROOM = 0.17  # body heights an umbrella needs above the crown


def depth(person: Person, easel: Easel) -> float:
    """How far the carried thing is in front of the body's middle, in body heights."""
    beside = person.side * (person.build.shoulder + 0.05) * easel.sin
    return {
        "backpack": -person.build.shoulder * easel.cos,
        "case": beside - 0.1 * easel.cos,
        "umbrella": 0.2 + beside,
    }.get(person.carried, beside)


def paint(figure: Figure, easel: Easel, hand: np.ndarray) -> None:
    """Paints what the person carries; ``hand`` is lateral, forward, y of the hand, (3,)."""
    person = figure.person
    painter = _PAINTERS.get(person.carried)
    if painter is not None:
        painter(figure, easel, hand, person.bag_size)


def _backpack(figure: Figure, easel: Easel, _: np.ndarray, size: float) -> None:
    build = figure.person.build
    wide, deep = 0.1 * size, 0.065 * size
    top = figure.shoulder + 0.005
    low = top + 0.24 * size
    profile = [(top, 0.6 * wide, 0.5 * deep), (top + 0.04, wide, deep), (low, wide, deep)]
    easel.barrel(figure.bag, profile, forward=-build.depth * build.shoulder - 0.02)


def _satchel(figure: Figure, easel: Easel, _: np.ndarray, size: float) -> None:
    side, build = figure.person.side, figure.person.build
    y = figure.hip - 0.03
    profile = [(y, 0.035, 0.07 * size), (y + 0.11 * size, 0.04, 0.075 * size)]
    easel.barrel(figure.bag, profile, lateral=side * (build.hip + 0.03))


def _handbag(figure: Figure, easel: Easel, hand: np.ndarray, size: float) -> None:
    lateral, forward, y = hand
    strap, top = figure.plain[Part.BAG], y + 0.06
    for reach in (-0.05, 0.05):
        end = easel.point(lateral, forward + reach * size, top)
        easel.tube(strap, easel.point(*hand), end, (0.006, 0.006))
    profile = [(top, 0.03, 0.06 * size), (top + 0.12 * size, 0.035, 0.08 * size)]
    easel.barrel(figure.bag, profile, lateral=lateral, forward=forward)


def _case(figure: Figure, easel: Easel, hand: np.ndarray, size: float) -> None:
    side = figure.person.side
    lateral, top = hand[0] + 0.03 * side, 0.98 - 0.26 * size
    handle = easel.point(lateral, -0.08, top)
    easel.tube(figure.plain[Part.SHOES], easel.point(*hand), handle, (0.007, 0.007))
    profile = [(top, 0.065 * size, 0.05), (0.98, 0.065 * size, 0.05)]
    easel.barrel(figure.bag, profile, lateral=lateral, forward=-0.08)
    for wheel in (-0.04, 0.04):
        easel.ball(figure.plain[Part.SHOES], (lateral + wheel * size, -0.08, 0.985), 0.012)


def _umbrella(figure: Figure, easel: Easel, hand: np.ndarray, size: float) -> None:
    lateral, forward, _ = hand
    wide = 0.2 * size
    tip = easel.point(0.5 * lateral, 0.5 * forward, -0.15)
    easel.tube(figure.plain[Part.SHOES], easel.point(*hand), tip, (0.006, 0.006))
    dome = [(-HEADROOM + 0.17 * k, wide * w, wide * w) for k, w in _DOME]
    easel.barrel(figure.bag, dome, lateral=0.5 * lateral, forward=0.5 * forward)


_DOME = ((0.0, 0.05), (0.15, 0.5), (0.4, 0.78), (0.7, 0.94), (1.0, 1.0))
_PAINTERS = {
    "backpack": _backpack,
    "satchel": _satchel,
    "handbag": _handbag,
    "case": _case,
    "umbrella": _umbrella,
}
