r"""A case in two dimensions where aligning all pairs does damage and transport does not.

People stand on a plane. The y axis tells their identity and, as much, one of two poses. The x axis
tells a little of their identity, and the thermal camera shifts everything along it. A linear map W
of the plane, of constant size, is learned to make the alignment term small:

    L(W) = sum_ij pi_ij ||W (v_i - t_j)||^2 = trace(W M W^T)
    M = sum_ij pi_ij (v_i - t_j) (v_i - t_j)^T

So W gives up the direction in which the pairs differ most. Uniform weights pair different poses:
M is shift^2 + noise along x and 2 pose^2 + noise along y. As soon as 2 pose^2 > shift^2 the map
gives up y, which tells people apart. Transport pairs equal poses, whatever the shift (a shift adds
the same to every matching). Its M has the shift alone, and the map gives up x, the modality gap.

Our own construction [chosen]. It tests the paper's claim that transport favours pairs of small
intra-identity variation. The plans are those of the losses, computed again at each step.

Shape legend: ``P`` = people, ``K`` = 2 poses, each seen once by each camera.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmemd.losses.alternatives import uniform_plan
from cmemd.losses.cm_emd import ground_cost
from cmemd.losses.transport import exact_plan

__all__ = ["PLANS", "Clouds", "learn_map", "make_clouds", "rank1"]

PEOPLE = 12
POSE = 0.8  # offset of each pose along y; people are 1 apart
SHIFT = 1.0  # of the thermal camera along x
SPREAD = 1.0  # largest offset of people along x
NOISE = 0.03
_STEPS, _RATE = 60, 0.05


@dataclass(frozen=True)
class Clouds:
    """Points of each person and modality, (P, K, 2), pose by pose."""

    visible: Tensor
    thermal: Tensor

    def mapped(self, matrix: Tensor) -> "Clouds":
        """Return the points after the linear map (2, 2)."""
        return Clouds(self.visible @ matrix.T, self.thermal @ matrix.T)


PLANS = {"uniform weights": uniform_plan, "transport (CM-EMD)": exact_plan}


def make_clouds(seed: int = 0, pose: float = POSE) -> Clouds:
    """Return the points before anything is learned.

    Args:
        seed: of offsets along x and of noise.
        pose: offset of each pose along y.
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
    """Return the linear map that gradient descent on the alignment term finds.

    Args:
        clouds: the points to align.
        plan: one of ``PLANS``.
        steps: steps of descent, from the identity map.

    Returns:
        The map (2, 2), of the identity's Frobenius norm.
    """
    matrix = torch.eye(2, dtype=torch.float64)
    for _ in range(steps):
        leaf = matrix.clone().requires_grad_()
        moved = clouds.mapped(leaf)
        cost = ground_cost(moved.visible, moved.thermal)  # (P, K, K)
        (PLANS[plan](cost.detach()) * cost).sum((1, 2)).mean().backward()
        assert leaf.grad is not None
        matrix = matrix - _RATE * leaf.grad
        matrix = matrix * (2**0.5 / matrix.norm())
    return matrix


def rank1(clouds: Clouds) -> float:
    """Return the share of thermal points whose nearest visible point is of the same person."""
    people = torch.arange(len(clouds.visible)).repeat_interleave(clouds.visible.shape[1])
    distances = torch.cdist(clouds.thermal.flatten(0, 1), clouds.visible.flatten(0, 1))
    return (people[distances.argmin(1)] == people).double().mean().item()
