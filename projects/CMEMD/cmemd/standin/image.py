"""A person, a shot and a camera give an image."""

import cv2
import numpy as np

from cmemd.data.modality import Modality
from cmemd.standin.backdrop import paint_backdrop, paint_occluders
from cmemd.standin.figure import Figure
from cmemd.standin.sensor import expose_thermal, expose_visible
from cmemd.standin.shot import Shot

_OVERSAMPLING = 1.5


def render(
    figure: Figure,
    shot: Shot,
    *,
    camera: int,
    modality: Modality,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws one image.

    Args:
        figure: the person in the tones of ``modality``.
        shot: view, pose and framing.
        camera: decides the place in the background.
        modality: decides light, noise and channels.
        size: height and width in pixels.
        rng: for background, occlusion, light and noise.

    Returns:
        (height, width, 3) uint8 in OpenCV's channel order; three equal channels if thermal.
    """
    height, width = size
    channels = 3 if modality is Modality.VISIBLE else 1
    fine = (round(_OVERSAMPLING * height), round(_OVERSAMPLING * width))
    canvas = np.empty((*fine, channels), np.float32)
    paint_backdrop(canvas, camera, modality, rng)
    figure.paint(canvas, shot)
    paint_occluders(canvas, modality, rng)
    scene = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    scene = scene.reshape(height, width, channels)
    return (expose_visible if channels == 3 else expose_thermal)(scene, rng)
