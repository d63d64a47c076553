"""Augmentations of colour channels, and of rectangles, from recipes of visible-thermal methods.

Each takes an image (H, W, 3) uint8, its random numbers and its options, and returns an image. Their
authors compute in fractions of one; a batch here holds bytes, so each result is rounded to a grey
level once, at its end.

Where authors change *normalised* images, the bytes change so that normalising them afterwards gives
the authors' numbers, up to that rounding and to levels outside 0..255, which are cut off. For a
channel c with mean m_c and deviation s_c, a normalised value n is the grey level m_c + s_c n.

Shape legend: images of H x W pixels and 3 channels.
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cmemd.data.random_state import Draws

__all__ = [
    "LUMA",
    "cut_channels",
    "erase_channels",
    "erase_linearly",
    "exchange_channels",
    "grey",
    "jitter_spectrum",
    "mix_channels",
    "normalised_copies",
    "step_channels",
    "to_grey",
]

Pixels = NDArray[np.uint8]

LUMA = (0.2989, 0.5870, 0.1140)  # of R, G, B, as CAJ has them

# CAJ's and RLE's rectangles: shares of the image's area, and height over width, both uniform.
_AREA, _RATIO, _TRIALS = (0.02, 0.4), (0.3, 1 / 0.3), 100
# MCJA's, which are torchvision's: the ratio's logarithm is uniform.
_CUT_AREA, _CUT_RATIO, _CUT_TRIALS = (0.02, 0.33), (0.3, 3.3), 10
# RLE stops where a pixel's factors multiply to less than this, and after so many rectangles.
_FAINT, _RECTANGLES = 0.1, 100


# ---- Whole images ---------------------------------------------------------------------------


def to_grey(image: Pixels, draws: Draws, *, prob: float) -> Pixels:
    """Return an image as its luma with probability ``prob``: torchvision's ``RandomGrayscale``."""
    return image if draws.python.random() >= prob else grey(image)


def grey(image: Pixels) -> Pixels:
    """Return an image (H, W, 3) whose three channels are its luma.

    The weights are Pillow's, 0.299, 0.587 and 0.114, in units of 1/65536.
    """
    weighed = image.astype(np.uint32) @ np.array((19595, 38470, 7471), np.uint32)
    return _repeated(((weighed + 0x8000) >> 16).astype(np.uint8))


def mix_channels(image: Pixels, draws: Draws, *, prob: float, beta: float) -> Pixels:
    """Return a random linear grey image with probability ``prob``.

        x = sum_c w_c x_c,  w_c = b_c / (b_R + b_G + b_B),  b_c ~ Beta(beta, beta)

    With ``beta`` 0.3 it is the moderate half of RLE (NeurIPS 2024); with 1 the b_c are uniform, and
    it is MCJA's weighted grey.

    Args:
        image: to be changed.
        draws: its random numbers.
        prob: share of images.
        beta: both parameters of the Beta distribution, above 0.
    """
    if draws.python.random() >= prob:
        return image
    raw = draws.numpy.beta(beta, beta, 3)
    # Of tiny parameters all three can be 0: no channel counts more then.
    weights = raw / raw.sum() if raw.sum() > 0 else np.full(3, 1 / 3)
    return _repeated(_levels(image @ weights))


def jitter_spectrum(image: Pixels, draws: Draws, *, prob: float) -> Pixels:
    """Return an image blended with one of its channels with probability ``prob``; MCJA's.

    x = f x + (1 - f) x_k,  f ~ U(0, 1),  k one of the channels
    """
    rng = draws.python
    if rng.random() >= prob:
        return image
    one, factor = image[..., [rng.randrange(3)]].astype(np.float64), rng.random()
    return _levels(one + factor * (image - one))


def exchange_channels(
    image: Pixels, draws: Draws, *, prob: float, mean: Sequence[float], std: Sequence[float]
) -> Pixels:
    """Return one channel in the place of all three with probability ``prob``: CAJ's exchange.

    Each of R, G and B as often. Its authors copy normalised channels; see ``normalised_copies``.

    Args:
        image: to be changed.
        draws: its random numbers.
        prob: share of images.
        mean: of each channel, in grey levels, by which images are normalised.
        std: deviation of each channel, in grey levels.
    """
    rng = draws.python
    if rng.random() >= prob:
        return image
    return _copy(image, rng.randrange(3), tuple(mean), tuple(std))


def step_channels(
    image: Pixels, draws: Draws, *, luma: float, mean: Sequence[float], std: Sequence[float]
) -> Pixels:
    """Return an image after CAJ's step for infrared images.

    A quarter each becomes a copy of channel R, G or B. Of the last quarter a share ``luma`` becomes
    the luma of the normalised channels, and the rest stays. The channels of an infrared image are
    equal before they are normalised: there, copies differ by the normalisation of the channels.

    Args:
        image: to be changed.
        draws: its random numbers.
        luma: a share.
        mean: see ``exchange_channels``.
        std: see ``exchange_channels``.
    """
    rng = draws.python
    number = rng.randrange(4)
    if number < 3:
        return _copy(image, number, tuple(mean), tuple(std))
    if rng.random() >= luma:
        return image
    means, deviations = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    normalised = ((image - means) / deviations) @ np.asarray(LUMA)
    return _levels(normalised[..., None] * deviations + means)


@lru_cache
def normalised_copies(mean: tuple[float, ...], std: tuple[float, ...]) -> Pixels:
    """Return the grey levels that stand for a copied normalised channel, (3, 256, 3) uint8.

    Entry [k, x, c] is m_c + s_c (x - m_k) / s_k, rounded and cut off at 0 and 255: the level of
    channel c whose normalised value is that of level x of channel k. With means and deviations that
    are the same for all channels, it is x.

    Args:
        mean: m of each channel, in grey levels.
        std: s of each channel, in grey levels.
    """
    means, deviations = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    normalised = (np.arange(256) - means[:, None]) / deviations[:, None]  # (3, 256)
    return _levels(normalised[..., None] * deviations + means)


def _copy(image: Pixels, channel: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Pixels:
    return normalised_copies(mean, std)[channel][image[..., channel]]


# ---- Rectangles -----------------------------------------------------------------------------


def erase_channels(image: Pixels, draws: Draws, *, prob: float, value: Sequence[float]) -> Pixels:
    """Return an image with one rectangle erased with probability ``prob``: CAJ's erasing.

    Its area is U(0.02, 0.4) of the image's and its height over width U(0.3, 1 / 0.3). Of up to 100
    rectangles the first that is smaller than the image counts.

    Args:
        image: to be changed.
        draws: its random numbers.
        prob: share of images.
        value: grey level of each channel in the rectangle, rounded.
    """
    rng = draws.python
    if rng.random() >= prob:
        return image
    place = _rectangle(image, rng, _AREA, lambda: rng.uniform(*_RATIO), _TRIALS)
    if place is None:
        return image
    erased = image.copy()
    erased[place] = np.rint(value)
    return erased


def erase_linearly(image: Pixels, draws: Draws, *, prob: float, beta: float) -> Pixels:
    """Return an image with rectangles of other brightness with probability ``prob``.

    The radical half of RLE (NeurIPS 2024). Up to 100 rectangles, as ``erase_channels`` draws them
    one at a time: in each, every channel is divided by its maximum there and multiplied by its own
    b ~ Beta(beta, beta). It ends when the product of a pixel's factors is below 0.1 anywhere. A
    channel that is black throughout a rectangle stays so; its authors divide by 0 there.

    Args:
        image: to be changed.
        draws: its random numbers.
        prob: share of images.
        beta: both parameters of the Beta distribution, above 0.
    """
    rng = draws.python
    if rng.random() >= prob:
        return image
    changed = image / 255.0
    factors = np.ones_like(changed)
    for _ in range(_RECTANGLES):
        place = _rectangle(image, rng, _AREA, lambda: rng.uniform(*_RATIO), 1)
        if place is None:
            continue
        largest = changed[place].max((0, 1))  # (3,)
        factor = draws.numpy.beta(beta, beta, 3) / np.where(largest > 0, largest, 1)
        changed[place] *= factor
        factors[place] *= factor
        if factors[place].min() < _FAINT:
            break
    return _levels(255 * changed)


def cut_channels(image: Pixels, draws: Draws, *, prob: float) -> Pixels:
    """Return one channel as a grey image, with a rectangle of another one; MCJA's.

    Probability ``prob``; each ordered pair of channels as often. The area is U(0.02, 0.33) of the
    image's, and the logarithm of height over width uniform, with the ratio from 0.3 to 3.3. Of ten
    rectangles the first that is smaller than the image counts; without one the channel stays whole.
    """
    rng = draws.python
    if rng.random() >= prob:
        return image
    low, high = map(math.log, _CUT_RATIO)
    place = _rectangle(image, rng, _CUT_AREA, lambda: math.exp(rng.uniform(low, high)), _CUT_TRIALS)
    behind, front = rng.sample(range(3), 2)
    grey = image[..., behind].copy()
    if place is not None:
        grey[place] = image[..., front][place]
    return _repeated(grey)


def _rectangle(
    image: Pixels,
    rng: random.Random,
    area: tuple[float, float],
    ratio: Callable[[], float],
    trials: int,
) -> tuple[slice, slice] | None:
    """Return the rows and columns of a random rectangle that is smaller than an image.

    Args:
        image: (H, W, 3).
        rng: random numbers.
        area: least and largest share of the image's area.
        ratio: gives a random height over width.
        trials: number of rectangles to try.

    Returns:
        None if none of them is lower and narrower than the image.
    """
    height, width = image.shape[:2]
    for _ in range(trials):
        pixels, aspect = rng.uniform(*area) * height * width, ratio()
        h, w = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < h < height and 0 < w < width:
            top, left = rng.randint(0, height - h), rng.randint(0, width - w)
            return slice(top, top + h), slice(left, left + w)
    return None


def _repeated(grey: Pixels) -> Pixels:
    """Return an image of three equal channels, (H, W) -> (H, W, 3)."""
    return np.repeat(grey[..., None], 3, axis=-1)


def _levels(values: NDArray[np.float64]) -> Pixels:
    """Return numbers as grey levels: rounded, and cut off at 0 and 255."""
    return np.rint(values).clip(0, 255).astype(np.uint8)
