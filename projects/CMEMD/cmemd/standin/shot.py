"""View, pose and framing of one image."""

from dataclasses import dataclass

import numpy as np

__all__ = ["POSES", "VIEWS", "Shot", "draw_shot"]

VIEWS = ("front", "left", "back", "right")
POSES = ("standing", "walking", "walking", "phone")


@dataclass(frozen=True)
class Shot:
    """How one image was taken.

    Attributes:
        turn: the side that faces the camera, in turns: 0 the chest, 1/4 the left side, 1/2 the
            back.
        pose: one of ``POSES``.
        phase: of the stride, in radians.
        stride: largest swing of a leg, in radians.
        fill: height of a body of stature 1, in heights of the image.
        shift_x: offset to the right, in heights of the image.
        shift_y: share of the free height that is above the person.
        lean: lateral slope of the body.
        reach: how far both arms swing forward besides their stride, in radians.
    """

    turn: float
    pose: str
    phase: float
    stride: float
    fill: float
    shift_x: float
    shift_y: float
    lean: float
    reach: float = 0.0

    @property
    def view(self) -> str:
        """Side that is seen, one of ``VIEWS``."""
        return VIEWS[round(self.turn * 4) % 4]


def draw_shot(rng: np.random.Generator) -> Shot:
    """Draw the view, pose and framing of one image."""
    pose = POSES[rng.integers(len(POSES))]
    # One in twelve is cut off below, as if a detector missed the feet.
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
