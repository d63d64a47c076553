r"""Where aligning all pairs does damage and transport does not, in two dimensions.

People stand on a plane: the y axis says who they are and, as much, in which of two poses; the x
axis says a little of who they are, and the thermal camera moves everybody along it. All that is
learned is a linear map W of the plane, of constant size, that makes the alignment term small:

    L(W) = sum_ij pi_ij ||W (v_i - t_j)||^2 = trace(W M W^T)
    M = sum_ij pi_ij (v_i - t_j) (v_i - t_j)^T

so that W gives up the direction in which the pairs differ most. Uniform weights pair different
poses: M is shift^2 + noise along x and 2 pose^2 + noise along y, and as soon as 2 pose^2 > shift^2
the map gives up y, by which people are told apart. Transport pairs like with like, whatever the
shift (a shift adds the same to every matching), so that its M has the shift alone: the map gives up
x, the modality gap.

Our own construction [chosen]. It tests the paper's claim that transport favours pairs of small
intra-identity variation. The plans are those of the losses, computed anew at each step.

Shape legend: P people, K = 2 poses, each seen once by each camera.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmemd.losses.alternatives import uniform_plan
from cmemd.losses.cm_emd import ground_cost
from cmemd.losses.transport import exact_plan

__all__ = ["PLANS", "Clouds", "draw_clouds", "learn_map", "rank1"]

PEOPLE = 12
POSE = 0.8  # offset of the two poses along y, to either side; people are 1 apart
SHIFT = 1.0  # of the thermal camera along x
SPREAD = 1.0  # of people along x, to either side
NOISE = 0.03
_STEPS, _RATE = 60, 0.05


@dataclass(frozen=True)
class Clouds:
    """Points of each person and modality, (P, K, 2), pose by pose."""

    visible: Tensor
    thermal: Tensor

    def mapped(self, matrix: Tensor) -> "Clouds":
        """The points after the linear map (2, 2)."""
        return Clouds(self.visible @ matrix.T, self.thermal @ matrix.T)


PLANS = {"uniform weights": uniform_plan, "transport (CM-EMD)": exact_plan}


def draw_clouds(seed: int = 0, pose: float = POSE) -> Clouds:
    """The plane before anything is learned.

    Args:
        seed: of places along x and of noise.
        pose: offset of the two poses along y.
    """
    generator = torch.Generator().manual_seed(seed)
    people = torch.arange(PEOPLE, dtype=torch.float64)
    across = SPREAD * (2 * torch.rand(PEOPLE, dtype=torch.float64, generator=generator) - 1)
    places = torch.stack((across, people), 1)[:, None]  # (P, 1, 2)
    poses = torch.tensor([[0.0, -pose], [0.0, pose]], dtype=torch.float64)
    both = NOISE * torch.randn(2, PEOPLE, 2, 2, dtype=torch.float64, generator=generator)
    both = both + places + poses
    return Clouds(both[0], both[1] + torch.tensor([SHIFT, 0.0], dtype=torch.float64))


def learn_map(clouds: Clouds, plan: str, steps: int = _STEPS) -> Tensor:
    """Gradient descent on the alignment term from the identity map.

    Args:
        clouds: what is to be aligned.
        plan: one of ``PLANS``.
        steps: of descent.

    Returns:
        The map (2, 2), of the identity's Frobenius norm.
    """
    matrix = torch.eye(2, dtype=torch.float64)
    for _ in range(steps):
        leaf = matrix.clone().requires_grad_()
        moved = clouds.mapped(leaf)
        cost = ground_cost(moved.visible, moved.thermal)  # (P, K, K)
        (PLANS[plan](cost.detach()) * cost).sum((1, 2)).mean().backward()
        matrix = matrix - _RATE * leaf.grad
        matrix = matrix * (2**0.5 / matrix.norm())
    return matrix


def rank1(clouds: Clouds) -> float:
    """Share of thermal points whose nearest visible point is of the same person."""
    people = torch.arange(len(clouds.visible)).repeat_interleave(clouds.visible.shape[1])
    distances = torch.cdist(clouds.thermal.flatten(0, 1), clouds.visible.flatten(0, 1))
    return (people[distances.argmin(1)] == people).double().mean().item()
