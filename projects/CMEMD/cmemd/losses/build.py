"""The one table of losses: name -> module, weight.

What each is computed on is the meta-architecture's page.
"""

from typing import NamedTuple

from torch import nn

from cmemd.errors import InputError
from cmemd.losses.alignment import build_alignment
from cmemd.losses.centre_cluster import CentreClusterLoss
from cmemd.losses.cm_dl import CMDLLoss
from cmemd.losses.identity import IdentityLoss
from cmemd.losses.triplet import TripletLoss

__all__ = ["WeightedLoss", "build_losses"]

_FASTREID_NAMES = {"CrossEntropyLoss", "TripletLoss"}


class WeightedLoss(NamedTuple):
    """A loss and its factor in the total."""

    module: nn.Module
    weight: float
    warmup_iters: int = 0

    def weight_at(self, iteration: int) -> float:
        """The factor at an iteration, counted from 0: rises linearly from 0 to ``weight``."""
        if iteration >= self.warmup_iters:
            return self.weight
        return self.weight * iteration / self.warmup_iters


def build_losses(cfg) -> dict[str, WeightedLoss]:
    """Reads ``cfg.MODEL.LOSSES``: a loss of weight 0 is left out.

    Returns:
        Name ("id", "align", "dl", "tri", "centre") -> loss. Identity classification is always
        there.

    Raises:
        InputError: for an unknown name, a negative weight or a bad option of a loss.
    """
    losses = cfg.MODEL.LOSSES
    if not {"CrossEntropyLoss"} <= set(losses.NAME) <= _FASTREID_NAMES:
        raise InputError(
            "expected MODEL.LOSSES.NAME to hold CrossEntropyLoss, and TripletLoss or nothing else; "
            f"got {list(losses.NAME)}"
        )
    align, tri, centre = losses.ALIGN, losses.TRI, losses.CENTRE
    if align.WARMUP_ITERS < 0:
        raise InputError(
            f"expected MODEL.LOSSES.ALIGN.WARMUP_ITERS of at least 0, got {align.WARMUP_ITERS}"
        )
    table = {
        "id": WeightedLoss(IdentityLoss(losses.CE.EPSILON), losses.CE.SCALE),
        "align": WeightedLoss(build_alignment(align), align.WEIGHT, align.WARMUP_ITERS),
        "dl": WeightedLoss(CMDLLoss(losses.DL.EPS), losses.DL.WEIGHT),
        "tri": WeightedLoss(
            TripletLoss(tri.MARGIN, tri.NORM_FEAT, tri.HARD_MINING),
            tri.SCALE if "TripletLoss" in losses.NAME else 0.0,
        ),
        "centre": WeightedLoss(CentreClusterLoss(centre.MARGIN, centre.NORMALIZE), centre.WEIGHT),
    }
    for name, loss in table.items():
        if not loss.weight >= 0:
            raise InputError(f"expected a weight >= 0 for loss {name!r}, got {loss.weight}")
    return {
        name: loss
        for name, loss in table.items()
        if name == "id" or (loss.weight > 0 and loss.module is not None)
    }
