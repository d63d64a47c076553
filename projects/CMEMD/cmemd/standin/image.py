"""Draw an image of a person: backdrop, person, occluders, and the camera's light and noise."""

import cv2
import numpy as np

from cmemd.data.modality import Modality
from cmemd.standin.figure import Figure
from cmemd.standin.shot import Shot

__all__ = ["render"]

_OVERSAMPLING = 1.5
_INDOOR_CAMERAS = (1, 2, 3)  # SYSU-MM01's; the other stand-ins use the same


def render(
    figure: Figure,
    shot: Shot,
    *,
    camera: int,
    modality: Modality,
    size: tuple[int, int],
    rng: np.random.Generator,
    hour: float = 0.0,
) -> np.ndarray:
    """Draw one image.

    Args:
        figure: the person in the tones of ``modality``.
        shot: view, pose and framing.
        camera: decides the place in the background.
        modality: decides light, noise and channels.
        size: height and width in pixels.
        rng: for background, occlusion, light and noise.
        hour: how late in the day, from 0 (noon) to 1 (dusk).

    Returns:
        (height, width, 3) uint8 in OpenCV's channel order; three equal channels if thermal.
    """
    height, width = size
    channels = 3 if modality is Modality.VISIBLE else 1
    fine = (round(_OVERSAMPLING * height), round(_OVERSAMPLING * width))
    pixels = np.empty((*fine, channels), np.float32)
    _paint_backdrop(pixels, camera, modality, rng)
    figure.paint(pixels, shot)
    _paint_occluders(pixels, modality, rng)
    scene = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    scene = scene.reshape(height, width, channels)
    if hour:
        scene = _at_dusk(scene, hour)
    return (_expose_visible if channels == 3 else _expose_thermal)(scene, rng)


def _paint_backdrop(
    pixels: np.ndarray, camera: int, modality: Modality, rng: np.random.Generator
) -> None:
    """Fill ``pixels`` ``(H, W, C)`` in place with a wall, a floor and clutter."""
    height, width = pixels.shape[:2]
    paint = _Palette(modality, camera, rng)
    horizon = round(height * rng.uniform(0.55, 0.85))
    pixels[:horizon] = paint.wall
    pixels[horizon:] = paint.floor
    if camera in _INDOOR_CAMERAS:
        _panels(pixels[:horizon], paint, rng)
    else:
        _foliage(pixels[:horizon], paint, rng)
    for _ in range(rng.integers(1, 5)):
        wide, high = rng.uniform(0.08, 0.4) * width, rng.uniform(0.05, 0.3) * height
        x, y = rng.uniform(-0.1, 1.0) * width, rng.uniform(0.0, 0.95) * height
        _thing(pixels, (x, y, wide, high), paint.any(), rng)


def _paint_occluders(pixels: np.ndarray, modality: Modality, rng: np.random.Generator) -> None:
    """Paint a post, a bin or a passer-by before some persons, in place."""
    height, width = pixels.shape[:2]
    paint = _Palette(modality, 0, rng)
    if rng.random() < 0.08:
        x, half = rng.uniform(0.1, 0.9) * width, rng.uniform(0.03, 0.07) * width
        _thing(pixels, (x - half, -2, 2 * half, height + 4), paint.any(), rng, round_=False)
    if rng.random() < 0.08:
        wide, high = rng.uniform(0.3, 0.8) * width, rng.uniform(0.12, 0.3) * height
        x = rng.uniform(-0.2, 0.8) * width
        _thing(pixels, (x, height - high, wide, high * 1.3), paint.any(), rng)
    if rng.random() < 0.05:
        wide = rng.uniform(0.3, 0.45) * width
        x = rng.choice([-0.75 * wide, width - 0.3 * wide])
        _thing(pixels, (x, rng.uniform(0.2, 0.4) * height, wide, height), paint.any(), rng)


class _Palette:
    """Tones of a place: RGB, or the ambient warmth."""

    def __init__(self, modality: Modality, camera: int, rng: np.random.Generator) -> None:
        self._rng, self._visible = rng, modality is Modality.VISIBLE
        self._hue = np.array([0.9, 0.95, 1.0]) if camera % 2 else np.array([1.0, 0.95, 0.88])
        self._level = rng.uniform(0.25, 0.8)
        self.wall, self.floor = self.any(), self.any()

    def any(self) -> tuple[float, ...]:
        """Return one more tone of the place."""
        if not self._visible:
            return (0.08 + 0.35 * self._level + self._rng.uniform(-0.08, 0.08),)
        tone = (self._level + self._rng.uniform(-0.16, 0.16)) * self._hue
        tone = tone + self._rng.uniform(-0.06, 0.06, 3)
        return tuple(np.clip(tone, 0, 1).tolist())


def _thing(
    pixels: np.ndarray,
    box: tuple[float, float, float, float],
    tone: tuple[float, ...],
    rng: np.random.Generator,
    *,
    round_: bool | None = None,
) -> None:
    x, y, wide, high = (round(value) for value in box)
    if rng.random() < 0.5 if round_ is None else round_:
        centre, axes = (x + wide // 2, y + high // 2), (max(1, wide // 2), max(1, high // 2))
        cv2.ellipse(pixels, centre, axes, 0, 0, 360, tone, cv2.FILLED)
    else:
        cv2.rectangle(pixels, (x, y), (x + wide, y + high), tone, cv2.FILLED)


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


def _at_dusk(scene: np.ndarray, hour: float) -> np.ndarray:
    """Return the scene late in the day: dark and reddish, or of little thermal contrast."""
    if scene.shape[2] == 3:
        return scene * (1 - np.float32(hour) * np.array([0.1, 0.15, 0.25], np.float32))
    return scene + np.float32(0.1 * hour) * (np.float32(0.55) - scene)


def _expose_visible(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add light, colour cast and noise of a colour camera: (h, w, 3) in [0, 1] -> uint8 BGR."""
    cast = rng.uniform(0.75, 1.2) * rng.uniform(0.88, 1.12, 3).astype(np.float32)
    lit = np.clip(scene * (cast * _uneven(scene, rng, 0.2)), 0, 1) ** np.float32(
        rng.uniform(0.75, 1.35)
    )
    lit = _blurred(lit, rng.uniform(0.0, 0.7), scene.shape[0])
    return _stored(lit[..., ::-1], rng.uniform(0.01, 0.035), rng)


def _expose_thermal(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add level, gain, blur and noise of a thermal camera: (h, w, 1) -> uint8 grey (h, w, 3).

    The gain is positive: warm stays bright.
    """
    level, gain = rng.uniform(-0.08, 0.12), rng.uniform(0.7, 1.05)
    seen = level + gain * scene * _uneven(scene, rng, 0.1)
    seen = _blurred(seen, rng.uniform(0.5, 1.1), scene.shape[0])
    columns = rng.standard_normal((1, seen.shape[1], 1), np.float32) * np.float32(0.012)
    grey = _stored(seen + columns, rng.uniform(0.015, 0.035), rng)
    return np.repeat(grey, 3, axis=2)


def _uneven(scene: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Return a smooth field about 1, (h, w, 1): shade, lamps, warm air."""
    field = rng.uniform(1 - strength, 1 + strength, (4, 3)).astype(np.float32)
    height, width = scene.shape[:2]
    return cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]


def _blurred(image: np.ndarray, sigma: float, height: int) -> np.ndarray:
    """Blur an image; ``sigma`` is in pixels of an image 144 high."""
    sigma *= height / 144
    if sigma < 0.3:
        return image
    return cv2.GaussianBlur(image, (0, 0), sigma).reshape(image.shape)


def _stored(image: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(noise)
    pixels: np.ndarray = (np.clip(image + grain, 0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels
