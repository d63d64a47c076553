"""Paint a person and what the person carries, as seen in a shot.

Carried things are part of an identity, like clothes, and are seen in both modalities.
"""

import math
from collections.abc import Callable

import numpy as np

from cmemd.standin import wraps
from cmemd.standin.canvas import Canvas
from cmemd.standin.person import Part, Person
from cmemd.standin.shot import VIEWS, Shot
from cmemd.standin.sides import Look

__all__ = ["Figure"]

_HEADROOM = 0.17  # body heights an umbrella needs above the crown
_Hung = tuple[float, Callable[[int], None], int]  # depth, painter and side


class Figure:
    """A person in the tones of one modality, ready to be painted.

    Args:
        person: who is painted.
        tones: ``(len(Part), C)``, see ``Person.tones``.
        look: how the person's sides differ; None: they are as alike as the wraps say.
    """

    def __init__(self, person: Person, tones: np.ndarray, look: Look | None = None) -> None:
        self.person, self.look = person, look
        self.top = tones[wraps.wrap_top(person)]
        sleeve = wraps.wrap_sleeve(person)
        self.sleeve = tones[sleeve]
        self.legs = {side: tones[wraps.wrap_leg(person, side)] for side in (-1, 1)}
        self.skirt = tones[wraps.wrap_skirt(person)]
        self.head = tones[wraps.wrap_head(person)]
        self.bag = tones[wraps.wrap_bag()]
        self.plain = {part: tones[part][None, None] for part in Part}
        self.hip = 1 - person.build.leg
        self.shoulder = person.build.head + 0.03
        if look is not None:
            self.top = look.top(self.top)
            bare = (sleeve == Part.SKIN)[..., None]
            self.sleeve = np.where(bare, look.heated(self.sleeve), look.top(self.sleeve))
            self.legs = {side: look.legs(leg) for side, leg in self.legs.items()}
            self.skirt, self.head = look.legs(self.skirt), look.heated(self.head)

    def paint(self, pixels: np.ndarray, shot: Shot) -> None:
        """Paint the person as seen in a shot onto ``pixels`` ``(H, W, C)``, in place."""
        room = _HEADROOM if self.person.carried == "umbrella" else 0.0
        _Painter(self, Canvas(pixels, shot, self.person.build.stature, room), shot).paint()


class _Painter:
    """One painting of a figure, from the farthest part to the nearest."""

    def __init__(self, figure: Figure, canvas: Canvas, shot: Shot) -> None:
        self.figure, self.canvas, self.shot = figure, canvas, shot
        self.person, self.build = figure.person, figure.person.build

    def paint(self) -> None:
        """Paint all parts."""
        person, canvas = self.person, self.canvas
        hung: list[_Hung] = [
            (side * self.build.shoulder * canvas.sin, self._arm, side) for side in (-1, 1)
        ]
        hung += [(_carried_depth(person, canvas), self._carried, person.side)]
        if self.figure.look is not None:
            hung += self._one_sided(self.figure.look)
        hung.sort(key=lambda item: item[0])
        for _, paint, side in (item for item in hung if item[0] < -0.03):
            paint(side)
        for side in (-1, 1) if canvas.sin > 0 else (1, -1):
            self._leg(side)
        if person.bottom.kind == "skirt":
            self._skirt()
        if canvas.cos > 0:
            self._loose_hair()
        self._torso()
        self._head()
        if canvas.cos <= 0:
            self._loose_hair()
        for _, paint, side in (item for item in hung if item[0] >= -0.03):
            paint(side)

    def _carried(self, side: int) -> None:
        _paint_carried(self.figure, self.canvas, self.joints(side)[2])

    def _one_sided(self, look: Look) -> list[_Hung]:
        """Return depth, painter and side of what hangs on one side only."""
        sides, build, canvas = look.sides, self.build, self.canvas

        def bag(side: int) -> None:
            _hip_bag(self.figure, canvas, look.bag(VIEWS[side % 4]), side, 1.2 * look.amount)

        def hair(side: int) -> None:
            size = look.amount * build.head
            start = canvas.point(0.3 * size * side, 0.04, 0.4 * build.head)
            end = canvas.point(0.5 * build.shoulder * side, 0.1, self.figure.shoulder + 0.8 * size)
            cover = self.figure.plain[Part.HAIR]
            canvas.tube(cover, start, end, (0.18 * size, 0.1 * size))

        def pack(side: int) -> None:
            _on_back(self.figure, canvas, look.bag("back"), 1.1 * look.amount)

        hung: list[_Hung] = [(sides.bag * (build.hip + 0.05) * canvas.sin, bag, sides.bag)]
        if sides.pack and self.person.carried != "backpack":
            hung += [(-build.shoulder * canvas.cos, pack, 1)]
        if self.person.hair != "bald" and self.person.hat != "hood":
            hung += [(0.1 * canvas.cos + 0.05 * sides.hair * canvas.sin, hair, sides.hair)]
        return hung

    def _torso(self) -> None:
        build, top = self.build, self.person.top
        depth, hem = build.depth, self.figure.hip + top.drop
        neck = self.figure.plain[Part.SKIN]
        self.canvas.barrel(
            neck, [(build.head - 0.03, 0.035, 0.035), (self.figure.shoulder, 0.035, 0.035)]
        )
        waist_y = self.figure.shoulder + 0.62 * (self.figure.hip - self.figure.shoulder)
        low = build.hip * (top.flare if top.drop > 0.1 else 1.05)
        self.canvas.barrel(
            self.figure.top,
            [
                (self.figure.shoulder - 0.025, 0.4 * build.shoulder, 0.4 * build.shoulder * depth),
                (self.figure.shoulder + 0.015, build.shoulder, build.shoulder * depth),
                (waist_y, build.waist, build.waist * depth),
                (hem, low, low * depth),
            ],
        )
        if self.person.scarf:
            scarf = self.figure.plain[Part.SCARF]
            y = self.figure.shoulder - 0.035
            self.canvas.barrel(
                scarf, [(y, 0.05, 0.045), (y + 0.02, 0.065, 0.06), (y + 0.045, 0.05, 0.05)]
            )

    def _head(self) -> None:
        build, person = self.build, self.person
        size, big = build.head, 1.12 if person.hat == "hood" else 1.0
        if person.hair == "curls" and person.hat == "none":
            hair = self.figure.plain[Part.HAIR]
            self.canvas.ball(hair, (0.0, -0.01, 0.36 * size), 0.52 * size)
        knots = np.array([0.0, 0.07, 0.25, 0.5, 0.8, 1.0])
        halves = np.array([0.12, 0.25, 0.37, 0.39, 0.3, 0.14]) * size * big
        if person.hat == "hood":
            halves[-2:] *= 1.4
        self.canvas.barrel(
            self.figure.head, [(k * size, h, 1.08 * h) for k, h in zip(knots, halves, strict=True)]
        )
        hat = self.figure.plain[Part.HAT]
        if person.hat == "brim":
            y, wide = 0.34 * size, 0.78 * size
            (x, y), reach = self.canvas.point(0, 0, y), self.canvas.scale * wide
            self.canvas.tube(hat, (x - reach, y), (x + reach, y), (0.014, 0.014))
        if person.hat == "cap":
            start, end = (
                self.canvas.point(0, 0.02, 0.32 * size),
                self.canvas.point(0, 0.1, 0.37 * size),
            )
            if self.canvas.cos > -0.5:
                self.canvas.tube(hat, start, end, (0.024 * abs(self.canvas.cos) + 0.012, 0.012))
        if person.hat == "beanie":
            self.canvas.ball(self.figure.plain[Part.TOP_SECOND], (0.0, 0.0, -0.005), 0.027)

    def _loose_hair(self) -> None:
        size, hair = self.build.head, self.figure.plain[Part.HAIR]
        if self.person.hat == "hood":
            return
        if self.person.hair == "long":
            low = self.figure.shoulder + 0.05
            wide = 0.46 * size
            knots = (
                (0.2 * size, 0.7 * wide, 0.4 * wide),
                (size, wide, 0.5 * wide),
                (low, wide, 0.5 * wide),
            )
            self.canvas.barrel(hair, knots, forward=-0.035)
        elif self.person.hair == "ponytail":
            start, end = (
                self.canvas.point(0, -0.06, 0.3 * size),
                self.canvas.point(0, -0.1, self.figure.shoulder + 0.06),
            )
            self.canvas.tube(hair, start, end, (0.022, 0.014))
        elif self.person.hair == "bun":
            self.canvas.ball(hair, (0.0, -0.045, 0.06 * size), 0.034)

    def _leg(self, side: int) -> None:
        build, bottom, shot = self.build, self.person.bottom, self.shot
        swing = side * shot.stride * math.sin(shot.phase)
        bend = 0.9 * shot.stride * max(0.0, side * math.cos(shot.phase))
        half = build.leg / 2 - 0.012
        lateral = 0.5 * build.hip
        knee_forward, knee_y = half * math.sin(swing), self.figure.hip + half * math.cos(swing)
        ankle_forward = knee_forward + half * math.sin(swing - bend)
        ankle_y = knee_y + half * math.cos(swing - bend)
        hip = self.canvas.point(side * lateral, 0.0, self.figure.hip)
        knee = self.canvas.point(side * lateral, knee_forward, knee_y)
        ankle = self.canvas.point(side * lateral, ankle_forward, ankle_y)
        toe = self.canvas.point(side * lateral, ankle_forward + 0.06, ankle_y + 0.012)
        wide = bottom.width if bottom.kind == "trousers" else 1.0
        thigh, calf = 1.45 * build.limb * (0.5 + 0.5 * wide), 1.05 * build.limb * wide
        cover = self.figure.legs[side]
        self.canvas.tube(self.figure.plain[Part.SHOES], ankle, toe, (0.026, 0.02))
        self.canvas.tube(cover, knee, ankle, (calf * 1.05, calf * 0.85), (0.5, 1.0))
        self.canvas.tube(cover, hip, knee, (thigh, calf * 1.05), (0.0, 0.5))

    def _skirt(self) -> None:
        build, bottom = self.build, self.person.bottom
        hip, wide = build.hip, build.hip * (0.9 + 0.5 * bottom.width)
        hem = self.figure.hip + bottom.length * build.leg
        deep = wide * (0.75 + 0.5 * self.shot.stride)
        waist = self.figure.hip - 0.06
        self.canvas.barrel(self.figure.skirt, [(waist, 0.9 * hip, 0.6 * hip), (hem, wide, deep)])

    def joints(self, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return lateral, forward, y of shoulder, elbow and hand, ``(3,)`` each."""
        build, shot = self.build, self.shot
        lateral = side * (build.shoulder - 0.3 * build.limb)
        shoulder = np.array([lateral, 0.0, self.figure.shoulder + 0.02])
        upper, lower = 0.17, 0.17
        busy = side == self.person.side
        if busy and self.person.carried == "umbrella":
            elbow = shoulder + [0.03 * side, 0.05, 0.14]
            return shoulder, elbow, elbow + [-0.03 * side, 0.09, -0.1]
        if not busy and shot.pose == "phone":
            elbow = shoulder + [0.04 * side, 0.05, 0.15]
            return shoulder, elbow, elbow + [-0.05 * side, 0.06, -0.15]
        swing = -side * 0.9 * shot.stride * math.sin(shot.phase) + shot.reach
        if busy and self.person.carried in ("handbag", "case"):
            swing *= 0.3
        elbow = shoulder + [0.022 * side, upper * math.sin(swing), upper * math.cos(swing)]
        swing += 0.25
        return shoulder, elbow, elbow + [0.0, lower * math.sin(swing), lower * math.cos(swing)]

    def _arm(self, side: int) -> None:
        shoulder, elbow, hand = (self.canvas.point(*joint) for joint in self.joints(side))
        limb, cover = self.build.limb, self.figure.sleeve
        self.canvas.ball(self.figure.plain[Part.SKIN], tuple(self.joints(side)[2]), 0.75 * limb)
        self.canvas.tube(cover, elbow, hand, (0.92 * limb, 0.72 * limb), (0.5, 1.0))
        self.canvas.tube(cover, shoulder, elbow, (1.12 * limb, 0.92 * limb), (0.0, 0.5))


def _carried_depth(person: Person, canvas: Canvas) -> float:
    """Return how far the carried thing is in front of the body's middle, in body heights."""
    beside = person.side * (person.build.shoulder + 0.05) * canvas.sin
    return {
        "backpack": -person.build.shoulder * canvas.cos,
        "case": beside - 0.1 * canvas.cos,
        "umbrella": 0.2 + beside,
    }.get(person.carried, beside)


def _paint_carried(figure: Figure, canvas: Canvas, hand: np.ndarray) -> None:
    """Paint what the person carries; ``hand`` is lateral, forward, y of the hand, (3,)."""
    person = figure.person
    painter = _PAINTERS.get(person.carried)
    if painter is not None:
        painter(figure, canvas, hand, person.bag_size)


def _backpack(figure: Figure, canvas: Canvas, _: np.ndarray, size: float) -> None:
    _on_back(figure, canvas, figure.bag, size)


def _on_back(figure: Figure, canvas: Canvas, cover: np.ndarray, size: float) -> None:
    build = figure.person.build
    wide, deep = 0.1 * size, 0.065 * size
    top = figure.shoulder + 0.005
    low = top + 0.24 * size
    profile = [(top, 0.6 * wide, 0.5 * deep), (top + 0.04, wide, deep), (low, wide, deep)]
    canvas.barrel(cover, profile, forward=-build.depth * build.shoulder - 0.02)


def _satchel(figure: Figure, canvas: Canvas, _: np.ndarray, size: float) -> None:
    _hip_bag(figure, canvas, figure.bag, figure.person.side, size)


def _hip_bag(figure: Figure, canvas: Canvas, cover: np.ndarray, side: int, size: float) -> None:
    y = figure.hip - 0.03
    profile = [(y, 0.035, 0.07 * size), (y + 0.11 * size, 0.04, 0.075 * size)]
    canvas.barrel(cover, profile, lateral=side * (figure.person.build.hip + 0.03))


def _handbag(figure: Figure, canvas: Canvas, hand: np.ndarray, size: float) -> None:
    lateral, forward, y = hand
    strap, top = figure.plain[Part.BAG], y + 0.06
    for reach in (-0.05, 0.05):
        end = canvas.point(lateral, forward + reach * size, top)
        canvas.tube(strap, canvas.point(*hand), end, (0.006, 0.006))
    profile = [(top, 0.03, 0.06 * size), (top + 0.12 * size, 0.035, 0.08 * size)]
    canvas.barrel(figure.bag, profile, lateral=lateral, forward=forward)


def _case(figure: Figure, canvas: Canvas, hand: np.ndarray, size: float) -> None:
    side = figure.person.side
    lateral, top = hand[0] + 0.03 * side, 0.98 - 0.26 * size
    handle = canvas.point(lateral, -0.08, top)
    canvas.tube(figure.plain[Part.SHOES], canvas.point(*hand), handle, (0.007, 0.007))
    profile = [(top, 0.065 * size, 0.05), (0.98, 0.065 * size, 0.05)]
    canvas.barrel(figure.bag, profile, lateral=lateral, forward=-0.08)
    for wheel in (-0.04, 0.04):
        canvas.ball(figure.plain[Part.SHOES], (lateral + wheel * size, -0.08, 0.985), 0.012)


def _umbrella(figure: Figure, canvas: Canvas, hand: np.ndarray, size: float) -> None:
    lateral, forward, _ = hand
    wide = 0.2 * size
    tip = canvas.point(0.5 * lateral, 0.5 * forward, -0.15)
    canvas.tube(figure.plain[Part.SHOES], canvas.point(*hand), tip, (0.006, 0.006))
    dome = [(-_HEADROOM + 0.17 * k, wide * w, wide * w) for k, w in _DOME]
    canvas.barrel(figure.bag, dome, lateral=0.5 * lateral, forward=0.5 * forward)


_DOME = ((0.0, 0.05), (0.15, 0.5), (0.4, 0.78), (0.7, 0.94), (1.0, 1.0))
_PAINTERS = {
    "backpack": _backpack,
    "satchel": _satchel,
    "handbag": _handbag,
    "case": _case,
    "umbrella": _umbrella,
}
