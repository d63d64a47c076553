"""From the painted scene to the pixels a camera stores: light, blur, noise, contrast."""

import cv2
import numpy as np


def expose_visible(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light, colour cast and noise of a colour camera: (h, w, 3) in [0, 1] -> uint8 BGR."""
    cast = rng.uniform(0.75, 1.2) * rng.uniform(0.88, 1.12, 3).astype(np.float32)
    lit = np.clip(scene * (cast * _uneven(scene, rng, 0.2)), 0, 1) ** np.float32(
        rng.uniform(0.75, 1.35)
    )
    lit = _blurred(lit, rng.uniform(0.0, 0.7), scene.shape[0])
    return _stored(lit[..., ::-1], rng.uniform(0.01, 0.035), rng)


def expose_thermal(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ambient level, gain, blur and noise of a thermal camera: (h, w, 1) -> uint8 grey (h, w, 3).

    The gain is positive: warm stays bright.
    """
    level, gain = rng.uniform(-0.08, 0.12), rng.uniform(0.7, 1.05)
    seen = level + gain * scene * _uneven(scene, rng, 0.1)
    seen = _blurred(seen, rng.uniform(0.5, 1.1), scene.shape[0])
    columns = rng.standard_normal((1, seen.shape[1], 1), np.float32) * np.float32(0.012)
    grey = _stored(seen + columns, rng.uniform(0.015, 0.035), rng)
    return np.repeat(grey, 3, axis=2)


def _uneven(scene: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """A smooth field about 1, (h, w, 1): shade, lamps, warm air."""
    field = rng.uniform(1 - strength, 1 + strength, (4, 3)).astype(np.float32)
    height, width = scene.shape[:2]
    return cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]


def _blurred(image: np.ndarray, sigma: float, height: int) -> np.ndarray:
    """Gaussian blur of ``sigma`` pixels of an image 144 high, in proportion for others."""
    sigma *= height / 144
    if sigma < 0.3:
        return image
    return cv2.GaussianBlur(image, (0, 0), sigma).reshape(image.shape)


def _stored(image: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(noise)
    return (np.clip(image + grain, 0, 1) * 255 + 0.5).astype(np.uint8)
