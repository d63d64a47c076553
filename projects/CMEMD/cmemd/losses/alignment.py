"""Alignment of the modalities by CM-EMD, or by what it is compared with, under one name each.

Shape legend: N images, P identities, K_v visible and K_t thermal images of each, D channels,
F features of one granularity (1 global, S local, S - 1 accumulated).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmemd.errors import InputError
from cmemd.losses.alternatives import (
    affinity_plan,
    centre_distance,
    gaussian_kl,
    kernel_mmd,
    uniform_plan,
)
from cmemd.losses.cm_emd import GROUND_DISTANCES, cm_emd_loss, ground_cost
from cmemd.losses.grouping import IdentityRows
from cmemd.losses.precision import at_least_float32
from cmemd.losses.transport import exact_plan, sinkhorn_plan

__all__ = ["ALIGNMENTS", "Alignment", "CloudAlignment", "PairAlignment", "build_alignment"]


class Alignment(NamedTuple):
    """What an alignment loss returns."""

    losses: dict[str, Tensor]  # granularity -> scalar, summed over its features
    plan: Tensor | None = None  # (sum of F, P, K_v, K_t), of a loss that has one
    cost: Tensor | None = None  # (sum of F, P, K_v, K_t)


class PairAlignment(nn.Module):
    """Weighted mean distance of an identity's pairs, all weights from one batched call.

    With the exact transport plan, CM-EMD. Weights are constant in the backward pass.

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

    def forward(self, features: Mapping[str, Tensor], rows: IdentityRows) -> Alignment:
        """Aligns granularity -> features (N, F, D) of a batch's identities."""
        costs = [
            ground_cost(*_clouds(feature, rows, self.normalize), self.distance)
            for feature in features.values()
        ]
        cost = torch.cat(costs)  # (sum of F, P, K_v, K_t)
        plan = self.plan(cost.detach().flatten(0, 1)).view_as(cost)
        terms = cm_emd_loss(cost, plan).split([len(part) for part in costs])
        losses = {name: term.sum() for name, term in zip(features, terms, strict=True)}
        return Alignment(losses, plan, cost)


class CloudAlignment(nn.Module):
    """A distance between an identity's visible and thermal features as wholes.

    Args:
        compare: maps (F, P, K_v, D) and (F, P, K_t, D) to (F,).
        normalize: whether features are L2-normalised first.
    """

    def __init__(self, compare: Callable[[Tensor, Tensor], Tensor], normalize: bool = True) -> None:
        super().__init__()
        self.compare = compare
        self.normalize = normalize

    def forward(self, features: Mapping[str, Tensor], rows: IdentityRows) -> Alignment:
        """Aligns granularity -> features (N, F, D) of a batch's identities."""
        return Alignment(
            {
                name: self.compare(*_clouds(feature, rows, self.normalize)).sum()
                for name, feature in features.items()
            }
        )


def _clouds(feature: Tensor, rows: IdentityRows, normalize: bool) -> tuple[Tensor, Tensor]:
    """Features (N, F, D) as (F, P, K_v, D) and (F, P, K_t, D)."""
    feature = at_least_float32(feature).transpose(0, 1)
    if normalize:
        feature = functional.normalize(feature, dim=-1)
    return feature[:, rows.visible], feature[:, rows.thermal]


# Name -> how it is built from MODEL.LOSSES.ALIGN.
ALIGNMENTS: dict[str, Callable[..., nn.Module | None]] = {
    "none": lambda options: None,
    "cm_emd": lambda options: _pairs(options, exact_plan),
    "uniform": lambda options: _pairs(options, uniform_plan),
    "sinkhorn": lambda options: _pairs(options, partial(sinkhorn_plan, epsilon=options.EPSILON)),
    "affinity": lambda options: _pairs(
        options, partial(affinity_plan, temperature=options.TEMPERATURE)
    ),
    "centre": lambda options: CloudAlignment(
        partial(centre_distance, distance=options.DISTANCE), options.NORMALIZE
    ),
    "kl": lambda options: CloudAlignment(
        partial(gaussian_kl, floor=options.VARIANCE_FLOOR), options.NORMALIZE
    ),
    "mmd": lambda options: CloudAlignment(
        partial(kernel_mmd, distance=options.DISTANCE), options.NORMALIZE
    ),
}


def build_alignment(options) -> nn.Module | None:
    """The alignment loss of ``MODEL.LOSSES.ALIGN``; None for "none".

    Raises:
        InputError: for an unknown name or distance, or an option that must be positive and is not.
    """
    for key, known in (("NAME", ALIGNMENTS), ("DISTANCE", GROUND_DISTANCES)):
        if options[key] not in known:
            raise InputError(
                f"expected MODEL.LOSSES.ALIGN.{key} one of {', '.join(known)}, got {options[key]!r}"
            )
    for key in ("EPSILON", "TEMPERATURE", "VARIANCE_FLOOR"):
        if not options[key] > 0:
            raise InputError(f"expected MODEL.LOSSES.ALIGN.{key} above 0, got {options[key]}")
    return ALIGNMENTS[options.NAME](options)


def _pairs(options, plan: Callable[[Tensor], Tensor]) -> PairAlignment:
    return PairAlignment(options.DISTANCE, options.NORMALIZE, plan)
