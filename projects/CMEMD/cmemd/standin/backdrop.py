"""What is behind and before a person: a place that goes with the camera, clutter, occluders."""

import cv2
import numpy as np

from cmemd.data.modality import Modality

_INDOOR_CAMERAS = (1, 2, 3)  # SYSU-MM01's; of the other sets, whichever


def paint_backdrop(
    canvas: np.ndarray, camera: int, modality: Modality, rng: np.random.Generator
) -> None:
    """Fills ``canvas`` (H, W, C) in place with a wall, a floor and clutter."""
    height, width = canvas.shape[:2]
    paint = _Palette(modality, camera, rng)
    horizon = round(height * rng.uniform(0.55, 0.85))
    canvas[:horizon] = paint.wall
    canvas[horizon:] = paint.floor
    if camera in _INDOOR_CAMERAS:
        _panels(canvas[:horizon], paint, rng)
    else:
        _foliage(canvas[:horizon], paint, rng)
    for _ in range(rng.integers(1, 5)):
        wide, high = rng.uniform(0.08, 0.4) * width, rng.uniform(0.05, 0.3) * height
        x, y = rng.uniform(-0.1, 1.0) * width, rng.uniform(0.0, 0.95) * height
        _thing(canvas, (x, y, wide, high), paint.any(), rng)


def paint_occluders(canvas: np.ndarray, modality: Modality, rng: np.random.Generator) -> None:
    """Now and then puts a post, a bin or a passer-by before the person (in place)."""
    height, width = canvas.shape[:2]
    paint = _Palette(modality, 0, rng)
    if rng.random() < 0.08:
        x, half = rng.uniform(0.1, 0.9) * width, rng.uniform(0.03, 0.07) * width
        _thing(canvas, (x - half, -2, 2 * half, height + 4), paint.any(), rng, round_=False)
    if rng.random() < 0.08:
        wide, high = rng.uniform(0.3, 0.8) * width, rng.uniform(0.12, 0.3) * height
        x = rng.uniform(-0.2, 0.8) * width
        _thing(canvas, (x, height - high, wide, high * 1.3), paint.any(), rng)
    if rng.random() < 0.05:
        wide = rng.uniform(0.3, 0.45) * width
        x = rng.choice([-0.75 * wide, width - 0.3 * wide])
        _thing(canvas, (x, rng.uniform(0.2, 0.4) * height, wide, height), paint.any(), rng)


class _Palette:
    """Tones of a place: RGB, or the ambient warmth."""

    def __init__(self, modality: Modality, camera: int, rng: np.random.Generator) -> None:
        self._rng, self._visible = rng, modality is Modality.VISIBLE
        self._hue = np.array([0.9, 0.95, 1.0]) if camera % 2 else np.array([1.0, 0.95, 0.88])
        self._level = rng.uniform(0.25, 0.8)
        self.wall, self.floor = self.any(), self.any()

    def any(self) -> tuple[float, ...]:
        """One more tone of the place."""
        if not self._visible:
            return (0.08 + 0.35 * self._level + self._rng.uniform(-0.08, 0.08),)
        tone = (self._level + self._rng.uniform(-0.16, 0.16)) * self._hue
        tone = tone + self._rng.uniform(-0.06, 0.06, 3)
        return tuple(np.clip(tone, 0, 1).tolist())


def _thing(
    canvas: np.ndarray,
    box: tuple[float, float, float, float],
    tone: tuple[float, ...],
    rng: np.random.Generator,
    *,
    round_: bool | None = None,
) -> None:
    x, y, wide, high = (round(value) for value in box)
    if rng.random() < 0.5 if round_ is None else round_:
        centre, axes = (x + wide // 2, y + high // 2), (max(1, wide // 2), max(1, high // 2))
        cv2.ellipse(canvas, centre, axes, 0, 0, 360, tone, cv2.FILLED)
    else:
        cv2.rectangle(canvas, (x, y), (x + wide, y + high), tone, cv2.FILLED)


def _panels(wall: np.ndarray, paint: _Palette, rng: np.random.Generator) -> None:
    height, width = wall.shape[:2]
    first, second = paint.any(), paint.any()
    step = rng.uniform(0.3, 0.8) * width
    for x in np.arange(rng.uniform(-step, 0), width, step):
        right = round(x + 0.8 * step)
        cv2.rectangle(wall, (round(x), round(0.1 * height)), (right, height), first, cv2.FILLED)
        cv2.line(wall, (round(x), 0), (round(x), height), second, 2)


def _foliage(wall: np.ndarray, paint: _Palette, rng: np.random.Generator) -> None:
    height, width = wall.shape[:2]
    tones = [paint.any() for _ in range(3)]
    for x, y, size in rng.random((12, 3)):
        radius = round((0.06 + 0.16 * size) * width)
        cv2.circle(
            wall, (round(x * width), round(y * height)), radius, tones[radius % 3], cv2.FILLED
        )
