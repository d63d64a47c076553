"""Alignment of the modalities: CM-EMD and its alternatives, each under a name.

Shape legend: N images, P identities, K_v visible and K_t thermal images of each, D channels,
F features of one granularity (1 global, S local, S - 1 accumulated).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError
from cmemd.losses.alternatives import (
    affinity_plan,
    centre_distance,
    gaussian_kl,
    kernel_mmd,
    uniform_plan,
)
from cmemd.losses.cm_emd import (
    GROUND_DISTANCES,
    cm_emd_loss,
    ground_cost,
    plan_saving,
    plan_sharpness,
)
from cmemd.losses.interface import LossOutput
from cmemd.losses.precision import at_least_float32
from cmemd.losses.transport import exact_plan, sinkhorn_plan

if TYPE_CHECKING:
    from yacs.config import CfgNode

__all__ = ["ALIGNMENTS", "CloudAlignment", "PairAlignment", "PairOutput", "build_alignment"]


@dataclass(frozen=True, kw_only=True)
class PairOutput(LossOutput):
    """Terms by granularity, with the pairs' weights and distances; it watches the plan."""

    plan: Tensor  # (sum of F, P, K_v, K_t)
    cost: Tensor  # (sum of F, P, K_v, K_t)


class PairAlignment(nn.Module):
    """Weighted mean distance of an identity's pairs; one batched call gives all weights.

    With the exact transport plan it is CM-EMD. Weights are constant in the backward pass.

    Args:
        distance: ground distance, one of ``GROUND_DISTANCES`` (chosen, not from the paper).
        normalize: whether features are L2-normalised first (chosen, not from the paper).
        plan: maps costs (B, K_v, K_t) to weights of the same shape.
    """

    def __init__(
        self,
        distance: str = "sqeuclidean",
        normalize: bool = True,
        plan: Callable[[Tensor], Tensor] = exact_plan,
    ) -> None:
        super().__init__()
        self.distance = distance
        self.normalize = normalize
        self.plan = plan

    def forward(self, features: Mapping[str, Tensor], rows: IdentityRows) -> PairOutput:
        """Return granularity -> scalar, summed over its features (N, F, D)."""
        costs = [
            ground_cost(*_clouds(feature, rows, self.normalize), self.distance)
            for feature in features.values()
        ]
        cost = torch.cat(costs)  # (sum of F, P, K_v, K_t)
        plan = self.plan(_solvable(cost.detach()).flatten(0, 1)).view_as(cost)
        terms = cm_emd_loss(cost, plan).split([len(part) for part in costs])
        return PairOutput(
            {name: term.sum() for name, term in zip(features, terms, strict=True)},
            {"plan_sharpness": plan_sharpness(plan), "plan_saving": plan_saving(cost, plan)},
            plan=plan,
            cost=cost,
        )


def _solvable(cost: Tensor) -> Tensor:
    """Return costs with numbers in place of NaN and infinity, which solvers refuse.

    On a GPU they would end the process without a word. The loss itself stays NaN or infinite, and a
    training says so with the iteration.
    """
    limit = torch.finfo(cost.dtype).max / 128  # half of what solvers take
    return cost.nan_to_num(0.0, limit, -limit).clamp(-limit, limit)


class CloudAlignment(nn.Module):
    """A distance between all visible and all thermal features of an identity.

    Args:
        compare: maps (F, P, K_v, D) and (F, P, K_t, D) to (F,).
        normalize: whether features are L2-normalised first.
    """

    def __init__(self, compare: Callable[[Tensor, Tensor], Tensor], normalize: bool = True) -> None:
        super().__init__()
        self.compare = compare
        self.normalize = normalize

    def forward(self, features: Mapping[str, Tensor], rows: IdentityRows) -> dict[str, Tensor]:
        """Return granularity -> scalar, summed over its features (N, F, D)."""
        return {
            name: self.compare(*_clouds(feature, rows, self.normalize)).sum()
            for name, feature in features.items()
        }


def _clouds(feature: Tensor, rows: IdentityRows, normalize: bool) -> tuple[Tensor, Tensor]:
    """Return features (N, F, D) as (F, P, K_v, D) and (F, P, K_t, D)."""
    feature = at_least_float32(feature).transpose(0, 1)
    if normalize:
        feature = functional.normalize(feature, dim=-1)
    return feature[:, rows.visible], feature[:, rows.thermal]


def _pairs(options: "CfgNode", plan: Callable[[Tensor], Tensor]) -> PairAlignment:
    return PairAlignment(_distance(options), options.NORMALIZE, plan)


def _distance(options: "CfgNode") -> str:
    if options.DISTANCE not in GROUND_DISTANCES:
        raise InputError(
            "a known MODEL.LOSSES.ALIGN.DISTANCE",
            repr(options.DISTANCE),
            f"choose {', '.join(GROUND_DISTANCES)}",
        )
    return options.DISTANCE


def _positive(options: "CfgNode", key: str) -> float:
    if not options[key] > 0:
        raise InputError(
            f"MODEL.LOSSES.ALIGN.{key} above 0", options[key], "leave it out for the default"
        )
    return options[key]


# Name -> how it is built from MODEL.LOSSES.ALIGN. Each checks the options that it reads.
ALIGNMENTS: dict[str, Callable[["CfgNode"], nn.Module | None]] = {
    "none": lambda options: None,
    "cm_emd": lambda options: _pairs(options, exact_plan),
    "uniform": lambda options: _pairs(options, uniform_plan),
    "sinkhorn": lambda options: _pairs(
        options, partial(sinkhorn_plan, epsilon=_positive(options, "EPSILON"))
    ),
    "affinity": lambda options: _pairs(
        options, partial(affinity_plan, temperature=_positive(options, "TEMPERATURE"))
    ),
    "centre": lambda options: CloudAlignment(
        partial(centre_distance, distance=_distance(options)), options.NORMALIZE
    ),
    "kl": lambda options: CloudAlignment(
        partial(gaussian_kl, floor=_positive(options, "VARIANCE_FLOOR")), options.NORMALIZE
    ),
    "mmd": lambda options: CloudAlignment(
        partial(kernel_mmd, distance=_distance(options)), options.NORMALIZE
    ),
}


def build_alignment(options: "CfgNode") -> nn.Module | None:
    """Return the alignment loss of ``MODEL.LOSSES.ALIGN``; None for "none".

    Raises:
        InputError: an unknown name, or a bad value of an option that this alignment reads.
    """
    if options.NAME not in ALIGNMENTS:
        raise InputError(
            "a known MODEL.LOSSES.ALIGN.NAME",
            repr(options.NAME),
            f"choose {', '.join(ALIGNMENTS)}",
        )
    return ALIGNMENTS[options.NAME](options)
