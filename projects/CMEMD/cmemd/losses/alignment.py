"""Alignment of the modalities: CM-EMD and its alternatives, each under a name.

Shape legend: N images, P identities, K_v visible and K_t thermal images of each, D channels,
F features of one granularity (1 global, S local, S - 1 accumulated).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    nearest_plan,
    uniform_plan,
)
from cmemd.losses.cm_emd import (
    GROUND_DISTANCES,
    PAIR_DISTANCES,
    cm_emd_loss,
    ground_cost,
    plan_saving,
    plan_sharpness,
    within_costs,
)
from cmemd.losses.debiased import debiased_transport, transport_value, within_ratio
from cmemd.losses.distributed import gather
from cmemd.losses.interface import LossOutput
from cmemd.losses.precision import at_least_float32
from cmemd.losses.transport import (
    exact_plan,
    partial_plan,
    plan_to_others,
    sinkhorn_plan,
    unbalanced_plan,
)

if TYPE_CHECKING:
    from yacs.config import CfgNode

__all__ = [
    "ALIGNMENTS",
    "CloudAlignment",
    "DebiasedAlignment",
    "PLAN_FEATURES",
    "PairAlignment",
    "PairOutput",
    "build_alignment",
]

# Whose costs a feature's plan is made of.
PLAN_FEATURES = ("own", "global", "all")

# Granularity -> (F, P, K_v, D) and (F, P, K_t, D).
Clouds = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class PairOutput(LossOutput):
    """Terms by granularity, with the pairs' weights and distances; it watches the plan."""

    plan: Tensor  # (sum of F, P, K_v, K_t)
    cost: Tensor  # (sum of F, P, K_v, K_t)


class PairAlignment(nn.Module):
    """Weighted mean distance of pairs of images; one batched call gives all weights.

    With the exact transport plan it is CM-EMD. Weights are constant in the backward pass.

    Args:
        distance: ground distance, one of ``PAIR_DISTANCES`` (chosen, not from the paper).
        normalize: whether features are L2-normalised first (chosen, not from the paper).
        plan: maps costs (B, n, m) to weights of the same shape.
        plan_feature: whose costs the plan is made of (chosen): "own", each feature's; or one plan
            for all features, from the "global" feature or from "all" of them, concatenated and
            divided by the root of their number.
        whole_batch: whether the pairs are all of the batch, of all processes, whatever their
            identity, instead of an identity's (chosen).

    Raises:
        InputError: an unknown ``plan_feature``.
    """

    def __init__(
        self,
        distance: str = "sqeuclidean",
        normalize: bool = True,
        plan: Callable[[Tensor], Tensor] = exact_plan,
        plan_feature: str = "own",
        whole_batch: bool = False,
    ) -> None:
        super().__init__()
        if plan_feature not in PLAN_FEATURES:
            raise InputError(
                "a known MODEL.LOSSES.ALIGN.PLAN_FEATURE",
                repr(plan_feature),
                f"choose {', '.join(PLAN_FEATURES)}",
            )
        self.distance = distance
        self.normalize = normalize
        self.plan = plan
        self.plan_feature = plan_feature
        self.whole_batch = whole_batch

    def forward(self, features: Mapping[str, Tensor], rows: IdentityRows) -> PairOutput:
        """Return granularity -> scalar, summed over its features (N, F, D)."""
        if self.whole_batch:
            features, rows = _as_one_identity(features, rows)
        return self.compare(_all_clouds(features, rows, self.normalize))

    def compare(self, clouds: Clouds) -> PairOutput:
        """Return what ``forward`` does, for features by identity and modality."""
        costs = [ground_cost(*pair, self.distance) for pair in clouds.values()]
        cost = torch.cat(costs)  # (sum of F, P, K_v, K_t)
        seen = cost
        if self.plan_feature != "own":
            with torch.no_grad():
                seen = ground_cost(*self.shared(clouds), self.distance)
        plan = _plans(self.plan, seen).expand_as(cost)
        return PairOutput(
            _by_granularity(clouds, cm_emd_loss(cost, plan)),
            {"plan_sharpness": plan_sharpness(plan), "plan_saving": plan_saving(cost, plan)},
            plan=plan,
            cost=cost,
        )

    def shared(self, clouds: Clouds) -> tuple[Tensor, Tensor]:
        """Return the features that one plan is made of, (1, P, K_v, D) and (1, P, K_t, D)."""
        if self.plan_feature == "global":
            visible, thermal = clouds["global"]
            return visible[:1], thermal[:1]
        visible, thermal = (
            torch.cat([x for cloud in side for x in cloud], -1)[None] / sum(map(len, side)) ** 0.5
            for side in zip(*clouds.values(), strict=True)
        )
        return visible, thermal


class DebiasedAlignment(nn.Module):
    """A transport between the modalities minus a share of that within each of them.

    With exact plans it is the debiased CM-EMD; see ``debiased_transport``. With Sinkhorn's plans
    for both, their epsilon and a share of 1 it is the Sinkhorn divergence. All plans are constant
    in the backward pass.

    Args:
        between: the transport between the modalities.
        share: of the transport within them, from 0 to 1.
        clamp: whether the value of each identity and feature is at least 0.
        within_gradient: whether gradients flow through the transport within the modalities. If not,
            it is a constant: without a clamp the gradient is then that of ``between``, and with it
            the pull ends where an identity's gap is no more than that share of its variation.
        within: maps costs (B, K, K) within a modality to plans.
        epsilon: of the plans' entropy, 0 for exact ones.

    Raises:
        InputError: a share out of range.
    """

    def __init__(
        self,
        between: PairAlignment,
        share: float = 0.5,
        clamp: bool = False,
        within_gradient: bool = True,
        within: Callable[[Tensor], Tensor] = plan_to_others,
        epsilon: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise InputError(
                "MODEL.LOSSES.ALIGN.SHARE in [0, 1]",
                share,
                "use 0.5; 0 is CM-EMD, and 1 subtracts all transport within the modalities",
            )
        self.between = between
        self.share = share
        self.clamp = clamp
        self.within_gradient = within_gradient
        self.within = within
        self.epsilon = epsilon

    def forward(self, features: Mapping[str, Tensor], rows: IdentityRows) -> PairOutput:
        """Return granularity -> scalar, summed over its features (N, F, D)."""
        clouds = _all_clouds(features, rows, self.between.normalize)
        output = self.between.compare(clouds)
        with torch.set_grad_enabled(self.within_gradient and torch.is_grad_enabled()):
            costs = self._costs_within(clouds)
        seen = costs
        if self.between.plan_feature != "own":
            with torch.no_grad():
                seen = within_costs(*self.between.shared(clouds), self.between.distance)
        plans = (
            plan.expand_as(cost)
            for plan, cost in zip(_plans_of_both(self.within, *seen), costs, strict=True)
        )
        between, visible, thermal = (
            transport_value(cost, plan, self.epsilon)  # (sum of F, P)
            for cost, plan in ((output.cost, output.plan), *zip(costs, plans, strict=True))
        )
        value = debiased_transport(between, visible, thermal, self.share, self.clamp)
        watched = {**output.watched, "within_ratio": within_ratio(between, visible, thermal)}
        return replace(output, terms=_by_granularity(clouds, value), watched=watched)

    def _costs_within(self, clouds: Clouds) -> tuple[Tensor, Tensor]:
        """Return the costs (sum of F, P, K, K) within the visible and the thermal images."""
        costs = [within_costs(*pair, self.between.distance) for pair in clouds.values()]
        visible, thermal = (torch.cat(side) for side in zip(*costs, strict=True))
        return visible, thermal


def _as_one_identity(
    features: Mapping[str, Tensor], rows: IdentityRows
) -> tuple[dict[str, Tensor], IdentityRows]:
    """Return the features of all processes, and their rows as if of one identity."""
    visible, thermal = (own.flatten() for own in rows)
    order = torch.cat((visible, thermal))
    gathered = {name: gather(feature[order]) for name, feature in features.items()}
    # Each process's part of a gathered feature: its visible rows, then its thermal ones.
    count = len(next(iter(gathered.values())))
    parts = torch.arange(count, device=order.device).view(-1, len(order))
    sides = parts.split([len(visible), len(thermal)], 1)
    return gathered, IdentityRows(*(side.reshape(1, -1) for side in sides))


def _by_granularity(clouds: Clouds, values: Tensor) -> dict[str, Tensor]:
    """Return granularity -> scalar, the sum over its features of values (sum of F,)."""
    parts = values.split([len(visible) for visible, _ in clouds.values()])
    return {name: part.sum() for name, part in zip(clouds, parts, strict=True)}


def _plans(solve: Callable[[Tensor], Tensor], cost: Tensor) -> Tensor:
    """Return the plans of costs (..., P, n, m), in one call."""
    return solve(_solvable(cost.detach()).flatten(0, -3)).view_as(cost)


def _plans_of_both(
    solve: Callable[[Tensor], Tensor], first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the plans of two costs (..., P, n, m), in one call if their shapes agree."""
    if first.shape != second.shape:
        return _plans(solve, first), _plans(solve, second)
    return tuple(_plans(solve, torch.stack((first, second))))


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
            name: self.compare(*pair).sum()
            for name, pair in _all_clouds(features, rows, self.normalize).items()
        }


def _all_clouds(features: Mapping[str, Tensor], rows: IdentityRows, normalize: bool) -> Clouds:
    """Return features (N, F, D) of each granularity by identity and modality."""
    return {name: _clouds(feature, rows, normalize) for name, feature in features.items()}


def _clouds(feature: Tensor, rows: IdentityRows, normalize: bool) -> tuple[Tensor, Tensor]:
    """Return features (N, F, D) as (F, P, K_v, D) and (F, P, K_t, D)."""
    feature = at_least_float32(feature).transpose(0, 1)
    if normalize:
        feature = functional.normalize(feature, dim=-1)
    return feature[:, rows.visible], feature[:, rows.thermal]


def _pairs(
    options: "CfgNode", plan: Callable[[Tensor], Tensor], whole_batch: bool = False
) -> PairAlignment:
    distance = _distance(options, PAIR_DISTANCES)
    return PairAlignment(distance, options.NORMALIZE, plan, options.PLAN_FEATURE, whole_batch)


def _sinkhorn_divergence(options: "CfgNode") -> DebiasedAlignment:
    epsilon = _positive(options, "EPSILON")
    plan = partial(sinkhorn_plan, epsilon=epsilon)
    return DebiasedAlignment(_pairs(options, plan), share=1.0, within=plan, epsilon=epsilon)


def _distance(options: "CfgNode", known: Sequence[str] = GROUND_DISTANCES) -> str:
    if options.DISTANCE not in known:
        raise InputError(
            f"a MODEL.LOSSES.ALIGN.DISTANCE that {options.NAME} takes",
            repr(options.DISTANCE),
            f"choose {', '.join(known)}",
        )
    return options.DISTANCE


def _positive(options: "CfgNode", key: str) -> float:
    if not options[key] > 0:
        raise InputError(
            f"MODEL.LOSSES.ALIGN.{key} above 0", options[key], "leave it out for the default"
        )
    return options[key]


def _mass(options: "CfgNode") -> float:
    if not 0 < options.MASS <= 1:
        raise InputError(
            "MODEL.LOSSES.ALIGN.MASS above 0, at most 1", options.MASS, "use 1 to move all"
        )
    return options.MASS


def _neighbours(options: "CfgNode") -> int:
    if options.NEIGHBOURS < 1:
        raise InputError(
            "MODEL.LOSSES.ALIGN.NEIGHBOURS of at least 1", options.NEIGHBOURS, "use 1, the nearest"
        )
    return options.NEIGHBOURS


# Name -> how it is built from MODEL.LOSSES.ALIGN. Each checks the options that it reads.
ALIGNMENTS: dict[str, Callable[["CfgNode"], nn.Module | None]] = {
    "none": lambda options: None,
    "cm_emd": lambda options: _pairs(options, exact_plan),
    "cm_emd_debiased": lambda options: DebiasedAlignment(
        _pairs(options, exact_plan), options.SHARE, options.CLAMP, options.WITHIN_GRADIENT
    ),
    "uniform": lambda options: _pairs(options, uniform_plan),
    "sinkhorn": lambda options: _pairs(
        options, partial(sinkhorn_plan, epsilon=_positive(options, "EPSILON"))
    ),
    "sinkhorn_divergence": _sinkhorn_divergence,
    "partial": lambda options: _pairs(options, partial(partial_plan, mass=_mass(options))),
    "unbalanced": lambda options: _pairs(
        options,
        partial(
            unbalanced_plan,
            epsilon=_positive(options, "EPSILON"),
            penalty=_positive(options, "MARGINAL_PENALTY"),
        ),
    ),
    "batch_transport": lambda options: _pairs(options, exact_plan, whole_batch=True),
    "batch_nearest": lambda options: _pairs(
        options, partial(nearest_plan, neighbours=_neighbours(options)), whole_batch=True
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
