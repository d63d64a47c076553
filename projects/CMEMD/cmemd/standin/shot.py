"""How one image was taken: view, pose and framing, which change from image to image."""

from dataclasses import dataclass

import numpy as np

VIEWS = ("front", "left", "back", "right")
POSES = ("standing", "walking", "walking", "phone")


@dataclass(frozen=True)
class Shot:
    """Conditions of one image.

    ``turn`` is the angle of the body that faces the camera, in turns: 0 the chest, 1/4 the left
    side, 1/2 the back. ``phase`` and ``stride`` are radians; ``fill`` is the body's height and
    ``shift_x``, ``shift_y`` its offset, in heights of the image.
    """

    turn: float
    pose: str
    phase: float
    stride: float
    fill: float
    shift_x: float
    shift_y: float
    lean: float

    @property
    def view(self) -> str:
        """The side that is seen, one of `VIEWS`."""
        return VIEWS[round(self.turn * 4) % 4]


def draw_shot(rng: np.random.Generator) -> Shot:
    """Draws the conditions of one image."""
    pose = POSES[rng.integers(len(POSES))]
    # One in twelve is cut off below, as by a detector that missed the feet.
    cut = rng.random() < 0.08
    return Shot(
        turn=(rng.integers(4) / 4 + rng.uniform(-0.1, 0.1)) % 1,
        pose=pose,
        phase=rng.uniform(0, 2 * np.pi),
        stride=rng.uniform(0.3, 0.5) if pose == "walking" else rng.uniform(0.02, 0.15),
        fill=rng.uniform(1.0, 1.15) if cut else rng.uniform(0.84, 0.97),
        shift_x=rng.uniform(-0.035, 0.035),
        shift_y=rng.uniform(0.0, 1.0),
        lean=rng.uniform(-0.05, 0.05),
    )
