"""Paint body parts at body coordinates: upright bodies, limbs and balls, covered by wraps.

Body coordinates are in body heights: ``lateral`` to the person's left, ``forward`` where the chest
points, ``y`` down from the crown (0) to the soles (1). A wrap is looked up by angle, see ``wraps``.

The pixels are more than the image's: edges are hard here and become smooth when the image is scaled
down.

Shape legend: ``H``, ``W`` = rows and columns of pixels, ``C`` = 3 colours or 1 warmth, ``V``, ``T``
= heights and angles of a wrap.
"""

import math
from collections.abc import Sequence

import numpy as np

from cmemd.standin.shot import Shot

__all__ = ["Canvas"]

_STEPS = 64
# Angle seen at u = -1 ... 1 across a cylinder, as a share of a full turn.
_TURN_AT = (np.arcsin(np.linspace(-1, 1, 2 * _STEPS + 1)) / (2 * np.pi)).astype(np.float32)
_EDGE_SHADE = 0.28


class Canvas:
    """An image to paint on, in the body coordinates of one shot.

    Args:
        pixels: ``(H, W, C)`` float32 in [0, 1]; painted in place.
        shot: view, pose and framing.
        stature: height of the person, relative to the tallest one.
        headroom: room that stays free above the crown, in body heights.

    Attributes:
        scale: pixels in a body height.
        cos: cosine of the angle by which the body is turned.
        sin: its sine.
    """

    def __init__(self, pixels: np.ndarray, shot: Shot, stature: float, headroom: float) -> None:
        self.pixels, self.shot = pixels, shot
        height, width = pixels.shape[:2]
        self.scale = height * shot.fill * stature / (1 + headroom)
        slack = height - self.scale * (1 + headroom)
        self._crown = headroom * self.scale + max(0.02 * height, slack * shot.shift_y)
        self._middle = width / 2 + shot.shift_x * height
        self.cos = math.cos(2 * math.pi * shot.turn)
        self.sin = math.sin(2 * math.pi * shot.turn)

    def point(self, lateral: float, forward: float, y: float) -> tuple[float, float]:
        """Return x, y of a point of the body, in pixels."""
        x = lateral * self.cos - forward * self.sin + self.shot.lean * (0.5 - y)
        return self._middle + self.scale * x, self._crown + self.scale * y

    def barrel(
        self,
        cover: np.ndarray,
        profile: Sequence[tuple[float, float, float]],
        lateral: float = 0.0,
        forward: float = 0.0,
    ) -> None:
        """Paint an upright body; the profile's rows are y, half width and half depth."""
        points = [self.point(lateral, forward, y) for y, _, _ in profile]
        xs, ys = ([point[axis] for point in points] for axis in (0, 1))
        halves = [self.scale * math.hypot(w * self.cos, d * self.sin) for _, w, d in profile]
        _paint_barrel(self.pixels, cover, ys, xs, halves, self.shot.turn)

    def tube(
        self,
        cover: np.ndarray,
        start: tuple[float, float],
        end: tuple[float, float],
        halves: tuple[float, float],
        span: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        """Paint a limb between two projected points; ``halves`` are half widths of its ends."""
        thick = (self.scale * halves[0], self.scale * halves[1])
        _paint_tube(self.pixels, cover, start, end, thick, self.shot.turn, span)

    def ball(self, cover: np.ndarray, centre: tuple[float, float, float], radius: float) -> None:
        """Paint a ball about a point of the body."""
        x, y = self.point(*centre)
        self.tube(cover, (x, y), (x, y + 0.5), (radius, radius))


def _paint_barrel(
    pixels: np.ndarray,
    cover: np.ndarray,
    ys: list[float],
    centres: list[float],
    halves: list[float],
    turn: float,
) -> None:
    """Paint a body with an upright axis, in place.

    Args:
        pixels: ``(H, W, C)``.
        cover: ``(V, T, C)`` tones of the wrap.
        ys: rising heights of the profile's knots, in pixels.
        centres: the axis at each knot, in pixels.
        halves: half the width at each knot, in pixels.
        turn: which angle of the wrap faces the camera, in turns.
    """
    height, width = pixels.shape[:2]
    top, bottom = max(0, round(ys[0])), min(height, round(ys[-1]))
    left = max(0, int(min(c - h for c, h in zip(centres, halves, strict=True))))
    right = min(width, int(max(c + h for c, h in zip(centres, halves, strict=True))) + 1)
    if top >= bottom or left >= right:
        return
    rows = np.arange(top, bottom, dtype=np.float32)
    centre = np.interp(rows, ys, centres).astype(np.float32)[:, None]
    half = np.interp(rows, ys, halves).astype(np.float32)[:, None]
    u = (np.arange(left, right, dtype=np.float32) - centre) / half
    v = ((rows - ys[0]) / (ys[-1] - ys[0]))[:, None]
    _lay(pixels[top:bottom, left:right], cover, v, u, np.abs(u) < 1, turn)


def _paint_tube(
    pixels: np.ndarray,
    cover: np.ndarray,
    start: tuple[float, float],
    end: tuple[float, float],
    halves: tuple[float, float],
    turn: float,
    span: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Paint a limb with round ends, in place.

    Args:
        pixels: ``(H, W, C)``.
        cover: ``(V, T, C)`` tones of the wrap.
        start: x, y of one end, in pixels.
        end: x, y of the other end.
        halves: half the width at either end, in pixels.
        turn: which angle of the wrap faces the camera, in turns.
        span: the heights of the wrap at either end.
    """
    height, width = pixels.shape[:2]
    reach = max(halves)
    (x0, y0), (x1, y1) = start, end
    left, right = max(0, int(min(x0, x1) - reach)), min(width, int(max(x0, x1) + reach) + 1)
    top, bottom = max(0, int(min(y0, y1) - reach)), min(height, int(max(y0, y1) + reach) + 1)
    if top >= bottom or left >= right:
        return
    length = max(math.hypot(x1 - x0, y1 - y0), 1e-3)
    ax, ay = (x1 - x0) / length, (y1 - y0) / length
    dx = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x0)
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y0)
    along = dx * np.float32(ax / length) + dy * np.float32(ay / length)
    across = dx * np.float32(ay) - dy * np.float32(ax)
    t = np.minimum(np.maximum(along, 0), 1)
    half = halves[0] + (halves[1] - halves[0]) * t
    over = (along - t) * np.float32(length)
    inside = across * across + over * over < half * half
    # A limb that points upwards would otherwise show its wrap mirrored.
    u = across / half if y1 >= y0 else -across / half
    v = span[0] + (span[1] - span[0]) * t
    _lay(pixels[top:bottom, left:right], cover, v, u, inside, turn)


def _lay(
    window: np.ndarray,
    cover: np.ndarray,
    v: np.ndarray,
    u: np.ndarray,
    inside: np.ndarray,
    turn: float,
) -> None:
    """Look the wrap's tones up by height ``v`` and angle ``u``, and shade them to the edge."""
    rows, columns = cover.shape[:2]
    u = u[inside]
    if columns == 1:
        tone = cover[0]
    else:
        seen = _TURN_AT[((u + 1) * _STEPS).astype(np.intp)] + np.float32(turn % 1 + 1)
        column = (seen * columns).astype(np.intp) % columns
        row = np.minimum((v * rows).astype(np.intp), rows - 1)
        row = np.broadcast_to(row, inside.shape)[inside]
        tone = cover.reshape(rows * columns, -1).take(row * columns + column, axis=0)
    window[inside] = tone * (1 - _EDGE_SHADE * u * u)[:, None]
