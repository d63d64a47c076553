"""Two brushes: an upright barrel and a tube, both covered by a wrap looked up by angle.

Canvases are (H, W, C) float32 in [0, 1], larger than the image: edges
are hard here and become smooth when the image is scaled down.
"""

import math

import numpy as np

_STEPS = 64
# Angle seen at u = -1 ... 1 across a cylinder, as a share of a full turn.
_TURN_AT = (np.arcsin(np.linspace(-1, 1, 2 * _STEPS + 1)) / (2 * np.pi)).astype(np.float32)
_EDGE_SHADE = 0.28


def paint_barrel(
    canvas: np.ndarray,
    cover: np.ndarray,
    ys: list[float],
    centres: list[float],
    halves: list[float],
    turn: float,
) -> None:
    """Paints a body with an upright axis onto ``canvas`` (in place).

    Args:
        canvas: (H, W, C).
        cover: (V, T, C) tones of the wrap.
        ys: rising heights of the profile's knots, in pixels.
        centres: the axis at each knot, in pixels.
        halves: half the width at each knot, in pixels.
        turn: which angle of the wrap faces the camera, in turns.
    """
    height, width = canvas.shape[:2]
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
    _lay(canvas[top:bottom, left:right], cover, v, u, np.abs(u) < 1, turn)


def paint_tube(
    canvas: np.ndarray,
    cover: np.ndarray,
    start: tuple[float, float],
    end: tuple[float, float],
    halves: tuple[float, float],
    turn: float,
    span: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Paints a limb with round ends onto ``canvas`` (in place).

    Args:
        canvas: (H, W, C).
        cover: (V, T, C) tones of the wrap.
        start: x, y of one end, in pixels.
        end: x, y of the other end.
        halves: half the width at either end, in pixels.
        turn: which angle of the wrap faces the camera, in turns.
        span: the heights of the wrap at either end.
    """
    height, width = canvas.shape[:2]
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
    _lay(canvas[top:bottom, left:right], cover, v, u, inside, turn)


def _lay(
    window: np.ndarray,
    cover: np.ndarray,
    v: np.ndarray,
    u: np.ndarray,
    inside: np.ndarray,
    turn: float,
) -> None:
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
