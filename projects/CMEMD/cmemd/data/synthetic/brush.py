"""Two brushes: an upright barrel and a tube, both covered by a wrap looked up by angle.

Canvases are (H, W, C) float32 in [0, 1], twice as large as the image in either direction: edges
are hard here and become smooth when the image is scaled down.
"""

import numpy as np

_STEPS = 64
# Angle seen at u = -1 ... 1 across a cylinder, as a share of a full turn.
_TURN_AT = (np.arcsin(np.linspace(-1, 1, 2 * _STEPS + 1)) / (2 * np.pi)).astype(np.float32)
_EDGE_SHADE = 0.28


def paint_barrel(
    canvas: np.ndarray,
    cover: np.ndarray,
    ys: np.ndarray,
    centres: np.ndarray,
    halves: np.ndarray,
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
    left = max(0, int((centres - halves).min()))
    right = min(width, int((centres + halves).max()) + 1)
    if top >= bottom or left >= right:
        return
    rows = np.arange(top, bottom, dtype=np.float32)
    centre = np.interp(rows, ys, centres).astype(np.float32)[:, None]
    half = np.interp(rows, ys, halves).astype(np.float32)[:, None]
    u = (np.arange(left, right, dtype=np.float32) - centre) / half
    v = ((rows - ys[0]) / (ys[-1] - ys[0]))[:, None]
    _lay(canvas[top:bottom, left:right], cover, v, u, np.abs(u) <= 1, turn)


def paint_tube(
    canvas: np.ndarray,
    cover: np.ndarray,
    ends: np.ndarray,
    halves: tuple[float, float],
    turn: float,
    span: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Paints a limb with round ends onto ``canvas`` (in place).

    Args:
        canvas: (H, W, C).
        cover: (V, T, C) tones of the wrap.
        ends: (2, 2) x, y of both ends, in pixels.
        halves: half the width at either end, in pixels.
        turn: which angle of the wrap faces the camera, in turns.
        span: the heights of the wrap at either end.
    """
    height, width = canvas.shape[:2]
    reach = max(halves)
    left, top = np.maximum(0, ends.min(0) - reach).astype(int)
    right, bottom = (ends.max(0) + reach).astype(int) + 1
    right, bottom = min(right, width), min(bottom, height)
    if top >= bottom or left >= right:
        return
    (x0, y0), (x1, y1) = ends
    length = max(float(np.hypot(x1 - x0, y1 - y0)), 1e-3)
    ax, ay = (x1 - x0) / length, (y1 - y0) / length
    dx = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x0)
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y0)
    along = dx * np.float32(ax / length) + dy * np.float32(ay / length)
    across = dx * np.float32(ay) - dy * np.float32(ax)
    t = np.clip(along, 0, 1)
    half = halves[0] + (halves[1] - halves[0]) * t
    over = (along - t) * np.float32(length)
    inside = across * across + over * over <= half * half
    u = np.clip(across / half, -1, 1)
    # A limb that points upwards would otherwise show its wrap mirrored.
    u = u if y1 >= y0 else -u
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
    u = np.clip(u, -1, 1)
    if columns == 1:
        tone = cover[0, 0]
    else:
        seen = _TURN_AT[((u + 1) * _STEPS).astype(np.int32)] + np.float32(turn % 1 + 1)
        column = (seen * columns).astype(np.int32) % columns
        row = np.minimum((v * rows).astype(np.int32), rows - 1)
        tone = cover[row, column]
    shaded = tone * (1 - _EDGE_SHADE * u * u)[..., None]
    np.copyto(window, shaded, where=inside[..., None])
