"""Where body coordinates fall on a canvas.

Body coordinates are in body heights: ``lateral`` to the person's left, ``forward`` where the chest
points, ``y`` down from the crown (0) to the soles (1).
"""

import math

import numpy as np

from cmemd.standin.brush import paint_barrel, paint_tube
from cmemd.standin.shot import Shot


class Easel:
    """A canvas (H, W, C) with the projection of one shot and brushes in body coordinates.

    ``headroom`` is the room that must stay free above the crown, in body heights.
    """

    def __init__(self, canvas: np.ndarray, shot: Shot, stature: float, headroom: float) -> None:
        self.canvas, self.shot = canvas, shot
        height, width = canvas.shape[:2]
        self.scale = height * shot.fill * stature / (1 + headroom)
        slack = height - self.scale * (1 + headroom)
        self._crown = headroom * self.scale + max(0.02 * height, slack * shot.shift_y)
        self._middle = width / 2 + shot.shift_x * height
        self.cos = math.cos(2 * math.pi * shot.turn)
        self.sin = math.sin(2 * math.pi * shot.turn)

    def point(self, lateral: float, forward: float, y: float) -> tuple[float, float]:
        """Projects a point of the body to x, y in pixels."""
        x = lateral * self.cos - forward * self.sin + self.shot.lean * (0.5 - y)
        return self._middle + self.scale * x, self._crown + self.scale * y

    def barrel(
        self,
        cover: np.ndarray,
        profile: list[tuple[float, float, float]],
        lateral: float = 0.0,
        forward: float = 0.0,
    ) -> None:
        """Paints an upright body; the profile's rows are y, half width and half depth."""
        points = [self.point(lateral, forward, y) for y, _, _ in profile]
        xs, ys = ([point[axis] for point in points] for axis in (0, 1))
        halves = [self.scale * math.hypot(w * self.cos, d * self.sin) for _, w, d in profile]
        paint_barrel(self.canvas, cover, ys, xs, halves, self.shot.turn)

    def tube(
        self,
        cover: np.ndarray,
        start: tuple[float, float],
        end: tuple[float, float],
        halves: tuple[float, float],
        span: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        """Paints a limb between two projected points; ``halves`` are half widths of its ends."""
        thick = (self.scale * halves[0], self.scale * halves[1])
        paint_tube(self.canvas, cover, start, end, thick, self.shot.turn, span)

    def ball(self, cover: np.ndarray, centre: tuple[float, float, float], radius: float) -> None:
        """Paints a ball about a point of the body."""
        x, y = self.point(*centre)
        self.tube(cover, (x, y), (x, y + 0.5), (radius, radius))
