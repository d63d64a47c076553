"""Paints a person as seen in a shot, from the farthest part to the nearest."""

import math

import numpy as np

from cmemd.standin import luggage, wraps
from cmemd.standin.canvas import Easel
from cmemd.standin.person import Part, Person
from cmemd.standin.shot import Shot


class Figure:
    """A person in the tones of one modality; its covers, (V, T, C), are made once."""

    def __init__(self, person: Person, tones: np.ndarray) -> None:
        self.person = person
        self.top = tones[wraps.wrap_top(person)]
        self.sleeve = tones[wraps.wrap_sleeve(person)]
        self.legs = {side: tones[wraps.wrap_leg(person, side)] for side in (-1, 1)}
        self.skirt = tones[wraps.wrap_skirt(person)]
        self.head = tones[wraps.wrap_head(person)]
        self.bag = tones[wraps.wrap_bag()]
        self.plain = {part: tones[part][None, None] for part in Part}
        self.hip = 1 - person.build.leg
        self.shoulder = person.build.head + 0.03

    def paint(self, canvas: np.ndarray, shot: Shot) -> None:
        """Paints the person onto ``canvas`` (H, W, C), in place."""
        room = luggage.HEADROOM if self.person.carried == "umbrella" else 0.0
        _Painter(self, Easel(canvas, shot, self.person.build.stature, room), shot).paint()


class _Painter:
    """One painting of a figure."""

    def __init__(self, figure: Figure, easel: Easel, shot: Shot) -> None:
        self.figure, self.easel, self.shot = figure, easel, shot
        self.person, self.build = figure.person, figure.person.build

    def paint(self) -> None:
        person, easel = self.person, self.easel
        hung = [(side * self.build.shoulder * easel.sin, self._arm, side) for side in (-1, 1)]
        hung += [(luggage.depth(person, easel), self._luggage, person.side)]
        hung.sort(key=lambda item: item[0])
        for _, paint, side in (item for item in hung if item[0] < -0.03):
            paint(side)
        for side in (-1, 1) if easel.sin > 0 else (1, -1):
            self._leg(side)
        if person.bottom.kind == "skirt":
            self._skirt()
        if easel.cos > 0:
            self._loose_hair()
        self._torso()
        self._head()
        if easel.cos <= 0:
            self._loose_hair()
        for _, paint, side in (item for item in hung if item[0] >= -0.03):
            paint(side)

    def _luggage(self, side: int) -> None:
        luggage.paint(self.figure, self.easel, self.joints(side)[2])

    def _torso(self) -> None:
        build, top = self.build, self.person.top
        depth, hem = build.depth, self.figure.hip + top.drop
        neck = self.figure.plain[Part.SKIN]
        self.easel.barrel(
            neck, [(build.head - 0.03, 0.035, 0.035), (self.figure.shoulder, 0.035, 0.035)]
        )
        waist_y = self.figure.shoulder + 0.62 * (self.figure.hip - self.figure.shoulder)
        low = build.hip * (top.flare if top.drop > 0.1 else 1.05)
        self.easel.barrel(
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
            self.easel.barrel(
                scarf, [(y, 0.05, 0.045), (y + 0.02, 0.065, 0.06), (y + 0.045, 0.05, 0.05)]
            )

    def _head(self) -> None:
        build, person = self.build, self.person
        size, big = build.head, 1.12 if person.hat == "hood" else 1.0
        if person.hair == "curls" and person.hat == "none":
            hair = self.figure.plain[Part.HAIR]
            self.easel.ball(hair, (0.0, -0.01, 0.36 * size), 0.52 * size)
        knots = np.array([0.0, 0.07, 0.25, 0.5, 0.8, 1.0])
        halves = np.array([0.12, 0.25, 0.37, 0.39, 0.3, 0.14]) * size * big
        if person.hat == "hood":
            halves[-2:] *= 1.4
        self.easel.barrel(
            self.figure.head, [(k * size, h, 1.08 * h) for k, h in zip(knots, halves, strict=True)]
        )
        hat = self.figure.plain[Part.HAT]
        if person.hat == "brim":
            y, wide = 0.34 * size, 0.78 * size
            (x, y), reach = self.easel.point(0, 0, y), self.easel.scale * wide
            self.easel.tube(hat, (x - reach, y), (x + reach, y), (0.014, 0.014))
        if person.hat == "cap":
            start, end = (
                self.easel.point(0, 0.02, 0.32 * size),
                self.easel.point(0, 0.1, 0.37 * size),
            )
            if self.easel.cos > -0.5:
                self.easel.tube(hat, start, end, (0.024 * abs(self.easel.cos) + 0.012, 0.012))
        if person.hat == "beanie":
            self.easel.ball(self.figure.plain[Part.TOP_SECOND], (0.0, 0.0, -0.005), 0.027)

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
            self.easel.barrel(hair, knots, forward=-0.035)
        elif self.person.hair == "ponytail":
            start, end = (
                self.easel.point(0, -0.06, 0.3 * size),
                self.easel.point(0, -0.1, self.figure.shoulder + 0.06),
            )
            self.easel.tube(hair, start, end, (0.022, 0.014))
        elif self.person.hair == "bun":
            self.easel.ball(hair, (0.0, -0.045, 0.06 * size), 0.034)

    def _leg(self, side: int) -> None:
        build, bottom, shot = self.build, self.person.bottom, self.shot
        swing = side * shot.stride * math.sin(shot.phase)
        bend = 0.9 * shot.stride * max(0.0, side * math.cos(shot.phase))
        half = build.leg / 2 - 0.012
        lateral = 0.5 * build.hip
        knee_forward, knee_y = half * math.sin(swing), self.figure.hip + half * math.cos(swing)
        ankle_forward = knee_forward + half * math.sin(swing - bend)
        ankle_y = knee_y + half * math.cos(swing - bend)
        hip = self.easel.point(side * lateral, 0.0, self.figure.hip)
        knee = self.easel.point(side * lateral, knee_forward, knee_y)
        ankle = self.easel.point(side * lateral, ankle_forward, ankle_y)
        toe = self.easel.point(side * lateral, ankle_forward + 0.06, ankle_y + 0.012)
        wide = bottom.width if bottom.kind == "trousers" else 1.0
        thigh, calf = 1.45 * build.limb * (0.5 + 0.5 * wide), 1.05 * build.limb * wide
        cover = self.figure.legs[side]
        self.easel.tube(self.figure.plain[Part.SHOES], ankle, toe, (0.026, 0.02))
        self.easel.tube(cover, knee, ankle, (calf * 1.05, calf * 0.85), (0.5, 1.0))
        self.easel.tube(cover, hip, knee, (thigh, calf * 1.05), (0.0, 0.5))

    def _skirt(self) -> None:
        build, bottom = self.build, self.person.bottom
        hip, wide = build.hip, build.hip * (0.9 + 0.5 * bottom.width)
        hem = self.figure.hip + bottom.length * build.leg
        deep = wide * (0.75 + 0.5 * self.shot.stride)
        waist = self.figure.hip - 0.06
        self.easel.barrel(self.figure.skirt, [(waist, 0.9 * hip, 0.6 * hip), (hem, wide, deep)])

    def joints(self, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lateral, forward, y of shoulder, elbow and hand."""
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
        swing = -side * 0.9 * shot.stride * math.sin(shot.phase)
        if busy and self.person.carried in ("handbag", "case"):
            swing *= 0.3
        elbow = shoulder + [0.022 * side, upper * math.sin(swing), upper * math.cos(swing)]
        swing += 0.25
        return shoulder, elbow, elbow + [0.0, lower * math.sin(swing), lower * math.cos(swing)]

    def _arm(self, side: int) -> None:
        shoulder, elbow, hand = (self.easel.point(*joint) for joint in self.joints(side))
        limb, cover = self.build.limb, self.figure.sleeve
        self.easel.ball(self.figure.plain[Part.SKIN], tuple(self.joints(side)[2]), 0.75 * limb)
        self.easel.tube(cover, elbow, hand, (0.92 * limb, 0.72 * limb), (0.5, 1.0))
        self.easel.tube(cover, shoulder, elbow, (1.12 * limb, 0.92 * limb), (0.0, 0.5))
